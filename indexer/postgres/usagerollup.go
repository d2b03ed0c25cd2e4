package postgres

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer/postgres/pg"
)

const (
	// usageLock is an advisory lock that a transaction of RollUpUsage holds.
	usageLock = 0x706f7274_75736167 // "portusag"
	// rolledAtOnce is the maximum number of repositories whose counts one transaction
	// changes: 200, some 100 ms, during which pushes to them wait.
	rolledAtOnce = 200
	// takenAtOnce is the maximum number of rows of usage_pending in one transaction: 20,000,
	// some 200 ms.
	takenAtOnce = 20_000
	// maxUsageRows is the maximum number of rows of usage_day for one repository and day:
	// 1,000. What is beyond is counted for the repository alone; the totals of its tags and
	// manifests, and when they were last pulled, have it nevertheless.
	maxUsageRows = 1000
	// unknownFor is how long a push waits until its repository is in the book: 10 minutes.
	unknownFor = "10 minutes"
	// keepSeen is how long the ids of events are remembered: a day longer than the oldest event
	// whose time we believe.
	keepSeen = eventAge + 24*time.Hour
	// maxSeen is the most ids of events that are remembered: 5,000,000, in some 400 MB. At
	// 2,000 pulls a second that is 40 minutes. The registry sends an event again, and no later
	// one, until it has our answer, so a minute would do as long as we are there.
	maxSeen = 5_000_000
	// forgottenAtOnce is the maximum number of rows in one deletion: 50,000, some 100 ms.
	forgottenAtOnce = 50_000
)

// RollUpUsage adds stored pulls and pushes to the counts, and returns how many rows of
// usage_pending it took in. Each transaction adds those of some repositories and moves the
// catalogue version, so what answers show changes only with the version.
func (s *Store) RollUpUsage(ctx context.Context) (taken int64, err error) {
	// Names that the book does not know are taken too when they are old, and then not counted.
	const due = `
		SELECT p.repository FROM (SELECT repository, min(received_at) AS oldest FROM usage_pending GROUP BY repository) p
		WHERE EXISTS (SELECT FROM repository r WHERE r.name = p.repository) OR p.oldest < now() - interval '` + unknownFor + `'
		ORDER BY p.repository`
	names, err := pg.Column[string](ctx, s.pool, due)
	for some := range slices.Chunk(names, rolledAtOnce) {
		for n := int64(takenAtOnce); n == takenAtOnce && err == nil; taken += n {
			n, err = s.rollUp(ctx, some)
		}
	}
	return taken, pg.Wrap("roll up usage", err)
}

