// Package postgrestest fills a book for tests and queries it.
package postgrestest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/query"
	"github.com/portbook/portbook/schema/schematest"
)

// Now is the current time for the queries that Parsed parses.
var Now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// A Shelf is a store with a small catalogue in its own database.
type Shelf struct {
	*postgres.Store
	Pool *pgxpool.Pool
	T    *testing.T
}

// New returns an empty shelf.
func New(t *testing.T) Shelf { return On(t, schematest.New(t)) }

// On returns a shelf for an existing database.
func On(t *testing.T, pool *pgxpool.Pool) Shelf {
	return Shelf{Store: postgres.New(pool, postgres.Config{}), Pool: pool, T: t}
}

// Find stores the result of reading a reference: a manifest, followed by those that
// it lists. Without manifests the reference is gone.
func (s Shelf) Find(repository, reference string, m ...indexer.Manifest) {
	s.T.Helper()
	ctx := s.T.Context()
	if err := s.Ask(ctx, []indexer.Ask{{Repository: repository, Reference: indexer.TagOrDigest(reference)}}); err != nil {
		s.T.Fatal(err)
	}
	tasks, err := s.Claim(ctx, indexer.PriorityConfirm, 100, time.Minute)
	if err != nil {
		s.T.Fatal(err)
	}
	for _, t := range tasks { // also end the tasks that earlier calls left
		f := indexer.Finding{Task: t, Outcome: indexer.Gone}
		if t.Repository == repository && string(t.Reference) == reference {
			f.Outcome, f.Manifests = indexer.Found, m
			if len(m) > 0 {
				f.Digest = m[0].Digest
			} else {
				f.Outcome = indexer.Gone
			}
		} else if t.Reference.IsDigest() {
			f.Outcome = indexer.Found // unchanged
			f.Digest = t.Reference.Digest()
		}
		if err := s.Apply(ctx, []indexer.Finding{f}); err != nil {
			s.T.Fatal(err)
		}
	}
}

// Stock fills a shelf so that every field of the query language selects some of the
// repositories and not others. It returns the image library/nginx.
func (s Shelf) Stock() (nginx indexer.Manifest) {
	put := func(tag string, m ...indexer.Manifest) { s.Find(m[0].Repository, tag, m...) }
	nginx = Made("library/nginx", "linux/amd64", 60e6, 6, "2026-11-01", "org.opencontainers.image.description", "A reverse proxy",
		"team", "edge", "org.opencontainers.image.created", "2026-11-01T00:00:00Z")
	put("1.25", nginx)
	put("latest", nginx)
	amd, arm := Made("team/app", "linux/amd64", 10e6, 2, "2026-10-01", "team", "blue", "stage", "prod"),
		Made("team/app", "linux/arm64/v8", 12e6, 2, "2026-10-02", "team", "green")
	put("v1", Listing("team/app", amd, arm), amd, arm)
	put("1.0", Made("team/tools/proxy-cache", "Windows/amd64", 900e6, 12, "2024-01-15", "org.opencontainers.image.title", "Proxy, reverse"))
	chart := Made("charts/nginx-ingress", "", 4000, 1, "")
	chart.Kind, chart.ArtifactType = indexer.KindArtifact, "application/vnd.cncf.helm.config.v1+json"
	chart.Annotations = map[string]string{"org.opencontainers.image.licenses": "Apache-2.0", "note": "100% _real_"}
	put("0.1", chart)
	signed := Made("team/signed", "linux/arm/v7", 1e6, 1, "2026-11-20")
	put("v2", signed)
	signature := Made("team/signed", "", 100, 1, "2026-11-20", "x", "y")
	signature.Kind, signature.ArtifactType, signature.Subject = indexer.KindArtifact, "application/vnd.cncf.notary.signature", signed.Digest
	s.Find("team/signed", signature.Digest.String(), signature)
	return nginx
}

