package postgres

import (
	"context"
	"fmt"
	"math"
	"time"

	sq "github.com/Masterminds/squirrel"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/pg"
)

// History returns at most limit moves of tags, latest first, older than the move
// before (0: from the latest). If tag is "", it returns the moves of all tags of the
// repository; if repository is "", those of all repositories.
func (v *View) History(ctx context.Context, repository, tag string, before int64, limit int) ([]indexer.Move, error) {
	h := historyQuery{
		repository: repository, tag: tag, before: before, limit: limit, walked: movesWalked, few: fewRepositories,
	}
	var rows []moveRow
	var err error
	switch {
	case repository == "" && !v.visible.All():
		rows, err = v.visibleMoves(ctx, h)
	case v.visible.Sees(repository):
		rows, err = pg.Selected[moveRow](ctx, v.tx, h.moves(pg.Builder))
	}
	var moves []indexer.Move
	for _, r := range rows {
		moves = append(moves, r.move())
	}
	return moves, pg.Wrap("history of tags", err)
}

// A historyQuery is one call of History.
type historyQuery struct {
	repository, tag string
	before          int64
	limit           int
	walked, few     int // movesWalked and fewRepositories
}

// moves selects moves of tags, whoever asks.
func (h historyQuery) moves(builder sq.StatementBuilderType) sq.SelectBuilder {
	sel := builder.Select("id", "repository", "tag", "from_digest", "to_digest", "seen_at", "seen_by").
		From("tag_history").OrderBy("id DESC").Suffix("LIMIT ?", h.limit)
	if h.repository != "" {
		sel = sel.Where(sq.Eq{"repository": indexer.CleanText(h.repository)})
	}
	if h.tag != "" {
		sel = sel.Where(sq.Eq{"tag": indexer.CleanText(h.tag)})
	}
	if h.before > 0 {
		sel = sel.Where(sq.Lt{"id": h.before})
	}
	return sel
}

type moveRow struct {
	ID                   int64
	Repository, Tag      string
	FromDigest, ToDigest []byte
	SeenAt               time.Time
	SeenBy               string
}

func (r moveRow) move() indexer.Move {
	return indexer.Move{
		ID: r.ID, Repository: r.Repository, Tag: r.Tag,
		From: pg.DigestFrom(r.FromDigest), To: pg.DigestFrom(r.ToDigest),
		SeenAt: r.SeenAt, SeenBy: indexer.SeenBy(r.SeenBy),
	}
}

const (
	// movesWalked is the maximum number of moves that are walked from the latest for an
	// asker who does not see all of them: 20,000, about 20 ms. A page of 100 is among
	// them if the asker sees one in 200.
	movesWalked = 20_000
	// fewRepositories is the maximum number of repositories whose moves are read one
	// repository after the other: 1,000, about 50 ms.
	fewRepositories = 1000
)

// visibleMoves returns the moves in all repositories that the asker may see. It looks
// among the latest; if they have too few, in each repository, if these are few; and
// else among all moves, since so many repositories have some soon.
func (v *View) visibleMoves(ctx context.Context, h historyQuery) ([]moveRow, error) {
	walk := func(most int) ([]moveRow, error) {
		all := h
		all.limit = most
		return pg.Stated[moveRow](ctx, v.tx, "SELECT * FROM (?) AS walked WHERE ? ORDER BY id DESC LIMIT ?",
			all.moves(sq.StatementBuilder), v.names.Name("repository"), h.limit)
	}
	rows, err := walk(h.walked)
	if err != nil || len(rows) == h.limit {
		return rows, err
	}
	repositories, err := v.repositoriesMoved(ctx, h.few+1)
	if err != nil {
		return nil, err
	}
	if len(repositories) > h.few {
		return walk(math.MaxInt32)
	}
	each := h.moves(sq.StatementBuilder).Where("repository = known.name")
	return pg.Stated[moveRow](ctx, v.tx, `
		SELECT moves.* FROM unnest(?::text[]) AS known (name) CROSS JOIN LATERAL (?) AS moves ORDER BY id DESC LIMIT ?`,
		repositories, each, h.limit)
}

// repositoriesMoved returns at most limit repositories that the asker may see and that
// have a history.
func (v *View) repositoriesMoved(ctx context.Context, limit int) ([]string, error) {
	sql, args, err := pg.Statement("? SELECT name FROM known WHERE ? LIMIT ?",
		v.knownNames("", sq.Expr("true")), v.names.Name("name"), limit)
	if err != nil {
		return nil, err
	}
	return pg.Column[string](ctx, v.tx, sql, args...)
}

