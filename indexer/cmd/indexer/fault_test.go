package main_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portbook/portbook/registry/push"
)

// changes is how many pushes, retags and deletions each of these tests makes.
const changes = 500

// The indexer is killed at random moments while images are pushed, retagged and
// deleted. In the end the book equals the registry.
func TestIndexerKilled(t *testing.T) {
	t.Parallel()
	f := launch(t)
	indexer := f.indexer(f.address)
	done := f.change(changes)
	kills := 0
	r := random(t)
	for !pause(done, time.Duration(100+r.IntN(900))*time.Millisecond) {
		indexer.process.Kill()
		kills++
		indexer = f.indexer(f.address)
	}
	t.Logf("killed %d times during %d changes", kills, changes)
	if kills == 0 {
		t.Error("the changes were over before the first kill: nothing was tested")
	}
	f.equal(time.Minute)
	indexer.stop(t)
}

// The same with Postgres restarted, at times as by a crash. The indexer stays up
// and answers 503 meanwhile.
func TestPostgresRestarted(t *testing.T) {
	t.Parallel()
	f := launch(t)
	indexer := f.indexer(f.address)
	done := f.change(changes)
	restarts := 0
	for !pause(done, 700*time.Millisecond) {
		if restarts%2 == 0 {
			f.postgres.Kill()
		}
		if err := f.postgres.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		restarts++
	}
	t.Logf("restarted %d times during %d changes", restarts, changes)
	if restarts == 0 {
		t.Error("the changes were over before the first restart: nothing was tested")
	}
	f.equal(time.Minute)
	select {
	case <-indexer.process.Done():
		t.Errorf("the indexer did not survive: %s\n%s", indexer.process.Outcome(), indexer.process.Tail())
	default:
	}
}

// The same with the registry restarted: it loses the events that it had not
// delivered. The next event names a new instance, which must bring a scan at
// once.
func TestRegistryRestarted(t *testing.T) {
	t.Parallel()
	f := launch(t)
	f.indexer(f.address)
	done := f.change(changes)
	restarts := 0
	for !pause(done, 900*time.Millisecond) {
		f.registry.Kill()
		f.registry.Start()
		restarts++
	}
	t.Logf("restarted %d times during %d changes", restarts, changes)
	if restarts == 0 {
		t.Error("the changes were over before the first restart: nothing was tested")
	}
	if _, err := f.registry.Push.Image(t.Context(), "last/word", "v1", push.ImageSpec{}); err != nil {
		t.Fatal(err)
	}
	f.equal(time.Minute)
	if n := f.query(f.pool(), "SELECT count(*) FROM scan WHERE reason = 'instance'"); n == 0 {
		t.Error("no new instance of the registry brought a scan")
	}
}

// Events that the registry loses are made up for by the scan that the next event
// of the new instance brings, and not only by the next one due.
func TestLostEvents(t *testing.T) {
	t.Parallel()
	f := launch(t)
	indexer := f.indexer(f.address)
	ctx := t.Context()
	if _, err := f.registry.Push.Image(ctx, "kept/app", "v1", push.ImageSpec{}); err != nil {
		t.Fatal(err)
	}
	f.equal(30 * time.Second)
	indexer.process.Kill() // the registry's queue fills, and dies with it
	if _, err := f.registry.Push.Image(ctx, "lost/app", "v1", push.ImageSpec{}); err != nil {
		t.Fatal(err)
	}
	if err := f.registry.Push.Delete(ctx, "kept/app", "v1"); err != nil {
		t.Fatal(err)
	}
	f.registry.Kill()
	indexer = f.indexer(f.address) // its scan at the start finds no registry
	f.registry.Start()
	f.equal(time.Minute)
	indexer.stop(t)
}

