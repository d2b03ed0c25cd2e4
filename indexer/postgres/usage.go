package postgres

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/pg"
)

const (
	// pullsAtOnce is the maximum number of pulls that one transaction stores: 2,000, some
	// 20 ms.
	pullsAtOnce = 2000
	// pullsTimeout limits one such transaction: 5 s. The registry sends the events again.
	pullsTimeout = 5 * time.Second
	// heardEvery is how often a process stores that it has received an event of a pull.
	heardEvery = time.Minute
	// countingGap is how long no event of a pull may arrive before counting begins again: a
	// week. Our own reads of what is pushed cause such events too.
	countingGap = "7 days"
)

// A Counted says what CountPulls did with the pulls of one call.
type Counted struct {
	Fresh   int // stored, to be counted
	Unknown int // of repositories that the book does not know
}

// A tally collects the pulls of concurrent calls of CountPulls, so that one transaction
// stores those of many events. While it is committed, further ones are collected for the
// next one.
type tally struct {
	mu      sync.Mutex
	waiting []*counting
	running bool
	heard   time.Time // when heard_at was last written, or will be
}

// A counting is one call of CountPulls.
type counting struct {
	pulls  []indexer.Pull
	done   chan struct{}
	result Counted
	err    error
}

// CountPulls stores pulls, each once by the id of its event, and returns when they are
// committed. The leader adds them to the counts: see RollUpUsage. Pulls of repositories that
// are neither in the book nor about to be read are ignored, so made-up names fill no table.
//
// If ctx ends, the pulls may be stored nevertheless.
func (s *Store) CountPulls(ctx context.Context, pulls []indexer.Pull) (Counted, error) {
	c := &counting{pulls: pulls, done: make(chan struct{})}
	s.tally.mu.Lock()
	s.tally.waiting = append(s.tally.waiting, c)
	if !s.tally.running {
		s.tally.running = true
		go s.countAll(context.WithoutCancel(ctx))
	}
	s.tally.mu.Unlock()
	select {
	case <-c.done:
		return c.result, c.err
	case <-ctx.Done():
		return Counted{}, ctx.Err()
	}
}

// countAll stores the pulls of waiting calls until there are none.
func (s *Store) countAll(ctx context.Context) {
	for {
		calls := s.tally.next()
		if len(calls) == 0 {
			return
		}
		s.countTogether(ctx, calls)
		for _, c := range calls {
			close(c.done)
		}
	}
}

// next takes the calls whose pulls are stored together, at least one of those that wait.
func (t *tally) next() (calls []*counting) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for len(t.waiting) > 0 && (n == 0 || n+len(t.waiting[0].pulls) <= pullsAtOnce) {
		n += len(t.waiting[0].pulls)
		calls, t.waiting = append(calls, t.waiting[0]), t.waiting[1:]
	}
	t.running = len(calls) > 0
	return calls
}

// A pullRow is a pull as it is sent to the database.
type pullRow struct {
	Key        []byte
	Repository string
	Tag        string
	Digest     []byte
	Kind       int16
	At         time.Time
}

// countPulls stores the pulls of known repositories that were not stored before, and returns
// the keys of all of known repositories.
var countPulls = `
	WITH sent AS MATERIALIZED (
		SELECT p.* FROM ` + pg.Unnest[pullRow]("p", 1) + ` WHERE EXISTS (SELECT FROM repository r WHERE r.name = p.repository)
			OR EXISTS (SELECT FROM task t WHERE t.repository = p.repository)
	), fresh AS (
		INSERT INTO usage_seen (key) SELECT key FROM sent ORDER BY key ON CONFLICT DO NOTHING RETURNING key
	), pending AS (
		INSERT INTO usage_pending (repository, tag, digest, kind, day, at, pulls, pushes)
		SELECT repository, tag, digest, kind, (at AT TIME ZONE 'UTC')::date, max(at), count(*), 0
		FROM sent JOIN fresh USING (key) GROUP BY 1, 2, 3, 4, 5
	)
	SELECT sent.key, fresh.key IS NOT NULL AS fresh FROM sent LEFT JOIN fresh USING (key)`

func (s *Store) countTogether(ctx context.Context, calls []*counting) {
	ctx, cancel := context.WithTimeout(ctx, pullsTimeout)
	defer cancel()
	now := time.Now()
	fresh := map[string]bool{}
	var err error
	for rows := range slices.Chunk(pullRows(calls, now), pullsAtOnce) { // one call may have more
		if err = s.storePulls(ctx, rows, fresh); err != nil {
			break
		}
	}
	if err == nil {
		err = s.HearPull(ctx)
	}
	for _, c := range calls {
		c.err = err
		for _, p := range c.pulls {
			key := string(pullKey(p, now))
			isFresh, known := fresh[key]
			switch {
			case !known:
				c.result.Unknown++
			case isFresh:
				c.result.Fresh++
				fresh[key] = false // another call may have it too
			}
		}
	}
}

