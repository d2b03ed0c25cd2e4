// Sweep measures how long a look at the storage of a registry takes, and how much memory: the
// walk of registry sweep, and the comparison with the book. The blobs are empty files on a disk:
// a look reads only the manifests.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/collect"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/test/bench/harness"
)

type bench struct {
	harness.Bench
	blobs int
}

func main() { harness.Main("bench-sweep", &bench{blobs: 100_000}) }

// Flags implements harness.Benchmark.
func (b *bench) Flags(flags *flag.FlagSet) {
	flags.IntVar(&b.blobs, "blobs", b.blobs, "number of blobs in the storage")
}

// Check implements harness.Benchmark.
func (b *bench) Check() error {
	if b.blobs < perImage {
		return fmt.Errorf("%d blobs: want at least %d", b.blobs, perImage)
	}
	return nil
}

const (
	database = "bench_sweep"
	// perImage is how many blobs an image has: 10, its manifest, its config and eight layers, of
	// which the last is used by no manifest, and linked by no repository.
	perImage = 10
	// perRepository is how many images a repository has: 10.
	perRepository = 10
)

// Measure implements harness.Benchmark.
func (b *bench) Measure(ctx context.Context) error {
	root, err := os.MkdirTemp("", "bench-sweep-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(root)
	if err := b.NewDatabase(ctx, database); err != nil {
		return err
	}
	err = b.Step(ctx, fmt.Sprintf("A storage of %d blobs", b.blobs), func(ctx context.Context, s *harness.Section) error {
		began := time.Now()
		err := b.fill(ctx, root)
		s.Note("written in %.0f s", time.Since(began).Seconds())
		return err
	})
	if err != nil {
		return err
	}
	sweep, err := b.StartSweep(ctx, root)
	if err != nil {
		return err
	}
	for _, title := range []string{"The first look", "A further look"} {
		err := b.Step(ctx, title, func(ctx context.Context, s *harness.Section) error { return b.look(ctx, s, sweep) })
		if err != nil {
			return err
		}
	}
	return nil
}

// look measures one step of the collector.
func (b *bench) look(ctx context.Context, s *harness.Section, sweep *harness.Registry) error {
	pool, err := pgxpool.New(ctx, b.Postgres.URL(database))
	if err != nil {
		return err
	}
	defer pool.Close()
	client, err := collect.NewClient(sweep.URL, harness.SweepToken)
	if err != nil {
		return err
	}
	store := postgres.New(pool, postgres.Config{})
	began := time.Now()
	c := collect.New(collect.Config{Store: store, Client: client, Look: time.Nanosecond, Policy: indexer.CollectPolicy{}})
	if err := c.Step(ctx); err != nil {
		return err
	}
	took := time.Since(began)
	state, err := store.Collection(ctx)
	if err != nil {
		return err
	}
	look := state.Look
	s.Add(harness.Figure{Name: "walk of the storage", Unit: "s", Value: look.Seconds})
	s.Add(harness.Figure{Name: "walk and comparison with the book", Unit: "s", Value: took.Seconds()})
	s.Add(harness.Figure{Name: "blobs", Value: float64(look.Blobs)}.MustBe(float64(b.blobs / perImage * perImage)))
	s.Add(harness.Figure{Name: "unlinked blobs", Value: float64(look.Unlinked)}.MustBe(float64(b.blobs / perImage)))
	memory := float64(harness.PeakMemory(sweep.PID())) / 1e6
	s.Add(harness.Figure{Name: "peak memory of the sweep", Value: memory, Unit: "MB"})
	return nil
}

// fill writes the storage of a registry.
func (b *bench) fill(ctx context.Context, root string) error {
	for i := range b.blobs / perImage {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := image(filepath.Join(root, "docker/registry/v2"), i); err != nil {
			return err
		}
	}
	return nil
}

// image writes one image.
func image(v2 string, i int) error {
	repository := filepath.Join(v2, "repositories", fmt.Sprintf("bench/r%d", i/perRepository))
	type descriptor struct {
		Digest string `json:"digest"`
	}
	var m struct {
		Config descriptor   `json:"config"`
		Layers []descriptor `json:"layers"`
	}
	for n := range perImage - 1 {
		digest := hexOf(fmt.Sprintf("%d-%d", i, n))
		if err := write(blobIn(v2, digest), nil); err != nil {
			return err
		}
		switch n {
		case 0:
			m.Config.Digest = "sha256:" + digest
		case perImage - 2: // the one that nothing uses
			continue
		default:
			m.Layers = append(m.Layers, descriptor{"sha256:" + digest})
		}
		if err := write(filepath.Join(repository, "_layers/sha256", digest, "link"), []byte("sha256:"+digest)); err != nil {
			return err
		}
	}
	body, err := json.Marshal(m)
	if err != nil {
		return err
	}
	digest := hexOf(string(body))
	if err := write(blobIn(v2, digest), body); err != nil {
		return err
	}
	return write(filepath.Join(repository, "_manifests/revisions/sha256", digest, "link"), []byte("sha256:"+digest))
}

func hexOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func blobIn(v2, digest string) string {
	return filepath.Join(v2, "blobs/sha256", digest[:2], digest, "data")
}

func write(name string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return os.WriteFile(name, content, 0o644)
}