// rolledUp moves rows of usage_pending into the counts, and returns how many it took and
// whether a count changed. A tag or manifest that the book does not hold is counted for its
// manifest or its repository alone, so that made-up names fill no table. Each OFFSET 0 keeps
// Postgres from reading a whole table to find a few rows.
var rolledUp = `
	WITH taken AS (
		DELETE FROM usage_pending WHERE ctid = ANY (ARRAY( -- a join, since = ANY would compare each row with each name
			SELECT p.ctid FROM unnest($1::text[]) AS n (name) JOIN usage_pending p ON p.repository = n.name LIMIT $2::int))
		RETURNING repository, tag, digest, kind, day, at, pulls, pushes
	), summed AS MATERIALIZED (
		SELECT repository, tag, digest, kind, day, sum(pulls) AS pulls, sum(pushes) AS pushes,
			max(at) FILTER (WHERE pulls > 0 AND kind <> 4) AS pulled_at
		FROM taken GROUP BY repository, tag, digest, kind, day
	), placed AS (
		SELECT u.id AS repository, p.day, COALESCE(t.name, '') AS tag, COALESCE(m.digest, '') AS digest, p.kind,
			sum(p.pulls) AS pulls, sum(p.pushes) AS pushes, max(p.pulled_at) AS pulled_at,
			t.name IS NULL AND EXISTS (SELECT FROM index_entry e WHERE e.repository_id = r.id AND e.digest = m.digest) AS entry
		FROM summed p
		CROSS JOIN LATERAL (SELECT id FROM repository r WHERE r.name = p.repository OFFSET 0) AS r
		CROSS JOIN LATERAL (SELECT id FROM usage_repository u WHERE u.name = p.repository OFFSET 0) AS u
		LEFT JOIN LATERAL (SELECT name FROM tag t WHERE t.repository_id = r.id AND t.name = p.tag OFFSET 0) AS t ON true
		LEFT JOIN LATERAL (SELECT digest FROM manifest m WHERE m.repository_id = r.id AND m.digest = p.digest OFFSET 0) AS m ON true
		GROUP BY u.id, r.id, p.day, t.name, m.digest, p.kind
	), counted AS (
		SELECT repository, day, tag, digest, kind, pushes, pulled_at,
			CASE WHEN entry THEN 0 ELSE pulls END AS pulls, CASE WHEN entry THEN pulls ELSE 0 END AS entry_pulls
		FROM placed
	), whole AS (
		UPDATE usage_repository u SET pulls = u.pulls + c.pulls, scanner_pulls = u.scanner_pulls + c.scanner_pulls,
			pushes = u.pushes + c.pushes, pulled_at = GREATEST(u.pulled_at, c.pulled_at), used_on = GREATEST(u.used_on, c.day)
		FROM (SELECT repository, ` + countedSums + ` FROM counted GROUP BY repository) AS c WHERE u.id = c.repository
	), tags AS (
		INSERT INTO usage_tag AS u (repository, tag, pulls, scanner_pulls, pushes, pulled_at, used_on)
		SELECT repository, tag, ` + countedSums + ` FROM counted WHERE tag <> '' GROUP BY repository, tag ORDER BY 1, 2
		ON CONFLICT (repository, tag) DO UPDATE SET pulls = u.pulls + excluded.pulls,
			scanner_pulls = u.scanner_pulls + excluded.scanner_pulls, pushes = u.pushes + excluded.pushes,
			pulled_at = GREATEST(u.pulled_at, excluded.pulled_at), used_on = GREATEST(u.used_on, excluded.used_on)
	), manifests AS (
		INSERT INTO usage_manifest AS u (repository, digest, pulls, scanner_pulls, pulled_at, used_on)
		SELECT repository, digest, COALESCE(sum(pulls + entry_pulls) FILTER (WHERE kind <> 4), 0),
			COALESCE(sum(pulls + entry_pulls) FILTER (WHERE kind = 4), 0), max(pulled_at), max(day)
		FROM counted WHERE digest <> '' AND pulls + entry_pulls > 0 GROUP BY repository, digest ORDER BY 1, 2
		ON CONFLICT (repository, digest) DO UPDATE SET pulls = u.pulls + excluded.pulls,
			scanner_pulls = u.scanner_pulls + excluded.scanner_pulls,
			pulled_at = GREATEST(u.pulled_at, excluded.pulled_at), used_on = GREATEST(u.used_on, excluded.used_on)
	), held AS (
		SELECT c.repository, c.day, (SELECT count(*) FROM usage_day d WHERE d.repository = c.repository AND d.day = c.day) AS n
		FROM (SELECT DISTINCT repository, day FROM counted) AS c
	), fitted AS (
		SELECT c.*, d.known IS NOT NULL OR h.n + row_number() OVER (
				PARTITION BY c.repository, c.day, d.known IS NULL ORDER BY c.pulls + c.entry_pulls DESC, c.tag, c.digest, c.kind
			) <= ` + strconv.Itoa(maxUsageRows) + ` AS fits
		FROM counted c JOIN held h ON h.repository = c.repository AND h.day = c.day
		LEFT JOIN LATERAL (
			SELECT true AS known FROM usage_day d WHERE d.repository = c.repository AND d.day = c.day AND d.tag = c.tag
				AND d.digest = c.digest AND d.kind = c.kind OFFSET 0
		) AS d ON true
	), days AS (
		INSERT INTO usage_day AS u (repository, day, tag, digest, kind, pulls, entry_pulls, pushes)
		SELECT repository, day, CASE WHEN fits THEN tag ELSE '' END, CASE WHEN fits THEN digest ELSE '' END, kind,
			sum(pulls), sum(entry_pulls), sum(pushes)
		FROM fitted GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5
		ON CONFLICT (repository, day, tag, digest, kind) DO UPDATE SET pulls = u.pulls + excluded.pulls,
			entry_pulls = u.entry_pulls + excluded.entry_pulls, pushes = u.pushes + excluded.pushes
	)
	SELECT (SELECT count(*) FROM taken), EXISTS (SELECT FROM counted)`

