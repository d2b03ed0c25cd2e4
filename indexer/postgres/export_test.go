package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/memory"
	"github.com/portbook/portbook/indexer/postgres/pg"
	"github.com/portbook/portbook/indexer/postgres/search"
)

// Sleep keeps a view's connection busy for some seconds, as a long query does.
func Sleep(ctx context.Context, v *View, seconds int) error {
	_, err := v.tx.Exec(ctx, "SELECT pg_sleep($1)", seconds)
	return pg.Wrap("sleep", err)
}

// Scan reads the only row of a query in a view's snapshot.
func Scan(ctx context.Context, v *View, q string, into ...any) error {
	return pg.Wrap(q, v.tx.QueryRow(ctx, q).Scan(into...))
}

// Words looks up the media types and platforms of findings.
func Words(ctx context.Context, s *Store, findings []indexer.Finding) error {
	w, err := s.words(ctx, findings)
	if err != nil {
		return err
	}
	if missing := w.lacks(wordsOf(findings)); len(missing) > 0 {
		return fmt.Errorf("no numbers of %v", missing)
	}
	return nil
}

// OpenPoolByHand is OpenPool with the looks of keepIdle made by the caller.
func OpenPoolByHand(ctx context.Context, config *pgxpool.Config, most int) (*pgxpool.Pool, func(context.Context), error) {
	k, err := openPool(ctx, config, most)
	return k.pool.Load(), k.look, err
}

// IdleLooks is the number of looks after which an unneeded connection is closed.
const IdleLooks = idleLooks

const (
	MaxRefs           = maxRefs
	MaxShownPlatforms = maxShownPlatforms
)

// UsesBothWays returns the first uses of a digest, found by sorting and by walking,
// and whether walking filled a page.
func UsesBothWays(ctx context.Context, v *View, d digest.Digest, limit int) (sorted, walked []indexer.Use, whole bool, err error) {
	u := usage{digest: pg.DigestBytes(d), afterDigest: []byte{}, limit: limit}
	_ = v.tx.QueryRow(ctx, "SELECT id FROM blob WHERE digest = $1", u.digest).Scan(&u.blob) // nil if it is no blob
	if sorted, err = v.usesSorted(ctx, u); err != nil {
		return nil, nil, false, err
	}
	walked, whole, err = v.usesWalked(ctx, u)
	return sorted, walked, whole, err
}

// VisibleMoves is History for an asker who does not see everything, with other numbers
// instead of movesWalked and fewRepositories.
func VisibleMoves(ctx context.Context, v *View, walked, few int, before int64, limit int) (moves []indexer.Move, err error) {
	rows, err := v.visibleMoves(ctx, historyQuery{before: before, limit: limit, walked: walked, few: few})
	for _, r := range rows {
		moves = append(moves, r.move())
	}
	return moves, err
}

// BySQL returns the state of a view without the copy in memory.
func (s *Store) BySQL(v *View) *View {
	w := *v
	w.copy = nil
	w.Reader = search.New(v.tx, v.Asker(), s.config.Official, w.state)
	return &w
}

// NotLooking returns the state of a view with the newest state of the copy in memory,
// whichever state that is.
func (s *Store) NotLooking(v *View) *View {
	w := *v
	newest := func(context.Context) (*memory.State, error) { return s.keeper.Newest(), nil }
	w.Reader = search.New(v.tx, v.Asker(), s.config.Official, newest)
	return &w
}

// FreedByWalking is FreedEach, but reads all manifests however few digests are asked about.
func FreedByWalking(ctx context.Context, v *View, refs []indexer.ManifestRef) ([]int64, indexer.Freed, error) {
	return v.freedBy(ctx, refs, freedEnd(ctx, 0), 0)
}
