package postgres_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/postgres/postgrestest"
	"github.com/portbook/portbook/indexer/query"
	"github.com/portbook/portbook/schema/schematest"
)

// signerOf returns a signer with a new key.
func signerOf(t *testing.T) *access.Signer {
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

// rule parses a rule that is right.
func rule(t *testing.T, text string) access.Rule {
	t.Helper()
	r, err := access.ParseRule(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// must fails the test on an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// addToken adds a token to an account and returns its text.
func addToken(t *testing.T, s *postgres.Store, p access.PersonalToken) string {
	t.Helper()
	token := access.NewToken()
	p.ID = token.ID()
	must(t, s.AddToken(t.Context(), p, token.Hash()))
	return token.Text()
}

// Passwords and tokens let in whom they belong to, with the rights that are granted, and
// nobody else; a change is effective at once for a new verifier, and soon for an old one.
func TestAccounts(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := postgres.New(schematest.New(t), postgres.Config{})
	const password = "a long password"
	hash, err := access.HashPassword(ctx, password)
	must(t, err)
	must(t, s.AddAccount(ctx, access.Account{Name: "alice", Password: hash, Groups: []string{"dev"}}))
	must(t, s.AddAccount(ctx, access.Account{Name: "root", Password: hash, Admin: true}))
	must(t, s.AddAccount(ctx, access.Account{Name: "ci", Robot: true}))
	must(t, s.Grant(ctx, access.Grantee{}, rule(t, "public/*:pull")))
	must(t, s.Grant(ctx, access.Grantee{Group: "dev"}, rule(t, "dev/*:push")))
	must(t, s.Grant(ctx, access.Grantee{Account: "alice"}, rule(t, "own/app:delete")))
	must(t, s.Grant(ctx, access.Grantee{Account: "ci"}, rule(t, "dev/*:push")))
	whole := addToken(t, s, access.PersonalToken{Account: "alice", Note: "laptop"})
	narrow := addToken(t, s, access.PersonalToken{Account: "alice", Narrowed: true, Rules: access.Rules{rule(t, "dev/a:pull"), rule(t, "other/*:admin")}})
	nothing := addToken(t, s, access.PersonalToken{Account: "root", Narrowed: true})
	expired := addToken(t, s, access.PersonalToken{Account: "alice", ExpiresAt: time.Now().Add(-time.Second)})
	robot := addToken(t, s, access.PersonalToken{Account: "ci", ExpiresAt: time.Now().Add(time.Hour)})
	strange := access.NewToken().Text()

	const names = "public/x dev/a dev/b own/app other/x"
	denied := []string{"denied"}
	for _, c := range []struct {
		name, secret string
		want         []string // of each of names, what is allowed
	}{
		{"", "", []string{"pull", "", "", "", ""}},
		{"alice", password, []string{"pull", "pull,push", "pull,push", "pull,delete", ""}},
		{"alice", whole, []string{"pull", "pull,push", "pull,push", "pull,delete", ""}},
		{"", whole, []string{"pull", "pull,push", "pull,push", "pull,delete", ""}},
		{"alice", narrow, []string{"", "pull", "", "", ""}},
		{"root", password, slices.Repeat([]string{"pull,push,delete,admin"}, 5)},
		{"root", nothing, []string{"", "", "", "", ""}},
		{"ci", robot, []string{"pull", "pull,push", "pull,push", "", ""}},
		{"alice", robot, denied}, {"alice", strange, denied}, {"", strange, denied}, {"alice", expired, denied},
		{"alice", "wrong password", denied}, {"alice", "", denied}, {"bob", password, denied}, {"ci", password, denied}, {"ci", "", denied},
		{"alice", whole[:len(whole)-1], denied}, {"alice", whole + "a", denied}, {"Alice", password, denied},
		{"alice", mistyped(whole), denied}, {"alice\x00", password, denied},
	} {
		v := access.NewAccounts(s, signerOf(t))
		subject, err := v.Verify(ctx, access.Credentials{Name: c.name, Secret: c.secret})
		if c.name == "" && c.secret == "" {
			subject, err = v.Anonymous(ctx)
		}
		var got []string
		switch {
		case errors.Is(err, access.ErrDenied):
			got = denied
		case err != nil:
			t.Fatalf("%s: %v", c.name, err)
		default:
			for name := range strings.SplitSeq(names, " ") {
				got = append(got, subject.Allowed(name).String())
			}
			again, err := v.Named(ctx, subject.Actor())
			if diff := cmp.Diff(subject, again, cmp.AllowUnexported(access.Pattern{})); diff != "" || err != nil {
				t.Errorf("%s as the actor %q: %v\n%s", c.name, subject.Actor(), err, diff)
			}
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%q with %.12q (-want +got)\n%s", c.name, c.secret, diff)
		}
	}
}

// mistyped returns a token with another character in its place 10.
func mistyped(token string) string {
	other := "a"
	if token[10] == 'a' {
		other = "b"
	}
	return token[:10] + other + token[11:]
}

// What an administrator changes, a verifier knows within seconds.
func TestAccountsChange(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s, signer := postgres.New(schematest.New(t), postgres.Config{}), signerOf(t)
	const password = "a long password"
	hash, err := access.HashPassword(ctx, password)
	must(t, err)
	must(t, s.AddAccount(ctx, access.Account{Name: "alice", Password: hash}))
	token := addToken(t, s, access.PersonalToken{Account: "alice"})
	v := access.NewAccounts(s, signer)
	login := func(secret string) (access.Subject, error) {
		return v.Verify(ctx, access.Credentials{Name: "alice", Secret: secret})
	}
	alice, err := login(password)
	must(t, err)
	lasting, err := v.Lasting(alice, access.Credentials{Name: "alice", Secret: password})
	must(t, err)
	if _, err := v.Refreshed(ctx, lasting); err != nil {
		t.Errorf("a new login that lasts: %v", err)
	}
	eventually := func(what string, is func() bool) {
		t.Helper()
		for range 100 {
			if is() {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
		t.Errorf("after 10 s: %s", what)
	}
	denied := func(f func() error) func() bool { return func() bool { return errors.Is(f(), access.ErrDenied) } }
	byToken := func() error { _, err := login(token); return err }
	must(t, byToken())

	must(t, s.Grant(ctx, access.Grantee{}, rule(t, "*:pull")))
	eventually("a grant is not effective", func() bool {
		a, err := login(password)
		return err == nil && a.Allowed("x/y") == access.Pull
	})
	must(t, s.Revoke(ctx, access.Grantee{}, access.Every))
	eventually("a grant is still effective", func() bool {
		a, err := v.Anonymous(ctx)
		return err == nil && a.Allowed("x/y") == 0
	})
	all, err := s.Tokens(ctx, "alice")
	must(t, err)
	if len(all) != 1 {
		t.Fatalf("tokens: %+v", all)
	}
	must(t, s.DeleteToken(ctx, all[0].ID))
	eventually("a revoked token is valid", denied(byToken))
	refreshed := func(lasting string) func() error {
		return func() error { _, err := v.Refreshed(ctx, lasting); return err }
	}
	must(t, s.SetPassword(ctx, "alice", hash))
	// As of a process that does not know of the new password yet.
	late, err := v.Lasting(alice, access.Credentials{Name: "alice", Secret: password})
	must(t, err)
	cookie, _, err := v.SignedSessions(s).Begin(ctx, "alice", alice.ValidFrom)
	must(t, err)
	eventually("a login of before the password is valid", denied(refreshed(lasting)))
	eventually("a login with the password of before is valid", denied(refreshed(late)))
	session, err := v.SignedSessions(s).Find(ctx, cookie)
	must(t, err)
	eventually("a session with the password of before is valid", denied(func() error { _, err := v.InSession(ctx, session); return err }))
	alice, err = login(password)
	must(t, err)
	lasting, err = v.Lasting(alice, access.Credentials{Name: "alice", Secret: password})
	must(t, err)
	must(t, refreshed(lasting)())
	must(t, s.SetAccount(ctx, access.Account{Name: "alice", Disabled: true}))
	eventually("a disabled account logs in", denied(func() error { _, err := login(password); return err }))
	must(t, s.SetAccount(ctx, access.Account{Name: "alice"}))
	eventually("an account that is enabled again cannot log in", func() bool { _, err := login(password); return err == nil })
	if err := refreshed(lasting)(); !errors.Is(err, access.ErrDenied) {
		t.Errorf("a login of before the account was disabled: %v", err)
	}

	records, err := s.Audit(ctx, access.AuditQuery{Limit: 100})
	must(t, err)
	var got []string
	for _, r := range records {
		got = append(got, strings.TrimSpace(fmt.Sprintf("%s %s %s", r.Event, r.Target, strings.ReplaceAll(r.Detail, all[0].ID, "ID"))))
	}
	want := []string{
		"account.change alice no groups", "account.change alice disabled, no groups", "account.password alice",
		"token.revoke " + all[0].ID, "grant.remove everybody *",
		"grant.add everybody *:pull", "token.add alice token ID", "account.add alice no groups",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("records (-want +got)\n%s", diff)
	}
	for what, err := range map[string]error{
		"an account":      s.DeleteAccount(ctx, "bob"),
		"a token":         s.DeleteToken(ctx, "00000000"),
		"a grant":         s.Revoke(ctx, access.Grantee{Group: "dev"}, access.Every),
		"an account's":    s.Grant(ctx, access.Grantee{Account: "bob"}, rule(t, "*:pull")),
		"a token of none": s.AddToken(ctx, access.PersonalToken{Account: "bob", ID: "1"}, access.NewToken().Hash()),
	} {
		if !errors.Is(err, indexer.ErrNotFound) {
			t.Errorf("%s that does not exist: got %v, want ErrNotFound", what, err)
		}
	}
	if err := s.AddAccount(ctx, access.Account{Name: "alice"}); !errors.Is(err, indexer.ErrConflict) {
		t.Errorf("an account that exists: got %v, want ErrConflict", err)
	}
}

// Records say who did what, by a request; they are found by each of their parts, and nobody
// changes them.
func TestAudit(t *testing.T) {
	t.Parallel()
	pool := schematest.New(t)
	s := postgres.New(pool, postgres.Config{})
	ctx := access.WithActor(indexer.WithRequest(t.Context(), "r1"), access.Actor{Name: "root", Token: "7f3a12bc", Source: "192.0.2.1"})
	must(t, s.AddAccount(ctx, access.Account{Name: "alice", Groups: []string{"dev"}}))
	must(t, s.Grant(ctx, access.Grantee{Group: "dev"}, rule(t, "team/*:push")))
	must(t, s.Record(t.Context(), access.Record{Event: access.SessionBegin, Target: "bob\x00\xff", Refused: true}))
	all, err := s.Audit(t.Context(), access.AuditQuery{Limit: 10})
	must(t, err)
	if len(all) != 3 || all[0].Outcome() != "refused" || all[1].Outcome() != "done" || all[1].Request != "r1" || all[1].Detail != "team/*:pull,push" ||
		all[1].Actor != (access.Actor{Name: "root", Token: "7f3a12bc", Source: "192.0.2.1"}) || time.Since(all[1].At) > time.Minute {
		t.Errorf("records: %+v", all)
	}
	for _, c := range []struct {
		q    access.AuditQuery
		want []int // places in all
	}{
		{access.AuditQuery{Limit: 2}, []int{0, 1}},
		{access.AuditQuery{Limit: 2, Before: all[1].ID}, []int{2}},
		{access.AuditQuery{Limit: 9, Actor: "root"}, []int{1, 2}},
		{access.AuditQuery{Limit: 9, Target: "alice"}, []int{2}},
		{access.AuditQuery{Limit: 9, Event: access.GrantAdd}, []int{1}},
		{access.AuditQuery{Limit: 9, Actor: "root", Target: "nobody\x00"}, nil},
	} {
		got, err := s.Audit(t.Context(), c.q)
		must(t, err)
		var want []access.Record
		for _, i := range c.want {
			want = append(want, all[i])
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%+v (-want +got)\n%s", c.q, diff)
		}
	}
	for _, q := range []string{"DELETE FROM audit", "UPDATE audit SET actor = 'x'", "TRUNCATE audit"} {
		if _, err := pool.Exec(t.Context(), q); err == nil || !strings.Contains(err.Error(), "never changed") {
			t.Errorf("%s: %v", q, err)
		}
	}
	// A change that fails is not recorded, and one without a record is not made.
	if err := s.AddAccount(ctx, access.Account{Name: "alice"}); err == nil {
		t.Error("added alice twice")
	}
	if again, err := s.Audit(t.Context(), access.AuditQuery{Limit: 10}); err != nil || len(again) != 3 {
		t.Errorf("after a failed change: %d records, %v", len(again), err)
	}
}

// Whatever is granted, a search by SQL and one from memory find what a plain reading of the
// grants allows.
func TestGrantsDecideWhatIsFound(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	shelf := postgrestest.New(t)
	var names []string
	for _, name := range []string{"a", "a/b", "a/b/c", "a/bc", "ab", "ab/c", "c/d", "c/d/e", "d"} {
		shelf.Find(name, "v1", postgrestest.Made(name, "linux/amd64", 1, 1, "2026-11-01"))
		names = append(names, name)
	}
	slices.Sort(names)
	memory := postgres.New(shelf.Pool, postgres.Config{Memory: 1 << 30})
	must(t, memory.CopyStep(ctx))
	stores := map[string]*postgres.Store{"memory": memory, "SQL": postgres.New(shelf.Pool, postgres.Config{})}
	must(t, memory.AddAccount(ctx, access.Account{Name: "alice", Groups: []string{"dev"}}))
	random := rand.New(rand.NewPCG(3, 4))
	pick := func(texts ...string) string { return texts[random.IntN(len(texts))] }
	for range 40 {
		if _, err := shelf.Pool.Exec(ctx, "DELETE FROM access_grant"); err != nil {
			t.Fatal(err)
		}
		var granted []string
		for range random.IntN(4) {
			to, err := access.ParseGrantee(pick("alice", "group:dev", "group:ops", "everybody"))
			must(t, err)
			pattern := pick("*", "a/*", "a/b", "a/b/*", "ab/*", "ab", "d", "c/*", "c/d")
			must(t, memory.Grant(ctx, to, rule(t, pattern+":"+pick("pull", "push", "admin"))))
			if to.Group != "ops" {
				granted = append(granted, pattern)
			}
		}
		alice, err := access.NewAccounts(memory, nil).Named(ctx, "alice")
		must(t, err)
		var want []string
		for _, name := range names {
			if slices.ContainsFunc(granted, func(p string) bool { return indexer.Glob(p)(name) }) {
				want = append(want, name)
			}
		}
		for how, store := range stores {
			var got []string
			err := store.View(ctx, alice.Asker(), func(v *postgres.View) error {
				found, err := v.Search(ctx, query.Query{Sort: query.SortName, Limit: 100})
				for _, r := range found.Items {
					got = append(got, r.Name)
				}
				if found.Total != len(want) {
					t.Errorf("by %s, granted %q: total %d, want %d", how, granted, found.Total, len(want))
				}
				return err
			})
			must(t, err)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("by %s, granted %q (-want +got)\n%s", how, granted, diff)
			}
		}
	}
}

// The last use of a token is stored once an hour, and is no change of rights.
func TestUseTokens(t *testing.T) {
	t.Parallel()
	pool := schematest.New(t)
	s := postgres.New(pool, postgres.Config{})
	must(t, s.AddAccount(t.Context(), access.Account{Name: "alice"}))
	addToken(t, s, access.PersonalToken{Account: "alice"})
	addToken(t, s, access.PersonalToken{Account: "alice"})
	used := func() map[string]time.Time {
		t.Helper()
		all, err := s.Tokens(t.Context(), "alice")
		must(t, err)
		last := map[string]time.Time{}
		for _, p := range all {
			last[p.ID] = p.LastUsed
		}
		return last
	}
	before, err := s.AccessVersion(t.Context())
	must(t, err)
	ids := slices.Sorted(maps.Keys(used()))
	now := time.Now().Truncate(time.Microsecond)
	for _, c := range []struct{ at, want time.Time }{
		{now, now}, {now.Add(59 * time.Minute), now}, {now.Add(-time.Hour), now}, {now.Add(61 * time.Minute), now.Add(61 * time.Minute)},
	} {
		must(t, s.UseTokens(t.Context(), map[string]time.Time{ids[0]: c.at, "00000000": c.at, "x\ty": c.at}))
		if got := used(); !got[ids[0]].Equal(c.want) || !got[ids[1]].IsZero() {
			t.Errorf("used at %v: stored %v, want %v", c.at, got, c.want)
		}
	}
	if after, err := s.AccessVersion(t.Context()); err != nil || after != before {
		t.Errorf("version %v after %v, %v", after, before, err)
	}
}