// Descriptors returns media type, digest and size of manifests of a repository, those that the
// book holds.
func (v *View) Descriptors(
	ctx context.Context, repository string, digests []digest.Digest,
) (map[digest.Digest]ocispec.Descriptor, error) {
	known := map[digest.Digest]ocispec.Descriptor{}
	if len(digests) == 0 || !v.visible.Sees(repository) {
		return known, nil
	}
	const q = `
		SELECT m.digest, mt.name AS media_type, m.size
		FROM repository r JOIN manifest m ON m.repository_id = r.id JOIN media_type mt ON mt.id = m.media_type_id
		WHERE r.name = $1 AND m.digest = ANY($2)`
	type row struct {
		Digest    []byte
		MediaType string
		Size      int64
	}
	var raw [][]byte
	for _, d := range digests {
		raw = append(raw, pg.DigestBytes(d))
	}
	rows, err := pg.Collect[row](ctx, v.tx, q, indexer.CleanText(repository), raw)
	for _, r := range rows {
		d := pg.DigestFrom(r.Digest)
		known[d] = ocispec.Descriptor{MediaType: r.MediaType, Digest: d, Size: r.Size}
	}
	return known, pg.Wrap("descriptors of manifests", err)
}

// HistoryBegins returns the time of the earliest move that is kept, the zero time if there
// is none. What was there at that time and later is known: a tag without a kept move until
// then shows what its first later move came from or, without any move, what it shows now.
// What was there before is unknown. The time is about all repositories.
func (v *View) HistoryBegins(ctx context.Context) (time.Time, error) {
	times, err := pg.Column[time.Time](ctx, v.tx, "SELECT seen_at FROM tag_history ORDER BY id LIMIT 1")
	if err != nil || len(times) == 0 {
		return time.Time{}, pg.Wrap("beginning of the history", err)
	}
	return times[0], nil
}

// tagsThen is a part of a statement: the tags that a repository had at a time, each with
// its name, its digest (null if it could not be read) and the time of its last move (null if
// that is not kept). tag is a condition on its
// name, in which %s stands for it. It reads the moves of the repository once for each of the two directions.
func tagsThen(repository, at, tag string) string {
	moves := func(which, order string) string {
		return `SELECT DISTINCT ON (h.tag) h.tag, h.from_digest, h.to_digest, h.seen_at FROM tag_history h
			WHERE h.repository = ` + repository + ` AND h.seen_at ` + which + ` ` + at + ` AND ` + fmt.Sprintf(tag, "h.tag") + `
			ORDER BY h.tag, h.id ` + order
	}
	return `
		SELECT COALESCE(before.tag, after.tag) AS name, CASE WHEN before.tag IS NULL THEN after.from_digest ELSE before.to_digest END AS digest,
			before.seen_at AS moved_at
		FROM (` + moves("<=", "DESC") + `) AS before FULL JOIN (` + moves(">", "ASC") + `) AS after USING (tag)
		WHERE CASE WHEN before.tag IS NULL THEN after.from_digest ELSE before.to_digest END IS NOT NULL
		UNION ALL
		SELECT t.name, m.digest, t.moved_at FROM repository r JOIN tag t ON t.repository_id = r.id
		LEFT JOIN manifest m ON m.repository_id = t.repository_id AND m.id = t.manifest_id
		WHERE r.name = ` + repository + " AND t.moved_at <= " + at + " AND " + fmt.Sprintf(tag, "t.name") + `
			AND NOT EXISTS (SELECT FROM tag_history h WHERE h.repository = r.name AND h.tag = t.name)`
}

// knownNames returns a part of a statement, WITH known (name): a name, and the names
// of the repositories in the history that come after it, in order, and have a move
// for which a condition holds. It walks from name to name in the index, past those
// between the spans, so the statement should have a limit. Some of the names may be
// invisible.
func (v *View) knownNames(after string, which sq.Sqlizer) sq.Sqlizer {
	return sq.Expr(`
		WITH RECURSIVE known (name) AS (
			SELECT ?::text COLLATE "C"
			UNION ALL
			SELECT next.repository FROM known CROSS JOIN LATERAL (
				SELECT repository FROM tag_history WHERE repository > known.name AND repository >= ? AND ? ORDER BY repository LIMIT 1
			) AS next
		)`, after, v.names.NextSpan("known.name"), which)
}

