package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/postgres/pg"
)

// usedByBook is the condition that a manifest of the book is, or names, the blob of row c.
const usedByBook = `(
	EXISTS (SELECT FROM manifest m WHERE m.digest = c.digest)
	OR EXISTS (SELECT FROM index_entry e WHERE e.digest = c.digest)
	OR EXISTS (SELECT FROM blob b JOIN manifest m ON m.config_id = b.id WHERE b.digest = c.digest)
	OR EXISTS (SELECT FROM blob b JOIN manifest m ON m.layer_ids @> ARRAY[b.id] WHERE b.digest = c.digest))`

// mayTry is the condition that an order may name the blob of row c now.
const mayTry = "c.failures < 10 AND (c.next_try IS NULL OR c.next_try <= now())" // indexer.MaxCollectFailures

// A LookedBlob is a blob that a look has reported.
type LookedBlob struct {
	Digest               digest.Digest
	Size                 int64
	Stored, Linked, Used bool
	Trashed              time.Time
}

// A LookedManifest is a manifest that a look has reported.
type LookedManifest struct {
	Repository string
	Digest     digest.Digest
}

// TakeForTrash returns at most limit blobs to move to the trash, and marks them as trashed, so
// that a crash loses none. Each look for the delay has seen them unused and unlinked, no
// manifest of the book uses them, and the collection is not paused.
func (s *Store) TakeForTrash(ctx context.Context, delay time.Duration, limit int) ([]digest.Digest, error) {
	const q = `
		UPDATE collect_candidate c SET state = 'trashed', changed_at = now(), needed = false
		WHERE c.digest IN (
			SELECT c.digest FROM collect_candidate c JOIN collect_state s ON NOT s.paused AND c.looked_at = s.last_look
			WHERE c.state = 'waiting' AND c.unlinked_at <= s.last_look - $1 * interval '1 second' AND ` + mayTry + ` AND NOT ` + usedByBook + `
			ORDER BY c.unlinked_at LIMIT $2 FOR UPDATE OF c)
		RETURNING c.digest`
	return s.candidates(ctx, q, delay.Seconds(), limit)
}

// DueForPurge returns at most limit blobs that have been in the trash for long enough, and
// that no manifest of the book uses; none if the collection is paused.
func (s *Store) DueForPurge(ctx context.Context, stay time.Duration, limit int) ([]digest.Digest, error) {
	const q = `
		SELECT c.digest FROM collect_candidate c JOIN collect_state s ON NOT s.paused
		WHERE c.state = 'trashed' AND c.changed_at <= now() - $1 * interval '1 second' AND NOT c.needed AND ` + mayTry + `
			AND NOT ` + usedByBook + ` ORDER BY c.changed_at LIMIT $2`
	return s.candidates(ctx, q, stay.Seconds(), limit)
}

// NeededInTrash returns at most limit blobs that are in the trash and that something needs.
func (s *Store) NeededInTrash(ctx context.Context, limit int) ([]digest.Digest, error) {
	const q = `
		SELECT c.digest FROM collect_candidate c
		WHERE c.state = 'trashed' AND (c.next_try IS NULL OR c.next_try <= now()) AND (c.needed OR ` + usedByBook + `) LIMIT $1`
	return s.candidates(ctx, q, limit)
}

func (s *Store) candidates(ctx context.Context, sql string, args ...any) (all []digest.Digest, err error) {
	found, err := pg.Column[[]byte](ctx, s.pool, sql, args...)
	for _, raw := range found {
		all = append(all, pg.DigestFrom(raw))
	}
	return all, pg.Wrap("candidates of the collection", err)
}

