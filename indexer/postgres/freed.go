package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/pg"
)

const (
	// freedTime is the maximum time for Freed: one minute, for the plan of a large
	// registry. If the context has an earlier deadline, Freed ends freedMargin before it.
	freedTime   = time.Minute
	freedMargin = 2 * cancelTime
	// firstChunk is how many digests the first statement looks up; a later one looks up
	// as many as take about chunkTime. What was found out is kept when time runs out.
	firstChunk = 200
	chunkTime  = 250 * time.Millisecond
	maxChunk   = 20_000
	// If more than manyDigests digests are to be looked up, and the book has fewer than
	// walkedForEach manifests for each of them, all manifests are walked instead: to look up
	// a digest takes about 60 µs, and to walk a manifest 3 µs. walkChunk is how many one
	// statement reads.
	manyDigests   = 10_000
	walkedForEach = 20
	walkChunk     = 50_000
	// manifestChunk is how many manifests one statement reads: 2,000. A manifest may have
	// 1,000 layers or, as an index, 1,000 entries.
	manifestChunk = 2000
	// maxFreedBlobs is the maximum number of digests that are looked up: 1,500,000, which
	// take about 300 MB of memory.
	maxFreedBlobs = 1_500_000
	// partUses is the maximum number of uses of a digest that are walked for an asker who
	// sees a part of the repositories: 20,000, about 20 ms.
	partUses = 20_000
)

// Freed returns what deleting these manifests together would free. Those that the book
// does not have, or that the asker may not see, are left out. What is not found out before
// the deadline of the context, or within freedTime, is unknown; other statements of the
// view may follow. It returns ErrTooSlow if there is not even time to read the manifests,
// or if they use more than maxFreedBlobs.
//
// It counts how many of the manifests use a digest, and looks whether one more does. So
// Postgres stops early at a layer of a million images, and need not know which of them
// are to be deleted.
func (v *View) Freed(ctx context.Context, refs []indexer.ManifestRef) (indexer.Freed, error) {
	_, freed, err := v.FreedEach(ctx, refs)
	return freed, err
}

// FreedEach is like Freed, and also returns for each manifest the bytes that deleting it
// alone would free, as far as known. Their sum is at most what all of them free together.
// A manifest that is named twice has them at its first place.
func (v *View) FreedEach(ctx context.Context, refs []indexer.ManifestRef) ([]int64, indexer.Freed, error) {
	return v.freedUntil(ctx, refs, freedEnd(ctx, 0))
}

// freedEnd returns when a look-up that begins now must end. within is its time; 0 means
// freedTime.
func freedEnd(ctx context.Context, within time.Duration) time.Time {
	end := time.Now().Add(min(cmp.Or(within, freedTime), freedTime))
	if deadline, ok := ctx.Deadline(); ok && deadline.Add(-freedMargin).Before(end) {
		return deadline.Add(-freedMargin)
	}
	return end
}

func (v *View) freedUntil(ctx context.Context, refs []indexer.ManifestRef, end time.Time) (
	[]int64, indexer.Freed, error) {
	return v.freedBy(ctx, refs, end, manyDigests)
}

// freedBy is freedUntil with another number for manyDigests.
func (v *View) freedBy(ctx context.Context, refs []indexer.ManifestRef, end time.Time, many int) (
	[]int64, indexer.Freed, error) {
	f := freeing{
		many: many, view: v, end: end, freed: indexer.Freed{Part: !v.visible.All()}, alone: make([]int64, len(refs)),
		byDigest: map[string]*stored{}, byBlob: map[int64]*stored{}, deleted: map[int64]bool{}, entries: map[string][]int64{},
	}
	err := f.read(ctx, refs)
	if err == nil {
		err = f.lookUp(ctx)
	}
	return f.alone, f.freed, pg.Wrap("what deleting would free", err)
}

// A freeing is one call of FreedEach.
type freeing struct {
	many     int // manyDigests
	view     *View
	end      time.Time // when what is left is unknown
	freed    indexer.Freed
	alone    []int64            // bytes, by the place of a manifest
	byDigest map[string]*stored // everything that the manifests are or use
	byBlob   map[int64]*stored  // the configs and layers among them
	deleted  map[int64]bool     // the ids of the manifests
	entries  map[string][]int64 // the places of the indexes that list a digest
}

