package postgres_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/access/issuertest"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/schema/schematest"
)

// workload returns a workload that is right.
func workload(t *testing.T, robot, issuer, audience string, texts ...string) access.Workload {
	t.Helper()
	var claims []access.Claim
	for _, text := range texts {
		c, err := access.ParseClaim(text)
		must(t, err)
		claims = append(claims, c)
	}
	w, err := access.NewWorkload(robot, issuer, audience, claims)
	must(t, err)
	return w
}

// Tokens of an issuer let in whom they are of, as the robot that trusts them, and no others:
// not one that is forged, old, for somebody else or of somebody else.
func TestWorkloads(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := postgres.New(schematest.New(t), postgres.Config{})
	issuer, other := issuertest.New(t), issuertest.New(t)
	a, b := issuertest.NewRSA(t, "a", 2048), issuertest.NewEC(t, "b")
	a.Published = "RS256"
	limited := issuertest.NewRSA(t, "c", 2048) // signs by another algorithm than it may
	limited.Published = "RS512"
	strange := issuertest.NewRSA(t, "a", 2048) // of somebody else, with the same id
	issuer.Publish(a, b, limited)
	other.Publish(strange)
	for _, robot := range []string{"ci", "nightly", "nobody"} {
		must(t, s.AddAccount(ctx, access.Account{Name: robot, Robot: true}))
	}
	must(t, s.AddAccount(ctx, access.Account{Name: "alice"}))
	must(t, s.Grant(ctx, access.Grantee{Account: "ci"}, rule(t, "dev/*:push")))
	const aud = "registry.example"
	main := workload(t, "ci", issuer.URL, aud, "repository=acme/app", "ref=refs/heads/main")
	tags := workload(t, "ci", issuer.URL, aud, "repository=acme/app", "ref=refs/tags/*")
	kinds := workload(t, "nightly", issuer.URL, aud, "run_attempt=1", "private=true", "groups=ops")
	for _, w := range []access.Workload{main, tags, kinds} {
		must(t, s.AddWorkload(ctx, w))
	}

	now := time.Now().Unix()
	with := func(name string, value any) map[string]any { return issuer.Claims(map[string]any{name: value}) }
	public, err := json.Marshal(a.Signer.Public())
	must(t, err)
	swapped := b
	swapped.ID = "a"
	cut := a.Sign(issuer.Claims(nil))
	payload := strings.Split(a.Sign(with("ref", "refs/tags/v1")), ".")[1]
	parts := strings.Split(cut, ".")
	without := func(name string) map[string]any { c := issuer.Claims(nil); delete(c, name); return c }
	for what, c := range map[string]struct{ name, token, want string }{
		"right":                     {"ci", a.Sign(issuer.Claims(nil)), main.ID},
		"of another kind of key":    {"ci", b.Sign(issuer.Claims(nil)), main.ID},
		"of a prefix":               {"ci", a.Sign(with("ref", "refs/tags/v1")), tags.ID},
		"of a list of audiences":    {"ci", a.Sign(with("aud", []any{"x", aud})), main.ID},
		"of other types":            {"nightly", a.Sign(issuer.Claims(nil)), kinds.ID},
		"a second early":            {"ci", a.Sign(with("nbf", now+1)), main.ID},
		"without a start":           {"ci", a.Sign(without("nbf")), main.ID},
		"expired":                   {"ci", a.Sign(with("exp", now-1)), ""},
		"not yet valid":             {"ci", a.Sign(with("nbf", now+3600)), ""},
		"of the future":             {"ci", a.Sign(with("iat", now+3600)), ""},
		"without an end":            {"ci", a.Sign(without("exp")), ""},
		"for another audience":      {"ci", a.Sign(with("aud", "registry.example.evil")), ""},
		"for no audience":           {"ci", a.Sign(without("aud")), ""},
		"of another repository":     {"ci", a.Sign(with("repository", "acme/app2")), ""},
		"of another branch":         {"ci", a.Sign(with("ref", "refs/heads/main2")), ""},
		"of half a prefix":          {"ci", a.Sign(with("ref", "refs/tags")), ""},
		"without a claim":           {"ci", a.Sign(without("repository")), ""},
		"with a claim null":         {"ci", a.Sign(with("repository", nil)), ""},
		"with a claim in an object": {"ci", a.Sign(with("repository", map[string]any{"acme/app": "acme/app"})), ""},
		"of another number":         {"nightly", a.Sign(with("run_attempt", 11)), ""},
		"of another bool":           {"nightly", a.Sign(with("private", false)), ""},
		"of other groups":           {"nightly", a.Sign(with("groups", []any{"dev"})), ""},
		"of another key":            {"ci", strange.Sign(issuer.Claims(nil)), ""},
		"of a swapped key":          {"ci", swapped.Sign(issuer.Claims(nil)), ""},
		"of another algorithm":      {"ci", limited.Sign(issuer.Claims(nil)), ""},
		"of another issuer":         {"ci", strange.Sign(other.Claims(nil)), ""},
		"of a like issuer":          {"ci", a.Sign(with("iss", issuer.URL+"/")), ""},
		"without an issuer":         {"ci", a.Sign(without("iss")), ""},
		"unsigned":                  {"ci", issuertest.Unsigned(issuer.Claims(nil)), ""},
		"with a public secret":      {"ci", issuertest.Secret("a", public, issuer.Claims(nil)), ""},
		"with no signature":         {"ci", cut[:strings.LastIndex(cut, ".")+1], ""},
		"with another payload":      {"ci", parts[0] + "." + payload + "." + parts[2], ""},
		"too long":                  {"ci", a.Sign(with("x", strings.Repeat("x", 16<<10))), ""},
		"of no name":                {"", a.Sign(issuer.Claims(nil)), ""},
		"of another robot":          {"nobody", a.Sign(issuer.Claims(nil)), ""},
		"of a person":               {"alice", a.Sign(issuer.Claims(nil)), ""},
		"of no account":             {"bob", a.Sign(issuer.Claims(nil)), ""},
	} {
		v := access.NewAccounts(s, signerOf(t))
		for range 2 { // the second time it may be remembered
			subject, err := v.Verify(ctx, access.Credentials{Name: c.name, Secret: c.token})
			if c.want == "" && !errors.Is(err, access.ErrDenied) || c.want != "" && (err != nil || subject.Name != c.name || subject.Token != c.want) {
				t.Errorf("a token %s as %q: %q, %v, want %q", what, c.name, subject.Actor(), err, c.want)
			}
			if c.name == "ci" && c.want != "" && subject.Allowed("dev/a") != access.Push {
				t.Errorf("a token %s may %q", what, subject.Allowed("dev/a"))
			}
		}
	}
	v := access.NewAccounts(s, signerOf(t))
	for _, name := range []string{"ci", "nobody", "ci"} { // what is remembered for one robot is not for another
		_, err := v.Verify(ctx, access.Credentials{Name: name, Secret: cut})
		if (err == nil) != (name == "ci") {
			t.Errorf("the token of ci as %s: %v", name, err)
		}
	}
	if other.Asked.Load() > 0 {
		t.Error("an issuer was asked that no robot trusts")
	}
}

