package postgres

import (
	"context"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/pg"
)

// A Bound is a manifest of the book with what it is bound to, in its repository.
type Bound struct {
	Digest     digest.Digest
	Kind       indexer.Kind
	MediaType  string
	SeenAt     time.Time
	Tags       []string        // that show it, sorted
	NamedBy    []digest.Digest // the indexes that name it
	Names      []digest.Digest // of an index: the manifests that the book has
	ReferredBy []digest.Digest // its referrers
}

type boundRow struct {
	Digest                     []byte
	Kind, MediaType            string
	SeenAt                     time.Time
	Tags                       []string
	NamedBy, Names, ReferredBy [][]byte
}

// Bounds returns those of the manifests that the book has, by digest.
func (s *Store) Bounds(ctx context.Context, repository string, of []digest.Digest) (map[digest.Digest]Bound, error) {
	const q = `
		WITH wanted AS (
			SELECT m.* FROM repository r JOIN manifest m ON m.repository_id = r.id AND m.digest = ANY($2) WHERE r.name = $1
		), tags AS (
			SELECT t.manifest_id, array_agg(t.name ORDER BY t.name) AS names
			FROM tag t JOIN wanted w ON w.repository_id = t.repository_id AND w.id = t.manifest_id GROUP BY t.manifest_id
		)
		SELECT w.digest, w.kind, mt.name AS media_type, w.seen_at, COALESCE(tags.names, '{}') AS tags,
			ARRAY(SELECT DISTINCT m.digest FROM index_entry e
				JOIN manifest m ON m.repository_id = e.repository_id AND m.id = e.manifest_id
				WHERE (e.repository_id, e.digest) = (w.repository_id, w.digest)) AS named_by,
			ARRAY(SELECT DISTINCT m.digest FROM index_entry e
				JOIN manifest m ON m.repository_id = e.repository_id AND m.digest = e.digest
				WHERE (e.repository_id, e.manifest_id) = (w.repository_id, w.id)) AS names,
			ARRAY(SELECT DISTINCT m.digest FROM referrer f
				JOIN manifest m ON m.repository_id = f.repository_id AND m.id = f.manifest_id
				WHERE (f.repository_id, f.subject) = (w.repository_id, w.digest)) AS referred_by
		FROM wanted w
		JOIN media_type mt ON mt.id = w.media_type_id
		LEFT JOIN tags ON tags.manifest_id = w.id`
	rows, err := pg.Collect[boundRow](ctx, s.pool, q, repository, bytesOf(of))
	all := map[digest.Digest]Bound{}
	for _, r := range rows {
		d := pg.DigestFrom(r.Digest)
		all[d] = Bound{
			Digest: d, Kind: indexer.Kind(r.Kind), MediaType: r.MediaType, SeenAt: r.SeenAt, Tags: r.Tags,
			NamedBy: digestsOf(r.NamedBy), Names: digestsOf(r.Names), ReferredBy: digestsOf(r.ReferredBy),
		}
	}
	return all, pg.Wrap("manifests of "+repository, err)
}

func digestsOf(raw [][]byte) []digest.Digest {
	all := make([]digest.Digest, len(raw))
	for i, r := range raw {
		all[i] = pg.DigestFrom(r)
	}
	return all
}

// ManifestBody returns the media type and the bytes of a manifest of the book, or ErrNotFound.
func (s *Store) ManifestBody(
	ctx context.Context, repository string, d digest.Digest,
) (mediaType string, body []byte, err error) {
	const q = `
		SELECT mt.name AS media_type, b.body FROM repository r
		JOIN manifest m ON m.repository_id = r.id AND m.digest = $2
		JOIN media_type mt ON mt.id = m.media_type_id
		JOIN manifest_body b ON b.repository_id = m.repository_id AND b.manifest_id = m.id
		WHERE r.name = $1`
	type row struct {
		MediaType string
		Body      []byte
	}
	r, err := one[row](ctx, s.pool, repository+"@"+d.String(), q, repository, pg.DigestBytes(d))
	return r.MediaType, r.Body, err
}

// Now returns the time of the database.
func (s *Store) Now(ctx context.Context) (now time.Time, err error) {
	err = s.pool.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&now)
	return now, pg.Wrap("time", err)
}