// countedSums are the counts and times of some rows of counted, in rolledUp.
const countedSums = `COALESCE(sum(pulls) FILTER (WHERE kind <> 4), 0) AS pulls,
	COALESCE(sum(pulls) FILTER (WHERE kind = 4), 0) AS scanner_pulls,
	sum(pushes) AS pushes, max(pulled_at) AS pulled_at, max(day) AS day`

// rollUp adds the pulls and pushes of some repositories, whose names are in order.
func (s *Store) rollUp(ctx context.Context, names []string) (taken int64, err error) {
	err = s.beginAs(ctx, beginPlanned, func(tx pgx.Tx, c cluster) error {
		batch := &pgx.Batch{}
		// The repositories are locked as a push locks them, because it writes search rows too.
		batch.Queue("SELECT pg_advisory_xact_lock($1)", int64(usageLock))
		batch.Queue("SELECT FROM repository WHERE name = ANY($1) ORDER BY name FOR NO KEY UPDATE", names)
		batch.Queue(`
			INSERT INTO usage_repository (name) SELECT name FROM repository WHERE name = ANY($1) ORDER BY name ON CONFLICT DO NOTHING`, names)
		if err := tx.SendBatch(ctx, batch).Close(); err != nil {
			return err
		}
		var changed bool
		if err := tx.QueryRow(ctx, rolledUp, names, takenAtOnce).Scan(&taken, &changed); err != nil || !changed {
			return err
		}
		return showUsage(ctx, tx, c, names)
	})
	return taken, err
}

// showUsage copies counts to the search rows of repositories, and moves the catalogue
// version.
func showUsage(ctx context.Context, tx pgx.Tx, c cluster, names []string) error {
	const q = `
		UPDATE repository_search s SET pulls = u.pulls, pulled_at = u.pulled_at
		FROM repository r JOIN usage_repository u ON u.name = r.name
		WHERE r.name = ANY($1) AND s.repository_id = r.id AND (s.pulls, s.pulled_at) IS DISTINCT FROM (u.pulls, u.pulled_at)
		RETURNING s.repository_id`
	written, err := pg.Column[int32](ctx, tx, q, names)
	if err != nil {
		return err
	}
	slices.Sort(written)
	if _, err := tx.Exec(ctx, "UPDATE usage_state SET rolled_up_at = now()"); err != nil {
		return err
	}
	return bump(ctx, tx, c, written)
}

// A ForgottenUsage counts the rows that ForgetUsage deleted.
type ForgottenUsage struct {
	Seen, Days, Tags, Manifests, Repositories int64
}