// A workload stays logged in for an hour, and the registry's events name it, until it is
// removed or its robot is disabled; then it is nobody, on all processes, within seconds.
func TestWorkloadRemoved(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := postgres.New(schematest.New(t), postgres.Config{})
	issuer, key := issuertest.New(t), issuertest.NewEC(t, "a")
	issuer.Publish(key)
	must(t, s.AddAccount(ctx, access.Account{Name: "ci", Robot: true}))
	must(t, s.AddAccount(ctx, access.Account{Name: "cd", Robot: true}))
	w := workload(t, "ci", issuer.URL, "registry.example", "repository=acme/app")
	must(t, s.AddWorkload(ctx, w))
	v := access.NewAccounts(s, signerOf(t))
	c := access.Credentials{Name: "ci", Secret: key.Sign(issuer.Claims(nil))}
	subject, err := v.Verify(ctx, c)
	must(t, err)
	lasting, err := v.Lasting(subject, c)
	must(t, err)
	if expires := expiryOf(t, lasting); expires < 55*time.Minute || expires > time.Hour {
		t.Errorf("the login lasts for %v", expires)
	}
	personal := addToken(t, s, access.PersonalToken{Account: "ci"})
	ways := map[string]func() (access.Subject, error){
		"its token": func() (access.Subject, error) { return v.Verify(ctx, c) },
		"its name":  func() (access.Subject, error) { return v.Named(ctx, "ci+"+w.ID) },
		"its login": func() (access.Subject, error) { return v.Refreshed(ctx, lasting) },
	}
	expect := func(when string, in bool) {
		t.Helper()
		for way, ask := range ways {
			within(t, when+", by "+way, func() bool {
				subject, err := ask()
				return in && err == nil && subject.Actor() == "ci+"+w.ID || !in && errors.Is(err, access.ErrDenied)
			})
		}
	}
	expect("added", true)
	for _, actor := range []string{"cd+" + w.ID, "ci+w00000000", "ci+" + w.ID[1:], "+" + w.ID} {
		if subject, err := v.Named(ctx, actor); !errors.Is(err, access.ErrDenied) && subject.Name != "" {
			t.Errorf("%s is %q, %v", actor, subject.Actor(), err)
		}
	}
	must(t, s.SetAccount(ctx, access.Account{Name: "ci", Disabled: true}))
	expect("disabled", false)
	must(t, s.SetAccount(ctx, access.Account{Name: "ci"}))
	expect("enabled", true)
	must(t, s.DeleteWorkload(ctx, w.ID))
	expect("removed", false)
	if _, err := v.Verify(ctx, access.Credentials{Name: "ci", Secret: personal}); err != nil {
		t.Errorf("the robot's own token: %v", err)
	}
	must(t, s.AddWorkload(ctx, w))
	expect("added again", true)
	must(t, s.DeleteAccount(ctx, "ci"))
	expect("deleted", false)

	records, err := s.Audit(ctx, access.AuditQuery{Limit: 100})
	must(t, err)
	var got []string
	for _, r := range records {
		if strings.HasPrefix(string(r.Event), "workload.") {
			got = append(got, strings.TrimSpace(fmt.Sprintln(r.Event, r.Target, r.Detail)))
		}
	}
	added := "workload.add ci workload " + w.ID + ", issuer " + issuer.URL + ", audience registry.example, repository=acme/app"
	if diff := cmp.Diff([]string{added, "workload.remove " + w.ID, added}, got); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
}

