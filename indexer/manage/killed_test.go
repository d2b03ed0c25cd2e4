package manage_test

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/manage"
	"github.com/portbook/portbook/registry/push"
)

// killed performs an operation by a Manager that is killed right after the registry has done the
// n-th request that matches, and then after is called; another Manager goes on with it.
func (s *site) killed(o indexer.Operation, n int32, matches func(*http.Request) bool, after func()) indexer.Operation {
	s.t.Helper()
	ctx, kill := context.WithCancel(s.ctx)
	defer kill()
	var seen atomic.Int32
	dead := make(chan struct{})
	before := func(r *http.Request) bool {
		if seen.Load() >= n {
			return false // nothing of the dead process arrives any more
		}
		if matches(r) && seen.Add(1) == n {
			s.forward(r)
			close(dead)
			return false
		}
		return true
	}
	s.before.Store(&before)
	first := manage.New(manage.Config{Store: s.store, Remote: s.remote})
	added, err := s.store.AddOperation(s.ctx, o)
	if err != nil {
		s.t.Fatal(err)
	}
	go func() {
		for ctx.Err() == nil {
			if worked, _ := first.Step(ctx); worked {
				return
			}
		}
	}()
	<-dead
	const freeze = "UPDATE operation SET claims = claims + 1, run_after = now() + interval '1 hour', leased_until = NULL WHERE id = $1"
	if _, err := s.pool.Exec(s.t.Context(), freeze, added.ID); err != nil { // so that the dead one stores nothing
		s.t.Fatal(err)
	}
	kill()
	s.before.Store(nil)
	after()
	if _, err := s.pool.Exec(s.t.Context(), "UPDATE operation SET run_after = now() WHERE id = $1", added.ID); err != nil {
		s.t.Fatal(err)
	}
	s.run(s.manager.Run)
	s.until(func() bool {
		added, err = s.store.Operation(s.t.Context(), added.ID)
		return err == nil && added.Ended()
	})
	return added
}

// forward has the registry do a request whose answer nobody gets.
func (s *site) forward(r *http.Request) {
	req, err := http.NewRequest(r.Method, s.registry.URL+r.URL.Path, r.Body)
	if err != nil {
		s.t.Error(err)
		return
	}
	req.Header = r.Header.Clone()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Error(err)
		return
	}
	resp.Body.Close()
}

// A tag that is pushed again after a process has deleted it, and was killed, stays.
func TestKilledAfterUntag(t *testing.T) {
	t.Parallel()
	s := opened(t)
	s.image("team/app", "one", "v1")
	var two ocispec.Descriptor
	s.killed(indexer.Operation{Kind: indexer.Untag, Repository: "team/app", Tag: "v1"}, 1, deletes("v1"), func() {
		two = s.image("team/app", "two", "v1")
	})
	s.shows("team/app", "v1", two.Digest)
}

// What is pushed again after a process has deleted it, and was killed, stays; and the trash has
// all tags, also those that the dead process has deleted.
func TestKilledInDelete(t *testing.T) {
	t.Parallel()
	s := opened(t)
	one := s.image("team/app", "one", "v1", "v2", "v3", "v4")
	o := s.killed(indexer.Operation{Kind: indexer.DeleteManifest, Repository: "team/app", Digest: one.Digest}, 2,
		deletes(""), func() {})
	s.gone("team/app", one.Digest)
	s.do(indexer.Operation{Kind: indexer.Restore, Repository: "team/app", Options: indexer.OperationOptions{Undo: o.ID}})
	for _, tag := range []string{"v1", "v2", "v3", "v4"} {
		s.shows("team/app", tag, one.Digest)
	}
}

func TestKilledAfterDelete(t *testing.T) {
	t.Parallel()
	for _, kind := range []indexer.OperationKind{indexer.DeleteManifest, indexer.DeleteRepository} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			s := opened(t)
			one := s.image("team/app", "one", "v1")
			o := indexer.Operation{Kind: kind, Repository: "team/app"}
			if kind == indexer.DeleteManifest {
				o.Digest = one.Digest
			}
			s.killed(o, 1, deletes(one.Digest.String()), func() { s.image("team/app", "one", "again") })
			s.shows("team/app", "again", one.Digest)
		})
	}
}

