package postgres

import (
	"context"
	"fmt"
	"time"

	sq "github.com/Masterminds/squirrel"
	"github.com/jackc/pgx/v5"
	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/postgres/pg"
)

// A protectionRow is a row of protection. Used and CountedAt are those of a quota.
type protectionRow struct {
	Kind, Pattern, Tags, Reason, Actor string
	Bytes                              int64
	CreatedAt                          time.Time
	Used                               int64
	CountedAt                          *time.Time
}

// protectionColumns are the columns of a protectionRow, from protection AS p. A quota counts
// each blob once, as the storage of its pattern does.
const protectionColumns = `p.kind, p.pattern, p.tags, p.reason, p.actor, COALESCE(p.bytes, 0) AS bytes, p.created_at,
	COALESCE(CASE WHEN p.kind <> 'quota' THEN 0
		WHEN p.pattern = '*' THEN (SELECT t.size FROM storage_total t)
		WHEN p.pattern LIKE '%/*' THEN (SELECT n.own + n.shared FROM namespace_storage n WHERE n.namespace = left(p.pattern, -2))
		ELSE (SELECT s.own + s.shared FROM repository_storage s WHERE s.name = p.pattern) END, 0)::bigint AS used,
	CASE WHEN p.kind = 'quota' THEN (SELECT t.counted_at FROM storage_total t) END AS counted_at`

func protectionsFrom(rows []protectionRow, err error) (all []access.Protection, _ error) {
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		pattern, err := access.ParsePattern(r.Pattern)
		if err != nil {
			return nil, fmt.Errorf("a stored protection: %s", err) // not ErrInvalid: it is not the client's
		}
		all = append(all, access.Protection{
			Kind: access.ProtectionKind(r.Kind), Pattern: pattern, Tags: r.Tags, Bytes: r.Bytes, Reason: r.Reason,
			Actor:     r.Actor,
			CreatedAt: r.CreatedAt, Used: r.Used, CountedAt: pg.TimeOrZero(r.CountedAt),
		})
	}
	return all, nil
}

// Protections returns all protections as they are now.
func (s *Store) Protections(ctx context.Context) (access.Protections, error) {
	all, err := protectionsFrom(pg.Collect[protectionRow](ctx, s.pool, "SELECT "+protectionColumns+" FROM protection p"))
	return access.NewProtections(all), pg.Wrap("protections", err)
}

// protectionsOf returns the protections that select some of the repositories.
func protectionsOf(ctx context.Context, db pg.Querier, repositories ...string) (access.Protections, error) {
	const q = "SELECT " + protectionColumns + " FROM protection p WHERE p.pattern = ANY($1)"
	var patterns []string
	for _, name := range repositories {
		patterns = append(patterns, texts(access.PatternsOf(name))...)
	}
	all, err := protectionsFrom(pg.Collect[protectionRow](ctx, db, q, patterns))
	return access.NewProtections(all), err
}

// Protected returns which of the tags of a repository must not be moved or deleted, and why: a
// tag that is missing in the map may be. In a frozen repository none of them may, and the map
// has the reason for "" too, since manifests without tags stay as well. It must be asked before
// anything of ours moves or deletes a tag, or deletes a manifest.
func (s *Store) Protected(ctx context.Context, repository string, tags []string) (map[string]string, error) {
	all, err := protectionsOf(ctx, s.pool, repository)
	if err != nil {
		return nil, pg.Wrap(fmt.Sprintf("protections of %q", repository), err)
	}
	why := map[string]string{}
	frozen, isFrozen := all.Frozen(repository)
	if isFrozen {
		why[""] = frozen.Text()
	}
	for _, tag := range tags {
		if isFrozen {
			why[tag] = frozen.Text()
		} else if p, protected := all.Tag(repository, tag); protected {
			why[tag] = p.Text()
		}
	}
	return why, nil
}

