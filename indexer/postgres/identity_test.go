package postgres_test

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/schema/schematest"
)

// A person who signs in first several times at once gets one account, and another person of
// the same name none. The version changes only if the rights may.
func TestSignInOnce(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := postgres.New(schematest.New(t), postgres.Config{})
	bob := access.Identity{Provider: "X", Issuer: "https://x", Subject: "1", Name: "Bob", Groups: []string{"dev"}}
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			if a, err := s.SignIn(ctx, bob); a.Name != "bob" || a.ValidFrom.IsZero() || err != nil {
				t.Errorf("bob signs in as %q, %v", a.Name, err)
			}
		})
	}
	wait.Wait()
	other := bob
	other.Issuer = "https://y"
	_, err := s.SignIn(ctx, other)
	if !errors.Is(err, indexer.ErrInvalid) || !strings.Contains(err.Error(), "portbook user link bob") {
		t.Errorf("another bob: %v", err)
	}
	links, err := s.Links(ctx, "bob")
	must(t, err)
	if len(links) != 1 || links[0].SignedInAt.IsZero() {
		t.Fatalf("links %+v", links)
	}
	version := func() int64 {
		v, err := s.AccessVersion(ctx)
		must(t, err)
		return v.Number
	}
	before := version()
	_, err = s.SignIn(ctx, bob)
	must(t, err)
	if version() != before {
		t.Error("a sign-in with the same groups changes the version")
	}
	must(t, s.Grant(ctx, access.Grantee{Group: "ops"}, rule(t, "team/*:pull")))
	before, bob.Groups = version(), []string{"ops"}
	_, err = s.SignIn(ctx, bob)
	must(t, err)
	a, rules, err := s.Account(ctx, "bob")
	must(t, err)
	if version() == before || len(a.Groups) > 0 || len(rules) != 1 || rules[0].String() != "team/*:pull" {
		t.Errorf("bob in ops: version %d after %d, account %+v, rules %v", version(), before, a, rules)
	}
	records, err := s.Audit(ctx, access.AuditQuery{Event: access.AccountAdd, Limit: 10})
	must(t, err)
	if len(records) != 1 || records[0].Actor.Name != "bob" {
		t.Errorf("records %+v", records)
	}
	// Whoever is refused leaves nothing behind.
	_, err = s.SignIn(ctx, access.Identity{Provider: "X", Issuer: "https://x", Subject: "2", Name: "!"})
	if all, failed := s.Links(ctx, ""); !errors.Is(err, indexer.ErrInvalid) || failed != nil || len(all) != 1 {
		t.Errorf("a name that cannot be: %v, links %+v, %v", err, all, failed)
	}
	must(t, s.Unlink(ctx, "bob", "https://x", "1"))
	if err := s.Unlink(ctx, "bob", "https://x", "1"); !errors.Is(err, indexer.ErrNotFound) {
		t.Errorf("unlinked twice: %v", err)
	}
}
