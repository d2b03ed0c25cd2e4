package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A cluster is the life of a database: the system identifier, which initdb
// chooses and a copy by files keeps, and the timeline, which every promotion and
// every recovery to a point in time begins anew. Commits of one cluster follow
// each other; another may repeat the numbers of the first with other content,
// since a standby may be promoted before it has everything, and a backup is
// always older. "" is one that its server does not tell.
//
// What it cannot see is the restoring of a disk's snapshot beneath the server:
// see doc/operations.md.
type cluster string

// clusterKey is where a connection keeps what clusterOf found.
const clusterKey = "portbook.cluster"

// clusterOf gives the cluster that a connection writes to. It asks once: a
// session that can write never sees another timeline.
//
// The timeline is that of the WAL being written. The one of pg_control_checkpoint
// would be right only after the checkpoint that follows a promotion.
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
	case errors.As(err, &refused) && refused.Code == "55000": // object_not_in_prerequisite_state: a standby, as yet
		return "", nil
	case errors.As(err, &refused) && (refused.Code[:2] == "42" || refused.Code[:2] == "0A"): // no right to ask, or no such function
		s.warned.Do(func() {
			s.config.Log.WarnContext(ctx, "the database does not tell its identity: after a failover or a restore, caches may keep answers of before", "error", err)
		})
	default:
		return "", err
	}
	known[clusterKey] = c
	return c, nil
}

// newEpoch is an expression that names another life.
const newEpoch = `substr(md5(random()::text || clock_timestamp()::text), 1, 12)`

// restore makes the rows that tell the catalogue version if some are missing, as
// after a restore of a backup without what can be rebuilt, and begins a new
// epoch if so, or if the cluster is another than the one that was written last.
// In either case what was acknowledged may be lost, so it asks for a scan.
//
// Shards come before the epoch, as in bump.
func restore(ctx context.Context, tx pgx.Tx, c cluster) error {
	const shards = `INSERT INTO catalogue_version SELECT g, 0 FROM generate_series(0, $1 - 1) g ON CONFLICT DO NOTHING`
	made, err := tx.Exec(ctx, shards, versionShards)
	if err != nil {
		return err
	}
	if made.RowsAffected() > 0 {
		if _, err := tx.Exec(ctx, "DELETE FROM catalogue_epoch"); err != nil {
			return err
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

// moveEpoch are the parts of a statement that begin a new epoch, and ask for a
// scan, if the cluster in $1 is not the one that was written last. The first to
// be written is no other.
const moveEpoch = `
	moved AS (
		UPDATE catalogue_epoch e SET cluster = $1, epoch = CASE e.cluster WHEN '' THEN e.epoch ELSE ` + newEpoch + ` END
		FROM catalogue_epoch was WHERE was.one = e.one AND e.cluster <> $1 AND $1 <> '' RETURNING was.cluster AS before
	), asked AS (
		INSERT INTO scan (reason) SELECT 'failover' FROM moved WHERE before <> '' ON CONFLICT DO NOTHING RETURNING id
	)`