// expiryOf returns how long from now a token is valid.
func expiryOf(t *testing.T, token string) time.Duration {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	must(t, err)
	var c struct{ Exp int64 }
	must(t, json.Unmarshal(raw, &c))
	return time.Until(time.Unix(c.Exp, 0))
}

// While the issuer is away, tokens of its known keys are let in until they expire; nothing is
// known of others.
func TestWorkloadIssuerAway(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := postgres.New(schematest.New(t), postgres.Config{})
	issuer, key := issuertest.New(t), issuertest.NewEC(t, "a")
	issuer.Publish(key)
	must(t, s.AddAccount(ctx, access.Account{Name: "ci", Robot: true}))
	must(t, s.AddWorkload(ctx, workload(t, "ci", issuer.URL, "registry.example", "repository=acme/app")))
	v := access.NewAccounts(s, signerOf(t))
	verify := func(v *access.Accounts, claims map[string]any) error {
		_, err := v.Verify(ctx, access.Credentials{Name: "ci", Secret: key.Sign(claims)})
		return err
	}
	must(t, verify(v, issuer.Claims(nil)))
	issuer.Server.Close()
	must(t, verify(v, issuer.Claims(map[string]any{"run_attempt": 2})))
	if err := verify(access.NewAccounts(s, signerOf(t)), issuer.Claims(nil)); !errors.Is(err, indexer.ErrUnavailable) {
		t.Errorf("a process that does not know the keys: %v", err)
	}

	var expires time.Time
	var c access.Credentials
	within(t, "a token is let in before it expires", func() bool {
		expires = time.Now().Add(5 * time.Second).Truncate(time.Second)
		c = access.Credentials{Name: "ci", Secret: key.Sign(issuer.Claims(map[string]any{"exp": expires.Unix()}))}
		_, err := v.Verify(ctx, c)
		return err == nil
	})
	within(t, "the token expires", func() bool {
		late := !time.Now().Before(expires)
		_, err := v.Verify(ctx, c)
		if err == nil && late || err != nil && !errors.Is(err, access.ErrDenied) {
			t.Fatalf("expired: %v, got %v", late, err)
		}
		return err != nil
	})
}

