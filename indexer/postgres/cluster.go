package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A cluster identifies one history of a database: the system identifier, which
// initdb chooses and a file-level copy keeps, and the timeline, which every
// promotion and every point-in-time recovery changes. Within one cluster, commits
// follow each other. Another cluster may use the same numbers for other content,
// since a standby may be promoted before it has received everything, and a backup is
// always older. "" is unknown.
//
// A restored disk snapshot below the server is not noticed: see doc/operations.md.
type cluster string

// clusterKey is the key under which a connection stores the result of clusterOf.
const clusterKey = "portbook.cluster"

// clusterOf returns the cluster that a connection writes to. It queries once for
// each connection, because the timeline of a session that can write never changes.
//
// It uses the timeline of the WAL being written. The timeline of
// pg_control_checkpoint is correct only after the first checkpoint after a
// promotion.
func (s *Store) clusterOf(ctx context.Context, conn *pgx.Conn) (cluster, error) {
	known := conn.PgConn().CustomData()
	if c, ok := known[clusterKey].(cluster); ok {
		return c, nil
	}
	const q = `SELECT system_identifier || '.' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) FROM pg_control_system()`
	var c cluster
	err := conn.QueryRow(ctx, q).Scan(&c)
	var refused *pgconn.PgError
	switch {
	case err == nil:
	case errors.As(err, &refused) && refused.Code == "55000": // object_not_in_prerequisite_state: still a standby
		return "", nil
	case errors.As(err, &refused) && (refused.Code[:2] == "42" || refused.Code[:2] == "0A"):
		// no permission, or no such function
		s.warned.Do(func() {
			const message = "the identity of the database is unknown: after a failover or a restore, caches may keep old answers"
			s.config.Log.WarnContext(ctx, message, "error", err)
		})
	default:
		return "", err
	}
	known[clusterKey] = c
	return c, nil
}

// newEpoch is an SQL expression for a new random epoch.
const newEpoch = `substr(md5(random()::text || clock_timestamp()::text), 1, 12)`

// restore inserts the missing rows of the catalogue version. Rows are missing after
// a restore of a backup without the derived tables. If it inserted any, or if
// another cluster was written to last, it sets a new epoch and requests a scan,
// because acknowledged writes may be lost.
//
// Numbers of shards that it inserts are used again, so it deletes the rows of
// search_change that may belong to them.
//
// It locks the shards before the epoch, as bump does.
func restore(ctx context.Context, tx pgx.Tx, c cluster) error {
	const shards = `INSERT INTO catalogue_version SELECT g, 0 FROM generate_series(0, $1 - 1) g ON CONFLICT DO NOTHING`
	made, err := tx.Exec(ctx, shards, versionShards)
	if err != nil {
		return err
	}
	if made.RowsAffected() > 0 {
		for _, table := range []string{"catalogue_epoch", "search_change"} {
			if _, err := tx.Exec(ctx, "DELETE FROM "+table); err != nil {
				return err
			}
		}
	}
	const epoch = `INSERT INTO catalogue_epoch (epoch, cluster) VALUES (` + newEpoch + `, $1) ON CONFLICT DO NOTHING`
	begun, err := tx.Exec(ctx, epoch, string(c))
	if err != nil {
		return err
	}
	if begun.RowsAffected() > 0 {
		return requestScan(ctx, tx, "restore")
	}
	_, err = tx.Exec(ctx, "WITH "+moveEpoch+" SELECT FROM asked", string(c))
	return err
}

// moveEpoch is the part of a statement that sets a new epoch and requests a scan if
// cluster $1 is not the cluster that was written to last. The first cluster ever
// written to changes neither.
const moveEpoch = `
	moved AS (
		UPDATE catalogue_epoch e SET cluster = $1, epoch = CASE e.cluster WHEN '' THEN e.epoch ELSE ` + newEpoch + ` END
		FROM catalogue_epoch was WHERE was.one = e.one AND e.cluster <> $1 AND $1 <> '' RETURNING was.cluster AS before
	), asked AS (
		INSERT INTO scan (reason) SELECT 'failover' FROM moved WHERE before <> '' ON CONFLICT DO NOTHING RETURNING id
	)`