// A restore whose process is killed, or whose registry goes away, between the manifest and its
// tags goes on with the tags.
func TestKilledInRestore(t *testing.T) {
	t.Parallel()
	s := opened(t)
	one := s.image("team/app", "one", "v1", "v2")
	stop := s.start()
	deleted := s.do(indexer.Operation{Kind: indexer.DeleteManifest, Repository: "team/app", Digest: one.Digest})
	stop()
	puts := func(r *http.Request) bool { return r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/v1") }
	s.killed(indexer.Operation{
		Kind: indexer.Restore, Repository: "team/app", Options: indexer.OperationOptions{Undo: deleted.ID},
	}, 1, puts, func() {})
	s.shows("team/app", "v1", one.Digest)
	s.shows("team/app", "v2", one.Digest)
}

// start runs the Manager until stop is called.
func (s *site) start() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.manager.Run(ctx)
	}()
	return func() { cancel(); <-done }
}

// A push that falls between look and deletion is put back although the registry reports it late.
func TestLateReport(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	one := s.image("team/app", "one", "v1")
	s.image("team/app", "other", "other")
	s.do(indexer.Operation{Kind: indexer.Untag, Repository: "team/app", Tag: "other"})
	var two digest.Digest
	s.once(deletes("v1"), func() {
		late := time.Now().Add(3 * time.Second)
		s.receive.Store(&late)
		desc, err := s.push.Image(s.t.Context(), "team/app", "v1", push.ImageSpec{Labels: map[string]string{"content": "two"}})
		if err != nil {
			t.Error(err)
		}
		two = desc.Digest
	})
	s.do(indexer.Operation{Kind: indexer.Untag, Repository: "team/app", Tag: "v1", Digest: one.Digest})
	s.shows("team/app", "v1", two)
}

// A tag of which no event has told is not lost with its manifest: it is in the trash, and if the
// caller did not know it, nothing is deleted.
func TestUnreportedTag(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	one := s.image("team/app", "one", "v1")
	never := time.Now().Add(time.Hour)
	s.receive.Store(&never)
	if _, err := s.push.Image(t.Context(), "team/app", "secret", push.ImageSpec{Labels: map[string]string{"content": "one"}}); err != nil {
		t.Fatal(err)
	}
	o := indexer.Operation{Kind: indexer.DeleteManifest, Repository: "team/app", Digest: one.Digest}
	o.Options.Tags = []string{"v1"}
	s.refused(o, indexer.ErrConflict, "team/app:secret shows")
	o.Options.Tags = nil
	done := s.do(o)
	s.do(indexer.Operation{Kind: indexer.Restore, Repository: "team/app", Options: indexer.OperationOptions{Undo: done.ID}})
	s.shows("team/app", "secret", one.Digest)
}

// What another operation of ours puts into the registry while a plan deletes is not lost either.
func TestPutBetweenLookAndDelete(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	one, two := s.image("team/app", "one", "v1"), s.image("team/app", "two", "v2")
	s.once(deletes("v1"), func() {
		_, body, err := s.push.Fetch(t.Context(), "team/app", two.Digest.String())
		if err == nil {
			_, err = s.remote.Put(t.Context(), "team/app", "v1", two.MediaType, body)
		}
		if err != nil {
			t.Error(err)
		}
	})
	s.do(indexer.Operation{Kind: indexer.Untag, Repository: "team/app", Tag: "v1", Digest: one.Digest})
	s.shows("team/app", "v1", two.Digest)
}

// What another operation of ours deletes beside a plan stays deleted, though it was pushed after the
// plan had begun.
func TestTagDeletedBesideIsNotPutBack(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	one := s.image("team/app", "one", "v1")
	s.once(deletes("v1"), func() {
		s.image("team/app", "two", "v2")
		if err := s.remote.DeleteTag(t.Context(), "team/app", "v2"); err != nil {
			t.Error(err)
		}
	})
	s.do(indexer.Operation{Kind: indexer.Untag, Repository: "team/app", Tag: "v1", Digest: one.Digest})
	s.shows("team/app", "v1", "")
	s.shows("team/app", "v2", "")
}

