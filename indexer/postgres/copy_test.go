package postgres_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/memory"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/postgres/postgrestest"
	"github.com/portbook/portbook/indexer/query"
)

// foundBy returns the names that a store finds for a text, and how many.
func foundBy(t *testing.T, s *postgres.Store, text string) (names []string, total int) {
	t.Helper()
	err := s.View(t.Context(), indexer.Everyone, func(v *postgres.View) error {
		found, err := v.Search(t.Context(), postgrestest.Parsed(t, text))
		for _, r := range found.Items {
			names = append(names, r.Name)
		}
		total = found.Total
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names, total
}

// A copy in memory has what each push, move and deletion changed as soon as it is
// committed.
func TestCopyFollows(t *testing.T) {
	t.Parallel()
	shelf := postgrestest.New(t)
	shelf.Stock()
	reader := postgres.New(shelf.Pool, postgres.Config{Memory: 1 << 30})
	same := func(what string) {
		t.Helper()
		for _, text := range []string{"", "app", "nginx", "label:team", "os:linux", "brand"} {
			want, wanted := foundBy(t, shelf.Store, text)
			got, total := foundBy(t, reader, text)
			if diff := cmp.Diff(want, got); diff != "" || total != wanted {
				t.Errorf("%s: %q has a total of %d, want %d (-want +got)\n%s", what, text, total, wanted, diff)
			}
		}
		if !reader.SearchCopy().Ready {
			t.Errorf("%s: the copy in memory is not ready", what)
		}
	}
	if err := reader.CopyStep(t.Context()); err != nil {
		t.Fatal(err)
	}
	same("built")
	shelf.Find("brand/new", "v1", postgrestest.Made("brand/new", "linux/amd64", 1, 1, "2026-11-01"))
	same("pushed")
	shelf.Find("team/app", "v9", postgrestest.Made("team/app", "windows/amd64", 1, 1, "2026-11-01", "team", "red"))
	same("moved")
	shelf.Find("brand/new", "v1")
	same("deleted")
	if err := reader.CopyStep(t.Context()); err != nil {
		t.Fatal(err)
	}
	same("merged")
}

// A program of before moves the version and does not record what changed. A copy cannot
// know, so it is not used until it is built again.
func TestCopyOfOldProgram(t *testing.T) {
	t.Parallel()
	shelf := postgrestest.New(t)
	shelf.Stock()
	reader := postgres.New(shelf.Pool, postgres.Config{Memory: 1 << 30})
	if err := reader.CopyStep(t.Context()); err != nil {
		t.Fatal(err)
	}
	const old = `
		WITH gone AS (DELETE FROM repository_search WHERE name = 'team/app')
		UPDATE catalogue_version SET v = v + 1 WHERE shard = 3`
	if _, err := shelf.Pool.Exec(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	if names, _ := foundBy(t, reader, "repo:team/app"); len(names) != 0 {
		t.Errorf("finds %v, which is gone", names)
	}
	if reader.SearchCopy().Ready {
		t.Error("the copy is used, but what changed is not known")
	}
	if err := reader.CopyStep(t.Context()); err != nil || !reader.SearchCopy().Ready {
		t.Errorf("the copy is not built again: %v", err)
	}
}

// A copy that does not fit is not used, and says so.
func TestCopyTooLarge(t *testing.T) {
	t.Parallel()
	shelf := postgrestest.New(t)
	shelf.Stock()
	reader := postgres.New(shelf.Pool, postgres.Config{Memory: 1000})
	if err := reader.CopyStep(t.Context()); !errors.Is(err, memory.ErrTooLarge) {
		t.Errorf("got %v, want ErrTooLarge", err)
	}
	if _, total := foundBy(t, reader, ""); total == 0 || reader.SearchCopy().Ready || !reader.SearchCopy().TooLarge {
		t.Errorf("finds %d repositories, and the copy is %+v", total, reader.SearchCopy())
	}
}

// A view whose state the copy does not hold any more is read again on a newer one.
func TestCopyIsPast(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	shelf := postgrestest.New(t)
	shelf.Stock()
	reader := postgres.New(shelf.Pool, postgres.Config{Memory: 1 << 30})
	if err := reader.CopyStep(ctx); err != nil {
		t.Fatal(err)
	}
	tries := 0
	var versions []indexer.Version
	err := reader.View(ctx, indexer.Everyone, func(v *postgres.View) error {
		tries++
		version, err := v.Version(ctx)
		versions = append(versions, version)
		if err != nil || tries > 1 {
			_, err = v.Search(ctx, query.Query{Limit: 5})
			return err
		}
		for i := range 20 { // others go on, and take the copy with them
			shelf.Find("brand/new", "v1", postgrestest.Made("brand/new", "linux/amd64", int64(i), 1, "2026-11-01"))
			if _, total := foundBy(t, reader, "brand"); total != 1 {
				t.Errorf("finds %d repositories, want 1", total)
			}
		}
		_, err = v.Search(ctx, query.Query{Limit: 5})
		return err
	})
	if err != nil || tries != 2 || versions[0] == versions[1] {
		t.Errorf("got %v after %d tries on the versions %v, want two", err, tries, versions)
	}
}

// Each asker sees the copy through its own eyes.
func TestCopyForAskers(t *testing.T) {
	t.Parallel()
	shelf := postgrestest.New(t)
	shelf.Stock()
	reader := postgres.New(shelf.Pool, postgres.Config{Memory: 1 << 30})
	if err := reader.CopyStep(t.Context()); err != nil {
		t.Fatal(err)
	}
	counts := map[string]int{}
	for _, name := range []string{"team", "library", "nobody"} {
		asker := indexer.AskerOf(indexer.VisibleNames(name + "/*"))
		err := reader.View(t.Context(), asker, func(v *postgres.View) (err error) {
			counts[name], err = v.CountRepositories(t.Context())
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	_, team := foundBy(t, shelf.Store, "repo:team/*")
	_, library := foundBy(t, shelf.Store, "repo:library/*")
	if diff := cmp.Diff(map[string]int{"team": team, "library": library, "nobody": 0}, counts); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