// A Settlement is what became of blobs that an order named.
type Settlement struct {
	// Trashed and Deleted were moved to the trash and deleted.
	Trashed, Deleted []digest.Digest
	// Restored are in their places again because something needs them.
	Restored []digest.Digest
	// Kept were left where they were, because they are linked, used or too young. If the order
	// was to move them to the trash, Trashing, they wait again. Gone were not there.
	Kept, Gone []digest.Digest
	Trashing   bool
	// Failed are those that the storage refused, with the reason.
	Failed map[digest.Digest]string
	// First and Most are the pauses before a failed one is tried again: after the first failure,
	// and the longest.
	First, Most time.Duration
}

// Settle stores what became of blobs.
func (s *Store) Settle(ctx context.Context, x Settlement) error {
	err := s.begin(ctx, func(tx pgx.Tx, _ cluster) error {
		return errors.Join(settleDone(ctx, tx, x), settleReturned(ctx, tx, x.Restored), settleFailed(ctx, tx, x))
	})
	return pg.Wrap("result of the collection", err)
}

func settleDone(ctx context.Context, tx pgx.Tx, x Settlement) error {
	const trashed = `UPDATE collect_candidate SET failures = 0, next_try = NULL, problem = '' WHERE digest = ANY($1) AND state = 'trashed'`
	const deleted = `
		WITH gone AS (
			UPDATE collect_candidate SET state = 'deleted', changed_at = now(), failures = 0, next_try = NULL, problem = ''
			WHERE digest = ANY($1) AND state = 'trashed' RETURNING size)
		UPDATE collect_state SET deleted = deleted + (SELECT count(*) FROM gone),
			deleted_bytes = deleted_bytes + (SELECT COALESCE(sum(size), 0) FROM gone)`
	const kept = `
		UPDATE collect_candidate SET state = CASE WHEN $3 THEN 'waiting' ELSE state END,
			changed_at = CASE WHEN $3 THEN now() ELSE changed_at END, next_try = now() + $2 * interval '1 second',
			problem = 'the sweep found it linked, used or too young'
		WHERE digest = ANY($1) AND state = 'trashed'`
	const gone = `DELETE FROM collect_candidate WHERE digest = ANY($1) AND state <> 'deleted'`
	batch := &pgx.Batch{}
	batch.Queue(trashed, digestColumn(x.Trashed))
	batch.Queue(deleted, digestColumn(x.Deleted))
	batch.Queue(kept, digestColumn(x.Kept), x.First.Seconds(), x.Trashing)
	batch.Queue(gone, digestColumn(x.Gone))
	return tx.SendBatch(ctx, batch).Close()
}

// settleReturned removes candidates that are needed again, and counts them as linked again.
func settleReturned(ctx context.Context, tx pgx.Tx, all []digest.Digest) error {
	const q = `
		DELETE FROM collect_candidate WHERE digest = ANY($1)
		RETURNING EXTRACT(EPOCH FROM now() - COALESCE(unlinked_at, unused_at))::float8`
	if len(all) == 0 {
		return nil
	}
	seconds, err := pg.Column[float64](ctx, tx, q, digestColumn(all))
	if err != nil {
		return err
	}
	return countReturns(ctx, tx, "linked", seconds)
}

// settleFailed counts a failure of each blob, and says when it is tried again.
func settleFailed(ctx context.Context, tx pgx.Tx, x Settlement) error {
	const q = `
		UPDATE collect_candidate SET failures = failures + 1, problem = $2,
			next_try = now() + least($3 * power(2, least(failures, 30)), $4) * interval '1 second'
		WHERE digest = $1`
	batch := &pgx.Batch{}
	for d, reason := range x.Failed {
		batch.Queue(q, pg.DigestBytes(d), reason, x.First.Seconds(), x.Most.Seconds())
	}
	return tx.SendBatch(ctx, batch).Close()
}

func digestColumn(all []digest.Digest) [][]byte {
	raw := [][]byte{}
	for _, d := range all {
		raw = append(raw, pg.DigestBytes(d))
	}
	return raw
}

