package search

import (
	"context"
	"encoding/binary"
	"slices"
	"time"

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

// copiedColumns are the columns of repository_search that a copy needs.
const copiedColumns = "s.repository_id, s.name, s.pulls, s.pulled_at, s.updated_at, s.size, " +
	"s.facts, s.terms, s.all_words"

// Rows returns the rows of repositories.
func (s Source) Rows(ctx context.Context, ids []int32) ([]memory.Row, error) {
	const q = "SELECT " + copiedColumns + " FROM repository_search s WHERE s.repository_id = ANY($1)"
	return s.rows(ctx, q, ids)
}

// After returns the rows of the next repositories, in order of id.
func (s Source) After(ctx context.Context, id int32, limit int) ([]memory.Row, error) {
	const q = "SELECT " + copiedColumns + ` FROM repository_search s
		WHERE s.repository_id > $1 ORDER BY s.repository_id LIMIT $2`
	return s.rows(ctx, q, id, limit)
}

// maxImageKeys is the maximum size of the keys of an image that a copy holds: 2,000 bytes,
// about 240 keys.
const maxImageKeys = 2000

// maxImagesRead is the maximum size of the images that Images returns: 64 MB of terms, those
// of some 200,000 images.
const maxImagesRead = 64 << 20

// Images returns the images of repositories, and which repositories it read: all of ids, or
// the first ones by id if the images are too large together. A repository that was read and
// has no entry has too many images, or an image with too many keys.
func (s Source) Images(ctx context.Context, ids []int32) (images map[int32][]memory.Image, read []int32, err error) {
	return s.images(ctx, ids, maxImagesRead)
}

func (s Source) images(
	ctx context.Context, ids []int32, most int,
) (images map[int32][]memory.Image, read []int32, err error) {
	// Arrays of an image with too many keys are not read, since they may be megabytes.
	const q = `
		SELECT i.repository_id, i.facts, few.keys, few.pairs FROM image_search i
		LEFT JOIN LATERAL (SELECT i.keys, i.pairs WHERE pg_column_size(i.keys) <= $2) few ON true
		WHERE i.repository_id = ANY($1) ORDER BY i.repository_id`
	images = make(map[int32][]memory.Image, len(ids))
	for _, id := range ids {
		images[id] = nil
	}
	rows, err := s.DB.Query(ctx, q, ids, maxImageKeys)
	if err != nil {
		return nil, nil, pg.Wrap("images of search rows", err)
	}
	defer rows.Close()
	facts := newFactReader()
	var many []int32
	read = ids
	last, bytes, ofLast := int32(0), 0, 0 // bytes of all repositories, and of the last one
	for rows.Next() {
		raw, err := rawValues(rows, 0)
		if err != nil {
			return nil, nil, err
		}
		id := int32(binary.BigEndian.Uint32(raw[0]))
		if id != last {
			last, ofLast = id, 0
		}
		n := len(raw[2]) + len(raw[3])
		if bytes, ofLast = bytes+n, ofLast+n; bytes > most {
			if bytes == ofLast { // it alone is too large
				many = append(many, id)
				id++
			} else {
				delete(images, id)
			}
			read = slices.DeleteFunc(slices.Clone(ids), func(other int32) bool { return other >= id })
			break
		}
		if raw[2] == nil {
			many = append(many, id)
			continue
		}
		terms := appendInt64s(make([]int64, 0, (len(raw[2])+len(raw[3]))/12), raw[2])
		images[id] = append(images[id], memory.Image{Facts: facts.read(raw[1]), Terms: appendInt64s(terms, raw[3])})
	}
	for _, id := range many {
		delete(images, id)
	}
	rows.Close()
	return images, read, pg.Wrap("images of search rows", rows.Err())
}

func (s Source) rows(ctx context.Context, q string, args ...any) ([]memory.Row, error) {
	rows, err := s.DB.Query(ctx, q, args...)
	if err != nil {
		return nil, pg.Wrap("search rows", err)
	}
	defer rows.Close()
	facts, words := newFactReader(), newWordReader()
	var all []memory.Row
	for rows.Next() {
		var r memory.Row
		var updated time.Time
		var pulled *time.Time
		if err := rows.Scan(&r.ID, &r.Name, &r.Pulls, &pulled, &updated, &r.Size, nil, nil, nil); err != nil {
			return nil, pg.Wrap("search rows", err)
		}
		r.UpdatedAt = updated.UnixMicro()
		if pulled != nil {
			r.PulledAt = pulled.UnixMicro()
		}
		raw, err := rawValues(rows, 6)
		if err != nil {
			return nil, err
		}
		r.Facts = facts.read(raw[0])
		r.Terms = appendInt64s(make([]int64, 0, len(raw[1])/12), raw[1])
		r.Words = words.read(raw[2])
		all = append(all, r)
	}
	return all, pg.Wrap("search rows", rows.Err())
}
