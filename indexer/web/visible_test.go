package web_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/postgres/postgrestest"
	"github.com/portbook/portbook/indexer/web"
	"github.com/portbook/portbook/indexer/web/answer"
	"github.com/portbook/portbook/indexer/web/login"
)

// visibleNames are what the asker of a request with the field Authorization sees.
var visibleNames = indexer.VisibleNames("space3?/*")

// crowd returns a handler of a book with many repositories, and these.
func crowd(t *testing.T) (http.Handler, []postgrestest.Member) {
	t.Helper()
	s := postgrestest.New(t)
	members := s.Crowd()
	store := postgres.New(s.Pool, postgres.Config{})
	return web.New(web.Config{
		Read: func(ctx context.Context, asker indexer.Asker, f func(answer.Book) error) error {
			return store.View(ctx, asker, func(v *postgres.View) error { return f(v) })
		},
		Asker: func(r *http.Request) (indexer.Asker, error) {
			if r.Header.Get("Authorization") != "" {
				return indexer.AskerOf(visibleNames), nil
			}
			return indexer.Everyone, nil
		},
		Log: slog.New(slog.DiscardHandler), PublicURL: "/", WebUI: true, AssertEndpoint: true, Version: "v1",
	}), members
}

// ownIDs matches ids that are hashes of what was asked for.
var ownIDs = regexp.MustCompile("urn:uuid:[0-9a-f-]{36}|after=[A-Za-z0-9_-]*")