// A stored is what the registry stores under a digest, with the number of the manifests to
// delete that use it: as a layer, a config, an entry of an index, or themselves.
type stored struct {
	digest                              string // its bytes
	size                                int64
	blob                                int64 // its id as a config or layer; 0 if it is none
	layers, configs, entries, manifests int32
	by                                  int32 // the place of one of them
	byMany                              bool
	used                                bool // something else uses it; found by walk
}

// use counts one more use, by the manifest at a place.
func (s *stored) use(count *int32, by int64) {
	if s.layers+s.configs+s.entries+s.manifests > 0 && s.by != int32(by) {
		s.byMany = true
	}
	*count++
	s.by = int32(by)
}

type freedManifest struct {
	Place    int64
	ID       int64
	Digest   []byte
	Size     int64
	ConfigID *int64
	LayerIDs []int64 `db:"layer_ids"`
	Entries  [][]byte
}

// freedManifests reads manifests, each by its digest. Without OFFSET 0 Postgres may read all
// manifests of the repository for each of them, until the new tables of a book are analyzed.
const freedManifests = `
	SELECT w.place, m.id, m.digest, m.size, m.config_id, m.layer_ids,
		ARRAY(SELECT e.digest FROM index_entry e WHERE e.repository_id = m.repository_id AND e.manifest_id = m.id) AS entries
	FROM unnest($1::bigint[], $2::text[], $3::bytea[]) AS w (place, name, digest)
	JOIN repository r ON r.name = w.name
	CROSS JOIN LATERAL (SELECT * FROM manifest m WHERE m.repository_id = r.id AND m.digest = w.digest OFFSET 0) m`

// read reads the manifests, and counts what they use.
func (f *freeing) read(ctx context.Context, refs []indexer.ManifestRef) error {
	for places := range slices.Chunk(f.asked(refs), manifestChunk) {
		names, digests := make([]string, len(places)), make([][]byte, len(places))
		for i, p := range places {
			names[i], digests[i] = indexer.CleanText(refs[p].Repository), pg.DigestBytes(refs[p].Digest)
		}
		manifests, err := inTime[freedManifest](ctx, f, freedManifests, places, names, digests)
		if err == nil {
			err = f.readBlobs(ctx, manifests)
		}
		if err != nil {
			return err
		}
		for _, m := range manifests {
			f.count(m)
		}
	}
	for d, places := range f.entries {
		for _, place := range places {
			if s := f.byDigest[d]; s != nil {
				s.use(&s.entries, place)
			}
		}
	}
	return nil
}

// asked returns the places of the manifests that are looked up: each once, and only those
// that the asker may see.
func (f *freeing) asked(refs []indexer.ManifestRef) (places []int64) {
	seen := make(map[indexer.ManifestRef]bool, len(refs))
	visible := map[string]bool{} // remembered, since to match patterns takes some microseconds
	for i, ref := range refs {
		sees, known := visible[ref.Repository]
		if !known {
			sees = f.view.visible.Sees(ref.Repository)
			visible[ref.Repository] = sees
		}
		if sees && !seen[ref] && ref.Digest.Validate() == nil {
			seen[ref] = true
			places = append(places, int64(i))
		}
	}
	return places
}

// readBlobs reads the configs and layers of manifests that were not read yet. A manifest may
// itself be the layer of another one.
func (f *freeing) readBlobs(ctx context.Context, manifests []freedManifest) error {
	var ids []int64
	var digests [][]byte
	for _, m := range manifests {
		if m.ConfigID != nil {
			ids = append(ids, *m.ConfigID)
		}
		ids, digests = append(ids, m.LayerIDs...), append(digests, m.Digest)
	}
	slices.Sort(ids)
	ids = slices.DeleteFunc(slices.Compact(ids), func(id int64) bool { return f.byBlob[id] != nil })
	if len(f.byDigest)+len(ids) > maxFreedBlobs {
		return fmt.Errorf("more than %d blobs: ask about fewer manifests: %w", maxFreedBlobs, indexer.ErrTooSlow)
	}
	const columns = "SELECT id, digest, size FROM blob WHERE "
	if err := f.addBlobs(ctx, columns+"digest = ANY($1)", digests); err != nil {
		return err
	}
	for chunk := range slices.Chunk(ids, maxChunk) {
		if err := f.addBlobs(ctx, columns+"id = ANY($1)", chunk); err != nil {
			return err
		}
	}
	return nil
}