// A poison is an operation that ends with a panic.
type poison struct{}

func (poison) Perform(context.Context, *manage.Running) error { panic("poison") }

// An operation of which the process dies, or would die, ends as failed, and stops nothing else. What it
// has deleted without being able to say so can be put back.
func TestPoison(t *testing.T) {
	t.Parallel()
	s := opened(t, func(c *manage.Config) {
		c.Performers = map[indexer.OperationKind]manage.Performer{indexer.Rollback: poison{}}
	})
	one := s.image("team/app", "one", "v1")
	add := func(o indexer.Operation, attempts int) int64 {
		o.Repository = "team/app"
		added, err := s.store.AddOperation(s.ctx, o)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.pool.Exec(t.Context(), "UPDATE operation SET attempts = $2 WHERE id = $1", added.ID, attempts); err != nil {
			t.Fatal(err)
		}
		return added.ID
	}
	ids := []int64{
		add(indexer.Operation{Kind: indexer.Rollback, Tag: "v1"}, 4),
		add(indexer.Operation{Kind: indexer.DeleteManifest, Digest: one.Digest}, 20),
	}
	kept := indexer.Trash{Operation: ids[1], Repository: "team/app", Digest: one.Digest, MediaType: one.MediaType, Tags: []string{"v1"}}
	_, kept.Body, _ = s.push.Fetch(t.Context(), "team/app", "v1")
	if err := s.store.KeepTrash(t.Context(), kept); err != nil {
		t.Fatal(err)
	}
	if err := s.push.Delete(t.Context(), "team/app", one.Digest.String()); err != nil {
		t.Fatal(err)
	}
	s.run(s.manager.Run)
	for i, text := range []string{"error of the indexer", "died again and again"} {
		var o indexer.Operation
		s.until(func() (ended bool) {
			var err error
			o, err = s.store.Operation(t.Context(), ids[i])
			return err == nil && o.Ended()
		})
		if o.State != indexer.OperationFailed || !strings.Contains(o.Error, text) {
			t.Errorf("%+v, want %q", o, text)
		}
	}
	s.do(indexer.Operation{Kind: indexer.Restore, Repository: "team/app", Options: indexer.OperationOptions{Undo: ids[1]}})
	s.shows("team/app", "v1", one.Digest)
}

// Whoever loses a right while an operation waits has it performed no more; whoever keeps it has.
func TestRightTakenAwayMeanwhile(t *testing.T) {
	t.Parallel()
	s := opened(t)
	one := s.image("team/app", "one", "v1", "v2")
	if err := s.store.AddAccount(t.Context(), access.Account{Name: "olga", Robot: true}); err != nil {
		t.Fatal(err)
	}
	rule, err := access.ParseRule("team/*:pull,push,delete")
	if err != nil {
		t.Fatal(err)
	}
	to := access.Grantee{Account: "olga"}
	ctx := access.WithPermit(s.ctx, access.Changers("team/app", access.Delete))
	perform := func(tag string) (o indexer.Operation) {
		o, err := s.store.AddOperation(ctx, indexer.Operation{Kind: indexer.Untag, Repository: "team/app", Tag: tag})
		if err != nil {
			t.Fatal(err)
		}
		if tag == "v2" {
			if err := s.store.Revoke(t.Context(), to, rule.Pattern); err != nil {
				t.Fatal(err)
			}
		}
		if worked, err := s.manager.Step(t.Context()); err != nil || !worked {
			t.Fatal(worked, err)
		}
		if o, err = s.store.Operation(t.Context(), o.ID); err != nil {
			t.Fatal(err)
		}
		return o
	}
	if err := s.store.Grant(t.Context(), to, rule); err != nil {
		t.Fatal(err)
	}
	if o := perform("v1"); o.State != indexer.OperationDone {
		t.Errorf("%+v", o)
	}
	if o := perform("v2"); o.State != indexer.OperationFailed || !strings.Contains(o.Error, "olga may not do this any more") {
		t.Errorf("%+v", o)
	}
	s.shows("team/app", "v1", "")
	s.shows("team/app", "v2", one.Digest)
}

