package postgres_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/postgres/postgrestest"
)

// protection returns a protection that is right.
func protection(t *testing.T, kind access.ProtectionKind, pattern, tags string, bytes int64) access.Protection {
	t.Helper()
	p, err := access.ParsePattern(pattern)
	must(t, err)
	return access.Protection{Kind: kind, Pattern: p, Tags: tags, Bytes: bytes}
}

// What is protected and frozen must be found by its repository, its tags, and what the tags
// need; and only who oversees a pattern may change that.
func TestProtections(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := postgrestest.New(t)
	must(t, s.AddAccount(ctx, access.Account{Name: "ann"}))
	must(t, s.Grant(ctx, access.Grantee{Account: "ann"}, rule(t, "team/*:admin")))
	as := func(p access.Protection) error {
		actor := access.WithActor(ctx, access.Actor{Name: "ann"})
		return s.AddProtection(access.WithPermit(actor, access.OverseersOf(p.Pattern)), p)
	}
	releases := protection(t, access.Protect, "team/*", "v*", 0)
	releases.Reason = "releases stay"
	must(t, as(releases))
	must(t, s.AddProtection(ctx, protection(t, access.Freeze, "old/app", "", 0)))
	must(t, s.AddProtection(ctx, protection(t, access.Quota, "big/*", "", 50)))
	if err := as(protection(t, access.Freeze, "*", "", 0)); !errors.Is(err, indexer.ErrForbidden) {
		t.Errorf("ann froze everything: %v", err)
	}
	for _, wrong := range []access.Protection{
		protection(t, access.Protect, "team/*", "v 1", 0), protection(t, access.Protect, "team/*", "", 0),
		protection(t, access.Freeze, "team/*", "v1", 0), protection(t, access.Quota, "team/*", "", -1),
		protection(t, access.Quota, "team/deep/*", "", 1), protection(t, "melt", "team/*", "", 0),
	} {
		if err := s.AddProtection(ctx, wrong); !errors.Is(err, indexer.ErrInvalid) {
			t.Errorf("%s: %v, want invalid", wrong, err)
		}
	}

	protected := func(repository string, tags ...string) []string {
		why, err := s.Protected(ctx, repository, tags)
		must(t, err)
		return slices.Sorted(maps.Keys(why))
	}
	for repository, want := range map[string][]string{
		"team/app": {"v1", "v2"}, "team/a/b": {"v1", "v2"}, "team": nil, "old/app": {"", "latest", "v1", "v2"}, "old/app/x": nil,
	} {
		if diff := cmp.Diff(want, protected(repository, "v1", "v2", "latest")); diff != "" {
			t.Errorf("protected tags of %s (-want +got):\n%s", repository, diff)
		}
	}

	image, other := heavy("team/app", map[string]int64{"base": 10, "own": 5}), heavy("team/app", map[string]int64{"other": 1})
	list := indexOf("team/app", image)
	s.Find("team/app", "v1", list, image)
	s.Find("team/app", "latest", other)
	for d, want := range map[string]string{
		list.Digest.String(): "v1", image.Digest.String(): "v1", image.Layers[0].Digest.String(): "v1",
		other.Digest.String(): "", other.Layers[0].Digest.String(): "",
	} {
		why, err := s.ProtectedNeeds(ctx, "team/app", indexer.TagOrDigest(d).Digest())
		if err != nil || (why == "") != (want == "") || !strings.Contains(why, want) {
			t.Errorf("ProtectedNeeds %s: %q, %v, want %q", d, why, err, want)
		}
	}

	full := func() bool {
		all, err := s.Protections(ctx)
		must(t, err)
		_, full := all.Full("big/app")
		return full
	}
	s.Find("big/app", "1", heavy("big/app", map[string]int64{"a": 49}))
	_, err := s.CountStorage(ctx)
	must(t, err)
	if full() {
		t.Error("49 of 50 bytes are over the quota")
	}
	s.Find("big/web", "1", heavy("big/web", map[string]int64{"b": 1}))
	if full() {
		t.Error("the quota knows what was not counted yet")
	}
	_, err = s.CountStorage(ctx)
	must(t, err)
	if !full() {
		t.Error("50 of 50 bytes are not over the quota")
	}

	before := versionOf(t, s.Store)
	must(t, s.RemoveProtection(ctx, releases))
	if got := protected("team/app", "v1"); got != nil {
		t.Errorf("protected after the protection was removed: %v", got)
	}
	if after := versionOf(t, s.Store); after == before {
		t.Error("the catalogue version stayed, though pages show protections")
	}
	if err := s.RemoveProtection(ctx, releases); !errors.Is(err, indexer.ErrNotFound) {
		t.Errorf("removed twice: %v", err)
	}
}

func versionOf(t *testing.T, s *postgres.Store) (version indexer.Version) {
	t.Helper()
	view(t, s, func(v *postgres.View) (err error) {
		version, err = v.Version(t.Context())
		return err
	})
	return version
}

// One namespace must not take the place of the others.
func TestProtectionsAreLimited(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := postgrestest.New(t)
	for i := range access.MaxProtectionsBelow {
		must(t, s.AddProtection(ctx, protection(t, access.Protect, fmt.Sprintf("team/app%d", i%7), fmt.Sprintf("v%d", i), 0)))
	}
	one := protection(t, access.Freeze, "team/*", "", 0)
	if err := s.AddProtection(ctx, one); !errors.Is(err, indexer.ErrConflict) {
		t.Errorf("one more: %v, want a conflict", err)
	}
	must(t, s.AddProtection(ctx, protection(t, access.Freeze, "*", "", 0)))
	must(t, s.AddProtection(ctx, protection(t, access.Freeze, "other", "", 0)))
}
