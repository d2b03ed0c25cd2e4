package main

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/test/bench/harness"
)

// statementSettings make PostgreSQL count its statements and their planning time
// (contrib/pg_stat_statements, which is in Debian's server package).
var statementSettings = []string{"shared_preload_libraries=pg_stat_statements"}

// countStatements starts counting, if requested.
func (b *bench) countStatements(ctx context.Context, k *book) error {
	if b.statements == 0 {
		return nil
	}
	return b.On(ctx, k.database, func(conn *pgx.Conn) error {
		for _, q := range []string{
			"CREATE EXTENSION IF NOT EXISTS pg_stat_statements", "SELECT pg_stat_statements_reset()",
			"ALTER SYSTEM SET pg_stat_statements.track_planning = on", // known once the library is loaded
			"SELECT pg_reload_conf()",
		} {
			if _, err := conn.Exec(ctx, q); err != nil {
				return err
			}
		}
		return nil
	})
}

// showStatements notes the statements that took most time since countStatements.
func (b *bench) showStatements(ctx context.Context, k *book, s *harness.Section, what string) error {
	if b.statements == 0 {
		return nil
	}
	return b.On(ctx, k.database, func(conn *pgx.Conn) error {
		const q = `
			SELECT calls::int, total_plan_time / calls, total_exec_time / calls, max_exec_time, rows::float8 / calls,
				(shared_blks_hit + shared_blks_read)::float8 / calls, query
			FROM pg_stat_statements WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND calls > 1
			ORDER BY total_exec_time + total_plan_time DESC LIMIT $1`
		rows, err := conn.Query(ctx, q, b.statements)
		if err != nil {
			return err
		}
		var calls int
		var plan, exec, worst, n, blocks float64
		var query string
		_, err = pgx.ForEachRow(rows, []any{&calls, &plan, &exec, &worst, &n, &blocks, &query}, func() error {
			text := strings.Join(strings.Fields(query), " ")
			s.Note("%s: %d calls, each %.2f ms planning, %.2f ms running (at most %.0f), %.1f rows, %.0f blocks: %.160s",
				what, calls, plan, exec, worst, n, blocks, text)
			return nil
		})
		if err != nil {
			return err
		}
		// Kept books must not contain it: their schema is compared.
		_, err = conn.Exec(ctx, "DROP EXTENSION pg_stat_statements")
		return err
	})
}
