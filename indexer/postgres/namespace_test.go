package postgres_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/postgres/postgrestest"
)

// The namespaces are those of all repositories with one, whatever their names have in common.
func TestNamespaces(t *testing.T) {
	t.Parallel()
	shelf := postgrestest.New(t)
	random := rand.New(rand.NewPCG(3, 4))
	names := []string{"a", "a/b", "a/b/c", "a-b", "a-b/c", "a.b/c", "a0", "a0/b", "a00/b", "z"}
	for range 300 {
		word := func() string { return string("ab0-."[random.IntN(3)]) + string("ab0"[random.IntN(3)]) }
		names = append(names, word()+fmt.Sprintf("/%s/%d", word(), random.IntN(5)), word())
	}
	var want []string
	for _, name := range names {
		if space, _, found := strings.Cut(name, "/"); found {
			want = append(want, space)
		}
	}
	slices.Sort(want)
	want = slices.Compact(want)
	if _, err := shelf.Pool.Exec(t.Context(), "INSERT INTO repository (name) SELECT DISTINCT unnest($1::text[])", names); err != nil {
		t.Fatal(err)
	}
	store := postgres.New(shelf.Pool, postgres.Config{})
	got, err := store.Namespaces(t.Context(), 1000)
	if slices.Sort(got); err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	if some, err := store.Namespaces(t.Context(), 3); err != nil || len(some) != 3 {
		t.Errorf("at most 3: got %q, %v", some, err)
	}
}
