package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/portbook/portbook/indexer/postgres/pg"
)

// Retention is how long is kept what stands in partitions of a month each. A
// partition goes when all of it is older. 0: for ever.
type Retention struct {
	Events, History time.Duration
}

// A Partitioning names the partitions that were made and dropped.
type Partitioning struct {
	Created, Dropped []string
}

// Partition makes the partitions of the months to come and drops those that are
// older than the retention. Functions of the user who migrates do it: we may
// make and drop nothing.
//
// Making waits for nobody. Dropping waits for whoever reads or writes the table,
// 2 s at most, during which others wait behind it; then it fails, and the
// partition stays until the next call.
func (s *Store) Partition(ctx context.Context, r Retention) (Partitioning, error) {
	var p Partitioning
	var err error
	if p.Created, err = s.partitions(ctx, "SELECT create_partitions()"); err != nil {
		return p, pg.Wrap("make partitions", err)
	}
	for _, table := range []struct {
		name string
		keep time.Duration
	}{{"event", r.Events}, {"tag_history", r.History}} {
		if table.keep <= 0 {
			continue
		}
		// Each by itself: a reader of one keeps the other from nothing.
		dropped, dropErr := s.dropPartitions(ctx, table.name, table.keep)
		p.Dropped = append(p.Dropped, dropped...)
		err = errors.Join(err, pg.Wrap("drop old partitions of "+table.name, dropErr))
	}
	return p, err
}

func (s *Store) partitions(ctx context.Context, q string, args ...any) ([]string, error) {
	return pg.Column[string](ctx, s.pool, q, args...)
}

// dropPartitions moves the catalogue version if there were any: readers see the
// history.
func (s *Store) dropPartitions(ctx context.Context, table string, keep time.Duration) (dropped []string, err error) {
	err = s.begin(ctx, func(tx pgx.Tx, c cluster) error {
		dropped, err = pg.Column[string](ctx, tx, "SELECT drop_partitions($1, $2)", table, keep)
		if err != nil || len(dropped) == 0 {
			return err
		}
		return bump(ctx, tx, c)
	})
	if err != nil {
		return nil, err
	}
	return dropped, nil
}

// beginPartitioned is begin for what is written to partitioned tables, which is
// what comes again and again: where a partition is missing it is made, and f runs
// once more. That happens when nobody has led for three months, or to what an old
// event dates back to.
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

// noPartition reports whether a row found no partition. PostgreSQL tells that as
// a violated check that has no name.
func noPartition(err error) bool {
	var failed *pgconn.PgError
	return errors.As(err, &failed) && failed.Code == "23514" && failed.ConstraintName == ""
}
