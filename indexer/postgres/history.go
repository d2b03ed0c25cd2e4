package postgres

import (
	"context"
	"fmt"
	"time"

	sq "github.com/Masterminds/squirrel"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/pg"
)

// History returns at most limit moves of tags, latest first, older than the move
// before (0: from the latest). If tag is "", it returns the moves of all tags of the
// repository; if repository is "", those of all repositories.
func (v *View) History(ctx context.Context, repository, tag string, before int64, limit int) ([]indexer.Move, error) {
	sel := pg.Builder.Select("id", "repository", "tag", "from_digest", "to_digest", "seen_at", "seen_by").
		From("tag_history").OrderBy("id DESC").Suffix("LIMIT ?", limit)
	if repository != "" {
		sel = sel.Where(sq.Eq{"repository": indexer.CleanText(repository)})
	}
	if tag != "" {
		sel = sel.Where(sq.Eq{"tag": indexer.CleanText(tag)})
	}
	if before > 0 {
		sel = sel.Where(sq.Lt{"id": before})
	}
	type row struct {
		ID                   int64
		Repository, Tag      string
		FromDigest, ToDigest []byte
		SeenAt               time.Time
		SeenBy               string
	}
	rows, err := pg.Selected[row](ctx, v.tx, sel)
	var moves []indexer.Move
	for _, r := range rows {
		moves = append(moves, indexer.Move{
			ID: r.ID, Repository: r.Repository, Tag: r.Tag,
			From: pg.DigestFrom(r.FromDigest), To: pg.DigestFrom(r.ToDigest),
			SeenAt: r.SeenAt, SeenBy: indexer.SeenBy(r.SeenBy),
		})
	}
	return moves, pg.Wrap("history of tags", err)
}

// RepositoriesAt returns at most limit repositories, by name, that had a tag at a
// time, as far as the history goes back. It walks from name to name in the index,
// and looks in each repository for a tag whose last move until then was not a
// deletion.
func (v *View) RepositoriesAt(ctx context.Context, at time.Time, after string, limit int) ([]string, error) {
	const q = `
		WITH RECURSIVE known (name) AS (
			(SELECT repository FROM tag_history WHERE repository > $2 AND seen_at <= $1 ORDER BY repository LIMIT 1)
			UNION ALL
			SELECT next.repository FROM known CROSS JOIN LATERAL (
				SELECT repository FROM tag_history WHERE repository > known.name AND seen_at <= $1 ORDER BY repository LIMIT 1
			) AS next
		)
		SELECT name FROM known WHERE EXISTS (
			SELECT FROM tag_history h WHERE h.repository = known.name AND h.seen_at <= $1 AND h.to_digest IS NOT NULL
				AND NOT EXISTS (SELECT FROM tag_history later
					WHERE later.repository = h.repository AND later.tag = h.tag AND later.id > h.id AND later.seen_at <= $1))
		LIMIT $3`
	names, err := pg.Column[string](ctx, v.tx, q, at, indexer.CleanText(after), limit)
	return names, pg.Wrap(fmt.Sprintf("repositories at %v", at), err)
}

// TagsAt returns at most limit tags that a repository had at a time, in bytewise
// order of name, as far as the history goes back. Each has its name, its digest and
// the time of its last move. The other fields describe the manifest as the book
// holds it now; they are empty if the book no longer holds it.
func (v *View) TagsAt(
	ctx context.Context, repository string, at time.Time, after string, limit int,
) ([]indexer.Tag, error) {
	const q = `
		SELECT t.name, t.digest, '' AS tag_problem, t.moved_at, NULL::text[] AS has, ` + shownColumns + `
		FROM (
			SELECT name, digest, moved_at FROM (
				SELECT DISTINCT ON (tag) tag AS name, to_digest AS digest, seen_at AS moved_at FROM tag_history
				WHERE repository = $1 AND tag > $3 AND seen_at <= $2 ORDER BY tag, id DESC
			) AS moved WHERE digest IS NOT NULL ORDER BY name LIMIT $4
		) AS t
		LEFT JOIN repository r ON r.name = $1
		LEFT JOIN manifest m ON m.repository_id = r.id AND m.digest = t.digest` + shownJoins + `
		ORDER BY t.name`
	tags, err := v.shown(ctx, q, indexer.CleanText(repository), at, indexer.CleanText(after), limit)
	return tags, pg.Wrap(fmt.Sprintf("tags of %q at %v", repository, at), err)
}