// namesThen is knownNames for the repositories of the history and those of the book that may
// have had a tag at a time. It walks past those that came later, which are most of them if the
// time is early.
func (v *View) namesThen(after string, at time.Time) sq.Sqlizer {
	return sq.Expr(`
		WITH RECURSIVE known (name) AS (
			SELECT ?::text COLLATE "C"
			UNION ALL
			SELECT next.name FROM known CROSS JOIN LATERAL (SELECT ? AS low) AS span CROSS JOIN LATERAL (
				SELECT min(name COLLATE "C") COLLATE "C" AS name FROM (
					(SELECT h.repository AS name FROM tag_history h WHERE h.repository > known.name AND h.repository >= span.low
						AND (h.seen_at <= ? OR h.from_digest IS NOT NULL) ORDER BY h.repository LIMIT 1)
					UNION ALL
					(SELECT r.name FROM repository r WHERE r.name > known.name AND r.name >= span.low AND r.created_at <= ? ORDER BY r.name LIMIT 1)
				) AS each
			) AS next WHERE next.name IS NOT NULL
		)`, after, v.names.NextSpan("known.name"), at, at)
}

// RepositoriesAt returns at most limit repositories, by name, that had a tag at a
// time, as far as the history goes back: see HistoryBegins. It looks in each repository
// for a tag that tagsThen would return.
func (v *View) RepositoriesAt(ctx context.Context, at time.Time, after string, limit int) ([]string, error) {
	after = indexer.CleanText(after)
	sql, args, err := pg.Statement(`?
		SELECT known.name FROM known CROSS JOIN (SELECT ?::timestamptz AS at) AS wanted WHERE known.name > ? AND ? AND (EXISTS (
			SELECT FROM tag_history h WHERE h.repository = known.name AND h.seen_at <= wanted.at AND h.to_digest IS NOT NULL
				AND NOT EXISTS (SELECT FROM tag_history later
					WHERE later.repository = h.repository AND later.tag = h.tag AND later.id > h.id AND later.seen_at <= wanted.at)
		) OR EXISTS (
			SELECT FROM tag_history h WHERE h.repository = known.name AND h.seen_at > wanted.at AND h.from_digest IS NOT NULL
				AND NOT EXISTS (SELECT FROM tag_history earlier
					WHERE earlier.repository = h.repository AND earlier.tag = h.tag AND earlier.id < h.id)
		) OR EXISTS (
			SELECT FROM repository r JOIN tag t ON t.repository_id = r.id WHERE r.name = known.name AND t.moved_at <= wanted.at
				AND NOT EXISTS (SELECT FROM tag_history h WHERE h.repository = r.name AND h.tag = t.name)
		))
		LIMIT ?`, v.namesThen(after, at), at, after, v.names.Name("known.name"), limit)
	if err != nil {
		return nil, err
	}
	names, err := pg.Column[string](ctx, v.tx, sql, args...)
	return names, pg.Wrap(fmt.Sprintf("repositories at %v", at), err)
}

var tagsAt = `
	SELECT t.name, t.digest, '' AS tag_problem, t.moved_at, NULL::text[] AS has, ` + shownColumns + `
	FROM (SELECT * FROM (` + tagsThen("$1", "$2", "%s > $3") + `) AS shown
		WHERE $5::bytea IS NULL OR digest = $5 ORDER BY name LIMIT $4) AS t
	LEFT JOIN repository r ON r.name = $1
	LEFT JOIN manifest m ON m.repository_id = r.id AND m.digest = t.digest` + shownJoins + `
	ORDER BY t.name`

// TagsAt returns at most limit tags that a repository had at a time, in bytewise
// order of name, as far as the history goes back: see HistoryBegins. If d is not "", it
// returns those that showed it. Each has its name, its digest and the time of its last
// move until then, zero if that is no longer kept. The other fields describe the manifest as
// the book holds it now; they are empty if the book no longer holds it.
func (v *View) TagsAt(
	ctx context.Context, repository string, at time.Time, d digest.Digest, after string, limit int,
) ([]indexer.Tag, error) {
	if !v.visible.Sees(repository) {
		return nil, nil
	}
	args := []any{indexer.CleanText(repository), at, indexer.CleanText(after), limit, pg.DigestBytes(d)}
	tags, err := v.shown(ctx, tagsAt, args...)
	return tags, pg.Wrap(fmt.Sprintf("tags of %q at %v", repository, at), err)
}
