package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/test/bench/harness"
)

// scanTimeout is the limit of one scan: ten times the time of a slow one.
const scanTimeout = 5 * time.Minute

// A measurement is the result of one run, with the processor time that each program
// used in it.
type measurement struct {
	seconds float64
	listed  float64 // seconds until the scan had listed everything; only for our scans
	peak    int64   // peak memory of the indexer in bytes
	used    map[string]float64
}

// meters returns functions that read the processor time of each program so far.
func (b *bench) meters(r *harness.Registry, self int) map[string]func() float64 {
	postmaster := b.Postmaster()
	return map[string]func() float64{
		"registry":   func() float64 { return harness.ProcessorSeconds(r.PID()) },
		"PostgreSQL": func() float64 { return harness.FamilySeconds(postmaster) },
		"client":     func() float64 { return harness.ProcessorSeconds(self) },
	}
}

func read(meters map[string]func() float64) map[string]float64 {
	values := map[string]float64{}
	for name, meter := range meters {
		values[name] = meter()
	}
	return values
}

func since(meters map[string]func() float64, before map[string]float64) map[string]float64 {
	used := map[string]float64{}
	for name, meter := range meters {
		used[name] = meter() - before[name]
	}
	return used
}

// bareRun reads with a client that stores nothing. It starts without open connections,
// as a scan does.
func bareRun(ctx context.Context, meters map[string]func() float64, r *reader, p plan) (m measurement, err error) {
	r.client.CloseIdleConnections()
	before, start := read(meters), time.Now()
	err = r.run(ctx, p)
	m.seconds, m.used = time.Since(start).Seconds(), since(meters, before)
	return m, err
}

// scanRun runs "portbook scan". The time is that of the scan itself in the database,
// from its started_at until it is finished and no task is left. It does not include the
// start of the process, or the half second after which the process checks whether the
// scan is done.
func (b *bench) scanRun(
	ctx context.Context, meters map[string]func() float64, registry string, conn *pgx.Conn,
) (m measurement, err error) {
	ctx, cancel := context.WithTimeout(ctx, scanTimeout)
	defer cancel()
	var last int64
	if err := conn.QueryRow(ctx, "SELECT COALESCE(max(id), 0) FROM scan").Scan(&last); err != nil {
		return m, err
	}
	before := read(meters)
	p, err := b.StartScan(registry, conn.Config().Database)
	if err != nil {
		return m, err
	}
	var used float64 // by the indexer, while it runs
	err = harness.Wait(ctx, scanTimeout, "the scan's end", func() (bool, error) {
		used, m.peak = max(used, harness.ProcessorSeconds(p.PID())), max(m.peak, harness.PeakMemory(p.PID()))
		gone := p.Gone()
		done, err := finished(ctx, conn, last, &m)
		switch {
		case done:
			m.used = since(meters, before)
			m.used["indexer"] = used
		case gone && err == nil:
			err = errors.New("it ended before its scan: " + p.Outcome())
		}
		return done, err
	})
	if err != nil {
		return m, fmt.Errorf("%w; the indexer says: %s", err, p.Tail())
	}
	return m, ended(ctx, p, &m)
}

// finished reports whether a scan with an id greater than last has finished.
func finished(ctx context.Context, conn *pgx.Conn, last int64, m *measurement) (done bool, err error) {
	// If nothing had to be read, the end is exact to the microsecond, otherwise to the
	// pause between two polls: half a percent of ten seconds.
	const q = `
		SELECT CASE changed WHEN 0 THEN extract(epoch FROM finished_at - started_at)
				ELSE extract(epoch FROM clock_timestamp() - started_at) END::float8,
			extract(epoch FROM finished_at - started_at)::float8, errors
		FROM scan
		WHERE id > $1 AND finished_at IS NOT NULL AND NOT EXISTS (SELECT FROM task WHERE given_up_at IS NULL)`
	var failed int
	err = conn.QueryRow(ctx, q, last).Scan(&m.seconds, &m.listed, &failed)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return false, nil
	case err == nil && failed > 0:
		return false, fmt.Errorf("the scan could not look at %d repositories", failed)
	}
	return err == nil, err
}

// ended waits for the end of the process, and records its peak memory.
func ended(ctx context.Context, p *harness.Program, m *measurement) error {
	return harness.Wait(ctx, harness.StopTimeout, "the indexer's end", func() (bool, error) {
		m.peak = max(m.peak, harness.PeakMemory(p.PID()))
		if !p.Gone() {
			return false, nil
		}
		if outcome := p.Outcome(); outcome != "exit status 0" {
			return false, fmt.Errorf("portbook scan: %s: %s", outcome, p.Tail())
		}
		return true, nil
	})
}

// written counts the rows that were ever inserted, updated or deleted, by kind of
// table: "catalogue" for data derived from the registry's content, "kept" for data that
// no scan can rebuild, "work" for tasks and scans.
func written(ctx context.Context, conn *pgx.Conn) (map[string]int, error) {
	if err := alone(ctx, conn); err != nil {
		return nil, err
	}
	const q = `
		SELECT CASE
				WHEN relname IN ('task', 'scan') THEN 'work'
				WHEN obj_description(relid, 'pg_class') LIKE 'derived:%' THEN 'catalogue'
				WHEN obj_description(relid, 'pg_class') LIKE 'kept:%' THEN 'kept'
				ELSE 'other' END,
			sum(n_tup_ins + n_tup_upd + n_tup_del)::int
		FROM pg_stat_user_tables GROUP BY 1`
	rows, err := conn.Query(ctx, q)
	if err != nil {
		return nil, err
	}
	counts := map[string]int{}
	var kind string
	var n int
	_, err = pgx.ForEachRow(rows, []any{&kind, &n}, func() error {
		counts[kind] = n
		return nil
	})
	return counts, err
}

// alone waits until all other sessions of the database have ended: a session's last
// writes are counted when it ends.
func alone(ctx context.Context, conn *pgx.Conn) error {
	const q = `
		SELECT NOT EXISTS (SELECT FROM pg_stat_activity
			WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid())`
	return harness.Wait(ctx, harness.StopTimeout, "the end of the indexer's sessions", func() (alone bool, err error) {
		err = conn.QueryRow(ctx, q).Scan(&alone)
		return alone, err
	})
}

// newDatabase makes a database with empty tables, after all pending writes of the one
// before are on disk.
func (b *bench) newDatabase(ctx context.Context, name string) (*pgx.Conn, error) {
	if err := b.NewDatabase(ctx, name); err != nil {
		return nil, err
	}
	conn, err := pgx.Connect(ctx, b.Postgres.URL(name))
	if err != nil {
		return nil, err
	}
	_, err = conn.Exec(ctx, "CHECKPOINT")
	return conn, err
}

// dropDatabase closes the connection and drops its database.
func (b *bench) dropDatabase(ctx context.Context, conn *pgx.Conn) error {
	if err := conn.Close(ctx); err != nil {
		return err
	}
	return b.DropDatabase(ctx, conn.Config().Database)
}
