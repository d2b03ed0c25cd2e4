package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/schema/schematest"
)

// Whatever two requests do at once, an administrator who can log in is left.
func TestLastAdministrator(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := schematest.New(t)
	s := postgres.New(pool, postgres.Config{})
	_, err := pool.Exec(ctx, `
		CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
			'BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NULL; END';
		CREATE CONSTRAINT TRIGGER waits AFTER UPDATE OR DELETE ON account
			DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait()`)
	must(t, err)
	no, yes := false, true
	ways := map[string]func(name string) error{
		"demote":  func(name string) error { return s.ChangeAccount(ctx, name, access.AccountEdit{Admin: &no}) },
		"disable": func(name string) error { return s.ChangeAccount(ctx, name, access.AccountEdit{Disabled: &yes}) },
		"delete":  func(name string) error { return s.DeleteAccount(ctx, name) },
	}
	isLast := func(err error) bool {
		return errors.Is(err, indexer.ErrConflict) && strings.Contains(err.Error(), "last administrator")
	}
	for one, first := range ways {
		for two, second := range ways {
			if _, err := pool.Exec(ctx, "DELETE FROM account"); err != nil {
				t.Fatal(err)
			}
			must(t, s.AddAccount(ctx, access.Account{Name: "plain"}))
			must(t, second("plain")) // there is no administrator at all
			must(t, s.AddAccount(ctx, access.Account{Name: "a", Admin: true}))
			must(t, s.AddAccount(ctx, access.Account{Name: "b", Admin: true}))
			// Neither can be committed until both have begun, so that they overlap.
			tx, err := pool.Begin(ctx)
			must(t, err)
			_, err = tx.Exec(ctx, "SELECT pg_advisory_xact_lock(1)")
			must(t, err)
			var errs [2]error
			var both sync.WaitGroup
			both.Go(func() { errs[0] = first("a") })
			both.Go(func() { errs[1] = second("b") })
			untilWaiting(t, tx, 2)
			must(t, tx.Rollback(ctx))
			both.Wait()
			if isLast(errs[0]) == isLast(errs[1]) || errs[0] != nil && errs[1] != nil {
				t.Errorf("%s and %s at once: %v, %v", one, two, errs[0], errs[1])
			}
			left := "a"
			if errs[1] != nil {
				left = "b"
			}
			for what, change := range ways {
				if err := change(left); !isLast(err) {
					t.Errorf("%s the last administrator: %v", what, err)
				}
			}
		}
	}
}

// untilWaiting waits until a number of transactions of the database wait for a lock.
func untilWaiting(t *testing.T, tx pgx.Tx, want int) {
	t.Helper()
	const q = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		_, err := tx.Exec(t.Context(), "SELECT pg_stat_clear_snapshot()")
		must(t, err)
		var n int
		must(t, tx.QueryRow(t.Context(), q).Scan(&n))
		if n == want {
			return
		}
	}
	t.Fatalf("after 30 s there are not %d transactions that wait", want)
}