// heard returns the answer to a request as one text, without what differs from request
// to request.
func heard(t *testing.T, h http.Handler, method, target, body, asker string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if strings.HasPrefix(target, "/live") { // it does not end by itself
		cancel()
	}
	r := httptest.NewRequestWithContext(ctx, method, target, strings.NewReader(body))
	if session, found := strings.CutPrefix(asker, "Session "); found {
		r.AddCookie(&http.Cookie{Name: answer.SessionCookie, Value: session})
	} else if asker != "" {
		r.Header.Set("Authorization", asker)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	text := fmt.Sprintf("%d %v\n%s", w.Code, w.Header(), w.Body)
	return ownIDs.ReplaceAllString(strings.ReplaceAll(text, w.Header().Get("X-Request-Id"), "ID"), "OWN")
}

// Nothing that an asker requests mentions a repository that the asker may not see: no
// text that only such a repository has is in a body or a header, unless it is in the
// request. About an invisible repository the answer is that about one that does not
// exist.
func TestNoRouteTellsWhatIsInvisible(t *testing.T) {
	t.Parallel()
	h, members := crowd(t)
	hidden, open := members[12], members[33]
	const absent = "spacd32" // as similar to a visible name as space12 is, and before all of them too
	secret := hiddenFrom(visibleNames, members...)
	told := map[string]int{} // by route: the answers to Everyone that mention hidden repositories
	for _, a := range addresses(t, h) {
		for _, target := range targets(a, hidden, open) {
			body := bodyOf(a.path)
			if _, parameters, _ := strings.Cut(target, "?"); parameters == "" || strings.HasPrefix(parameters, "q") {
				told[a.path] += len(secret.in(heard(t, h, a.method, target, body, ""), target))
			}
			got := heard(t, h, a.method, target, body, "somebody")
			problem := ""
			if found := secret.in(got, target); len(found) > 0 {
				problem = fmt.Sprintf("mentions %q", found)
			}
			if other := strings.ReplaceAll(target, "space12", absent); other != target {
				diff := ""
				for range 3 { // answers that tell the time differ if the second ends between them
					want := strings.ReplaceAll(heard(t, h, a.method, other, body, "somebody"), absent, "space12")
					if diff = cmp.Diff(want, got); diff == "" {
						break
					}
					got = heard(t, h, a.method, target, body, "somebody")
				}
				if diff != "" {
					problem = "differs from that about one that does not exist (-absent +invisible)\n" + diff
				}
			}
			if problem != "" {
				t.Errorf("%s %s: the answer %s\n%.1500s", a.method, target, problem, got)
			}
		}
	}
	telling := 0
	for _, n := range told {
		telling += min(n, 1)
	}
	if telling < 20 {
		t.Errorf("only %d routes mention hidden repositories to Everyone: %v", telling, told)
	}
}

// texts are what only some repositories have.
type texts struct {
	all []string
	any *strings.Replacer // of each by nothing: one look at an answer finds whether it has any
}

// hiddenFrom returns the texts of the repositories that are not visible.
func hiddenFrom(visible indexer.Visibility, members ...postgrestest.Member) texts {
	var t texts
	var pairs []string
	for _, m := range members {
		if visible.Sees(m.Name) {
			continue
		}
		for _, own := range m.Own {
			t.all, pairs = append(t.all, own), append(pairs, own, "")
		}
	}
	t.any = strings.NewReplacer(pairs...)
	return t
}

// in returns the texts that are in an answer and not in the request.
func (t texts) in(answer, target string) (found []string) {
	if t.any.Replace(answer) == answer {
		return nil
	}
	asked, _ := url.QueryUnescape(target)
	for _, own := range t.all {
		if strings.Contains(answer, own) && !strings.Contains(asked, own) {
			found = append(found, own)
		}
	}
	return found
}

// targets returns requests for an address: about both repositories, and with each value
// of each parameter.
func targets(a address, hidden, open postgrestest.Member) (all []string) {
	for _, m := range []postgrestest.Member{hidden, open} {
		space, _, _ := strings.Cut(m.Name, "/")
		fill := func(reference, digest, tag string) string {
			return strings.NewReplacer("{name}", url.PathEscape(m.Name), "{tag}", tag, "{reference}", reference, "{digest}", digest,
				"{namespace}", space, "{reference...}", m.Name+":"+tag, "{$}", "", "{account}", "robot0", "{id}", webhookOr(a.path, "00000000"), "{delivery}", "1").Replace(a.path)
		}
		path := fill("v1", m.Image.Digest.String(), "v1")
		all = append(all, path, fill("none", m.Layer.String(), "none"), fill(m.Image.Digest.String(), m.Layer.String(), "latest"))
		for _, p := range a.parameters {
			for _, value := range []string{"app", "space12", "spac12", "namespace:space", hidden.Name, hidden.Name + ":v1", open.Name + ":v1",
				hidden.Image.Digest.String(), "layer:" + hidden.Layer.String(), time.Now().UTC().Format(time.RFC3339)} {
				if p != "min_version" { // it may wait
					all = append(all, path+"?"+url.Values{p: {value}}.Encode())
				}
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Whatever is granted, and however a client logs in, nothing that it requests mentions a
// repository that it may not pull.
func TestNoRouteTellsWhatIsNotGranted(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	shelf := postgrestest.New(t)
	members := shelf.Crowd()
	store := postgres.New(shelf.Pool, postgres.Config{})
	random := rand.New(rand.NewPCG(5, 6))
	rules := func(most int) (all access.Rules) {
		for range 1 + random.IntN(most) {
			name := fmt.Sprintf("space%02d", random.IntN(100))
			r, err := access.ParseRule(name + []string{"/*", "/app"}[random.IntN(2)] + ":" + []string{"pull", "push", "admin"}[random.IntN(3)])
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, r)
		}
		return all
	}
	var who []access.Subject
	var secrets []string
	for i := range 4 {
		s := access.Subject{Name: fmt.Sprintf("robot%d", i), Rules: rules(40), Narrowed: i%2 == 1}
		if s.Narrowed {
			s.Scope = append(rules(40), s.Rules[0])
		}
		if err := store.AddAccount(ctx, access.Account{Name: s.Name, Robot: true}); err != nil {
			t.Fatal(err)
		}
		for _, r := range s.Rules {
			if err := store.Grant(ctx, access.Grantee{Account: s.Name}, r); err != nil {
				t.Fatal(err)
			}
		}
		token := access.NewToken()
		p := access.PersonalToken{ID: token.ID(), Account: s.Name, Narrowed: s.Narrowed, Rules: s.Scope}
		if err := store.AddToken(ctx, p, token.Hash()); err != nil {
			t.Fatal(err)
		}
		who, secrets = append(who, s), append(secrets, token.Text())
	}
	signer := testSigner(t)
	accounts := access.NewAccounts(store, signer)
	c := web.Config{
		Read: func(ctx context.Context, asker indexer.Asker, f func(answer.Book) error) error {
			return store.View(ctx, asker, func(v *postgres.View) error { return f(v) })
		},
		Login: login.New(login.Config{Accounts: accounts, Signer: signer, PublicURL: "/", Changer: store}),
		Log:   slog.New(slog.DiscardHandler), PublicURL: "/", WebUI: true, AssertEndpoint: true, Version: "v1",
		Webhooks: hooksOf(t, store, members),
	}
	h := web.New(c)
	all := addressesWith(t, h, c)
	mentions := 0 // of what may be seen
	for i, s := range who {
		visible := s.Asker().Visibility()
		if s.Name == "robot0" && len(visible.Patterns()) < 3 {
			t.Fatalf("%s sees only %q", s.Name, visible.Patterns())
		}
		jwt, err := signer.ForRegistry(s.Actor(), s.Grant(access.ParseScopes([]string{"registry:catalog:*"})), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		fields := []string{
			"Basic " + base64.StdEncoding.EncodeToString([]byte(s.Name+":"+secrets[i])), "Bearer " + secrets[i],
		}
		if !s.Narrowed { // the actor has no id of the token here, and a session has no rules
			session, _, err := signer.ForSession(s.Name, time.Now(), time.Now())
			if err != nil {
				t.Fatal(err)
			}
			fields = append(fields, "Bearer "+jwt, "Session "+session)
		}
		hidden, open := members[0], members[0]
		for _, m := range members {
			if visible.Sees(m.Name) {
				open = m
			} else {
				hidden = m
			}
		}
		secret, shown := hiddenFrom(visible, members...), hiddenFrom(indexer.Visibility{}, open)
		for _, a := range all {
			some := targets(a, hidden, open)
			random.Shuffle(len(some), func(i, j int) { some[i], some[j] = some[j], some[i] })
			for _, target := range some[:min(len(some), 5)] {
				got := heard(t, h, a.method, target, bodyOf(a.path), fields[random.IntN(len(fields))])
				if found := secret.in(got, target); len(found) > 0 {
					t.Errorf("%s %s as %s: the answer mentions %q\n%.1500s", a.method, target, s.Name, found, got)
				}
				mentions += len(shown.in(got, target))
			}
		}
	}
	if mentions < 50 {
		t.Errorf("the answers mention visible repositories only %d times", mentions)
	}
}

// testSigner returns a signer with a new key.
func testSigner(t *testing.T) *access.Signer {
	t.Helper()
	keys, _ := access.Keys{}.Rotate()
	path := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(path, keys.Marshal(), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := access.NewSigner(path, "portbook", "registry")
	if err != nil {
		t.Fatal(err)
	}
	return s
}
