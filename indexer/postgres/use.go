package postgres

import (
	"context"
	"errors"

	sq "github.com/Masterminds/squirrel"
	"github.com/jackc/pgx/v5"
	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/pg"
)

const (
	// fewUses is up to how many manifests that use a digest are all read and
	// sorted for a page: 5,000, some 30 ms. More of them, as of a base layer, are
	// looked for in the order of the page.
	fewUses = 5000
	// usesWalked is how many manifests are looked at in that order before all
	// that use the digest are read after all: 20,000, some 30 ms. A page is
	// found among them if one in 200 uses the digest.
	usesWalked = 20_000
	// maxUseTags is the most tags given of a manifest.
	maxUseTags = 20
)

// Uses says where a digest stands: as manifest, entry of an image index, config,
// layer or subject, in order of repository and digest, after the two named. A
// manifest counts once, as the first of these that it is.
func (v *View) Uses(ctx context.Context, d digest.Digest, afterRepository string, afterDigest digest.Digest, limit int) ([]indexer.Use, error) {
	u := usage{digest: pg.DigestBytes(d), afterRepository: indexer.CleanText(afterRepository), afterDigest: append([]byte{}, pg.DigestBytes(afterDigest)...), limit: limit}
	uses, err := v.uses(ctx, u)
	return uses, pg.Wrap("uses of "+d.String(), err)
}

// A usage is one call of Uses.
type usage struct {
	digest          []byte
	blob            *int64 // its number, if it is a config or layer of anything
	afterRepository string
	afterDigest     []byte // empty, not nil: before all digests
	limit           int
}

func (v *View) uses(ctx context.Context, u usage) ([]indexer.Use, error) {
	err := v.tx.QueryRow(ctx, "SELECT id FROM blob WHERE digest = $1", u.digest).Scan(&u.blob)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return nil, err
	}
	var n float64
	for _, part := range u.parts() {
		more, err := pg.Estimate(ctx, v.tx, part)
		if err != nil {
			return nil, err
		}
		n += more
	}
	if n > fewUses {
		if uses, whole, err := v.usesWalked(ctx, u); err != nil || whole {
			return uses, err
		}
	}
	return v.usesSorted(ctx, u)
}

// parts are statements that together give all manifests that use the digest.
func (u usage) parts() []sq.Sqlizer {
	parts := []sq.Sqlizer{
		sq.Expr("SELECT repository_id, id, 0 AS how FROM manifest WHERE digest = ?", u.digest),
		sq.Expr("SELECT repository_id, manifest_id, 1 FROM index_entry WHERE digest = ?", u.digest),
		sq.Expr("SELECT repository_id, manifest_id, 4 FROM referrer WHERE subject = ?", u.digest),
	}
	if u.blob != nil {
		parts = append(parts,
			sq.Expr("SELECT repository_id, id, 2 FROM manifest WHERE config_id = ?", *u.blob),
			sq.Expr("SELECT repository_id, id, 3 FROM manifest WHERE layer_ids @> ARRAY[?::bigint]", *u.blob))
	}
	return parts
}

// useColumns are those of useRow, of manifest m in repository r that uses the
// digest as its how says. The tags are looked up by name among those that show
// the manifest in any way: no index tells the tags of a manifest.
const useColumns = `page.name, page.digest, page.how, ARRAY(
	SELECT shown.name FROM image_search i CROSS JOIN LATERAL unnest(i.tags) AS shown (name) CROSS JOIN LATERAL (
		SELECT t.manifest_id FROM tag t WHERE t.repository_id = page.repository_id AND t.name = shown.name OFFSET 0) AS t
	WHERE i.repository_id = page.repository_id AND i.manifest_id = page.id AND t.manifest_id = page.id
	ORDER BY shown.name COLLATE "C" LIMIT ?) AS tags`

type useRow struct {
	Name   string
	Digest []byte
	How    int
	Tags   []string
}