// PauseCollection sets the kill switch of the collection, and records who did it. The collector
// looks at it before each order and while one runs.
func (s *Store) PauseCollection(ctx context.Context, pause bool) error {
	const q = `
		UPDATE collect_state SET paused = $1, paused_by = CASE WHEN $1 THEN $2 ELSE '' END,
			paused_at = CASE WHEN $1 THEN now() END
		WHERE paused <> $1`
	err := s.beginPartitioned(ctx, func(tx pgx.Tx, _ cluster) error {
		if err := permitted(ctx, tx); err != nil {
			return err
		}
		done, err := tx.Exec(ctx, q, pause, access.ActorOf(ctx).Name)
		if err != nil || done.RowsAffected() == 0 {
			return err
		}
		event := access.CollectResume
		if pause {
			event = access.CollectPause
		}
		return record(ctx, tx, access.Record{Event: event, Target: "collect"})
	})
	return pg.Wrap("pause of the collection", err)
}

// CollectionPaused reports whether the collection is paused.
func (s *Store) CollectionPaused(ctx context.Context) (paused bool, err error) {
	err = s.pool.QueryRow(ctx, "SELECT paused FROM collect_state").Scan(&paused)
	return paused, pg.Wrap("pause of the collection", err)
}

// RetryCollection lets all blobs that are stuck, or wait after a failure, be tried again at
// once, and returns how many there are.
func (s *Store) RetryCollection(ctx context.Context) (n int64, err error) {
	const q = `UPDATE collect_candidate SET failures = 0, next_try = NULL WHERE failures > 0`
	err = s.beginPartitioned(ctx, func(tx pgx.Tx, _ cluster) error {
		if err := permitted(ctx, tx); err != nil {
			return err
		}
		done, err := tx.Exec(ctx, q)
		if n = done.RowsAffected(); err != nil {
			return err
		}
		detail := fmt.Sprintf("%d blobs", n)
		return record(ctx, tx, access.Record{Event: access.CollectRetry, Target: "collect", Detail: detail})
	})
	return n, pg.Wrap("retry of the collection", err)
}

// SetCollectionDoes stores what the collector does, or why it deletes nothing.
func (s *Store) SetCollectionDoes(ctx context.Context, text string) error {
	_, err := s.pool.Exec(ctx, "UPDATE collect_state SET does = $1 WHERE does <> $1", text)
	return pg.Wrap("state of the collection", err)
}

// collectionRow is the row of collect_state.
type collectionRow struct {
	Paused                bool
	PausedBy              string
	PausedAt              *time.Time
	Looks                 int64
	FirstLook, LastLook   *time.Time
	Observed              float64
	Does                  string
	Deleted, DeletedBytes int64
}

func (r collectionRow) collection() indexer.Collection {
	return indexer.Collection{
		Paused: r.Paused, PausedBy: r.PausedBy, PausedAt: pg.TimeOrZero(r.PausedAt), Looks: r.Looks,
		FirstLook: pg.TimeOrZero(r.FirstLook), LastLook: pg.TimeOrZero(r.LastLook), Observed: inSeconds(r.Observed),
		Does: r.Does, Deleted: r.Deleted, DeletedBytes: r.DeletedBytes,
	}
}

func inSeconds(f float64) time.Duration { return time.Duration(f * float64(time.Second)) }

// Collection returns the state of the garbage collection of blobs.
func (s *Store) Collection(ctx context.Context) (c indexer.Collection, err error) {
	const state = `
		SELECT paused, paused_by, paused_at, looks, first_look, last_look, observed, does, deleted, deleted_bytes FROM collect_state`
	const sums = `
		SELECT CASE WHEN failures >= 10 AND state <> 'deleted' THEN 'stuck' ELSE state END AS state,
			count(*) AS blobs, sum(size)::bigint AS bytes
		FROM collect_candidate GROUP BY 1 ORDER BY 1`
	rows, err := pg.Collect[collectionRow](ctx, s.pool, state)
	if err != nil || len(rows) == 0 {
		return c, pg.Wrap("state of the collection", err)
	}
	c = rows[0].collection()
	if c.Sums, err = pg.Collect[indexer.CandidateSum](ctx, s.pool, sums); err != nil {
		return c, pg.Wrap("candidates of the collection", err)
	}
	if err := s.readReturns(ctx, &c); err != nil {
		return c, pg.Wrap("returned blobs", err)
	}
	c.Look, err = storageLook(ctx, s.pool)
	return c, err
}

