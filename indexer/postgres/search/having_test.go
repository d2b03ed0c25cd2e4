package search_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/postgres/pg"
	"github.com/portbook/portbook/indexer/query"
)

// Having finds by an index what a search finds, and tells whether that is all; Verify
// finds the same among given repositories, and Rows shows them in the given order.
func TestHaving(t *testing.T) {
	t.Parallel()
	o := newOracle(t, 60, 200)
	ids, err := pg.Column[int32](t.Context(), o.Pool, "SELECT repository_id FROM repository_search ORDER BY 1")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		term    string
		decided bool // by an index
	}{
		{"tag:latest", true}, {"tag:v1", true}, {"tag:none", true}, {"tag:v*", false}, {"digest:000000", true},
		{"label:team", true}, {"label:team=*", true}, {"label:team=edge", true}, {"annotation:name", true}, {"label:build=1", true},
		{"label:te*=edge", false}, {"label:team=e*", false}, {"label:build-date=edge", false}, {"os:linux", false},
	} {
		q := parsed(t, test.term)
		var want []int32
		for _, r := range find(q, o.all()) {
			want = append(want, r.id)
		}
		slices.Sort(want)
		err := o.View(t.Context(), indexer.Everyone, func(v *postgres.View) error {
			got, complete, err := v.Having(t.Context(), q.Clauses[0][0], 1000)
			if err != nil || complete != test.decided || test.decided && !slices.Equal(got, want) {
				t.Errorf("%s: got %v, complete: %v, %v, want %v", test.term, got, complete, err, want)
			}
			if n := len(want); test.decided && n > 1 {
				got, complete, err = v.Having(t.Context(), q.Clauses[0][0], n-1)
				if len(got) > n-1 || complete || err != nil {
					t.Errorf("%s: got %v of %d, complete: %v, %v", test.term, got, n, complete, err)
				}
				if got, complete, _ = v.Having(t.Context(), q.Clauses[0][0], n); complete != (len(got) == n) {
					t.Errorf("%s: got %d of %d, complete: %v", test.term, len(got), n, complete)
				}
			}
			some := ids[len(ids)/3:]
			verified, err := v.Verify(t.Context(), q, some)
			want = slices.DeleteFunc(want, func(id int32) bool { return id < some[0] })
			if err != nil || !slices.Equal(verified, want) {
				t.Errorf("verify %s: got %v, %v, want %v", test.term, verified, err, want)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	slices.Reverse(ids)
	err = o.View(t.Context(), indexer.Everyone, func(v *postgres.View) error {
		rows, err := v.Rows(t.Context(), ids)
		if err != nil {
			return err
		}
		sorted, err := v.Search(t.Context(), query.Query{Sort: query.SortName}.Page(query.MaxPage, 0))
		if len(rows) != len(ids) || len(sorted.Items) != len(ids) {
			t.Fatalf("got %d rows of %d", len(rows), len(ids))
		}
		for i, r := range rows {
			if o.repositories[r.Name].id != ids[i] {
				t.Errorf("row %d is %s", i, r.Name)
			}
		}
		slices.SortFunc(rows, func(a, b indexer.Result) int { return strings.Compare(a.Name, b.Name) })
		if diff := cmp.Diff(sorted.Items, rows); diff != "" {
			t.Errorf("rows differ from results (-results +rows)\n%s", diff)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
