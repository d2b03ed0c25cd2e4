package sweep_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portbook/portbook/registry/push"
	"github.com/portbook/portbook/registry/sweep"
)

// How the test deletes. Times are as short as a test needs: what takes a day elsewhere takes
// less than a push here, so that the races that must be survived happen all the time.
const (
	contents = 6 // different layers, so that old ones are pushed again all the time
	pushers  = 4
	// enough is after how many pushes, and how many deleted blobs, a test ends; patience is
	// how long it waits for them.
	enough   = 40
	patience = time.Minute
)

// A crowd pushes, mounts and deletes at random, and knows which images should be there.
type crowd struct {
	t *testing.T
	*site
	mu   sync.Mutex
	live map[string]ocispec.Descriptor // by repository:tag
	cut  [][2]string                   // repository and blob of links that were removed
	rand *rand.Rand

	pushed  int // images
	deleted int // blobs
}

func newCrowd(s *site, t *testing.T) *crowd {
	return &crowd{t: t, site: s, live: map[string]ocispec.Descriptor{}, rand: rand.New(rand.NewPCG(7, 7))}
}

func (c *crowd) dice(n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rand.IntN(n)
}

// run lets pushers and a collector work until they have done enough, and returns when all have
// ended.
func (c *crowd) run(collect func(context.Context) (deleted int)) {
	ctx, stop := context.WithTimeout(c.t.Context(), patience)
	defer stop()
	until := c.pushed + enough
	var working sync.WaitGroup
	for i := range pushers {
		working.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				c.act(c.t.Context(), i, n)
			}
		})
	}
	working.Go(func() {
		for deleted := 0; ctx.Err() == nil; {
			deleted += collect(c.t.Context())
			c.mu.Lock()
			if deleted >= 3 && c.pushed >= until && len(c.live) > 0 {
				stop()
			}
			c.mu.Unlock()
		}
	})
	working.Wait()
}

// act does one thing in a repository that only this pusher uses.
func (c *crowd) act(ctx context.Context, pusher, n int) {
	repository, tag := fmt.Sprintf("crowd/p%d", pusher), fmt.Sprint(c.dice(3))
	name := repository + ":" + tag
	switch c.dice(5) {
	case 0: // make orphans
		c.mu.Lock()
		old, there := c.live[name]
		for other, d := range c.live {
			if other != name && d.Digest == old.Digest {
				there = false
			}
		}
		if there {
			delete(c.live, name)
		}
		c.mu.Unlock()
		if there {
			c.push.Delete(ctx, repository, old.Digest.String())
		}
	case 1: // an upload that no manifest follows
		c.push.Blob(ctx, repository, []byte(fmt.Sprint("layer ", c.dice(contents))))
	default:
		if c.dice(3) == 0 {
			c.mount(ctx, repository, fmt.Sprintf("crowd/p%d", c.dice(pushers)))
		}
		spec := push.ImageSpec{Author: name + fmt.Sprint(c.dice(3))}
		for range 2 {
			spec.Layers = append(spec.Layers, []byte(fmt.Sprint("layer ", c.dice(contents))))
		}
		if d, err := c.push.Image(ctx, repository, tag, spec); err == nil { // else a client tries again
			c.mu.Lock()
			c.live[name] = d
			c.pushed++
			c.mu.Unlock()
		}
	}
}

func (c *crowd) mount(ctx context.Context, repository, from string) {
	layer := digestOf(fmt.Sprint("layer ", c.dice(contents)))
	url := c.push.Base + "/v2/" + repository + "/blobs/uploads/?mount=" + layer + "&from=" + from
	if resp, err := c.push.HTTP.Post(url, "", nil); err == nil {
		resp.Body.Close()
	}
}

// safe is one round of both phases as they should be. Links that a push needs after all are
// put back, as the first phase does when the book has read the manifest.
func (c *crowd) safe(w *sweep.Sweeper, waiting map[string]int) func(context.Context) int {
	return func(ctx context.Context) (deleted int) {
		got := look(c.t, w)
		var ripe []string
		for digest, b := range got.blobs {
			switch {
			case b.Used || !b.Stored:
				delete(waiting, digest)
			case b.Linked:
				if waiting[digest]++; waiting[digest] > 2 {
					c.unlinkEverywhere(ctx, digest)
				}
			default:
				if waiting[digest]++; waiting[digest] > 3 {
					ripe = append(ripe, digest)
				}
			}
		}
		done(c.t, w.Trash, ripe...)
		c.mend(ctx, w)
		var trashed []string
		for digest, b := range look(c.t, w).blobs {
			if !b.Trashed.IsZero() {
				trashed = append(trashed, digest)
			}
		}
		for _, d := range done(c.t, w.Purge, trashed...) {
			if d.Outcome == sweep.Deleted {
				deleted++
			}
		}
		c.deleted += deleted
		return deleted
	}
}

