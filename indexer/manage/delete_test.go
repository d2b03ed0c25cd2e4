package manage_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/manage"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/registry/push"
)

// A digest that forty tags show and three indexes name is deleted only with the tags that were
// told, and not while an index names it.
func TestDeleteWhatManyShare(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	var tags []string
	for i := range 40 {
		tags = append(tags, fmt.Sprintf("t%02d", i))
	}
	shared := s.image("team/app", "shared", tags...)
	other := s.image("team/app", "other", "other")
	var indexes []ocispec.Descriptor
	for i := range 3 {
		indexes = append(indexes, s.index("team/app", fmt.Sprintf("index%d", i), shared, other))
	}
	o := indexer.Operation{Kind: indexer.DeleteManifest, Repository: "team/app", Digest: shared.Digest}
	e, err := s.manager.Preview(t.Context(), o)
	if err != nil || !slices.Equal(e.Untags, tags) || len(e.Refused) != 3 {
		t.Errorf("%+v, %v", e, err)
	}
	for _, index := range indexes {
		s.refused(o, indexer.ErrConflict, index.Digest.String())
		s.do(indexer.Operation{Kind: indexer.DeleteManifest, Repository: "team/app", Digest: index.Digest})
		s.gone("team/app", index.Digest)
	}
	o.Options.Tags = tags[:39]
	s.refused(o, indexer.ErrConflict, "team/app:t39 shows")
	o.Options.Tags = tags
	done := s.do(o)
	s.gone("team/app", shared.Digest)
	s.shows("team/app", "t00", "")
	s.shows("team/app", "other", other.Digest)
	if done.Result.Untagged != 40 || done.Result.Deleted != 1 {
		t.Errorf("%+v", done.Result)
	}
	s.refused(o, indexer.ErrNotFound, shared.Digest.String())
	// All of it can be undone: each with its tags.
	for _, undo := range []int64{done.ID, done.ID - 1, done.ID - 2, done.ID - 3} {
		s.do(indexer.Operation{Kind: indexer.Restore, Repository: "team/app", Options: indexer.OperationOptions{Undo: undo}})
	}
	for _, tag := range tags {
		s.shows("team/app", tag, shared.Digest)
	}
	s.shows("team/app", "index2", indexes[2].Digest)
	s.refused(indexer.Operation{
		Kind: indexer.Restore, Repository: "team/app", Options: indexer.OperationOptions{Undo: done.ID},
	}, indexer.ErrNotFound, "nothing in the trash")
}

// The manifests of an index, and referrers, go only when asked, and only those that nothing
// else needs.
func TestChildrenAndReferrersGoWhenAsked(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	alone, tagged, shared := s.image("a/b", "alone"), s.image("a/b", "tagged", "tagged"), s.image("a/b", "shared")
	index, other := s.index("a/b", "index", alone, tagged, shared), s.index("a/b", "other", shared)
	signature, err := s.push.Artifact(t.Context(), "a/b", "", push.ArtifactSpec{ArtifactType: "application/x-sig", Subject: &alone})
	if err != nil {
		t.Fatal(err)
	}
	s.known("a/b", signature.Digest)
	o := indexer.Operation{Kind: indexer.DeleteManifest, Repository: "a/b", Digest: index.Digest}
	e, err := s.manager.Preview(t.Context(), o)
	if err != nil || len(e.Deletes) != 1 || len(e.Stays) != 3 {
		t.Errorf("without options: %+v, %v", e, err)
	}
	o.Options = indexer.OperationOptions{Children: true, Referrers: true}
	done := s.do(o)
	for _, d := range []digest.Digest{index.Digest, alone.Digest, signature.Digest} {
		s.gone("a/b", d)
	}
	s.shows("a/b", "tagged", tagged.Digest)
	s.shows("a/b", "other", other.Digest)
	if !s.has("a/b", shared.Digest.String()) || done.Result.Deleted != 3 || done.Total != 3 {
		t.Errorf("%+v", done)
	}
	// Restoring the index alone puts back first what it names.
	s.do(indexer.Operation{Kind: indexer.Restore, Repository: "a/b", Options: indexer.OperationOptions{Undo: done.ID}})
	s.shows("a/b", "index", index.Digest)
	if !s.has("a/b", alone.Digest.String()) || !s.has("a/b", signature.Digest.String()) {
		t.Error("not all was restored")
	}
}

