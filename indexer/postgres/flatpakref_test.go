package postgres_test

import (
	"slices"
	"testing"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/postgres/pg"
	"github.com/portbook/portbook/indexer/query"
)

// The first repository in which a flatpak was seen is still known after the derived
// tables were lost and filled again in another order.
func TestFlatpakRefFirstSeen(t *testing.T) {
	t.Parallel()
	s, _ := stock(t)
	const ref = "app/org.mozilla.Firefox/x86_64/stable"
	since := func() (names []string) {
		found := s.Images(query.Images{{Field: query.FieldLabel, Name: indexer.FlatpakRefLabel, Op: query.OpEquals, Values: []string{ref}}})
		slices.SortFunc(found, func(a, b indexer.RepositoryImages) int { return a.Images[0].RefSince.Compare(b.Images[0].RefSince) })
		for _, f := range found {
			if f.Images[0].RefSince.IsZero() {
				t.Errorf("%s: the time when it was first seen is not known", f.Name)
			}
			names = append(names, f.Name)
		}
		return names
	}
	fill := func(names ...string) {
		for _, name := range names {
			s.Find(name, "latest", made(name, "linux/amd64", 1, 1, "", indexer.FlatpakRefLabel, ref))
		}
	}
	want := []string{"flathub/firefox", "aaa/x"}
	fill(want...)
	if got := since(); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if _, err := s.Pool.Exec(t.Context(), "TRUNCATE repository CASCADE"); err != nil {
		t.Fatal(err)
	}
	fill("aaa/x", "flathub/firefox")
	if got := since(); !slices.Equal(got, want) {
		t.Errorf("after a rebuild: got %v, want %v", got, want)
	}
}

// One repository cannot fill the table of flatpaks.
func TestFlatpakRefsAreFew(t *testing.T) {
	t.Parallel()
	s, _ := stock(t)
	_, err := s.Pool.Exec(t.Context(), `INSERT INTO flatpak_ref (repository, ref) SELECT 'evil/x', 'app/a.b.C' || n || '/x86_64/stable' FROM generate_series(1, $1) n`, postgres.MaxRefs)
	if err != nil {
		t.Fatal(err)
	}
	s.Find("evil/x", "latest", made("evil/x", "linux/amd64", 1, 1, "", indexer.FlatpakRefLabel, "app/a.b.D/x86_64/stable"))
	s.Find("good/x", "latest", made("good/x", "linux/amd64", 1, 1, "", indexer.FlatpakRefLabel, "app/a.b.D/x86_64/stable"))
	s.Find("good/y", "latest", made("good/y", "linux/amd64", 1, 1, "", indexer.FlatpakRefLabel, "no ref"))
	got, err := pg.Column[string](t.Context(), s.Pool, "SELECT repository FROM flatpak_ref WHERE ref NOT LIKE 'app/a.b.C%' ORDER BY 1")
	if want := []string{"good/x"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}
