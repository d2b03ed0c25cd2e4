package main

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/test/bench/harness"
)

// readStatements makes PostgreSQL count statements, if requested.
func (b *bench) readStatements(ctx context.Context) error {
	if b.statements == 0 {
		return nil
	}
	err := b.On(ctx, "postgres", func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'")
		return err
	})
	if err != nil {
		return err
	}
	if err := b.Postgres.Restart(ctx); err != nil {
		return err
	}
	return b.On(ctx, "postgres", func(conn *pgx.Conn) error {
		for _, q := range []string{
			"LOAD 'pg_stat_statements'",
			"ALTER SYSTEM SET pg_stat_statements.track_planning = on",
			"ALTER SYSTEM SET track_wal_io_timing = on",
			"SELECT pg_reload_conf()",
			"CREATE EXTENSION pg_stat_statements", // in Debian's postgresql-contrib
		} {
			if _, err := conn.Exec(ctx, q); err != nil {
				return err
			}
		}
		return nil
	})
}

// showStatements adds the statements that took most time since its last call, in all
// databases together.
func (b *bench) showStatements(ctx context.Context, s *harness.Section) error {
	if b.statements == 0 {
		return nil
	}
	return b.On(ctx, "postgres", func(conn *pgx.Conn) error {
		const q = `
			SELECT sum(calls)::int, sum(total_exec_time + total_plan_time), sum(total_plan_time), sum(plans)::int, sum(rows)::int, sum(wal_bytes)::float8, query
			FROM pg_stat_statements GROUP BY query ORDER BY 2 DESC LIMIT $1`
		rows, err := conn.Query(ctx, q, b.statements)
		if err != nil {
			return err
		}
		var calls, n int
		var ms, wal, planms float64
		var plans int
		var query string
		_, err = pgx.ForEachRow(rows, []any{&calls, &ms, &planms, &plans, &n, &wal, &query}, func() error {
			text := strings.Join(strings.Fields(query), " ")
			s.Note("%6.0f ms (%6.0f ms in %d plans) %6d calls %7d rows %6.1f MB WAL  %.150s",
				ms, planms, plans, calls, n, wal/1e6, text)
			return nil
		})
		if err != nil {
			return err
		}
		var syncs int64
		var each float64
		const ofWAL = "SELECT wal_sync, COALESCE(wal_sync_time / NULLIF(wal_sync, 0), 0) FROM pg_stat_wal"
		if err := conn.QueryRow(ctx, ofWAL).Scan(&syncs, &each); err != nil {
			return err
		}
		s.Note("WAL was synced %d times, %.2f ms each", syncs, each)
		_, err = conn.Exec(ctx, "SELECT pg_stat_statements_reset(), pg_stat_reset_shared('wal')")
		return err
	})
}
