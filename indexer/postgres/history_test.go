package postgres_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/schema/schematest"
)

// The history shows the past as it was seen, regardless of later changes.
func TestHistory(t *testing.T) {
	t.Parallel()
	pool := schematest.New(t)
	s := postgres.New(pool, postgres.Config{})
	ctx := t.Context()
	one, two, other := image("demo/app", "one"), image("demo/app", "two"), image("other", "x")
	gone := indexer.Finding{Task: indexer.Task{Repository: "demo/app"}, Outcome: indexer.Gone}
	var times []time.Time
	step := func(f func()) {
		t.Helper()
		f()
		var now time.Time
		if err := pool.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&now); err != nil {
			t.Fatal(err)
		}
		times = append(times, now)
	}
	step(func() {})
	step(func() { setTag(t, s, "v1", one); setTag(t, s, "v2", one) })
	step(func() { setTag(t, s, "v1", two); setTag(t, s, "x", other) })
	step(func() { store(t, s, "v1", gone); store(t, s, "v2", gone) })
	tests := []struct {
		repositories []string
		tags         map[string]digest.Digest
	}{
		{nil, map[string]digest.Digest{}},
		{[]string{"demo/app"}, map[string]digest.Digest{"v1": one.Digest, "v2": one.Digest}},
		{[]string{"demo/app", "other"}, map[string]digest.Digest{"v1": two.Digest, "v2": one.Digest}},
		{[]string{"other"}, map[string]digest.Digest{}},
	}
	for i, test := range tests {
		view(t, s, func(v *postgres.View) error {
			repositories, err := v.RepositoriesAt(ctx, times[i], "", 10)
			if diff := cmp.Diff(test.repositories, repositories, cmpopts.EquateEmpty()); diff != "" || err != nil {
				t.Errorf("repositories at %d: %v (-want +got)\n%s", i, err, diff)
			}
			tags, err := v.TagsAt(ctx, "demo/app", times[i], "", "", 10)
			got := map[string]digest.Digest{}
			for _, tag := range tags {
				got[tag.Name] = tag.Digest
				if tag.MovedAt.After(times[i]) || tag.MovedAt.IsZero() || tag.Kind != indexer.KindImage || len(tag.Platforms) != 1 {
					t.Errorf("at %d: %+v", i, tag)
				}
			}
			if diff := cmp.Diff(test.tags, got); diff != "" {
				t.Errorf("tags at %d (-want +got)\n%s", i, diff)
			}
			return err
		})
	}
	view(t, s, func(v *postgres.View) error {
		if names, err := v.RepositoriesAt(ctx, times[2], "demo/app", 10); err != nil || len(names) != 1 || names[0] != "other" {
			t.Errorf("after demo/app: %v, %v", names, err)
		}
		if tags, err := v.TagsAt(ctx, "demo/app", times[2], "", "v1", 1); err != nil || len(tags) != 1 || tags[0].Name != "v2" {
			t.Errorf("after v1: %v, %v", tags, err)
		}
		all, err := v.History(ctx, "", "", 0, 10)
		if err != nil || len(all) != 6 || all[0].To != "" || all[5].From != "" || all[5].Tag != "v1" || all[5].SeenBy != "event" {
			t.Errorf("history: %+v, %v", all, err)
			return err
		}
		moves, err := v.History(ctx, "demo/app", "v1", all[0].ID, 10)
		if err != nil || len(moves) != 3 || moves[1].From != one.Digest || moves[1].To != two.Digest {
			t.Errorf("history of v1: %+v, %v", moves, err)
		}
		mine, err := v.History(ctx, "other", "", 0, 10)
		if len(mine) != 1 || mine[0].To != other.Digest {
			t.Errorf("history of other: %+v", mine)
		}
		return err
	})
}

// A deletion that changes only the history moves the version too, so that no cache
// keeps the old history.
func TestHistoryMovesVersion(t *testing.T) {
	t.Parallel()
	pool := schematest.New(t)
	s := postgres.New(pool, postgres.Config{})
	setTag(t, s, "v1", image("demo/app", "one"))
	if _, err := pool.Exec(t.Context(), "DELETE FROM tag"); err != nil { // as if the book was emptied
		t.Fatal(err)
	}
	known := func() (version indexer.Version, moves int) {
		view(t, s, func(v *postgres.View) error {
			all, err := v.History(t.Context(), "demo/app", "", 0, 10)
			if err != nil {
				return err
			}
			moves = len(all)
			version, err = v.Version(t.Context())
			return err
		})
		return version, moves
	}
	before, moves := known()
	store(t, s, "v1", indexer.Finding{Task: indexer.Task{Repository: "demo/app"}, Outcome: indexer.Gone})
	after, longer := known()
	if longer != moves+1 || after == before {
		t.Errorf("%d moves at %v, then %d at %v", moves, before, longer, after)
	}
	store(t, s, "v1", indexer.Finding{Task: indexer.Task{Repository: "demo/app"}, Outcome: indexer.Gone})
	if again, same := known(); same != longer || again != after {
		t.Errorf("a second time: got %d moves at %v, want %d at %v", same, again, longer, after)
	}
}
