package postgres_test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/query"
	"github.com/portbook/portbook/schema/schematest"
)

// benchBook fills a book with repositories of ten images each: an image has a config and a
// layer of its own, three of five layers of its repository, and one of 200 base layers, the
// first of which a quarter of all images have.
const benchBook = `
	WITH media AS (INSERT INTO media_type (name) VALUES ('application/vnd.oci.image.manifest.v1+json') RETURNING id),
	repositories AS (INSERT INTO repository (id, name) SELECT r, 'space' || r % 1000 || '/r' || r FROM generate_series(1, $1::int) AS r),
	blobs AS (
		INSERT INTO blob (id, digest, size)
		SELECT b, sha256(convert_to('b' || b, 'UTF8')), 1 + b % 100000000 FROM generate_series(1::bigint, 200 + $1::bigint * 25) AS b)
	INSERT INTO manifest (repository_id, digest, media_type_id, kind, size, content_size, config_id, layer_ids)
	SELECT r, sha256(convert_to('m' || r || '.' || i, 'UTF8')), media.id, 'image', 1000, 1000, 200 + r::bigint * 25 - i,
		ARRAY[CASE WHEN (r + i) % 4 = 0 THEN 1 ELSE 1 + (r * 7 + i * 13) % 200 END, 200 + r::bigint * 25 - 20 - i % 3, 200 + r::bigint * 25 - 21 - i % 3,
			200 + r::bigint * 25 - 22 - i % 3, 200 + r::bigint * 25 - 10 - i]::bigint[]
	FROM media, generate_series(1, $1::int) AS r, generate_series(0, 9) AS i`

// BenchmarkFreed measures what deleting 1, 100, 10,000 and 100,000 manifests would free, on
// a book of PORTBOOK_BENCH_REPOSITORIES repositories (default 2,000) with ten images each.
func BenchmarkFreed(b *testing.B) {
	pool, repositories := benchPool(b)
	s := postgres.New(pool, postgres.Config{})
	part := indexer.AskerOf(indexer.VisibleNames("space1*"))
	for _, n := range []int{1, 100, 10_000, 100_000} {
		var refs []indexer.ManifestRef
		for i := range min(n, repositories*5) { // every second one
			r := 1 + i%repositories
			refs = append(refs, indexer.ManifestRef{Repository: fmt.Sprintf("space%d/r%d", r%1000, r),
				Digest: digest.FromString(fmt.Sprintf("m%d.%d", r, i/repositories*2))})
		}
		for name, asker := range map[string]indexer.Asker{"everything": indexer.Everyone, "a tenth": part} {
			b.Run(fmt.Sprintf("%d/%s", n, name), func(b *testing.B) {
				for b.Loop() {
					err := s.View(context.Background(), asker, func(v *postgres.View) error {
						f, err := v.Freed(b.Context(), refs)
						b.ReportMetric(float64(f.UnknownBlobs), "unknown")
						b.ReportMetric(float64(f.FreesBlobs+f.SharedBlobs+f.UnknownBlobs), "digests")
						return err
					})
					if err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// benchPool returns a database with a benchBook, and the number of its repositories.
func benchPool(b *testing.B) (*pgxpool.Pool, int) {
	repositories := 2000
	if n, err := strconv.Atoi(os.Getenv("PORTBOOK_BENCH_REPOSITORIES")); err == nil {
		repositories = n
	}
	pool := schematest.New(b)
	if _, err := pool.Exec(b.Context(), benchBook, repositories); err != nil {
		b.Fatal(err)
	}
	for _, q := range []string{benchTags, "VACUUM (ANALYZE)"} {
		if _, err := pool.Exec(b.Context(), q); err != nil {
			b.Fatal(err)
		}
	}
	return pool, repositories
}

// benchTags gives each repository of a benchBook a tag, which it got in the last hundred hours.
const benchTags = `
	WITH shown AS (
		SELECT r.id, r.name, min(m.id) AS manifest_id, now() - interval '1 hour' * (r.id % 100) AS at
		FROM repository r JOIN manifest m ON m.repository_id = r.id GROUP BY r.id
	), tags AS (
		INSERT INTO tag (repository_id, name, manifest_id, created_at, moved_at) SELECT id, 'latest', manifest_id, at, at FROM shown
	), dated AS (
		UPDATE repository r SET created_at = shown.at FROM shown WHERE shown.id = r.id
	)
	INSERT INTO tag_history (repository, tag, to_digest, seen_at, seen_by)
	SELECT s.name, 'latest', m.digest, s.at, 'event' FROM shown s JOIN manifest m ON m.repository_id = s.id AND m.id = s.manifest_id`

// BenchmarkPast measures a page of names and one of a search in a benchBook as it was early
// and late.
func BenchmarkPast(b *testing.B) {
	pool, _ := benchPool(b)
	s := postgres.New(pool, postgres.Config{})
	for when, ago := range map[string]time.Duration{"early": 99 * time.Hour, "late": 0} {
		at := time.Now().Add(-ago)
		for name, ask := range map[string]func(*postgres.View) error{
			"names": func(v *postgres.View) error {
				_, err := v.RepositoriesAt(b.Context(), at, "", 10_000)
				return err
			},
			"search": func(v *postgres.View) error {
				q, err := query.Parse("os:none", at)
				if err != nil {
					return err
				}
				_, err = v.SearchAt(b.Context(), q.Page(50, 0), at)
				return err
			},
		} {
			b.Run(when+"/"+name, func(b *testing.B) {
				for b.Loop() {
					if err := s.View(context.Background(), indexer.Everyone, ask); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