func (f *freeing) addBlobs(ctx context.Context, sql string, which any) error {
	type row struct {
		ID     int64
		Digest []byte
		Size   int64
	}
	blobs, err := inTime[row](ctx, f, sql, which)
	for _, b := range blobs {
		s := f.of(b.Digest)
		s.blob, f.byBlob[b.ID] = b.ID, s
		if s.manifests == 0 {
			s.size = b.Size
		}
	}
	return err
}

// of returns what is stored under a digest.
func (f *freeing) of(digest []byte) *stored {
	s := f.byDigest[string(digest)]
	if s == nil {
		s = &stored{digest: string(digest)}
		f.byDigest[s.digest] = s
	}
	return s
}

// count counts what a manifest uses. A layer that it names twice is one use.
func (f *freeing) count(m freedManifest) {
	f.freed.Manifests++
	f.deleted[m.ID] = true
	self := f.of(m.Digest)
	self.size = m.Size
	self.use(&self.manifests, m.Place)
	slices.Sort(m.LayerIDs)
	for _, id := range slices.Compact(m.LayerIDs) {
		if s := f.byBlob[id]; s != nil {
			s.use(&s.layers, m.Place)
		}
	}
	if m.ConfigID != nil && f.byBlob[*m.ConfigID] != nil {
		s := f.byBlob[*m.ConfigID]
		s.use(&s.configs, m.Place)
	}
	for _, d := range m.Entries {
		f.entries[string(d)] = append(f.entries[string(d)], m.Place)
	}
}

// lookUp finds out of everything that is stored whether something else uses it. It looks up
// blobs in the order of their numbers, which is the order of the index; or, if there are many
// of them, it walks all manifests instead.
func (f *freeing) lookUp(ctx context.Context) error {
	walk, err := f.isCheaper(ctx)
	if err != nil {
		return err
	}
	if walk {
		return f.walkAll(ctx)
	}
	all := slices.SortedFunc(maps.Values(f.byDigest), func(a, b *stored) int { return cmp.Compare(a.blob, b.blob) })
	for size := firstChunk; len(all) > 0; {
		size = min(size, len(all))
		began := time.Now()
		err := f.lookUpChunk(ctx, all[:size])
		if errors.Is(err, indexer.ErrTooSlow) && ctx.Err() == nil {
			for _, s := range all {
				f.freed.AddUnknown(s.size)
			}
			return nil
		}
		if err != nil {
			return err
		}
		all = all[size:]
		perDigest := time.Since(began) / time.Duration(size)
		size = max(1, min(2*size, maxChunk, int(chunkTime/max(perDigest, 1))))
	}
	return nil
}

// isCheaper reports whether to walk all manifests is cheaper than to look up each digest.
func (f *freeing) isCheaper(ctx context.Context) (bool, error) {
	if len(f.byDigest) < f.many {
		return false, nil
	}
	const q = "SELECT reltuples::float8 FROM pg_class WHERE oid = 'manifest'::regclass"
	manifests, err := pg.Column[float64](ctx, f.view.tx, q)
	if err != nil || len(manifests) != 1 {
		return false, err
	}
	return f.many == 0 || manifests[0] < walkedForEach*float64(len(f.byDigest)), nil
}

// walkAll finds what else uses something by reading all manifests, and of each digest the
// indexes that list it. If there is no time to read all of them, what was not found to be used
// is unknown.
func (f *freeing) walkAll(ctx context.Context) error {
	all := slices.Collect(maps.Values(f.byDigest))
	err := f.walkManifests(ctx)
	if err == nil {
		err = f.findListed(ctx, all)
	}
	late := errors.Is(err, indexer.ErrTooSlow) && ctx.Err() == nil
	if err != nil && !late {
		return err
	}
	for _, s := range all {
		f.tell(s, s.used, late)
	}
	return nil
}

// A walkedManifest is a manifest that is not deleted, and what it uses.
type walkedManifest struct {
	RepositoryID int32
	ID           int64
	Digest       []byte
	ConfigID     *int64
	LayerIDs     []int64
}

