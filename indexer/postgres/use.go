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
	// fewUses is the maximum number of manifests using a digest that are all read
	// and sorted for one page: 5,000, about 30 ms. If there are more, as for a base
	// layer, manifests are walked in the order of the page.
	fewUses = 5000
	// usesWalked is the maximum number of manifests walked in that order before all
	// uses are read and sorted instead: 20,000, about 30 ms. A page of 100 is found
	// among them if one manifest in 200 uses the digest.
	usesWalked = 20_000
	// maxUseTags is the maximum number of tags returned for one manifest.
	maxUseTags = 20
)

// Uses returns at most limit uses of a digest: as manifest, entry of an image index,
// config, layer or subject, in order of repository and digest, after the given
// position. Each manifest is returned once, as the first use in that list.
func (v *View) Uses(
	ctx context.Context, d digest.Digest, afterRepository string, afterDigest digest.Digest, limit int,
) ([]indexer.Use, error) {
	u := usage{
		digest: pg.DigestBytes(d), limit: limit, afterRepository: indexer.CleanText(afterRepository),
		afterDigest: append([]byte{}, pg.DigestBytes(afterDigest)...), // empty, not null: sorts before all digests
	}
	uses, err := v.uses(ctx, u)
	return uses, pg.Wrap("uses of "+d.String(), err)
}

// A usage is one call of Uses.
type usage struct {
	digest          []byte
	blob            *int64 // its id, if it is a known config or layer
	afterRepository string
	afterDigest     []byte // empty, not nil: sorts before all digests
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

// parts returns statements that together select all manifests that use the digest.
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

// useColumns are the columns of a useRow. The tags of the manifest are looked up by
// name among the tags in its search row, because no index finds tags by manifest.
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

// usesSorted reads all manifests that use the digest, and sorts them. OFFSET 0 keeps
// Postgres from reading all manifests if it expects many uses.
func (v *View) usesSorted(ctx context.Context, u usage) ([]indexer.Use, error) {
	all := u.parts()[0]
	for _, part := range u.parts()[1:] {
		all = sq.Expr("? UNION ALL ?", all, part)
	}
	rows, err := pg.Stated[useRow](ctx, v.tx, "SELECT "+useColumns+` FROM (
			SELECT r.name, m.digest, uses.repository_id, uses.id, min(uses.how) AS how FROM (? OFFSET 0) AS uses
			CROSS JOIN LATERAL (SELECT digest FROM manifest m WHERE m.repository_id = uses.repository_id AND m.id = uses.id OFFSET 0) AS m
			CROSS JOIN LATERAL (SELECT name FROM repository r WHERE r.id = uses.repository_id OFFSET 0) AS r
			WHERE (r.name, m.digest) > (?, ?) AND ?
			GROUP BY r.name, m.digest, uses.repository_id, uses.id ORDER BY r.name, m.digest LIMIT ?
		) AS page ORDER BY page.name, page.digest`, maxUseTags, all, u.afterRepository, u.afterDigest, v.names.Name("r.name"), u.limit)
	return usesOf(rows), err
}

// usesWalked walks manifests in the order of the page, and reports whether the first
// usesWalked of them filled a page.
func (v *View) usesWalked(ctx context.Context, u usage) (uses []indexer.Use, whole bool, err error) {
	repositories := v.names.EachSpan(sq.Expr("SELECT id, name FROM repository WHERE name >= ? AND ? ORDER BY name LIMIT ?",
		u.afterRepository, v.names.InSpan("name"), usesWalked))
	// OFFSET 0 keeps Postgres from reading all uses of the digest first. The EXISTS
	// without a repository runs once: most digests are no entry and no subject.
	rows, err := pg.Stated[useRow](ctx, v.tx, "SELECT "+useColumns+` FROM (
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
					SELECT r.name, m.* FROM (SELECT * FROM (?) AS page ORDER BY name OFFSET 0) AS r
					CROSS JOIN LATERAL (
						SELECT m.digest, m.repository_id, m.id, m.config_id, m.layer_ids FROM manifest m
						WHERE m.repository_id = r.id AND (r.name > ? OR m.digest > ?) ORDER BY m.digest OFFSET 0
					) AS m LIMIT ?
				) AS walked OFFSET 0
			) AS near WHERE near.how IS NOT NULL LIMIT ?
		) AS page ORDER BY page.name, page.digest`,
		maxUseTags, u.digest, u.digest, u.digest, u.blob, u.blob, u.digest, u.digest,
		repositories, u.afterRepository, u.afterDigest, usesWalked, u.limit)
	return usesOf(rows), len(rows) == u.limit, err
}
