package postgres_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/schema/schematest"
)

// heavy returns an image with layers of these sizes, by name: "base" in two
// repositories is one blob.
func heavy(repository string, layers map[string]int64) indexer.Manifest {
	m := image(repository, fmt.Sprint(repository, layers))
	m.Config, m.Layers = nil, nil
	for name, size := range layers {
		m.Layers = append(m.Layers, ocispec.Descriptor{Digest: digest.FromString(name), Size: size})
	}
	return m
}

func indexOf(repository string, images ...indexer.Manifest) indexer.Manifest {
	m := image(repository, "index of "+fmt.Sprint(len(images))+images[0].Digest.String())
	m.MediaType, m.Kind, m.Config, m.Layers, m.Labels = ocispec.MediaTypeImageIndex, indexer.KindIndex, nil, nil, nil
	for _, i := range images {
		m.Entries = append(m.Entries, indexer.Entry{Digest: i.Digest, MediaType: i.MediaType, Size: i.Size, Platform: i.Platform})
	}
	return m
}

// A storage is everything that a view reports about storage, except times.
type storage struct {
	Total        indexer.Storage
	Namespaces   []indexer.NamespaceStorage
	Repositories []indexer.RepositoryStorage // by name
}

func storageOf(t *testing.T, s *postgres.Store) (got storage) {
	t.Helper()
	view(t, s, func(v *postgres.View) (err error) {
		if got.Total, err = v.Storage(t.Context()); err != nil {
			return err
		}
		if got.Namespaces, err = v.NamespaceStorage(t.Context(), nil, 100); err != nil {
			return err
		}
		got.Repositories, err = v.RepositoryStorage(t.Context(), indexer.StorageQuery{Limit: 100})
		return err
	})
	return got
}

