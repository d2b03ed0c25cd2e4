package main

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	portbook "github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/test/bench/harness"
)

const (
	// ingestBatch is the batch size of a worker of the indexer (scanBatch in package
	// ingest); ingestTags is the number of tags of each repository.
	ingestBatch = 64
	ingestTags  = 10
	ingestLease = time.Minute
)

// ingested stores tags like the workers of a scan, but without reading them: their
// manifests are made up.
func (b *bench) ingested(ctx context.Context, s *harness.Section, k *book) error {
	if err := b.On(ctx, k.database, func(conn *pgx.Conn) error { return forget(ctx, conn) }); err != nil {
		return err
	}
	before, err := b.written(ctx, k)
	if err != nil {
		return err
	}
	pool, err := pgxpool.New(ctx, b.Postgres.URL(k.database))
	if err != nil {
		return err
	}
	store := postgres.New(pool, postgres.Config{})
	var asks []portbook.Ask
	for n := range b.ingest {
		word, unique := k.words[100+n/ingestTags%1000], harness.UniqueWord(n/ingestTags)
		asks = append(asks, portbook.Ask{
			Repository: fmt.Sprintf("bench-bulk/%s-%s", word, unique),
			Reference:  portbook.TagOrDigest(fmt.Sprintf("v%d", n%ingestTags)),
			Priority:   portbook.PriorityScan,
		})
	}
	for part := range slices.Chunk(asks, 1000) {
		if err := store.Ask(ctx, part); err != nil {
			pool.Close()
			return err
		}
	}
	start := time.Now()
	var tags atomic.Int64
	err = parallel(ctx, loaders, func(ctx context.Context, _ int) error {
		for {
			n, err := ingestSome(ctx, store, k)
			if err != nil || n == 0 {
				return err
			}
			tags.Add(int64(n))
		}
	})
	seconds := time.Since(start).Seconds()
	pool.Close() // a session's counts are reported when it ends
	if err != nil {
		return err
	}
	after, err := b.written(ctx, k)
	if err != nil {
		return err
	}
	s.Add(harness.Figure{Name: "tags, each with an image of its own", Value: float64(tags.Load()) / seconds, Unit: "1/s"})
	s.Add(harness.Figure{Name: "rows written in all tables", Value: (after - before) / seconds, Unit: "1/s"})
	s.Note("%d tags in %d repositories, %d in a transaction, by %d workers",
		tags.Load(), len(asks)/ingestTags, ingestBatch, loaders)
	return b.On(ctx, k.database, func(conn *pgx.Conn) error { return forget(ctx, conn) })
}

// written returns how many rows were ever written in a database.
func (b *bench) written(ctx context.Context, k *book) (n float64, err error) {
	err = b.On(ctx, k.database, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, "SELECT sum(n_tup_ins + n_tup_upd)::float8 FROM pg_stat_user_tables").Scan(&n)
	})
	return n, err
}

// ingestSome claims a batch of tasks and stores made-up manifests for them.
func ingestSome(ctx context.Context, store *postgres.Store, k *book) (int, error) {
	tasks, err := store.Claim(ctx, portbook.PriorityConfirm, ingestBatch, ingestLease)
	if err != nil || len(tasks) == 0 {
		return 0, err
	}
	var findings []portbook.Finding
	for _, t := range tasks {
		m := k.found(t)
		findings = append(findings, portbook.Finding{
			Task: t, Manifests: []portbook.Manifest{m}, Outcome: portbook.Found, Digest: m.Digest,
		})
	}
	return len(tasks), store.Apply(ctx, findings)
}

// found makes up an image.
func (k *book) found(t portbook.Task) portbook.Manifest {
	r := source(t.Repository+t.Reference.Tag(), 0)
	content := []byte(fmt.Sprintf(`{"schemaVersion": 2, "of": "%s:%s"}`, t.Repository, t.Reference))
	return portbook.Manifest{
		Repository: t.Repository, Digest: digest.FromBytes(content), MediaType: ocispec.MediaTypeImageManifest,
		Kind: portbook.KindImage, Platform: portbook.Platform{OS: "linux", Architecture: "amd64"},
		Size: int64(len(content)), ContentSize: 20_000_000, CreatedAt: end, Body: content,
		Labels: map[string]string{
			"org.opencontainers.image.version": t.Reference.Tag(), "org.opencontainers.image.created": end.Format(time.RFC3339),
			"org.opencontainers.image.licenses": licences[k.licences.draw(r)], "com.example.team": k.word(r),
			"org.opencontainers.image.description": k.sentence(source(t.Repository, 0)),
			"org.opencontainers.image.revision":    fmt.Sprintf("%016x%016x", r.Uint64(), r.Uint64()),
			"maintainer":                           k.word(r) + "@" + k.word(r) + ".example",
		},
		Config: &ocispec.Descriptor{Digest: digest.FromString("config of " + string(content)), Size: 3000},
		Layers: []ocispec.Descriptor{
			{Digest: digest.FromString("base layer"), Size: 20_000_000},
			{Digest: digest.FromString("layer of " + t.Repository), Size: 1_000_000},
		},
	}
}