// unlinkEverywhere removes the links of a blob from all repositories.
func (c *crowd) unlinkEverywhere(ctx context.Context, digest string) {
	for i := range pushers {
		repository := fmt.Sprintf("crowd/p%d", i)
		c.mu.Lock()
		c.cut = append(c.cut, [2]string{repository, digest})
		c.mu.Unlock()
		unlink(ctx, c.push, repository, digest) // it fails if others change the link; there is a next round
	}
}

// mend links again what a manifest needs whose link was removed.
func (c *crowd) mend(ctx context.Context, w *sweep.Sweeper) {
	c.mu.Lock()
	cut := slices.Clone(c.cut)
	slices.SortFunc(cut, func(a, b [2]string) int { return slices.Compare(a[:], b[:]) })
	cut = slices.Compact(cut)
	live := map[string][]digest.Digest{}
	for name, d := range c.live {
		repository := name[:len("crowd/p0")]
		live[repository] = append(live[repository], d.Digest)
	}
	c.mu.Unlock()
	for _, x := range cut {
		for _, d := range live[x[0]] {
			if !slices.Contains(c.names(ctx, x[0], d), x[1]) {
				continue
			}
			err := w.Relink(ctx, sweep.Order{Repository: x[0], Digests: []string{x[1]}}, func(sweep.Line) error { return nil })
			if err != nil {
				c.t.Error(err)
			}
		}
	}
}

// names returns the blobs that a manifest names, none if it was deleted.
func (c *crowd) names(ctx context.Context, repository string, d digest.Digest) (all []string) {
	_, b, err := c.push.Fetch(ctx, repository, d.String())
	if err != nil {
		return nil
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(b, &m); err != nil {
		return nil
	}
	for _, x := range append(m.Layers, m.Config) {
		all = append(all, x.Digest.String())
	}
	return all
}

// lost pulls every image that should be there whole, and returns those that it cannot.
func (c *crowd) lost(ctx context.Context) (all []error) {
	for name, d := range c.live {
		repository := name[:len("crowd/p0")]
		_, b, err := c.push.Fetch(ctx, repository, d.Digest.String())
		if err == nil && digest.FromBytes(b) != d.Digest {
			err = errors.New("other bytes")
		}
		if err != nil {
			all = append(all, fmt.Errorf("%s: %w", name, err))
			continue
		}
		for _, layer := range c.names(ctx, repository, d.Digest) {
			b, err := c.push.FetchBlob(ctx, repository, digest.Digest(layer))
			if err == nil && digestOf(string(b)) != layer {
				err = errors.New("other bytes")
			}
			if err != nil {
				all = append(all, fmt.Errorf("%s: %s: %w", name, layer, err))
			}
		}
	}
	return all
}

// Whatever is pushed, pushed again, mounted and deleted while blobs are collected, every image
// that should be there can be pulled, byte for byte.
func TestCollectionLosesNothing(t *testing.T) {
	t.Parallel()
	for _, storage := range []string{"filesystem", "s3"} {
		for _, cache := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, cache %v", storage, cache), func(t *testing.T) {
				t.Parallel()
				c := newCrowd(open(t, storage, cache), t)
				w := c.sweeper(sweep.Config{Delete: true})
				c.run(c.safe(w, map[string]int{}))
				c.mend(t.Context(), w)
				look := look(t, w)
				var needed []string
				for digest, b := range look.blobs {
					if !b.Trashed.IsZero() && (b.Linked || b.Used) {
						needed = append(needed, digest)
					}
				}
				if len(needed) > 0 {
					done(t, w.Restore, needed...)
				}
				if lost := c.lost(t.Context()); len(lost) > 0 {
					t.Errorf("of %d images, lost: %v", len(c.live), errors.Join(lost...))
				}
				if c.pushed < enough || c.deleted == 0 {
					t.Errorf("%d pushes, %d blobs deleted: too few to test anything", c.pushed, c.deleted)
				}
			})
		}
	}
}

// The same crowd must see what a collector destroys that asks only how old the data of a blob
// are: a push of an old orphan does not upload it again, and loses it.
func TestUnsafeCollectionIsSeen(t *testing.T) {
	t.Parallel()
	for _, storage := range []string{"filesystem", "s3"} {
		t.Run(storage, func(t *testing.T) {
			t.Parallel()
			c := newCrowd(open(t, storage, true), t)
			w := c.sweeper(sweep.Config{})
			var lost []error
			for range 20 {
				c.run(func(ctx context.Context) (deleted int) {
					for _, b := range look(t, w).blobs {
						if b.Stored && !b.Used && time.Since(b.Modified) > time.Millisecond {
							c.driver.Delete(ctx, "/docker/registry/v2/blobs/sha256/"+b.Digest[7:9]+"/"+b.Digest[7:])
							deleted++
						}
					}
					return deleted
				})
				if lost = c.lost(t.Context()); len(lost) > 0 {
					t.Logf("lost: %v", lost[0])
					return
				}
			}
			t.Error("the unsafe collector lost nothing: this test cannot see a loss")
		})
	}
}