// Pushes that fall between the last look and the deletion are put back: of the digest under
// another tag, and of an index that names it.
func TestPushBetweenLookAndDelete(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	one := s.image("team/app", "one", "v1")
	o := indexer.Operation{Kind: indexer.DeleteManifest, Repository: "team/app", Digest: one.Digest}
	s.once(deletes(one.Digest.String()), func() { s.image("team/app", "one", "again") })
	done := s.do(o)
	s.shows("team/app", "again", one.Digest)
	s.shows("team/app", "v1", "")
	if done.Result.PutBack == 0 {
		t.Errorf("%+v", done.Result)
	}
	var index ocispec.Descriptor
	s.once(deletes(one.Digest.String()), func() { index = s.index("team/app", "index", one) })
	s.do(o)
	s.shows("team/app", "index", index.Digest)
	if !s.has("team/app", one.Digest.String()) {
		t.Error("the index names what is gone")
	}
}

func TestDeleteRepository(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	one, two := s.image("acme/team", "one", "v1", "latest"), s.image("acme/team", "two")
	index := s.index("acme/team", "index", one, two)
	deep := s.image("acme/team/deep", "deep", "v1")
	o := indexer.Operation{Kind: indexer.DeleteRepository, Repository: "acme/team"}
	e, err := s.manager.Preview(t.Context(), o)
	if err != nil || e.Manifests != 3 || !slices.Equal(e.Untags, []string{"index", "latest", "v1"}) {
		t.Errorf("%+v, %v", e, err)
	}
	done := s.do(o)
	for _, d := range []digest.Digest{one.Digest, two.Digest, index.Digest} {
		s.gone("acme/team", d)
	}
	s.shows("acme/team/deep", "v1", deep.Digest)
	if done.Result.Deleted != 3 || done.Result.Untagged != 3 || done.Done != 3 || len(done.Result.Notes) > 0 {
		t.Errorf("%+v", done)
	}
	// The registry keeps the name; the book shows it nowhere, also after a scan.
	names := s.names()
	if slices.Contains(names, "acme/team") || !slices.Contains(names, "acme/team/deep") {
		t.Errorf("the book shows %q", names)
	}
	s.refused(o, indexer.ErrNotFound, "no repository acme/team")
	// It can be undone, and comes back with the next push anyway.
	s.do(indexer.Operation{Kind: indexer.Restore, Repository: "acme/team", Options: indexer.OperationOptions{Undo: done.ID}})
	s.shows("acme/team", "index", index.Digest)
	s.shows("acme/team", "latest", one.Digest)
}

