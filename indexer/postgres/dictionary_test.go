package postgres_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/schema/schematest"
)

// trips counts the round trips to the database.
type trips struct{ n atomic.Int64 }

func (c *trips) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	c.n.Add(1)
	return ctx
}
func (c *trips) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
func (c *trips) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	c.n.Add(1)
	return ctx
}
func (c *trips) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (c *trips) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}

// wordy returns an image index of n entries, each with its own media type and
// platform.
func wordy(name string, n int) indexer.Manifest {
	m := image("demo/"+name, name)
	m.Kind, m.MediaType, m.Config, m.Layers = indexer.KindIndex, ocispec.MediaTypeImageIndex, nil, nil
	for i := range n {
		m.Entries = append(m.Entries, indexer.Entry{
			Digest: digest.FromString(fmt.Sprint(name, i)), MediaType: fmt.Sprintf("text/%s.%d", name, i), Platform: indexer.Platform{OS: fmt.Sprintf("%s.%d", name, i), Architecture: "x"}})
	}
	return m
}

// All new platforms and media types of a manifest are inserted in one round trip.
// With one round trip for each, an index of 3,000 entries took 84 s.
func TestNewWordsInOneTrip(t *testing.T) {
	t.Parallel()
	config := schematest.New(t).Config().Copy()
	config.MaxConns = 1
	var sent trips
	config.ConnConfig.Tracer = &sent
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	s := postgres.New(pool, postgres.Config{})
	setTag(t, s, "v1", wordy("warm", 1)) // so that the cluster is known
	cost := func(m indexer.Manifest) int64 {
		before := sent.n.Load()
		setTag(t, s, "v1", m)
		return sent.n.Load() - before
	}
	if one, many := cost(wordy("one", 1)), cost(wordy("many", 500)); many != one || one == 0 {
		t.Errorf("an index of 500 new platforms and media types took %d round trips, one of 1 took %d", many, one)
	}
	view(t, s, func(v *postgres.View) error {
		got, err := v.Manifest(t.Context(), indexer.Reference{Repository: "demo/many", Tag: "v1"})
		if err != nil {
			return err
		}
		for i, e := range got.Entries {
			if want := wordy("many", 500).Entries[i]; e.MediaType != want.MediaType || e.Platform != want.Platform {
				t.Errorf("entry %d is %s of %s, want %s of %s", i, e.Platform, e.MediaType, want.Platform, want.MediaType)
			}
		}
		return nil
	})
}

// Writers that insert the same new words at the same time all get their ids.
func TestNewWordsOfManyWriters(t *testing.T) {
	t.Parallel()
	pool := schematest.New(t)
	var writing sync.WaitGroup
	for range 4 {
		s := postgres.New(pool, postgres.Config{})
		writing.Go(func() {
			for round := range 10 {
				m := wordy(fmt.Sprintf("shared%d", round), 20)
				if err := postgres.Words(t.Context(), s, []indexer.Finding{{Manifests: []indexer.Manifest{m}}}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writing.Wait()
	var platforms int
	if err := pool.QueryRow(t.Context(), "SELECT count(*) FROM platform WHERE os LIKE 'shared%'").Scan(&platforms); err != nil || platforms != 200 {
		t.Errorf("got %d platforms, %v, want 200, each once", platforms, err)
	}
}