// A permit is asked about the actor as it is when the change is made, not as it was when its
// request began.
func TestPermitInTransaction(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := postgres.New(schematest.New(t), postgres.Config{})
	must(t, s.AddAccount(ctx, access.Account{Name: "root", Admin: true}))
	must(t, s.AddAccount(ctx, access.Account{Name: "lead"}))
	must(t, s.Grant(ctx, access.Grantee{Account: "lead"}, rule(t, "team/*:admin")))
	addToken(t, s, access.PersonalToken{Account: "lead"})
	tokens, err := s.Tokens(ctx, "lead")
	must(t, err)
	as := func(name, token string, permit access.Permit) context.Context {
		return access.WithPermit(access.WithActor(ctx, access.Actor{Name: name, Token: token}), permit)
	}
	team := rule(t, "team/app:push")
	grant := func(ctx context.Context) error { return s.Grant(ctx, access.Grantee{}, team) }
	permit := access.OverseersOf(team.Pattern)
	must(t, grant(as("lead", "", permit)))
	must(t, grant(as("lead", tokens[0].ID, permit)))
	must(t, grant(as("root", "", permit)))
	forbidden := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, indexer.ErrForbidden) {
			t.Errorf("%s: got %v, want ErrForbidden", what, err)
		}
	}
	forbidden("a wider pattern", s.Grant(as("lead", "", access.OverseersOf(access.Every)), access.Grantee{}, rule(t, "*:pull")))
	forbidden("an administrator's change", s.AddAccount(as("lead", "", access.Administrators), access.Account{Name: "x"}))
	forbidden("an account that does not exist", grant(as("nobody", "", permit)))
	forbidden("a token that does not exist", grant(as("lead", "00000000", permit)))
	forbidden("a token of another", grant(as("root", tokens[0].ID, permit)))
	must(t, s.ExpireToken(ctx, tokens[0].ID, time.Now()))
	forbidden("a token that has ended", grant(as("lead", tokens[0].ID, permit)))
	must(t, s.Revoke(ctx, access.Grantee{Account: "lead"}, rule(t, "team/*:admin").Pattern))
	forbidden("a right that was taken away", grant(as("lead", "", permit)))
	yes := true
	must(t, s.AddAccount(ctx, access.Account{Name: "root2", Admin: true}))
	must(t, s.ChangeAccount(ctx, "root", access.AccountEdit{Disabled: &yes}))
	forbidden("a disabled administrator", grant(as("root", "", permit)))
	records, err := s.Audit(ctx, access.AuditQuery{Limit: 100, Event: access.GrantAdd, Target: "everybody"})
	must(t, err)
	if len(records) != 3 {
		t.Errorf("%d grants to everybody are recorded, want the 3 that were allowed: %+v", len(records), records)
	}
}

// The grants that somebody sees are those within its patterns, by any filter and in pages of
// any size, in one order and each once.
func TestGrantPage(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := postgres.New(schematest.New(t), postgres.Config{})
	random := rand.New(rand.NewPCG(9, 10))
	pick := func(texts ...string) string { return texts[random.IntN(len(texts))] }
	alice := access.Account{Name: "alice", Groups: []string{"dev"}}
	must(t, s.AddAccount(ctx, alice))
	must(t, s.AddAccount(ctx, access.Account{Name: "bob"}))
	patterns := []string{"*", "a/*", "a/b", "a/b/*", "ab/*", "ab", "a", "c/d", "c/*", "a_b/*", "a/b_c"}
	grantees := []string{"everybody", "group:dev", "group:ops", "alice", "bob"}
	for range 40 {
		to, err := access.ParseGrantee(pick(grantees...))
		must(t, err)
		must(t, s.Grant(ctx, to, rule(t, pick(patterns...)+":"+pick("pull", "push", "admin"))))
	}
	all, err := s.Grants(ctx)
	must(t, err)
	shown := 0
	for range 300 {
		var within []access.Pattern
		lead := access.Subject{Name: "lead"}
		for range 1 + random.IntN(2) {
			r := rule(t, pick(patterns...)+":admin")
			within, lead.Rules = append(within, r.Pattern), append(lead.Rules, r)
		}
		q := access.GrantQuery{Within: within, Limit: 1 + random.IntN(5)}
		if random.IntN(3) == 0 {
			to, err := access.ParseGrantee(pick(grantees...))
			must(t, err)
			q.To = &to
		}
		repository := ""
		if random.IntN(3) == 0 {
			repository = pick("a", "ab", "a/b", "a/b/c", "c/d", "a_b/x", "axb/x")
			q.Patterns = access.PatternsOf(repository)
		}
		if random.IntN(3) == 0 {
			q.Account = &alice
		}
		want := slices.DeleteFunc(slices.Clone(all), func(g access.Grant) bool {
			has := g.To == access.Grantee{} || g.To.Account == "alice" || g.To.Group == "dev"
			return !lead.Oversees(g.Rule.Pattern) || q.To != nil && g.To != *q.To || q.Account != nil && !has ||
				repository != "" && !indexer.Glob(g.Rule.Pattern.String())(repository)
		})
		var got []access.Grant
		for {
			page, err := s.GrantPage(ctx, q)
			must(t, err)
			if got = append(got, page...); len(page) < q.Limit {
				break
			}
			q.After = &page[len(page)-1]
		}
		shown += len(got)
		if diff := cmp.Diff(want, append([]access.Grant{}, got...), cmp.AllowUnexported(access.Pattern{})); diff != "" {
			t.Fatalf("%+v (-want +got)\n%s", q, diff)
		}
	}
	if shown < 300 {
		t.Errorf("only %d grants were shown: the test asks too little", shown)
	}
}