// names returns the names of repositories that the book shows.
func (s *site) names() (names []string) {
	s.t.Helper()
	err := s.store.View(s.t.Context(), indexer.Everyone, func(v *postgres.View) (err error) {
		all, err := v.Repositories(s.t.Context(), "", 100)
		for _, r := range all {
			names = append(names, r.Name)
		}
		if err != nil {
			return err
		}
		if _, err := v.Repository(s.t.Context(), "acme/team"); !errors.Is(err, indexer.ErrNotFound) {
			s.t.Errorf("acme/team: %v", err)
		}
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return names
}

// What is pushed while a repository is deleted stays: a new image, an old one under a new tag,
// and the same one under its own tag.
func TestPushDuringDeleteRepository(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	var all []ocispec.Descriptor
	for i := range 6 {
		all = append(all, s.image("acme/team", fmt.Sprint(i), fmt.Sprintf("v%d", i)))
	}
	var fresh ocispec.Descriptor
	s.once(deletes("v3"), func() {
		fresh = s.image("acme/team", "fresh", "fresh")
		s.image("acme/team", "0", "again")
		s.image("acme/team", "3", "v3")
	})
	done := s.do(indexer.Operation{Kind: indexer.DeleteRepository, Repository: "acme/team"})
	s.shows("acme/team", "fresh", fresh.Digest)
	s.shows("acme/team", "again", all[0].Digest)
	s.shows("acme/team", "v3", all[3].Digest)
	s.gone("acme/team", all[1].Digest)
	s.shows("acme/team", "v1", "")
	if len(done.Result.Notes) == 0 {
		t.Errorf("%+v", done)
	}
}

// While the registry is away, an operation waits and says why; then it goes on. It says so at once,
// also if a part of it was done: the book cannot show that part before the registry is back.
func TestRegistryAway(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	for i := range 5 {
		s.image("acme/team", fmt.Sprint(i), fmt.Sprintf("v%d", i))
	}
	var away atomic.Bool
	before := func(r *http.Request) bool {
		if deletes("v2")(r) && !away.Load() {
			time.Sleep(300 * time.Millisecond) // the other tags are deleted meanwhile
			away.Store(true)
		}
		return !away.Load()
	}
	s.before.Store(&before)
	ctx, leave := context.WithCancel(s.ctx) // the client leaves in the middle
	var id int64
	s.until(func() bool {
		if id == 0 {
			go func() {
				_, _ = s.manager.Do(ctx, indexer.Operation{Kind: indexer.DeleteRepository, Repository: "acme/team"})
			}()
			id = 1
		}
		o, err := s.store.Operation(t.Context(), id)
		return err == nil && o.State == indexer.OperationWaiting && o.Error != ""
	})
	leave()
	if o, err := s.store.Operation(t.Context(), id); err != nil || !strings.HasPrefix(o.Error, "the registry") {
		t.Errorf("%+v, %v", o, err)
	}
	away.Store(false)
	s.before.Store(nil)
	s.until(func() bool {
		o, err := s.store.Operation(t.Context(), id)
		return err == nil && o.State == indexer.OperationDone
	})
	if tags, err := s.remote.Tags(t.Context(), "acme/team"); err == nil && len(tags) > 0 {
		t.Errorf("still there: %q", tags)
	}
}

// A registry that refuses deletions ends the operation with what to do.
func TestRegistryRefusesDeletions(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	one := s.image("team/app", "one", "v1")
	s.registry.Stop()
	s.readOnly()
	s.refused(indexer.Operation{Kind: indexer.DeleteManifest, Repository: "team/app", Digest: one.Digest}, nil,
		"storage.delete.enabled")
}

// Two operators who delete at once: one deletes, and the other is told so; nothing else goes.
func TestTwoOperatorsAtOnce(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	keep := s.image("team/app", "keep", "keep")
	one := s.image("team/app", "one", "v1", "v2")
	errs := make([]error, 6)
	var all sync.WaitGroup
	for i := range errs {
		all.Add(1)
		go func() {
			defer all.Done()
			o := indexer.Operation{Kind: indexer.DeleteManifest, Repository: "team/app", Digest: one.Digest}
			if i%2 == 1 {
				o = indexer.Operation{Kind: indexer.Untag, Repository: "team/app", Tag: "v1", Digest: one.Digest}
			}
			_, errs[i] = s.manager.Do(s.ctx, o)
		}()
	}
	all.Wait()
	for _, err := range errs {
		if err != nil && !errors.Is(err, indexer.ErrNotFound) {
			t.Error(err)
		}
	}
	s.gone("team/app", one.Digest)
	s.shows("team/app", "keep", keep.Digest)
}

// Who has lost a right a moment ago cannot use it, and nothing is recorded as done.
func TestRightTakenAway(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	one := s.image("team/app", "one", "v1")
	ctx := access.WithPermit(s.ctx, access.Changers("team/app", access.Delete)) // olga has no account
	_, err := s.manager.Do(ctx, indexer.Operation{Kind: indexer.DeleteManifest, Repository: "team/app", Digest: one.Digest})
	if !errors.Is(err, indexer.ErrForbidden) {
		t.Errorf("%v", err)
	}
	s.shows("team/app", "v1", one.Digest)
	if all, err := s.store.Operations(t.Context(), indexer.OperationQuery{Limit: 10}); err != nil || len(all) > 0 {
		t.Errorf("%+v, %v", all, err)
	}
}

// Nothing that is protected is deleted or moved.
func TestProtected(t *testing.T) {
	t.Parallel()
	s := open(t, func(c *manage.Config) {
		c.Protected = func(_ context.Context, _ string, tags []string) (map[string]string, error) {
			if slices.Contains(tags, "stable") {
				return map[string]string{"stable": "it matches the pattern stable"}, nil
			}
			return nil, nil
		}
	})
	one, two := s.image("team/app", "one", "stable"), s.image("team/app", "two", "v2")
	for _, o := range []indexer.Operation{
		{Kind: indexer.Untag, Tag: "stable"},
		{Kind: indexer.DeleteManifest, Digest: one.Digest},
		{Kind: indexer.DeleteRepository},
		{Kind: indexer.Rollback, Tag: "stable", Digest: two.Digest},
	} {
		o.Repository = "team/app"
		s.refused(o, indexer.ErrConflict, "team/app:stable is protected: it matches")
	}
	s.do(indexer.Operation{Kind: indexer.Rollback, Repository: "team/app", Tag: "stable", Digest: one.Digest}) // as it is
	s.shows("team/app", "stable", one.Digest)
}