// A Pushed is a push or a deletion that the registry has reported.
type Pushed struct {
	Tag        string        // "" if it was by digest
	Digest     digest.Digest // "" for the deletion of a tag
	Deleted    bool
	Ours       bool // an operation of ours has pushed it
	ReceivedAt time.Time
}

// PushesSince returns what was pushed to a repository and deleted in it, as was reported since a
// time, by the clock of the database, in the order in which it happened. With a manifest that we
// delete, the registry deletes tags that we may not know.
func (s *Store) PushesSince(ctx context.Context, repository, ourselves string, since time.Time) ([]Pushed, error) {
	// An event may be up to a week older than its report, but then it is no push of now.
	const q = `
		SELECT tag, digest, action = 'delete' AS deleted, user_agent = $2 AS ours, received_at FROM event
		WHERE received_at >= $3 AND at > $3 - interval '10 minutes' AND repository = $1
			AND action IN ('push', 'delete')
		ORDER BY at, received_at, id`
	type row struct {
		Tag        string
		Digest     []byte
		Deleted    bool
		Ours       bool
		ReceivedAt time.Time
	}
	rows, err := pg.Collect[row](ctx, s.pool, q, repository, ourselves, since)
	var all []Pushed
	for _, r := range rows {
		all = append(all, Pushed{r.Tag, pg.DigestFrom(r.Digest), r.Deleted, r.Ours, r.ReceivedAt})
	}
	return all, pg.Wrap("pushes to "+repository, err)
}

// Reported reports whether the registry has reported, since a time, that we have deleted a tag or
// a digest. If no event at all has come for a day, none is awaited, and it is true too.
func (s *Store) Reported(
	ctx context.Context, repository string, reference indexer.TagOrDigest, ourselves string, since time.Time,
) (done bool, err error) {
	const q = `
		SELECT EXISTS (SELECT FROM event WHERE received_at >= $5 AND at > $5 - interval '10 minutes' AND action = 'delete'
				AND repository = $1 AND user_agent = $4 AND (tag = $2 AND $2 <> '' OR digest = $3))
			OR NOT EXISTS (SELECT FROM event WHERE received_at > now() - interval '1 day' AND at > now() - interval '8 days')`
	d := pg.DigestBytes(reference.Digest())
	err = s.pool.QueryRow(ctx, q, repository, reference.Tag(), d, ourselves, since).Scan(&done)
	return done, pg.Wrap("reports of "+repository, err)
}

// ReportsDeletions reports whether the registry has reported any deletion of ours within an hour.
func (s *Store) ReportsDeletions(ctx context.Context, ourselves string) (does bool, err error) {
	const q = `
		SELECT EXISTS (SELECT FROM event WHERE received_at > now() - interval '1 hour' AND at > now() - interval '8 days'
			AND action = 'delete' AND user_agent = $1)`
	err = s.pool.QueryRow(ctx, q, ourselves).Scan(&does)
	return does, pg.Wrap("reports of deletions", err)
}

// TagsPushed returns the tags that were reported within the last minutes to show a digest. The
// book may not have all of them yet.
func (s *Store) TagsPushed(ctx context.Context, repository string, d digest.Digest) ([]string, error) {
	const q = `
		SELECT DISTINCT tag FROM event
		WHERE received_at > now() - interval '5 minutes' AND at > now() - interval '15 minutes' AND action = 'push'
			AND repository = $1 AND digest = $2 AND tag <> ''`
	tags, err := pg.Column[string](ctx, s.pool, q, repository, pg.DigestBytes(d))
	return tags, pg.Wrap("tags pushed to "+repository, err)
}

// UnknownTags returns those of some tags that the book does not have.
func (s *Store) UnknownTags(ctx context.Context, repository string, tags []string) ([]string, error) {
	const q = `
		SELECT asked.tag FROM unnest($2::text[]) AS asked (tag) WHERE NOT EXISTS (
			SELECT FROM repository r JOIN tag t ON t.repository_id = r.id WHERE r.name = $1 AND t.name = asked.tag)
		ORDER BY asked.tag`
	unknown, err := pg.Column[string](ctx, s.pool, q, repository, tags)
	return unknown, pg.Wrap("tags of "+repository, err)
}