func (f *freeing) walkManifests(ctx context.Context) error {
	const q = `
		SELECT m.repository_id, m.id, m.digest, m.config_id, m.layer_ids FROM manifest m
		WHERE (m.repository_id, m.id) > ($1, $2) ORDER BY m.repository_id, m.id LIMIT $3`
	var visible map[int32]bool
	if f.freed.Part {
		type row struct{ ID int32 }
		ids, err := pg.Stated[row](ctx, f.view.tx, "SELECT id FROM repository WHERE ?", f.view.names.Name("name"))
		if err != nil {
			return err
		}
		visible = map[int32]bool{}
		for _, r := range ids {
			visible[r.ID] = true
		}
	}
	var m walkedManifest
	for n := walkChunk; n == walkChunk; {
		n = 0
		err := f.inTime(ctx, func(rows pgx.Rows) error {
			_, err := pgx.ForEachRow(rows, []any{&m.RepositoryID, &m.ID, &m.Digest, &m.ConfigID, &m.LayerIDs}, func() error {
				if n++; (visible == nil || visible[m.RepositoryID]) && !f.deleted[m.ID] {
					f.markUsed(m)
				}
				return nil
			})
			return err
		}, q, m.RepositoryID, m.ID, walkChunk)
		if err != nil {
			return err
		}
	}
	return nil
}

// markUsed marks what a manifest is and uses, except what indexes list.
func (f *freeing) markUsed(m walkedManifest) {
	if s := f.byDigest[string(m.Digest)]; s != nil {
		s.used = true
	}
	if m.ConfigID != nil {
		m.LayerIDs = append(m.LayerIDs, *m.ConfigID)
	}
	for _, id := range m.LayerIDs {
		if s := f.byBlob[id]; s != nil {
			s.used = true
		}
	}
}

// findListed marks what indexes list that are not deleted.
func (f *freeing) findListed(ctx context.Context, all []*stored) error {
	for chunk := range slices.Chunk(all, maxChunk) {
		rows := make([]lookup, len(chunk))
		for i, s := range chunk {
			rows[i] = lookup{Place: int32(i), Digest: []byte(s.digest), Entries: s.entries}
		}
		type row struct{ Place int32 }
		statement, args := listedElsewhere[f.freed.Part], pg.Arrays(rows)
		if f.freed.Part {
			args = append(args, f.view.names.Likes())
		}
		found, err := inTime[row](ctx, f, statement, args...)
		if err != nil {
			return err
		}
		for _, r := range found {
			chunk[r.Place].used = true
		}
	}
	return nil
}

// A lookup is a stored as a parameter of a statement.
type lookup struct {
	Place                               int32
	Digest                              []byte
	Blob                                int64
	Layers, Configs, Entries, Manifests int32
}

func (f *freeing) lookUpChunk(ctx context.Context, chunk []*stored) error {
	rows := make([]lookup, len(chunk))
	for i, s := range chunk {
		rows[i] = lookup{int32(i), []byte(s.digest), s.blob, s.layers, s.configs, s.entries, s.manifests}
	}
	type row struct {
		Place        int32
		Used, Beyond bool
	}
	statement, args := freedUses, pg.Arrays(rows)
	if f.freed.Part {
		statement, args = freedUsesSeen, append(args, f.view.names.Likes())
	}
	found, err := inTime[row](ctx, f, statement, args...)
	for _, r := range found {
		f.tell(chunk[r.Place], r.Used, r.Beyond)
	}
	return err
}

// tell counts what was found out of something: that others use it, that nothing else does, or
// neither.
func (f *freeing) tell(s *stored, used, unknown bool) {
	manifest := int64(0)
	if s.manifests > 0 {
		manifest = s.size
	}
	switch {
	case used:
		f.freed.AddShared(s.size)
		f.freed.SharedManifests = indexer.AddSizes(f.freed.SharedManifests, manifest)
	case unknown:
		f.freed.AddUnknown(s.size)
	default:
		f.freed.AddFrees(s.size)
		f.freed.FreesManifests = indexer.AddSizes(f.freed.FreesManifests, manifest)
		if !s.byMany {
			f.alone[s.by] = indexer.AddSizes(f.alone[s.by], s.size)
		}
	}
}