// A push that was reported before our look, and whose tag the registry wrote after it, is put back.
func TestPushUnderWay(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	one, two := s.image("team/app", "one", "v1"), s.image("team/app", "two", "v2")
	never := time.Now().Add(time.Hour)
	s.receive.Store(&never)
	s.once(deletes("v1"), func() {
		if _, err := s.push.Image(t.Context(), "team/app", "v1", push.ImageSpec{Labels: map[string]string{"content": "two"}}); err != nil {
			t.Error(err)
		}
	})
	event := indexer.Event{
		ID: "early", At: time.Now(), Action: "push", Repository: "team/app", Tag: "v1", Digest: two.Digest, MediaType: two.MediaType,
		UserAgent: "docker",
	}
	if _, err := s.store.Receive(t.Context(), []indexer.Event{event}); err != nil {
		t.Fatal(err)
	}
	s.until(func() bool { // the book has looked, too early as well
		unread, err := s.store.Unread(t.Context(), "team/app", []string{"v1"})
		return err != nil || unread == 0
	})
	s.do(indexer.Operation{Kind: indexer.Untag, Repository: "team/app", Tag: "v1", Digest: one.Digest})
	s.shows("team/app", "v1", two.Digest)
}

// An operation that is to begin later keeps no other one of its repository waiting.
func TestLaterOperationWaitsAlone(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	one := s.image("team/app", "one", "v1")
	const later = `
		INSERT INTO operation (kind, repository, tag, digest, actor, run_after)
		VALUES ('put-back', 'team/app', 'v1', '\x00', 'portbook-indexer', now() + interval '36 minutes')`
	if _, err := s.pool.Exec(t.Context(), later); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(s.ctx, 20*time.Second)
	defer cancel()
	o, err := s.manager.Do(ctx, indexer.Operation{Kind: indexer.Untag, Repository: "team/app", Tag: "v1", Digest: one.Digest})
	if err != nil || o.State != indexer.OperationDone {
		t.Errorf("%+v, %v", o, err)
	}
}

// Into a frozen repository nothing is restored, not even a part; a deleted tag that is protected
// now is, since it moves nothing.
func TestRestoreOfWhatIsKept(t *testing.T) {
	t.Parallel()
	s := guarded(t)
	loose, tagged := s.image("team/app", "loose"), s.image("team/app", "tagged", "v1")
	undo := func(o indexer.Operation) indexer.Operation {
		o.Repository = "team/app"
		o = s.do(o)
		return indexer.Operation{Kind: indexer.Restore, Repository: "team/app", Options: indexer.OperationOptions{Undo: o.ID}}
	}
	all := []indexer.Operation{
		undo(indexer.Operation{Kind: indexer.DeleteManifest, Digest: loose.Digest}),
		undo(indexer.Operation{Kind: indexer.DeleteManifest, Digest: tagged.Digest}),
	}
	p := s.protect("")
	for _, o := range all {
		s.refused(o, indexer.ErrConflict, "frozen")
	}
	s.gone("team/app", loose.Digest)
	if err := s.store.RemoveProtection(s.ctx, p); err != nil {
		t.Fatal(err)
	}
	s.protect("v*")
	for _, o := range all {
		s.do(o)
	}
	s.shows("team/app", "v1", tagged.Digest)
}

// The children of an index go too if the process is killed after the index.
func TestKilledBeforeChildren(t *testing.T) {
	t.Parallel()
	s := opened(t)
	alone, tagged := s.image("team/app", "alone"), s.image("team/app", "tagged", "v1")
	index := s.index("team/app", "index", alone, tagged)
	o := indexer.Operation{Kind: indexer.DeleteManifest, Repository: "team/app", Digest: index.Digest}
	o.Options.Children = true
	s.killed(o, 1, deletes(index.Digest.String()), func() {
		s.until(func() bool {
			bounds, err := s.store.Bounds(t.Context(), "team/app", []digest.Digest{index.Digest})
			return err == nil && len(bounds) == 0
		})
	})
	s.gone("team/app", alone.Digest)
	s.shows("team/app", "v1", tagged.Digest)
}