func usesOf(rows []useRow) []indexer.Use {
	var uses []indexer.Use
	for _, r := range rows {
		as := [...]string{"manifest", "entry", "config", "layer", "subject"}[r.How]
		uses = append(uses, indexer.Use{Repository: r.Name, Digest: pg.DigestFrom(r.Digest), As: as, Tags: r.Tags})
	}
	return uses
}

// usesSorted reads all manifests that use the digest, and sorts them. The fences
// keep Postgres from reading all manifests there are where it expects many.
func (v *View) usesSorted(ctx context.Context, u usage) ([]indexer.Use, error) {
	all := u.parts()[0]
	for _, part := range u.parts()[1:] {
		all = sq.Expr("? UNION ALL ?", all, part)
	}
	sql, args, err := pg.Statement("SELECT "+useColumns+` FROM (
			SELECT r.name, m.digest, uses.repository_id, uses.id, min(uses.how) AS how FROM (? OFFSET 0) AS uses
			CROSS JOIN LATERAL (SELECT digest FROM manifest m WHERE m.repository_id = uses.repository_id AND m.id = uses.id OFFSET 0) AS m
			CROSS JOIN LATERAL (SELECT name FROM repository r WHERE r.id = uses.repository_id OFFSET 0) AS r
			WHERE (r.name, m.digest) > (?, ?)
			GROUP BY r.name, m.digest, uses.repository_id, uses.id ORDER BY r.name, m.digest LIMIT ?
		) AS page ORDER BY page.name, page.digest`, maxUseTags, all, u.afterRepository, u.afterDigest, u.limit)
	if err != nil {
		return nil, err
	}
	rows, err := pg.Collect[useRow](ctx, v.tx, sql, args...)
	return usesOf(rows), err
}

// usesWalked looks at manifests in the order of the page, and reports whether it
// found a whole page among the first of them.
func (v *View) usesWalked(ctx context.Context, u usage) (uses []indexer.Use, whole bool, err error) {
	// The fences keep Postgres from reading all that use the digest first. That
	// it is no manifest's at all, as most are not, is asked once and not of each.
	sql, args, err := pg.Statement("SELECT "+useColumns+` FROM (
			SELECT near.name, near.digest, near.repository_id, near.id, near.how FROM (
				SELECT walked.*, CASE
					WHEN walked.digest = ? THEN 0
					WHEN EXISTS (SELECT FROM index_entry WHERE digest = ?)
						AND EXISTS (SELECT FROM index_entry e WHERE e.repository_id = walked.repository_id AND e.manifest_id = walked.id AND e.digest = ?) THEN 1
					WHEN walked.config_id = ? THEN 2
					WHEN ? = ANY(walked.layer_ids) THEN 3
					WHEN EXISTS (SELECT FROM referrer WHERE subject = ?)
						AND EXISTS (SELECT FROM referrer f WHERE f.repository_id = walked.repository_id AND f.subject = ? AND f.manifest_id = walked.id) THEN 4
				END AS how
				FROM (
					SELECT r.name, m.* FROM (SELECT id, name FROM repository WHERE name >= ? ORDER BY name OFFSET 0) AS r
					CROSS JOIN LATERAL (
						SELECT m.digest, m.repository_id, m.id, m.config_id, m.layer_ids FROM manifest m
						WHERE m.repository_id = r.id AND (r.name > ? OR m.digest > ?) ORDER BY m.digest OFFSET 0
					) AS m LIMIT ?
				) AS walked OFFSET 0
			) AS near WHERE near.how IS NOT NULL LIMIT ?
		) AS page ORDER BY page.name, page.digest`,
		maxUseTags, u.digest, u.digest, u.digest, u.blob, u.blob, u.digest, u.digest, u.afterRepository, u.afterRepository, u.afterDigest, usesWalked, u.limit)
	if err != nil {
		return nil, false, err
	}
	rows, err := pg.Collect[useRow](ctx, v.tx, sql, args...)
	return usesOf(rows), len(rows) == u.limit, err
}