// A robot has at most access.MaxWorkloads, however many are added at once, each once; a person
// has none.
func TestAddWorkload(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	url := schematest.URL(t)
	s := postgres.New(connect(t, url), postgres.Config{})
	must(t, s.AddAccount(ctx, access.Account{Name: "ci", Robot: true}))
	must(t, s.AddAccount(ctx, access.Account{Name: "alice"}))
	const issuer = "https://issuer.example"
	add := func(robot string, n int) error {
		return s.AddWorkload(ctx, workload(t, robot, issuer, "x", fmt.Sprintf("sub=%d", n)))
	}
	if err := add("alice", 1); !errors.Is(err, indexer.ErrInvalid) || !strings.Contains(err.Error(), "only a robot") {
		t.Errorf("to a person: %v", err)
	}
	if err := add("bob", 1); !errors.Is(err, indexer.ErrNotFound) {
		t.Errorf("to nobody: %v", err)
	}
	must(t, add("ci", 0))
	if err := add("ci", 0); !errors.Is(err, indexer.ErrConflict) || !strings.Contains(err.Error(), "exists already") {
		t.Errorf("twice: %v", err)
	}
	for n := range access.MaxWorkloads - 2 {
		must(t, add("ci", n+1))
	}
	// Several add the last one at once: none can end before two of them wait for a lock.
	other := connect(t, url)
	tx, err := other.Begin(ctx)
	must(t, err)
	_, err = tx.Exec(ctx, "UPDATE access_version SET v = v + 1")
	must(t, err)
	var added atomic.Int64
	var all sync.WaitGroup
	for n := range 10 {
		all.Go(func() {
			switch err := add("ci", 1000+n); {
			case err == nil:
				added.Add(1)
			case !errors.Is(err, indexer.ErrInvalid) || !strings.Contains(err.Error(), "100 workloads"):
				t.Errorf("one more: %v", err)
			}
		})
	}
	within(t, "two wait", func() bool {
		const waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
		return one[int](t, other, waiting) >= 2
	})
	must(t, tx.Rollback(ctx))
	all.Wait()
	listed, err := s.Workloads(ctx, "ci")
	must(t, err)
	if added.Load() != 1 || len(listed) != access.MaxWorkloads {
		t.Errorf("%d of ten were added, and %d are listed", added.Load(), len(listed))
	}
	if err := s.DeleteWorkload(ctx, "w00000000"); !errors.Is(err, indexer.ErrNotFound) {
		t.Errorf("what is not there was removed: %v", err)
	}
}

// A robot that has logged in as a workload manages what its grants say, until the workload is
// removed.
func TestWorkloadManages(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := postgres.New(connect(t, schematest.URL(t)), postgres.Config{})
	must(t, s.AddAccount(ctx, access.Account{Name: "ci", Robot: true}))
	must(t, s.Grant(ctx, access.Grantee{Account: "ci"}, rule(t, "team/*:admin")))
	w := workload(t, "ci", "https://issuer.example", "x", "sub=1")
	must(t, s.AddWorkload(ctx, w))
	given := rule(t, "team/app:pull")
	as := access.WithActor(ctx, access.Actor{Name: "ci", Token: w.ID})
	as = access.WithPermit(as, access.OverseersOf(given.Pattern))
	must(t, s.Grant(as, access.Grantee{Group: "dev"}, given))
	must(t, s.DeleteWorkload(ctx, w.ID))
	if err := s.Grant(as, access.Grantee{Group: "ops"}, given); !errors.Is(err, indexer.ErrForbidden) {
		t.Errorf("as a workload that was removed: got %v, want ErrForbidden", err)
	}
}