// No account, token or grantee has more than the most, and what is refused changes nothing.
func TestMostOfEach(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := postgres.New(schematest.New(t), postgres.Config{})
	must(t, s.AddAccount(ctx, access.Account{Name: "alice"}))
	full := func(what string, err error, kind error) {
		t.Helper()
		if !errors.Is(err, kind) || !strings.Contains(err.Error(), "most") {
			t.Errorf("%s: got %v, want %v", what, err, kind)
		}
	}
	add := func(p access.PersonalToken) error {
		token := access.NewToken()
		p.ID, p.Account = token.ID(), "alice"
		return s.AddToken(ctx, p, token.Hash())
	}
	must(t, add(access.PersonalToken{ExpiresAt: time.Now().Add(-25 * time.Hour)})) // forgotten by the next one
	for range access.MaxTokens {
		must(t, add(access.PersonalToken{}))
	}
	full("a token", add(access.PersonalToken{}), indexer.ErrConflict)
	tokens, err := s.Tokens(ctx, "alice")
	must(t, err)
	if len(tokens) != access.MaxTokens {
		t.Errorf("%d tokens, want %d", len(tokens), access.MaxTokens)
	}
	next := access.NewToken()
	full("a rotated token", s.RotateToken(ctx, tokens[0].Rotate(access.Subject{}, next, time.Hour)), indexer.ErrConflict)
	if again, err := s.Token(ctx, tokens[0].ID); err != nil || !again.ExpiresAt.IsZero() {
		t.Errorf("a rotation that was refused: %+v, %v", again, err)
	}
	must(t, s.DeleteToken(ctx, tokens[1].ID))
	must(t, s.RotateToken(ctx, tokens[0].Rotate(access.Subject{}, next, time.Hour)))
	if again, err := s.Token(ctx, tokens[0].ID); err != nil || again.ExpiresAt.IsZero() || time.Until(again.ExpiresAt) > time.Hour {
		t.Errorf("the token that was replaced: %+v, %v", again, err)
	}
	full("rules", add(access.PersonalToken{Narrowed: true, Rules: slices.Repeat(access.Rules{rule(t, "*:pull")}, access.MaxRules+1)}), indexer.ErrInvalid)
	groups := []string{}
	for i := range access.MaxGroups + 1 {
		groups = append(groups, fmt.Sprint("g", i))
	}
	full("groups", s.ChangeAccount(ctx, "alice", access.AccountEdit{Groups: &groups}), indexer.ErrInvalid)
	dev := access.Grantee{Group: "dev"}
	for i := range access.MaxGrants {
		must(t, s.Grant(ctx, dev, rule(t, fmt.Sprintf("r%d:pull", i))))
	}
	full("a grant", s.Grant(ctx, dev, rule(t, "other:pull")), indexer.ErrConflict)
	must(t, s.Grant(ctx, dev, rule(t, "r0:push"))) // a change is no more
	must(t, s.Grant(ctx, access.Grantee{}, rule(t, "other:pull")))

	page, err := s.GroupPage(ctx, "", 10)
	must(t, err)
	if diff := cmp.Diff([]access.Group{{Name: "dev", Grants: access.MaxGrants}}, page); diff != "" {
		t.Errorf("groups (-want +got)\n%s", diff)
	}
}