// neededBy selects the tags of a repository ($1) that need the manifest or blob with a digest
// ($2): those that show the manifest, an index that lists it, or an image that uses the blob.
const neededBy = `
	WITH RECURSIVE r AS (SELECT id FROM repository WHERE name = $1), needs AS (
		SELECT m.id, m.digest FROM manifest m WHERE m.repository_id = (SELECT id FROM r) AND m.digest = $2
		UNION
		SELECT m.id, m.digest FROM blob b JOIN manifest m ON m.repository_id = (SELECT id FROM r)
			AND (m.layer_ids @> ARRAY[b.id] OR m.config_id = b.id) WHERE b.digest = $2
		UNION
		SELECT p.id, p.digest FROM needs n
		JOIN index_entry e ON e.repository_id = (SELECT id FROM r) AND e.digest = n.digest
		JOIN manifest p ON p.repository_id = (SELECT id FROM r) AND p.id = e.manifest_id
	)
	SELECT t.name FROM tag t WHERE t.repository_id = (SELECT id FROM r) AND t.manifest_id IN (SELECT id FROM needs)
	ORDER BY t.name`

// ProtectedNeeds returns why a manifest or a blob of a repository must not be deleted: a
// protected tag needs it, or the repository is frozen. It is "" if it may be deleted.
func (s *Store) ProtectedNeeds(ctx context.Context, repository string, d digest.Digest) (why string, err error) {
	all, err := protectionsOf(ctx, s.pool, repository)
	if err != nil {
		return "", pg.Wrap(fmt.Sprintf("protections of %q", repository), err)
	}
	if p, frozen := all.Frozen(repository); frozen {
		return p.Text(), nil
	}
	if len(all.Of(repository)) == 0 {
		return "", nil
	}
	tags, err := pg.Column[string](ctx, s.pool, neededBy, repository, pg.DigestBytes(d))
	for _, tag := range tags {
		if p, protected := all.Tag(repository, tag); protected {
			return fmt.Sprintf("the tag %s needs it, and %s", tag, p.Text()), nil
		}
	}
	return "", pg.Wrap(fmt.Sprintf("tags that need %s of %q", d, repository), err)
}

// ProtectionPage implements access.Guardian.
func (s *Store) ProtectionPage(ctx context.Context, q access.ProtectionQuery) ([]access.Protection, error) {
	// As access.Pattern.includes: what ends in * includes all that begins as it does.
	const within = `EXISTS (SELECT FROM unnest(?::text[]) AS own WHERE CASE WHEN right(own, 1) = '*'
		THEN starts_with(p.pattern, left(own, -1)) ELSE p.pattern = own END)`
	sel := pg.Builder.Select(protectionColumns).From("protection p").Where(within, texts(q.Within)).
		OrderBy("p.pattern", "p.kind", "p.tags").Suffix("LIMIT ?", q.Limit)
	if q.Kind != "" {
		sel = sel.Where(sq.Eq{"p.kind": string(q.Kind)})
	}
	if q.Patterns != nil {
		sel = sel.Where("p.pattern = ANY(?)", texts(q.Patterns))
	}
	if a := q.After; a != nil {
		sel = sel.Where("(p.pattern, p.kind, p.tags) > (?, ?, ?)", a.Pattern.String(), string(a.Kind), a.Tags)
	}
	all, err := protectionsFrom(pg.Selected[protectionRow](ctx, s.pool, sel))
	return all, pg.Wrap("protections", err)
}