// freedUses finds whether one more manifest uses a digest than those that are deleted. The
// cheapest look comes first. A config or layer is looked for by number; only a blob has one.
var freedUses = `
	SELECT w.place, (
		` + oneMore("manifest m WHERE m.digest = w.digest", "w.manifests") + `
		OR ` + oneMore("index_entry m WHERE m.digest = w.digest", "w.entries") + `
		OR w.blob <> 0 AND (
			` + oneMore("manifest m WHERE m.config_id = w.blob", "w.configs") + `
			OR ` + oneMore("manifest m WHERE m.layer_ids @> ARRAY[w.blob]", "w.layers") + `)
	) AS used, false AS beyond
	FROM ` + pg.Unnest[lookup]("w", 1)

// oneMore returns an SQL condition: there are more rows than a number.
func oneMore(rows, number string) string {
	return "(SELECT count(*) FROM (SELECT FROM " + rows + " LIMIT " + number + " + 1) AS uses) > " + number
}

// freedUsesSeen is freedUses for an asker who sees a part: it counts the uses that the
// asker sees, among the first partUses. Of a digest with more of them nothing is known.
var freedUsesSeen = func() string {
	tables := []struct{ rows, number string }{
		{"manifest m WHERE m.digest = w.digest", "w.manifests"},
		{"index_entry m WHERE m.digest = w.digest", "w.entries"},
		{"manifest m WHERE m.config_id = w.blob", "w.configs"},
		{"manifest m WHERE m.layer_ids @> ARRAY[w.blob]", "w.layers"},
	}
	var used, beyond []string
	for _, t := range tables {
		walked := fmt.Sprintf("(SELECT m.repository_id FROM %s LIMIT %d)", t.rows, partUses)
		seen := walked + " AS m JOIN repository r ON r.id = m.repository_id WHERE r.name LIKE ANY($8)"
		used = append(used, oneMore(seen, t.number))
		beyond = append(beyond, fmt.Sprintf("(SELECT count(*) FROM %s AS walked) = %d", walked, partUses))
	}
	return "SELECT w.place, used, NOT used AND (" + strings.Join(beyond, " OR ") + ") AS beyond" +
		" FROM " + pg.Unnest[lookup]("w", 1) +
		" CROSS JOIN LATERAL (SELECT " + strings.Join(used, " OR ") + " AS used OFFSET 0) AS u"
}()

// listedElsewhere finds whether one more index lists a digest than those that are deleted: any
// one, or one that the asker sees.
var listedElsewhere = func() map[bool]string {
	all := "index_entry m WHERE m.digest = w.digest"
	seen := "index_entry m JOIN repository r ON r.id = m.repository_id WHERE m.digest = w.digest AND r.name LIKE ANY($8)"
	from := "SELECT w.place FROM " + pg.Unnest[lookup]("w", 1) + " WHERE "
	return map[bool]string{false: from + oneMore(all, "w.entries"), true: from + oneMore(seen, "w.entries")}
}()

// inTime runs a statement until the end at most, and collects its rows.
func inTime[T any](ctx context.Context, f *freeing, sql string, args ...any) (rows []T, err error) {
	err = f.inTime(ctx, func(found pgx.Rows) (err error) {
		rows, err = pgx.CollectRows(found, pgx.RowToStructByName[T])
		return err
	}, sql, args...)
	return rows, err
}

// inTime runs a statement until the end at most, and reads its rows. It returns ErrTooSlow at
// the end, and the transaction of the view goes on.
func (f *freeing) inTime(ctx context.Context, read func(pgx.Rows) error, sql string, args ...any) error {
	left := min(time.Until(f.end), readTimeout)
	if left < time.Millisecond {
		return fmt.Errorf("no time is left: %w", indexer.ErrTooSlow)
	}
	batch := &pgx.Batch{}
	batch.Queue("SAVEPOINT freed")
	batch.Queue("SELECT set_config('statement_timeout', $1, true)", strconv.FormatInt(left.Milliseconds(), 10))
	batch.Queue(sql, args...).Query(read)
	batch.Queue("ROLLBACK TO SAVEPOINT freed") // also takes back the setting
	err := pg.Wrap("look-up", f.view.tx.SendBatch(ctx, batch).Close())
	if errors.Is(err, indexer.ErrTooSlow) {
		if _, failed := f.view.tx.Exec(ctx, "ROLLBACK TO SAVEPOINT freed"); failed != nil {
			return errors.Join(err, failed)
		}
	}
	return err
}
