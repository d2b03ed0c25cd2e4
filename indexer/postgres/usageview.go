package postgres

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/pg"
)

// staleAfter is how long a pull may wait to be counted until the counts are stale: 5 minutes.
// The leader rolls them up each minute.
const staleAfter = "5 minutes"

// Counting returns what the counts of pulls include. HeardAt and StaleSince are of this
// moment: they change without the catalogue version.
func (v *View) Counting(ctx context.Context) (indexer.Counting, error) {
	const q = `
		SELECT counted_since AS since, rolled_up_at AS until, heard_at,
			(SELECT min(received_at) FROM usage_pending p WHERE received_at < now() - interval '` + staleAfter + `'
				AND EXISTS (SELECT FROM repository r WHERE r.name = p.repository)) AS stale_since
		FROM usage_state`
	type row struct{ Since, Until, HeardAt, StaleSince *time.Time }
	rows, err := pg.Collect[row](ctx, v.tx, q)
	if err != nil || len(rows) == 0 {
		return indexer.Counting{}, pg.Wrap("counting of pulls", err)
	}
	r := rows[0]
	return indexer.Counting{
		Since: pg.TimeOrZero(r.Since), Until: pg.TimeOrZero(r.Until), HeardAt: pg.TimeOrZero(r.HeardAt),
		StaleSince: pg.TimeOrZero(r.StaleSince),
	}, nil
}

// LastPulls says when tags and manifests of a repository were last pulled, and since when
// pulls are counted. A client that resolves a tag with HEAD and then pulls by digest, as
// containerd does, pulls the manifest and not the tag: who decides
// about a tag must ask for the manifest that it shows too. Names and digests that the book
// does not hold may be asked for.
func (v *View) LastPulls(
	ctx context.Context, repository string, tags []string, digests []digest.Digest,
) (indexer.LastPulls, error) {
	what := fmt.Sprintf("last pulls in %q", repository)
	found := indexer.LastPulls{Tags: map[string]indexer.LastPull{}, Digests: map[digest.Digest]indexer.LastPull{}}
	var err error
	if found.Counting, err = v.Counting(ctx); err != nil || !v.visible.Sees(repository) {
		return found, err
	}
	const ofTags = `
		SELECT t.tag AS name, t.pulls, t.pulled_at FROM usage_repository u JOIN usage_tag t ON t.repository = u.id
		WHERE u.name = $1 AND t.tag = ANY($2)`
	type row struct {
		Name     string
		Pulls    int64
		PulledAt *time.Time
	}
	rows, err := pg.Collect[row](ctx, v.tx, ofTags, repository, pg.Cleaned(tags))
	for _, r := range rows {
		found.Tags[r.Name] = indexer.LastPull{Pulls: r.Pulls, At: pg.TimeOrZero(r.PulledAt)}
	}
	if err != nil {
		return found, pg.Wrap(what, err)
	}
	const ofManifests = `
		SELECT m.digest, m.pulls, m.pulled_at FROM usage_repository u JOIN usage_manifest m ON m.repository = u.id
		WHERE u.name = $1 AND m.digest = ANY($2)`
	type manifest struct {
		Digest   []byte
		Pulls    int64
		PulledAt *time.Time
	}
	var raw [][]byte
	for _, d := range digests {
		raw = append(raw, pg.DigestBytes(d))
	}
	manifests, err := pg.Collect[manifest](ctx, v.tx, ofManifests, repository, raw)
	for _, m := range manifests {
		found.Digests[pg.DigestFrom(m.Digest)] = indexer.LastPull{Pulls: m.Pulls, At: pg.TimeOrZero(m.PulledAt)}
	}
	return found, pg.Wrap(what, err)
}

// Usage returns how often a repository, or one of its tags or manifests, was pulled and
// pushed, or ErrNotFound if the book does not hold it. What the book holds, and nobody has
// used, has zero counts.
func (v *View) Usage(ctx context.Context, q indexer.UsageQuery) (u indexer.Usage, err error) {
	what := fmt.Sprintf("usage of %q", q.Repository)
	if err := v.holds(ctx, q); err != nil {
		return u, pg.Wrap(what, err)
	}
	if u.Counting, err = v.Counting(ctx); err != nil {
		return u, err
	}
	if err := v.totals(ctx, q, &u); err != nil {
		return u, pg.Wrap(what, err)
	}
	u.Days, err = v.usageDays(ctx, q, u.Until)
	return u, pg.Wrap(what, err)
}