// Two indexers share a database, and the leader is killed during a scan: the
// other takes the scan over and finishes it.
func TestLeaderKilled(t *testing.T) {
	t.Parallel()
	f := launch(t)
	ctx := t.Context()
	for i := range 300 {
		if _, err := f.registry.Push.Image(ctx, fmt.Sprintf("fleet/ship-%d", i), "v1", push.ImageSpec{}); err != nil {
			t.Fatal(err)
		}
	}
	pool := f.pool()
	first := f.indexer(f.address, "PORTBOOK_SCAN_PARALLELISM=1")
	second := f.indexer("127.0.0.1:0", "PORTBOOK_SCAN_PARALLELISM=1")
	within(t, 10*time.Second, "one of them leads", func() bool { return first.leads() != second.leads() })
	leader, other := first, second
	if second.leads() {
		leader, other = second, first
	}
	// Both asked for a scan when they started; another one is under way soon.
	if _, err := pool.Exec(ctx, "INSERT INTO scan (reason) VALUES ('command') ON CONFLICT DO NOTHING"); err != nil {
		t.Fatal(err)
	}
	const running = "SELECT count(*) FROM scan WHERE started_at IS NOT NULL AND finished_at IS NULL"
	within(t, 20*time.Second, "a scan is under way", func() bool { return f.query(pool, running) > 0 })
	leader.process.Kill()
	killed := time.Now()
	within(t, 10*time.Second, "the other leads", other.leads)
	t.Logf("the other led %v after the kill", time.Since(killed).Round(time.Millisecond))
	within(t, 30*time.Second, "the scan is finished", func() bool {
		return f.query(pool, "SELECT count(*) FROM scan WHERE finished_at IS NULL") == 0
	})
	f.equal(time.Minute)
	if n := f.query(pool, "SELECT count(*) FROM tag_history"); n != 300 {
		t.Errorf("the history has %d moves of 300 tags that were pushed once: something was done twice", n)
	}
}

// change makes pushes, retags and deletions in the background, and closes the
// channel when it is done. What the registry refuses while it is away is not
// made again.
func (f *fleet) change(n int) <-chan struct{} {
	done := make(chan struct{})
	ctx := f.t.Context()
	var work sync.WaitGroup
	const hands = 4
	for hand := range hands {
		r := random(f.t)
		work.Go(func() {
			var pushed []pushedImage
			for i := range n / hands {
				pushed = f.changeOnce(ctx, r, hand, i, pushed)
			}
		})
	}
	go func() { work.Wait(); close(done) }()
	return done
}

type pushedImage struct {
	repository string
	spec       push.ImageSpec
	desc       ocispec.Descriptor
}

// changeOnce pushes a new image, or tags, deletes or untags an earlier one.
func (f *fleet) changeOnce(ctx context.Context, r *rand.Rand, hand, i int, pushed []pushedImage) []pushedImage {
	repository := fmt.Sprintf("fleet/ship-%d", r.IntN(8))
	tag := fmt.Sprintf("t%d", r.IntN(6))
	if len(pushed) == 0 || r.IntN(10) < 6 {
		spec := push.ImageSpec{Labels: map[string]string{"change": fmt.Sprintf("%d-%d", hand, i)}}
		desc, err := f.registry.Push.Image(ctx, repository, tag, spec)
		if err != nil {
			return pushed
		}
		return append(pushed, pushedImage{repository, spec, desc})
	}
	earlier := pushed[r.IntN(len(pushed))]
	switch r.IntN(5) {
	case 0: // the manifest, with every tag on it
		_ = f.registry.Push.Delete(ctx, earlier.repository, earlier.desc.Digest.String())
	case 1, 2: // a tag, which may not be there
		_ = f.registry.Push.Delete(ctx, earlier.repository, tag)
	default: // the same image under another tag
		_, _ = f.registry.Push.Image(ctx, earlier.repository, tag, earlier.spec)
	}
	return pushed
}

// random gives numbers that a failure can be repeated with.
func random(t *testing.T) *rand.Rand {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, seed))
}

// pause waits, and returns true at once if the work is done.
func pause(done <-chan struct{}, d time.Duration) bool {
	select {
	case <-done:
		return true
	case <-time.After(d):
		return false
	}
}