// Names returns the names in the results of a search, and the total number of
// results.
func (s Shelf) Names(run func(*postgres.View) (indexer.Results, error)) (names []string, total int) {
	s.T.Helper()
	err := s.View(context.Background(), indexer.Everyone, func(v *postgres.View) error {
		results, err := run(v)
		total = results.Total
		names = nil
		for _, r := range results.Items {
			names = append(names, r.Name)
		}
		return err
	})
	if err != nil {
		s.T.Error(err)
	}
	return names, total
}

// Parsed parses a query for its first 25 results.
func Parsed(t *testing.T, text string) query.Query {
	t.Helper()
	q, err := query.Parse(text, Now)
	if err != nil {
		t.Fatal(err)
	}
	return q.Page(25, 0)
}

// Images returns the images that a query selects.
func (s Shelf) Images(q query.Images) (found []indexer.RepositoryImages) {
	s.T.Helper()
	err := s.View(s.T.Context(), indexer.Everyone, func(v *postgres.View) (err error) {
		found, err = v.Images(s.T.Context(), q)
		return err
	})
	if err != nil {
		s.T.Fatal(err)
	}
	return found
}

// Finds fails the test unless a query finds exactly these repositories; want must be
// sorted.
func (s Shelf) Finds(text string, want ...string) {
	s.T.Helper()
	got, _ := s.Names(func(v *postgres.View) (indexer.Results, error) { return v.Search(s.T.Context(), Parsed(s.T, text)) })
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		s.T.Errorf("%q (-want +got)\n%s", text, diff)
	}
}

// Rows returns the one number that a query selects.
func (s Shelf) Rows(q string) (n int) {
	s.T.Helper()
	if err := s.Pool.QueryRow(s.T.Context(), q).Scan(&n); err != nil {
		s.T.Fatal(err)
	}
	return n
}

// Lead does the work of the leader except scanning.
func (s Shelf) Lead() {
	s.T.Helper()
	for n := 1; n > 0; {
		var err error
		if n, err = s.Reform(s.T.Context()); err != nil {
			s.T.Fatal(err)
		}
	}
	if _, err := s.CountStorage(s.T.Context()); err != nil {
		s.T.Fatal(err)
	}
}

// Made returns an image for a platform ("os/architecture/variant"), created on a
// date ("2006-01-02"). Labels are pairs of key and value.
func Made(repository, platform string, size int64, layers int, created string, labels ...string) indexer.Manifest {
	m := indexer.Manifest{
		Repository: repository, MediaType: ocispec.MediaTypeImageManifest, Kind: indexer.KindImage, ContentSize: size, Labels: map[string]string{},
	}
	parts := [3]string{}
	copy(parts[:], strings.Split(platform, "/"))
	m.Platform = indexer.Platform{OS: parts[0], Architecture: parts[1], Variant: parts[2]}
	m.CreatedAt, _ = time.Parse("2006-01-02", created)
	for i := 0; i+1 < len(labels); i += 2 {
		m.Labels[labels[i]] = labels[i+1]
	}
	for i := range layers {
		m.Layers = append(m.Layers, ocispec.Descriptor{Digest: digest.FromString(fmt.Sprint("layer", i)), Size: 1})
	}
	m.Body = fmt.Appendf(nil, `{"schemaVersion":2,"is":%q}`, fmt.Sprint(repository, platform, size, layers, created, labels))
	m.Digest, m.Size = digest.FromBytes(m.Body), int64(len(m.Body))
	return m
}

// Listing returns an image index that lists images.
func Listing(repository string, images ...indexer.Manifest) indexer.Manifest {
	m := indexer.Manifest{Repository: repository, MediaType: ocispec.MediaTypeImageIndex, Kind: indexer.KindIndex}
	for _, i := range images {
		m.Entries = append(m.Entries, indexer.Entry{Digest: i.Digest, MediaType: i.MediaType, Size: i.Size, Platform: i.Platform})
	}
	m.Body = fmt.Appendf(nil, `{"schemaVersion":2,"lists":%q}`, fmt.Sprint(m.Entries))
	m.Digest, m.Size = digest.FromBytes(m.Body), int64(len(m.Body))
	return m
}