// holds returns ErrNotFound if the book does not hold what q asks about, or the asker does
// not see it.
func (v *View) holds(ctx context.Context, q indexer.UsageQuery) error {
	const known = `
		SELECT EXISTS (
			SELECT FROM repository r WHERE r.name = $1
				AND ($2 = '' OR EXISTS (SELECT FROM tag t WHERE t.repository_id = r.id AND t.name = $2))
				AND ($3::bytea IS NULL OR EXISTS (SELECT FROM manifest m WHERE m.repository_id = r.id AND m.digest = $3))
				AND (EXISTS (SELECT FROM tag t WHERE t.repository_id = r.id) OR EXISTS (SELECT FROM manifest m WHERE m.repository_id = r.id)))`
	if !v.visible.Sees(q.Repository) {
		return indexer.ErrNotFound
	}
	var is bool
	err := v.tx.QueryRow(ctx, known, q.Repository, q.Tag, pg.DigestBytes(q.Digest)).Scan(&is)
	if err == nil && !is {
		err = indexer.ErrNotFound
	}
	return err
}

// totals reads the counts of q since counting began. Nothing counts a tag together with a
// manifest but its days.
func (v *View) totals(ctx context.Context, q indexer.UsageQuery, u *indexer.Usage) error {
	statement := "SELECT pulls, scanner_pulls, pushes, pulled_at FROM usage_repository WHERE name = $1 AND $2 = ''"
	of := any("")
	switch {
	case q.Tag != "":
		of = q.Tag
		statement = `SELECT t.pulls, t.scanner_pulls, t.pushes, t.pulled_at
			FROM usage_repository u JOIN usage_tag t ON t.repository = u.id WHERE u.name = $1 AND t.tag = $2`
	case q.Digest != "":
		of = pg.DigestBytes(q.Digest)
		statement = `SELECT m.pulls, m.scanner_pulls, 0::bigint AS pushes, m.pulled_at
			FROM usage_repository u JOIN usage_manifest m ON m.repository = u.id WHERE u.name = $1 AND m.digest = $2`
	}
	type row struct {
		Pulls, ScannerPulls, Pushes int64
		PulledAt                    *time.Time
	}
	rows, err := pg.Collect[row](ctx, v.tx, statement, q.Repository, of)
	for _, r := range rows {
		u.Counts = indexer.Counts{Pulls: r.Pulls, ScannerPulls: r.ScannerPulls, Pushes: r.Pushes}
		u.PulledAt = pg.TimeOrZero(r.PulledAt)
	}
	return err
}

// usageDays reads the days of q. Pulls of the entries of indexes count for these manifests
// only.
func (v *View) usageDays(ctx context.Context, q indexer.UsageQuery, until time.Time) ([]indexer.UsageDay, error) {
	const days = `
		SELECT d.day, d.kind, sum(d.pulls + CASE WHEN $3::bytea IS NULL THEN 0 ELSE d.entry_pulls END)::bigint AS pulls, sum(d.pushes)::bigint AS pushes
		FROM usage_repository u JOIN usage_day d ON d.repository = u.id
		WHERE u.name = $1 AND ($2 = '' OR d.tag = $2) AND ($3::bytea IS NULL OR d.digest = $3)
			AND d.day > ($4::timestamptz AT TIME ZONE 'UTC')::date - $5::int
		GROUP BY d.day, d.kind ORDER BY d.day, d.kind`
	if q.Days <= 0 || until.IsZero() {
		return nil, nil
	}
	type row struct {
		Day           time.Time
		Kind          int16
		Pulls, Pushes int64
	}
	rows, err := pg.Collect[row](ctx, v.tx, days, q.Repository, q.Tag, pg.DigestBytes(q.Digest), until, q.Days)
	var list []indexer.UsageDay
	for _, r := range rows {
		if n := len(list); n == 0 || !list[n-1].Day.Equal(r.Day) {
			list = append(list, indexer.UsageDay{Day: r.Day, By: map[indexer.ClientKind]int64{}})
		}
		addUsage(&list[len(list)-1], indexer.ClientKinds[r.Kind], r.Pulls, r.Pushes)
	}
	return slices.DeleteFunc(list, func(d indexer.UsageDay) bool { return d.Counts == indexer.Counts{} }), err
}

// addUsage adds the pulls and pushes by one kind of client to a day.
func addUsage(d *indexer.UsageDay, by indexer.ClientKind, pulls, pushes int64) {
	d.Pushes += pushes
	if by == indexer.ByScanner {
		d.ScannerPulls += pulls
		return
	}
	d.Pulls += pulls
	if pulls > 0 {
		d.By[by] = pulls
	}
}
