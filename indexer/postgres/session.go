package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/postgres/pg"
)

// AddSession adds a session, and forgets those that have ended by themselves. It ends the
// oldest ones of an account that has more than access.MaxSessions.
func (s *Store) AddSession(ctx context.Context, session access.Session) error {
	// One sign-in of an account at a time, so that two do not end each other's sessions.
	const add = `
		WITH a AS (SELECT id FROM account WHERE name = $1 FOR NO KEY UPDATE)
		INSERT INTO session (id, account_id, valid_from, began_at, expires_at) SELECT $2, id, $3, $4, $5 FROM a`
	const forget = `
		DELETE FROM session WHERE id IN (
			SELECT id FROM session WHERE expires_at < now() LIMIT 1000 FOR UPDATE SKIP LOCKED)`
	const evict = `
		DELETE FROM session WHERE id IN (
			SELECT s.id FROM session s JOIN account a ON a.id = s.account_id
			WHERE a.name = $1 AND s.expires_at >= now() ORDER BY s.began_at DESC, s.id OFFSET $2)`
	err := s.begin(ctx, func(tx pgx.Tx, _ cluster) error {
		// As each change of accounts does first, so that neither waits for the other.
		if _, err := tx.Exec(ctx, "SELECT FROM access_version FOR UPDATE"); err != nil {
			return err
		}
		done, err := tx.Exec(ctx, add, session.Actor, session.ID, session.ValidFrom, session.Signed, session.Expires)
		if err == nil && done.RowsAffected() == 0 {
			err = indexer.ErrNotFound
		}
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, forget); err != nil {
			return err
		}
		done, err = tx.Exec(ctx, evict, session.Actor, access.MaxSessions)
		if err != nil || done.RowsAffected() == 0 {
			return err
		}
		_, err = tx.Exec(ctx, "UPDATE access_version SET v = v + 1") // others may remember those that have ended
		return err
	})
	return pg.Wrap("session", err)
}

// StoredSession implements access.Store.
func (s *Store) StoredSession(ctx context.Context, id string) (access.Session, error) {
	type row struct {
		Account                       string
		ValidFrom, BeganAt, ExpiresAt time.Time
	}
	const q = `
		SELECT a.name AS account, s.valid_from, s.began_at, s.expires_at
		FROM session s JOIN account a ON a.id = s.account_id WHERE s.id = $1`
	r, err := one[row](ctx, s.pool, "session", q, id)
	return access.Session{ID: id, Actor: r.Account, ValidFrom: r.ValidFrom, Signed: r.BeganAt, Expires: r.ExpiresAt}, err
}

// RemoveSession ends a session that was added.
func (s *Store) RemoveSession(ctx context.Context, session access.Session) error {
	return s.changeAccess(ctx, "session", access.Record{Event: access.SessionEnd, Target: session.Actor},
		change{"DELETE FROM session WHERE id = $1", []any{session.ID}})
}