// ForgetUsage deletes ids of events that need not be remembered any more, days that are older
// than keep, and the counts of tags, manifests and repositories that the book does not hold
// and that were neither pulled nor pushed since then. If keep is 0, it deletes only ids.
func (s *Store) ForgetUsage(ctx context.Context, keep time.Duration) (n ForgottenUsage, err error) {
	const oldSeen = `
		DELETE FROM usage_seen WHERE key IN (SELECT key FROM usage_seen WHERE key < $1 ORDER BY key LIMIT $2)`
	const newSeen = `
		DELETE FROM usage_seen WHERE key IN (SELECT key FROM usage_seen WHERE key > $1 ORDER BY key DESC LIMIT $2)`
	now := time.Now()
	oldest, err := s.oldestSeen(ctx, now)
	if err == nil {
		n.Seen, err = s.forget(ctx, oldSeen, oldest)
	}
	if err == nil { // of events that say that they are of the future
		var more int64
		more, err = s.forget(ctx, newSeen, seenAt(now.Add(eventAhead)))
		n.Seen += more
	}
	if err != nil || keep <= 0 {
		return n, pg.Wrap("forget usage", err)
	}
	err = s.forgetCounts(ctx, now.Add(-keep).UTC().Truncate(24*time.Hour), &n)
	return n, pg.Wrap("forget usage", err)
}

// seenAt returns the least key of a time.
func seenAt(at time.Time) []byte { return seenKey(at, "")[:6] }

// oldestSeen returns the least key that must be remembered.
func (s *Store) oldestSeen(ctx context.Context, now time.Time) ([]byte, error) {
	const q = "SELECT key FROM usage_seen ORDER BY key DESC OFFSET $1 LIMIT 1"
	oldest := seenAt(now.Add(-keepSeen))
	many, err := pg.Column[[]byte](ctx, s.pool, q, maxSeen)
	if len(many) > 0 && string(many[0]) > string(oldest) {
		oldest = many[0]
	}
	return oldest, err
}

// forgetCounts deletes days before a day, and counts that were not used since.
func (s *Store) forgetCounts(ctx context.Context, before time.Time, n *ForgottenUsage) error {
	const ofBook = "SELECT FROM usage_repository o JOIN repository r ON r.name = o.name"
	for _, step := range []struct {
		count *int64
		q     string
	}{
		{&n.Days, `DELETE FROM usage_day WHERE ctid = ANY (ARRAY(SELECT ctid FROM usage_day WHERE day < $1 LIMIT $2))`},
		{&n.Tags, `DELETE FROM usage_tag WHERE ctid = ANY (ARRAY(SELECT u.ctid FROM usage_tag u WHERE used_on < $1 AND NOT EXISTS (
			` + ofBook + ` JOIN tag t ON t.repository_id = r.id WHERE o.id = u.repository AND t.name = u.tag) LIMIT $2))`},
		{&n.Manifests, `DELETE FROM usage_manifest WHERE ctid = ANY (ARRAY(SELECT u.ctid FROM usage_manifest u
			WHERE used_on < $1 AND NOT EXISTS (
			` + ofBook + ` JOIN manifest m ON m.repository_id = r.id WHERE o.id = u.repository AND m.digest = u.digest) LIMIT $2))`},
		{&n.Repositories, `DELETE FROM usage_repository WHERE ctid = ANY (ARRAY(SELECT u.ctid FROM usage_repository u
			WHERE used_on < $1 AND NOT EXISTS (SELECT FROM repository r WHERE r.name = u.name) LIMIT $2))`},
	} {
		var err error
		if *step.count, err = s.forget(ctx, step.q, before); err != nil {
			return err
		}
	}
	return nil
}

// forget runs a deletion of at most $2 rows until it finds fewer. What it deletes may be
// shown, so it moves the catalogue version.
func (s *Store) forget(ctx context.Context, q string, before any) (deleted int64, err error) {
	for n := int64(forgottenAtOnce); n == forgottenAtOnce && err == nil; deleted += n {
		err = s.begin(ctx, func(tx pgx.Tx, c cluster) error {
			result, err := tx.Exec(ctx, q, before, forgottenAtOnce)
			_, ofSeen := before.([]byte)
			if n = result.RowsAffected(); err != nil || n == 0 || ofSeen {
				return err
			}
			return bump(ctx, tx, c, nil)
		})
	}
	return deleted, err
}