// readReturns reads how many blobs were needed again, and after which time at the longest.
func (s *Store) readReturns(ctx context.Context, c *indexer.Collection) error {
	type row struct {
		Bucket         int32
		Used, Linked   int64
		LongestSeconds float64
	}
	const q = `
		SELECT bucket, COALESCE(sum(blobs) FILTER (WHERE kind = 'used'), 0)::bigint AS used,
			COALESCE(sum(blobs) FILTER (WHERE kind = 'linked'), 0)::bigint AS linked, max(longest) AS longest_seconds
		FROM collect_return GROUP BY bucket ORDER BY bucket = 0, bucket`
	rows, err := pg.Collect[row](ctx, s.pool, q)
	for _, r := range rows {
		upTo := time.Duration(r.Bucket) * time.Second
		c.Returns = append(c.Returns, indexer.Returned{UpTo: upTo, Used: r.Used, Linked: r.Linked})
		c.Longest = max(c.Longest, inSeconds(r.LongestSeconds))
	}
	return err
}

// candidateRow is a row of collect_candidate.
type candidateRow struct {
	Digest     []byte
	Size       int64
	State      indexer.CandidateState
	UnusedAt   time.Time
	UnlinkedAt *time.Time
	ChangedAt  time.Time
	Failures   int
	NextTry    *time.Time
	Problem    string
}

func (r candidateRow) candidate() indexer.Candidate {
	return indexer.Candidate{
		Digest: pg.DigestFrom(r.Digest), Size: r.Size, State: r.State, UnusedAt: r.UnusedAt,
		UnlinkedAt: pg.TimeOrZero(r.UnlinkedAt), ChangedAt: r.ChangedAt, Failures: r.Failures,
		NextTry: pg.TimeOrZero(r.NextTry), Problem: r.Problem,
	}
}

// Candidates returns candidates in order of digest, after one, of a state; "" is any.
func (s *Store) Candidates(
	ctx context.Context, state indexer.CandidateState, after digest.Digest, limit int,
) (all []indexer.Candidate, err error) {
	const q = `
		SELECT digest, size, unused_at, unlinked_at, changed_at, failures, next_try, problem, shown AS state FROM (
			SELECT c.*, CASE WHEN failures >= 10 AND state <> 'deleted' THEN 'stuck' ELSE state END AS shown
			FROM collect_candidate c WHERE digest > $2) AS c
		WHERE $1 IN ('', shown) ORDER BY digest LIMIT $3`
	rows, err := pg.Collect[candidateRow](ctx, s.pool, q, string(state), append([]byte{}, pg.DigestBytes(after)...), limit)
	for _, r := range rows {
		all = append(all, r.candidate())
	}
	return all, pg.Wrap("candidates of the collection", err)
}

// FailedCandidates returns at most limit candidates whose last order failed, those that are
// stuck first.
func (s *Store) FailedCandidates(ctx context.Context, limit int) (all []indexer.Candidate, err error) {
	const q = `
		SELECT digest, size, CASE WHEN failures >= 10 THEN 'stuck' ELSE state END AS state, unused_at, unlinked_at, changed_at,
			failures, next_try, problem
		FROM collect_candidate WHERE failures > 0 ORDER BY failures DESC, digest LIMIT $1`
	rows, err := pg.Collect[candidateRow](ctx, s.pool, q, limit)
	for _, r := range rows {
		all = append(all, r.candidate())
	}
	return all, pg.Wrap("candidates of the collection", err)
}
