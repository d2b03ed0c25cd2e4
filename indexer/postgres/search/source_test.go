package search_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer/memory"
	"github.com/portbook/portbook/indexer/postgres/pg"
	"github.com/portbook/portbook/indexer/postgres/search"
)

// Images that are too large together are read by several calls; a repository whose own are
// too large is left out, and does not keep the others from being read.
func TestReadImagesInParts(t *testing.T) {
	t.Parallel()
	o := newOracle(t, 60, 200)
	ids, err := pg.Column[int32](t.Context(), o.Pool, "SELECT repository_id FROM repository_search ORDER BY 1")
	if err != nil {
		t.Fatal(err)
	}
	source := search.Source{DB: o.Pool}
	all, read, err := source.Images(t.Context(), ids)
	if err != nil || !slices.Equal(read, ids) || len(all) != len(ids) {
		t.Fatalf("read %d of %d repositories at once, %v", len(read), len(ids), err)
	}
	const most = 600 // bytes
	calls, leftOut := 0, 0
	for rest := ids; len(rest) > 0; calls++ {
		part, read, err := source.ImagesUpTo(t.Context(), rest, most)
		if err != nil || len(read) == 0 || !slices.Equal(read, rest[:len(read)]) {
			t.Fatalf("read %v of %v, %v", read, rest, err)
		}
		for _, id := range read {
			images, few := part[id]
			if !few {
				leftOut++
				if n := bytesOf(all[id]); n <= most {
					t.Errorf("repository %d was left out with %d bytes", id, n)
				}
				continue
			}
			if diff := cmp.Diff(all[id], images, inAnyOrder); diff != "" {
				t.Errorf("repository %d (-at once +in parts)\n%s", id, diff)
			}
		}
		rest = rest[len(read):]
	}
	if calls < 5 || leftOut == 0 || leftOut > len(ids)/2 {
		t.Errorf("%d calls, %d of %d repositories left out: not what this test is about", calls, leftOut, len(ids))
	}
}

// bytesOf returns the size of images in the answer of the database, or a little more: 12
// bytes for each term, and two arrays with 20 bytes before them.
func bytesOf(images []memory.Image) (n int) {
	for _, i := range images {
		n += 12*len(i.Terms) + 40
	}
	return n
}

var inAnyOrder = cmp.Transformer("sorted", func(images []memory.Image) []string {
	var texts []string
	for _, i := range images {
		texts = append(texts, fmt.Sprint(i))
	}
	slices.Sort(texts)
	return texts
})

// Values that a connection reads as text are an error, and not read as garbage.
func TestReadText(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	o := newOracle(t, 5, 10)
	config := o.Pool.Config().ConnConfig
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	source := search.Source{DB: conn}
	for what, read := range map[string]func() error{
		"rows":   func() error { _, err := source.After(ctx, 0, 5); return err },
		"images": func() error { _, _, err := source.Images(ctx, []int32{1, 2, 3, 4, 5}); return err },
	} {
		if err := read(); err == nil || !strings.Contains(err.Error(), "default_query_exec_mode") {
			t.Errorf("%s: got error %v, want one that names the setting", what, err)
		}
	}
}