// AddProtection implements access.Guardian.
func (s *Store) AddProtection(ctx context.Context, p access.Protection) error {
	if err := p.Check(); err != nil {
		return err
	}
	const q = `
		INSERT INTO protection (kind, pattern, tags, bytes, reason, actor)
		VALUES ($1, $2, $3, CASE WHEN $1 = 'quota' THEN $4::bigint END, $5, $6)
		ON CONFLICT (pattern, kind, tags) DO UPDATE SET
			bytes = excluded.bytes, reason = excluded.reason, actor = excluded.actor, created_at = now()`
	const count = "SELECT count(*) FROM protection"
	const below = `
		SELECT count(*) FROM protection WHERE $1 <> '*' AND CASE WHEN strpos(pattern, '/') > 0 THEN split_part(pattern, '/', 1)
			WHEN pattern = '*' THEN '*' ELSE '' END = $1`
	r := access.Record{Event: access.ProtectionAdd, Target: p.Pattern.String(), Detail: p.String() +
		reasonDetail(p.Reason)}
	args := []any{string(p.Kind), p.Pattern.String(), p.Tags, p.Bytes, p.Reason, access.ActorOf(ctx).Name}
	return s.inAccessOf(ctx, "protection of "+p.Pattern.String(), func(tx pgx.Tx, c cluster) error {
		err := makeChanges(ctx, tx, r, change{q, args})
		if err == nil {
			err = atMost(ctx, tx, access.MaxProtections, "there are %d protections, which is the most: remove one first", count)
		}
		if err == nil {
			err = atMost(ctx, tx, access.MaxProtectionsBelow,
				"the namespace has %d protections, which is the most: remove one, or use a wider pattern", below, p.Namespace())
		}
		if err != nil {
			return err
		}
		return bump(ctx, tx, c, nil)
	})
}

func reasonDetail(reason string) string {
	if reason == "" {
		return ""
	}
	return ", reason: " + reason
}

// RemoveProtection implements access.Guardian.
func (s *Store) RemoveProtection(ctx context.Context, p access.Protection) error {
	const q = "DELETE FROM protection WHERE kind = $1 AND pattern = $2 AND tags = $3"
	r := access.Record{Event: access.ProtectionRemove, Target: p.Pattern.String(), Detail: p.Name()}
	return s.inAccessOf(ctx, p.Name(), func(tx pgx.Tx, c cluster) error {
		err := makeChanges(ctx, tx, r, change{q, []any{string(p.Kind), p.Pattern.String(), p.Tags}})
		if err != nil {
			return err
		}
		return bump(ctx, tx, c, nil)
	})
}

// Notices returns what is yanked, protected and frozen in a repository; nothing if the book does
// not have it.
func (v *View) Notices(ctx context.Context, repository string) (n indexer.Notices, err error) {
	if !v.visible.Sees(repository) {
		return n, nil
	}
	const exists = "SELECT id FROM repository WHERE name = $1"
	found, err := pg.Column[int32](ctx, v.tx, exists, indexer.CleanText(repository))
	if err != nil || len(found) == 0 {
		return n, pg.Wrap(fmt.Sprintf("repository %q", repository), err)
	}
	all, err := protectionsOf(ctx, v.tx, repository)
	if err != nil {
		return n, pg.Wrap(fmt.Sprintf("protections of %q", repository), err)
	}
	for _, p := range all.Of(repository) {
		n.Kept = append(n.Kept, indexer.Kept{Kind: string(p.Kind), Pattern: p.Pattern.String(), Tags: p.Tags, Bytes: p.Bytes,
			Holds: p.Over() || p.Kind == access.Freeze, Text: p.Text(), Since: p.CreatedAt})
	}
	if n.Yanks, err = v.yanks(ctx, repository); err == nil {
		n.Moves, err = v.protectedMoves(ctx, repository)
	}
	return n, err
}

// Shown returns the digest that a tag shows in the book, or ErrNotFound. The registry may be
// some moments ahead.
func (s *Store) Shown(ctx context.Context, repository, tag string) (digest.Digest, error) {
	const q = `
		SELECT m.digest FROM repository r JOIN tag t ON t.repository_id = r.id
		JOIN manifest m ON m.repository_id = t.repository_id AND m.id = t.manifest_id WHERE r.name = $1 AND t.name = $2`
	type row struct{ Digest []byte }
	found, err := one[row](ctx, s.pool, fmt.Sprintf("tag %q of %q", tag, repository), q, repository, tag)
	return pg.DigestFrom(found.Digest), err
}