// pullRows returns the pulls of calls, each key once, in order of key: two processes that
// store the same events lock them in the same order.
func pullRows(calls []*counting, now time.Time) (rows []pullRow) {
	for _, c := range calls {
		for _, p := range c.pulls {
			rows = append(rows, pullRow{
				Key: pullKey(p, now), Repository: p.Repository, Tag: p.Tag, Digest: orEmpty(pg.DigestBytes(p.Digest)),
				Kind: kindNumber(p.By), At: believed(p.At, now),
			})
		}
	}
	slices.SortStableFunc(rows, func(a, b pullRow) int { return cmp.Compare(string(a.Key), string(b.Key)) })
	return slices.CompactFunc(rows, func(a, b pullRow) bool { return string(a.Key) == string(b.Key) })
}

// storePulls stores rows, and adds to fresh the keys of those of known repositories, and
// whether they are new.
func (s *Store) storePulls(ctx context.Context, rows []pullRow, fresh map[string]bool) error {
	type stored struct {
		Key   []byte
		Fresh bool
	}
	err := s.beginAs(ctx, beginPlanned, func(tx pgx.Tx, _ cluster) error {
		found, err := pg.Collect[stored](ctx, tx, countPulls, pg.Arrays(rows)...)
		for _, f := range found {
			fresh[string(f.Key)] = f.Fresh
		}
		return err
	})
	return pg.Wrap("count pulls", err)
}

// HearPull stores that an event of a pull has arrived, of whatever client, at most once a
// minute.
func (s *Store) HearPull(ctx context.Context) error {
	now := time.Now()
	s.tally.mu.Lock()
	last := s.tally.heard
	if now.Sub(last) < heardEvery {
		s.tally.mu.Unlock()
		return nil
	}
	s.tally.heard = now
	s.tally.mu.Unlock()
	err := s.hear(ctx)
	if err != nil {
		s.tally.mu.Lock()
		s.tally.heard = last
		s.tally.mu.Unlock()
	}
	return pg.Wrap("event of a pull", err)
}

// hear sets heard_at. It moves the catalogue version if counting begins, which answers show.
func (s *Store) hear(ctx context.Context) error {
	const begun = `
		SELECT NOT EXISTS (SELECT FROM usage_state WHERE heard_at > now() - interval '` + countingGap + `')`
	const q = `
		INSERT INTO usage_state AS u (counted_since, heard_at) VALUES (now(), now()) ON CONFLICT (one) DO UPDATE
		SET heard_at = now(), counted_since = CASE WHEN $1 THEN now() ELSE u.counted_since END`
	return s.begin(ctx, func(tx pgx.Tx, c cluster) error {
		var begins bool
		if err := tx.QueryRow(ctx, begun).Scan(&begins); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, q, begins); err != nil || !begins {
			return err
		}
		return bump(ctx, tx, c, nil)
	})
}

// pullKey returns the key of a pull in usage_seen. Without a time, an event that arrives again
// is counted again.
func pullKey(p indexer.Pull, now time.Time) []byte {
	if p.At.IsZero() || p.At.Year() > 9999 {
		return seenKey(now, p.ID)
	}
	return seenKey(p.At, p.ID)
}

// seenKey returns the key of an event. The registry sends an event again with the same time,
// and keys in order of time keep the index small and old keys together.
func seenKey(at time.Time, id string) []byte {
	ms := binary.BigEndian.AppendUint64(nil, uint64(max(at.UnixMilli(), 0))<<16)
	sum := sha256.Sum256([]byte(id))
	return append(ms[:6], sum[:10]...)
}

// believed returns when an event says that something happened, or now if that cannot be.
func believed(at, now time.Time) time.Time {
	if at.Before(now.Add(-eventAge)) || at.After(now) {
		return now
	}
	return at
}

// kindNumber returns the number of a kind in the database.
func kindNumber(k indexer.ClientKind) int16 {
	return int16(max(slices.Index(indexer.ClientKinds, k), 0))
}

// orEmpty returns b, empty instead of nil, which the database would store as null.
func orEmpty(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// A pushRow is the push of a tag as it is sent to the database.
type pushRow struct {
	Repository string
	Tag        string
	Digest     []byte
	Kind       int16
	At         time.Time
}

var countPushes = `
	INSERT INTO usage_pending (repository, tag, digest, kind, day, at, pulls, pushes)
	SELECT repository, tag, digest, kind, (at AT TIME ZONE 'UTC')::date, max(at), 0, count(*)
	FROM ` + pg.Unnest[pushRow]("p", 1) + ` GROUP BY 1, 2, 3, 4, 5`

// queuePushes stores the pushes of tags among events, to be counted.
func (s *Store) queuePushes(batch *pgx.Batch, events []indexer.Event) {
	now := time.Now()
	var rows []pushRow
	for _, e := range events {
		if e.Action != "push" || e.Tag == "" {
			continue
		}
		rows = append(rows, pushRow{
			Repository: e.Repository, Tag: e.Tag, Digest: orEmpty(pg.DigestBytes(e.Digest)), Kind: kindNumber(e.By),
			At: believed(e.At, now),
		})
	}
	if len(rows) > 0 {
		batch.Queue(countPushes, pg.Arrays(rows)...)
	}
}