func countStorage(t *testing.T, s *postgres.Store) int {
	t.Helper()
	n, err := s.CountStorage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A shared blob is not part of anyone's own storage, a blob counts once however
// often it is used, and deleted content is no longer counted.
func TestStorage(t *testing.T) {
	t.Parallel()
	s := postgres.New(schematest.New(t), postgres.Config{})
	setTag(t, s, "v1", heavy("team/app", map[string]int64{"base": 1000, "team": 500, "app": 30}))
	setTag(t, s, "v2", heavy("team/app", map[string]int64{"base": 1000, "app": 30, "app2": 4}))
	setTag(t, s, "v1", heavy("team/tool", map[string]int64{"base": 1000, "team": 500, "tool": 7}))
	setTag(t, s, "v1", heavy("alone", map[string]int64{"base": 1000, "alone": 2}))
	if n := countStorage(t, s); n == 0 {
		t.Error("nothing was found")
	}
	got := storageOf(t, s)
	want := storage{
		indexer.Storage{Repositories: 3, Manifests: 4, Size: 1543, Own: 43},
		[]indexer.NamespaceStorage{{Namespace: "team", Repositories: 2, Own: 541, Shared: 1000}, {Namespace: "", Repositories: 1, Own: 2, Shared: 1000}},
		[]indexer.RepositoryStorage{
			{Name: "alone", Own: 2, Shared: 1000, Manifests: 1},
			{Name: "team/app", Own: 34, Shared: 1500, Manifests: 2},
			{Name: "team/tool", Own: 7, Shared: 1500, Manifests: 1},
		},
	}
	untimed := cmp.Options{cmpopts.IgnoreFields(indexer.Storage{}, "CountedAt"), cmpopts.IgnoreFields(indexer.RepositoryStorage{}, "PushedAt"), cmpopts.EquateEmpty()}
	if diff := cmp.Diff(want, got, untimed); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}

	err := s.View(t.Context(), indexer.Everyone, func(v *postgres.View) error {
		team := "team"
		spaces, err := v.NamespaceStorage(t.Context(), &team, 5)
		if err != nil || len(spaces) != 1 || spaces[0] != want.Namespaces[0] {
			t.Errorf("one namespace: got %+v, %v", spaces, err)
		}
		second, err := v.RepositoryStorage(t.Context(), indexer.StorageQuery{Order: indexer.ByStorage, Namespace: &team, Offset: 1, Limit: 5})
		if len(second) != 1 || second[0].Name != "team/tool" {
			t.Errorf("after the largest: got %+v", second)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}

	tool := heavy("team/tool", map[string]int64{"base": 1000, "team": 500, "tool": 7})
	gone := indexer.Finding{Task: indexer.Task{Repository: "team/tool"}, Outcome: indexer.Gone}
	store(t, s, "v1", gone)
	store(t, s, tool.Digest.String(), gone)
	store(t, s, "v1", indexer.Finding{Task: indexer.Task{Repository: "alone"}, Outcome: indexer.Gone})
	store(t, s, heavy("alone", map[string]int64{"base": 1000, "alone": 2}).Digest.String(), indexer.Finding{Task: indexer.Task{Repository: "alone"}, Outcome: indexer.Gone})
	countStorage(t, s)
	want = storage{
		indexer.Storage{Repositories: 1, Manifests: 2, Size: 1534, Own: 1534},
		[]indexer.NamespaceStorage{{Namespace: "team", Repositories: 1, Own: 1534}},
		[]indexer.RepositoryStorage{{Name: "team/app", Own: 1534, Manifests: 2}},
	}
	if diff := cmp.Diff(want, storageOf(t, s), untimed); diff != "" {
		t.Errorf("after two repositories were deleted (-want +got)\n%s", diff)
	}
}

// A count with the same result writes nothing and keeps the catalogue version; any
// other moves it.
func TestStorageVersion(t *testing.T) {
	t.Parallel()
	s := postgres.New(schematest.New(t), postgres.Config{})
	if got := storageOf(t, s); !got.Total.CountedAt.IsZero() {
		t.Errorf("before the first count: %+v", got)
	}
	if n := countStorage(t, s); n != 1 {
		t.Errorf("first count of an empty book: got %d rows, want the total only", n)
	}
	setTag(t, s, "v1", heavy("app", map[string]int64{"a": 1}))
	was := version(t, s)
	if n := countStorage(t, s); n != 3 || version(t, s) == was {
		t.Errorf("%d rows, version %v after %v", n, version(t, s), was)
	}
	was, counted := version(t, s), storageOf(t, s).Total.CountedAt
	if n := countStorage(t, s); n != 0 || version(t, s) != was || !storageOf(t, s).Total.CountedAt.Equal(counted) {
		t.Errorf("a count with the same result wrote %d rows, version %v after %v", n, version(t, s), was)
	}
	// The sums stay the same; the time of the tag's move does not.
	setTag(t, s, "v2", heavy("app", map[string]int64{"a": 1}))
	if n := countStorage(t, s); n != 2 {
		t.Errorf("a push without new bytes: got %d rows, want 2", n)
	}
}

// Manifests that clients may still pull are not untagged: an index keeps what it
// lists, and an image keeps what is attached to it.
func TestUntagged(t *testing.T) {
	t.Parallel()
	pool := schematest.New(t)
	s := postgres.New(pool, postgres.Config{})
	a, b := heavy("app", map[string]int64{"a": 100}), heavy("app", map[string]int64{"b": 10, "base": 5000})
	setTag(t, s, "v1", heavy("other", map[string]int64{"base": 5000}))
	inner := indexOf("app", b)
	sbom := heavy("app", map[string]int64{"sbom": 1})
	sbom.Subject = a.Digest
	for _, m := range []indexer.Manifest{a, b, inner, sbom} {
		store(t, s, m.Digest.String(), indexer.Finding{Task: indexer.Task{Repository: "app"}, Outcome: indexer.Found, Digest: m.Digest, Manifests: []indexer.Manifest{m}})
	}
	setTag(t, s, "v1", indexOf("app", a, inner))
	// As after a migration, before the program has rewritten the search rows.
	if _, err := pool.Exec(t.Context(), "DELETE FROM image_search"); err != nil {
		t.Fatal(err)
	}
	countStorage(t, s)
	if got := storageOf(t, s).Repositories; len(got) != 2 || got[0].Untagged != 0 || got[0].Manifests != 5 || got[0].Own != 111 {
		t.Errorf("everything is tagged or attached: got untagged %+v", got)
	}
	setTag(t, s, "v1", heavy("app", map[string]int64{"a": 100, "c": 1000}))
	countStorage(t, s)
	got := storageOf(t, s)
	// The old index and what it listed; not what is attached, because its subject
	// still exists, and not the bytes that another repository uses.
	if r := got.Repositories[0]; r.Untagged != 4 || r.UntaggedSize != 10 || r.Own != 1111 || got.Total.UntaggedSize != 10 || got.Total.Untagged != 4 {
		t.Errorf("after the tag moved on: %+v", got)
	}
}

// The lists have the requested order.
func TestStorageOrders(t *testing.T) {
	t.Parallel()
	pool := schematest.New(t)
	s := postgres.New(pool, postgres.Config{})
	const rows = `
		INSERT INTO repository_storage (name, namespace, own, shared, manifests, untagged, untagged_size, pushed_at) VALUES
			('a/x', 'a', 1, 5, 1, 0, 0, '2026-01-03'), ('a/y', 'a', 9, 0, 1, 1, 0, '2026-01-01'), ('b', '', 2, 4, 1, 2, 7, '2026-01-02')`
	if _, err := pool.Exec(t.Context(), rows); err != nil {
		t.Fatal(err)
	}
	a, none := "a", ""
	for _, test := range []struct {
		q    indexer.StorageQuery
		want []string
	}{
		{indexer.StorageQuery{Limit: 2}, []string{"a/x", "a/y"}},
		{indexer.StorageQuery{Limit: 2, After: "a/x"}, []string{"a/y", "b"}},
		{indexer.StorageQuery{Limit: 9, Order: indexer.ByStorage}, []string{"a/y", "a/x", "b"}},
		{indexer.StorageQuery{Limit: 9, Order: indexer.ByStorage, Namespace: &a}, []string{"a/y", "a/x"}},
		{indexer.StorageQuery{Limit: 9, Order: indexer.ByStorage, Namespace: &none}, []string{"b"}},
		{indexer.StorageQuery{Limit: 2, Order: indexer.ByPush}, []string{"a/y", "b"}},
		{indexer.StorageQuery{Limit: 9, Order: indexer.ByUntagged}, []string{"b", "a/y"}},
	} {
		view(t, s, func(v *postgres.View) error {
			list, err := v.RepositoryStorage(t.Context(), test.q)
			var got []string
			for _, r := range list {
				got = append(got, r.Name)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("%+v (-want +got)\n%s", test.q, diff)
			}
			return err
		})
	}
}

// A count that takes hours does not wait for pushes.
func TestStorageWaitsForNobody(t *testing.T) {
	t.Parallel()
	pool := schematest.New(t)
	s := postgres.New(pool, postgres.Config{})
	setTag(t, s, "v1", heavy("app", map[string]int64{"a": 1}))
	ctx := t.Context()
	impatient := pool.Config()
	impatient.ConnConfig.RuntimeParams["lock_timeout"] = "1ms" // waiting for a row fails
	counting, err := pgxpool.NewWithConfig(ctx, impatient)
	if err != nil {
		t.Fatal(err)
	}
	defer counting.Close()
	tx, err := pool.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	for _, table := range []string{"repository", "manifest", "tag", "image_search", "blob"} {
		if _, err := tx.Exec(ctx, "SELECT FROM "+table+" FOR UPDATE"); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := postgres.New(counting, postgres.Config{}).CountStorage(ctx); err != nil || n == 0 {
		t.Errorf("during a push: got %d rows, %v", n, err)
	}
}
