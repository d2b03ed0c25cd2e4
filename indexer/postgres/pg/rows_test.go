package pg_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portbook/portbook/indexer/postgres/pg"
	"github.com/portbook/portbook/schema/schematest"
)

type everyType struct {
	RepositoryID int32
	SBOMTags     bool
	Tier         int16
	ID           int64
	After        float64
	Name         string `db:"ref"`
	OS           string
	Digest       []byte
	MovedAt      time.Time
	ConfigID     *int64
	MediaTypeID  *int32
	Labels       *string
	CreatedAt    *time.Time
}

// The text must not change from call to call, since each connection prepares a
// statement once for each text.
func TestUnnest(t *testing.T) {
	t.Parallel()
	got := pg.Unnest[everyType]("read", 2)
	const want = "unnest($2::int[], $3::bool[], $4::smallint[], $5::bigint[], $6::float8[], $7::text[], $8::text[], " +
		"$9::bytea[], $10::timestamptz[], $11::bigint[], $12::int[], $13::text[], $14::timestamptz[]) AS " +
		"read (repository_id, sbom_tags, tier, id, after, ref, os, digest, moved_at, config_id, media_type_id, labels, created_at)"
	if got != want || got != pg.Unnest[everyType]("read", 2) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// pgx encodes typed slices without a look at each element's type.
func TestArrays(t *testing.T) {
	t.Parallel()
	type row struct {
		ID   int64
		Name *string
	}
	name := "a"
	got := pg.Arrays([]row{{1, &name}, {2, nil}})
	if diff := cmp.Diff([]any{[]int64{1, 2}, []*string{&name, nil}}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if diff := cmp.Diff([]any{[]int64(nil), []*string(nil)}, pg.Arrays[row](nil)); diff != "" {
		t.Errorf("without rows, -want +got:\n%s", diff)
	}
}

// A field that no array can hold must be found when the program starts.
func TestUnnestPanics(t *testing.T) {
	t.Parallel()
	for name, unnest := range map[string]func(){
		"nested array": func() { pg.Unnest[struct{ Tags []string }]("t", 1) },
		"int":          func() { pg.Unnest[struct{ Tags int }]("t", 1) },
		"unexported":   func() { pg.Unnest[struct{ tags string }]("t", 1) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			unnest()
		})
	}
}

// What Arrays sends must be what Collect reads, for each type and for null.
func TestRowsThereAndBack(t *testing.T) {
	t.Parallel()
	db := schematest.New(t)
	at := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	number, id, labels := int32(-1), int64(1)<<60, `{"a":"é"}`
	want := []everyType{
		{1<<31 - 1, true, -2, 1 << 62, 0.5, "library/nginx", "linux", []byte{0, 255}, at, &id, &number, &labels, &at},
		{Digest: []byte{}, MovedAt: at},
	}
	query := "SELECT * FROM " + pg.Unnest[everyType]("r", 1)
	got, err := pg.Collect[everyType](t.Context(), db, query, pg.Arrays(want)...)
	if diff := cmp.Diff(want, got, cmp.Comparer(time.Time.Equal)); err != nil || diff != "" {
		t.Errorf("%v, -want +got:\n%s", err, diff)
	}
	if none, err := pg.Collect[everyType](t.Context(), db, query, pg.Arrays[everyType](nil)...); err != nil || len(none) > 0 {
		t.Errorf("without rows: %v, %v", none, err)
	}
}