// Settled reports whether the book has known for a while that a tag shows a digest. If not, the
// push may be under way: the registry reports it before it writes the tag.
func (s *Store) Settled(
	ctx context.Context, repository, tag string, d digest.Digest, while time.Duration,
) (settled bool, err error) {
	const q = `
		SELECT EXISTS (
			SELECT FROM repository r
			JOIN tag t ON t.repository_id = r.id AND t.name = $2 AND t.moved_at < clock_timestamp() - $4 * interval '1 second'
			JOIN manifest m ON m.repository_id = r.id AND m.id = t.manifest_id AND m.digest = $3
			WHERE r.name = $1)`
	err = s.pool.QueryRow(ctx, q, repository, tag, pg.DigestBytes(d), while.Seconds()).Scan(&settled)
	return settled, pg.Wrap("tag "+repository+":"+tag, err)
}

// NamedByOthers returns those of the manifests of a repository that an index of the book names
// which is not among them.
func (s *Store) NamedByOthers(ctx context.Context, repository string, of []digest.Digest) ([]digest.Digest, error) {
	const q = `
		SELECT DISTINCT e.digest FROM repository r
		JOIN index_entry e ON e.repository_id = r.id AND e.digest = ANY($2)
		JOIN manifest m ON m.repository_id = r.id AND m.id = e.manifest_id
		WHERE r.name = $1 AND m.digest <> ALL($2)`
	raw, err := pg.Column[[]byte](ctx, s.pool, q, repository, bytesOf(of))
	return digestsOf(raw), pg.Wrap("manifests that indexes name", err)
}

// Contents returns at most limit manifests of a repository of the book, indexes first, and how
// many there are.
func (s *Store) Contents(ctx context.Context, repository string, limit int) ([]indexer.Effected, int, error) {
	const q = `
		SELECT m.digest, m.kind, mt.name AS media_type, count(*) OVER () AS total, ARRAY(
			SELECT t.name FROM tag t WHERE t.repository_id = m.repository_id AND t.manifest_id = m.id ORDER BY t.name) AS tags
		FROM repository r
		JOIN manifest m ON m.repository_id = r.id
		JOIN media_type mt ON mt.id = m.media_type_id
		WHERE r.name = $1 ORDER BY m.kind <> 'index', m.id LIMIT $2`
	type row struct {
		Digest          []byte
		Kind, MediaType string
		Total           int64
		Tags            []string
	}
	rows, err := pg.Collect[row](ctx, s.pool, q, repository, limit)
	var all []indexer.Effected
	total := 0
	for _, r := range rows {
		total = int(r.Total)
		all = append(all, indexer.Effected{
			Digest: pg.DigestFrom(r.Digest), Kind: indexer.Kind(r.Kind), MediaType: r.MediaType, Tags: r.Tags,
		})
	}
	return all, total, pg.Wrap("manifests of "+repository, err)
}

// MoveOf returns an entry of the history of a tag, or ErrNotFound.
func (s *Store) MoveOf(ctx context.Context, repository, tag string, id int64) (indexer.Move, error) {
	const q = `
		SELECT id, repository, tag, from_digest, to_digest, seen_at, seen_by FROM tag_history
		WHERE id = $3 AND repository = $1 AND tag = $2`
	r, err := one[moveRow](ctx, s.pool, "history of "+repository+":"+tag, q, repository, tag, id)
	return r.move(), err
}

// RepositoriesWithBlob returns at most three other repositories of the book that use a blob.
func (s *Store) RepositoriesWithBlob(ctx context.Context, blob digest.Digest, other string) ([]string, error) {
	const q = `
		WITH wanted AS (SELECT id FROM blob WHERE digest = $1), users AS (
			(SELECT m.repository_id FROM wanted w JOIN manifest m ON m.layer_ids @> ARRAY[w.id] LIMIT 20)
			UNION (SELECT m.repository_id FROM wanted w JOIN manifest m ON m.config_id = w.id LIMIT 20)
		)
		SELECT r.name FROM users u JOIN repository r ON r.id = u.repository_id WHERE r.name <> $2 ORDER BY r.name LIMIT 3`
	names, err := pg.Column[string](ctx, s.pool, q, pg.DigestBytes(blob), other)
	return names, pg.Wrap("users of "+blob.String(), err)
}
