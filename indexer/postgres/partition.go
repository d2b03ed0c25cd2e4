package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/portbook/portbook/indexer/postgres/pg"
)

// Retention is how long rows are kept; 0 means for ever. Events and History are of partitioned
// tables: a partition holds one month and is dropped when all its rows are older. Usage is of
// the days of usage: see ForgetUsage.
type Retention struct {
	Events, History, Usage time.Duration
}

// A Partitioning lists the partitions that were created and dropped.
type Partitioning struct {
	Created, Dropped []string
}

// Partition creates the missing partitions of the coming months and drops those
// older than the retention. It calls functions that belong to the user who migrates,
// since our user may not create or drop tables.
//
// Creating does not wait for readers and writers. Dropping waits for them at most 2
// s, and meanwhile new readers and writers wait behind it; then it fails, and the
// partition stays until the next call.
func (s *Store) Partition(ctx context.Context, r Retention) (Partitioning, error) {
	var p Partitioning
	var err error
	if p.Created, err = s.partitions(ctx, "SELECT create_partitions()"); err != nil {
		return p, pg.Wrap("create partitions", err)
	}
	for _, table := range []struct {
		name string
		keep time.Duration
	}{{"event", r.Events}, {"tag_history", r.History}} {
		if table.keep <= 0 {
			continue
		}
		// Each table separately: a reader of one does not block the other.
		dropped, dropErr := s.dropPartitions(ctx, table.name, table.keep)
		p.Dropped = append(p.Dropped, dropped...)
		err = errors.Join(err, pg.Wrap("drop old partitions of "+table.name, dropErr))
	}
	return p, err
}

func (s *Store) partitions(ctx context.Context, q string, args ...any) ([]string, error) {
	return pg.Column[string](ctx, s.pool, q, args...)
}

// dropPartitions drops old partitions of a table. If there were any, it moves the
// catalogue version, because readers see the history.
func (s *Store) dropPartitions(ctx context.Context, table string, keep time.Duration) (dropped []string, err error) {
	err = s.begin(ctx, func(tx pgx.Tx, c cluster) error {
		dropped, err = pg.Column[string](ctx, tx, "SELECT drop_partitions($1, $2)", table, keep)
		if err != nil || len(dropped) == 0 {
			return err
		}
		return bump(ctx, tx, c, nil)
	})
	if err != nil {
		return nil, err
	}
	return dropped, nil
}

// beginPartitioned is begin for writes to partitioned tables, with generic plans. If
// a partition is missing, it creates the partitions and runs f again. That happens
// if there was no leader for three months, or if an event is dated in a month
// without a partition.
func (s *Store) beginPartitioned(ctx context.Context, f func(pgx.Tx, cluster) error) error {
	err := s.beginAs(ctx, beginPlanned, f)
	if !noPartition(err) {
		return err
	}
	if _, missing := s.partitions(ctx, "SELECT create_partitions()"); missing != nil {
		return errors.Join(err, missing)
	}
	return s.beginAs(ctx, beginPlanned, f)
}

// noPartition reports whether an error says that a row has no partition. PostgreSQL
// reports that as check_violation without a constraint name.
func noPartition(err error) bool {
	var failed *pgconn.PgError
	return errors.As(err, &failed) && failed.Code == "23514" && failed.ConstraintName == ""
}
