package search

import (
	"context"
	"slices"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/memory"
	"github.com/portbook/portbook/indexer/postgres/pg"
)

// A Source reads search rows from one snapshot for the copy in memory. Vector is that of
// the snapshot.
type Source struct {
	DB     pg.Querier
	Vector memory.Vector
}

// Changed returns the repositories whose search row was written or deleted since a state.
// Each transaction that moved the catalogue version recorded them. It reports false if
// there are fewer records than moves: a program of before wrote, which records nothing, or
// the records were removed because they are old.
func (s Source) Changed(ctx context.Context, since memory.Vector) (ids []int32, known bool, err error) {
	moves, later := s.Vector.After(since)
	if !later {
		return nil, false, nil
	}
	shards := make([]int16, len(since.Shards))
	for i := range shards {
		shards[i] = int16(i)
	}
	const q = `
		SELECT c.repositories FROM unnest($1::smallint[], $2::bigint[]) AS known (shard, v)
		CROSS JOIN LATERAL (SELECT c.repositories FROM search_change c WHERE c.shard = known.shard AND c.v > known.v OFFSET 0) AS c`
	records, err := pg.Column[[]int32](ctx, s.DB, q, shards, since.Shards)
	if err != nil || int64(len(records)) != moves {
		return nil, false, pg.Wrap("changes of search rows", err)
	}
	ids = slices.Concat(records...)
	slices.Sort(ids)
	return slices.Compact(ids), true, nil
}

// copiedRow has the columns of repository_search that a copy needs.
type copiedRow struct {
	RepositoryID int32
	Name         string
	Pulls        int64
	UpdatedAt    time.Time
	Size         int64
	Words        []string
	Facts        []indexer.Fact
	Terms        []int64
}

const copiedColumns = `s.repository_id, s.name, s.pulls, s.updated_at, s.size,
	tsvector_to_array(s.all_words) AS words, s.facts, s.terms`

// Rows returns the rows of repositories.
func (s Source) Rows(ctx context.Context, ids []int32) ([]memory.Row, error) {
	const q = "SELECT " + copiedColumns + " FROM repository_search s WHERE s.repository_id = ANY($1)"
	return s.rows(ctx, q, ids)
}

// After returns the rows of the next repositories, in order of id.
func (s Source) After(ctx context.Context, id int32, limit int) ([]memory.Row, error) {
	const q = "SELECT " + copiedColumns + " FROM repository_search s WHERE s.repository_id > $1 ORDER BY s.repository_id LIMIT $2"
	return s.rows(ctx, q, id, limit)
}

func (s Source) rows(ctx context.Context, q string, args ...any) ([]memory.Row, error) {
	copied, err := pg.Collect[copiedRow](ctx, s.DB, q, args...)
	rows := make([]memory.Row, len(copied))
	for i, r := range copied {
		rows[i] = memory.Row{
			ID: r.RepositoryID, Name: r.Name, Pulls: r.Pulls, UpdatedAt: r.UpdatedAt.UnixMicro(), Size: r.Size,
			Words: r.Words, Facts: r.Facts, Terms: r.Terms,
		}
	}
	return rows, pg.Wrap("search rows", err)
}
