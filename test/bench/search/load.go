package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/test/bench/harness"
)

const (
	// chunk is how many repositories one worker makes and copies at a time: 500, some
	// 6,000 manifests of 4 MB.
	chunk = 500
	// goalLoad is the most seconds for loading a book of a million repositories: 20 minutes.
	goalLoad = 1200
	// form is the version of the generated rows. Increase it when they change: books of
	// an older form are loaded again.
	form = 1
)

// loaders is the number of parallel workers, one for each processor: each is a client
// and a server process, and PostgreSQL does the larger part.
var loaders = max(runtime.NumCPU(), 2)

// tables are filled by COPY, in this order.
var tables = []string{"repository", "blob", "manifest", "manifest_body", "index_entry", "tag", "referrer"}

// copied are the same tables, and made are those that the program fills from them; each
// with the one that takes longest first.
var (
	copied = []string{"manifest", "tag", "blob", "manifest_body", "index_entry", "referrer", "repository"}
	made   = []string{"image_search", "repository_search"}
)

func (r *rows) of(table string) [][]any {
	return map[string][][]any{
		"repository": r.repository, "blob": r.blob, "manifest": r.manifest, "manifest_body": r.body,
		"index_entry": r.entry, "tag": r.tag, "referrer": r.referrer,
	}[table]
}

// A loader fills one database.
type loader struct {
	generator *generator
	pool      *pgxpool.Pool // its sessions check no foreign keys: the generated ones are correct
	store     *postgres.Store
	processor func() float64 // the processor seconds of PostgreSQL and this process so far
	tell      func(format string, args ...any)
	section   *harness.Section
	count     map[string]*atomic.Int64
}

// mark returns the comment of a database whose load is complete.
func mark(repositories int) string {
	return fmt.Sprintf("benchsearch: %d repositories, seed %d, form %d", repositories, seed, form)
}

// fill fills an empty database. Afterwards it has exactly the schema of the migrations.
func (b *bench) fill(ctx context.Context, k *book, s *harness.Section) error {
	config, err := pgxpool.ParseConfig(b.Postgres.URL(k.database))
	if err != nil {
		return err
	}
	config.ConnConfig.RuntimeParams["session_replication_role"] = "replica"
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	defer pool.Close()
	l := &loader{
		generator: k.generator, pool: pool, store: postgres.New(pool, postgres.Config{}), tell: b.Tell, section: s,
		count: map[string]*atomic.Int64{},
		processor: func() float64 {
			return harness.FamilySeconds(b.Postmaster()) + harness.ProcessorSeconds(os.Getpid())
		},
	}
	for _, t := range tables {
		l.count[t] = &atomic.Int64{}
	}
	return l.run(ctx)
}

func (l *loader) run(ctx context.Context) error {
	before, err := definition(ctx, l.pool)
	if err != nil {
		return err
	}
	later, err := l.dropIndexes(ctx)
	if err != nil {
		return err
	}
	// Needed to find the images of a tag.
	first := slices.DeleteFunc(slices.Clone(later), func(i index) bool {
		return i.table != "index_entry" && (i.table != "manifest" || !i.unique)
	})
	later = slices.DeleteFunc(later, func(i index) bool { return slices.Contains(first, i) })
	steps := []struct {
		name string
		run  func(context.Context) error
	}{
		{"rows", l.copyAll},
		{"indexes that search rows need", func(ctx context.Context) error { return l.createIndexes(ctx, first) }},
		{"statistics", func(ctx context.Context) error { return l.inAll(ctx, "ANALYZE", copied) }},
		{"search rows", l.reform},
		{"indexes", func(ctx context.Context) error { return l.createIndexes(ctx, later) }},
		{"vacuum", func(ctx context.Context) error { return l.inAll(ctx, "VACUUM (ANALYZE)", slices.Concat(made, copied)) }},
	}
	for _, step := range steps {
		l.tell("  %s", step.name)
		start, before := time.Now(), l.processor()
		if err := step.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		l.section.Add(harness.Figure{Name: "load: " + step.name, Value: time.Since(start).Seconds(), Unit: "s"})
		l.section.Add(harness.Figure{Name: "  processor time", Value: l.processor() - before, Unit: "s"})
	}
	after, err := definition(ctx, l.pool)
	if err != nil {
		return err
	}
	if before != after {
		return fmt.Errorf("the schema is not that of the migrations:\n%s\nwant:\n%s", after, before)
	}
	return l.finish(ctx)
}

// definition returns all columns, indexes and constraints, and whether they are valid.
func definition(ctx context.Context, db querier) (text string, err error) {
	const q = `
		WITH mine AS (
			SELECT oid, relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
		)
		SELECT string_agg(line, E'\n' ORDER BY line) FROM (
			SELECT pg_get_indexdef(indexrelid) || ' ' || indisvalid AS line FROM pg_index JOIN mine ON indrelid = mine.oid
			UNION ALL
			SELECT relname || '.' || attname || ' ' || format_type(atttypid, atttypmod) || ' ' || attnotnull FROM pg_attribute
			JOIN mine ON attrelid = mine.oid AND attnum > 0 AND NOT attisdropped
			UNION ALL
			SELECT conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid) || ' ' || convalidated FROM pg_constraint
			WHERE connamespace = 'public'::regnamespace
		) AS lines`
	err = db.QueryRow(ctx, q).Scan(&text)
	return text, err
}

// querier is implemented by a pool and a connection.
type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// An index is an index that is made after the rows.
type index struct {
	table, name, create string
	unique              bool
}

// dropIndexes drops the indexes of derived tables, except keys that others reference,
// and returns how to make them again.
func (l *loader) dropIndexes(ctx context.Context) ([]index, error) {
	const q = `
		SELECT t.relname AS table, i.relname AS name, x.indisunique AS unique,
			CASE WHEN c.oid IS NULL THEN pg_get_indexdef(i.oid)
				ELSE format('ALTER TABLE %I ADD CONSTRAINT %I %s', t.relname, c.conname, pg_get_constraintdef(c.oid)) END AS create
		FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid
		LEFT JOIN pg_constraint c ON c.conindid = i.oid AND c.contype = 'u'
		WHERE t.relnamespace = 'public'::regnamespace AND NOT x.indisprimary AND t.relname = ANY($1)`
	rows, err := l.pool.Query(ctx, q, append(slices.Clone(made), tables[1:]...))
	if err != nil {
		return nil, err
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByName[struct {
		Table, Name, Create string
		Unique              bool
	}])
	if err != nil {
		return nil, err
	}
	var indexes []index
	for _, r := range all {
		i := index{r.Table, r.Name, r.Create, r.Unique}
		drop := "DROP INDEX " + pgx.Identifier{i.name}.Sanitize()
		if strings.HasPrefix(i.create, "ALTER") {
			drop = "ALTER TABLE " + pgx.Identifier{i.table}.Sanitize() + " DROP CONSTRAINT " + pgx.Identifier{i.name}.Sanitize()
		}
		if _, err := l.pool.Exec(ctx, drop); err != nil {
			return nil, err
		}
		indexes = append(indexes, i)
	}
	return indexes, nil
}

// createIndexes makes indexes, as many at a time as there are loaders, the slowest first. Adding a constraint
// locks its table, so a worker that needs the same table waits.
func (l *loader) createIndexes(ctx context.Context, indexes []index) error {
	slices.SortStableFunc(indexes, func(a, b index) int { return weight(b) - weight(a) })
	queue := make(chan index, len(indexes))
	for _, i := range indexes {
		queue <- i
	}
	close(queue)
	var mu sync.Mutex
	return parallel(ctx, loaders, func(ctx context.Context, _ int) error {
		for i := range queue {
			start := time.Now()
			if _, err := l.pool.Exec(ctx, i.create); err != nil {
				return fmt.Errorf("%s: %w", i.name, err)
			}
			mu.Lock()
			l.tell("    %s: %.1f s", i.name, time.Since(start).Seconds())
			mu.Unlock()
		}
		return nil
	})
}

// weight returns roughly how long an index takes compared with others: a GIN index is
// built by a single process.
func weight(i index) int {
	w := 1
	if strings.Contains(i.create, "USING gin") {
		w = 10
	}
	if i.table == "image_search" || i.table == "manifest" {
		w *= 5
	}
	if strings.Contains(i.create, " WHERE ") {
		w /= 2
	}
	return w
}

// inAll runs a command on tables, as many at a time as there are loaders.
func (l *loader) inAll(ctx context.Context, command string, tables []string) error {
	queue := make(chan string, len(tables))
	for _, t := range tables {
		queue <- t
	}
	close(queue)
	return parallel(ctx, loaders, func(ctx context.Context, _ int) error {
		for t := range queue {
			if _, err := l.pool.Exec(ctx, command+" "+t); err != nil {
				return fmt.Errorf("%s %s: %w", command, t, err)
			}
		}
		return nil
	})
}

// copyAll makes all rows and copies them.
func (l *loader) copyAll(ctx context.Context) error {
	if err := l.dictionaries(ctx); err != nil {
		return err
	}
	var next atomic.Int64
	n := len(l.generator.names)
	return parallel(ctx, loaders, func(ctx context.Context, _ int) error {
		for {
			from := int(next.Add(chunk)) - chunk
			if from >= n {
				return nil
			}
			var out rows
			for number := from + 1; number <= min(from+chunk, n); number++ {
				l.generator.repository(number).add(&out)
			}
			if err := l.copyRows(ctx, &out); err != nil {
				return err
			}
			if from/chunk%200 == 199 {
				l.tell("    %d repositories", from+chunk)
			}
		}
	})
}

func (l *loader) copyRows(ctx context.Context, out *rows) error {
	return pgx.BeginFunc(ctx, l.pool, func(tx pgx.Tx) error {
		for _, t := range tables {
			n, err := tx.CopyFrom(ctx, pgx.Identifier{t}, columns[t], pgx.CopyFromRows(out.of(t)))
			if err != nil {
				return fmt.Errorf("%s: %w", t, err)
			}
			l.count[t].Add(n)
		}
		return nil
	})
}

// dictionaries fills the tables of words, and makes the blobs of base images.
func (l *loader) dictionaries(ctx context.Context) error {
	var out rows
	shared := &repository{Rand: source("shared", 0)}
	for range sharedLayers {
		shared.newBlob(&out, 20_000_000)
	}
	if err := l.copyRows(ctx, &out); err != nil {
		return err
	}
	for id, name := range mediaTypes {
		if name == "" {
			continue
		}
		if _, err := l.pool.Exec(ctx, "INSERT INTO media_type (id, name) VALUES ($1, $2)", id, name); err != nil {
			return err
		}
	}
	for id, p := range platforms {
		if p[0] == "" {
			continue
		}
		const insert = "INSERT INTO platform (id, os, architecture, variant) VALUES ($1, $2, $3, $4)"
		if _, err := l.pool.Exec(ctx, insert, id, p[0], p[1], p[2]); err != nil {
			return err
		}
	}
	for _, column := range []string{"media_type.id", "platform.id", "repository.id", "manifest.id", "blob.id"} {
		table, name, _ := strings.Cut(column, ".")
		// After all numbers of the generator.
		last := int64(len(l.generator.names)+1) << 16
		if table != "manifest" && table != "blob" {
			last = int64(len(l.generator.names) + 100)
		}
		if _, err := l.pool.Exec(ctx, "SELECT setval(pg_get_serial_sequence($1, $2), $3)", table, name, last); err != nil {
			return err
		}
	}
	return nil
}

// reform makes the search rows with the program's own code; each worker makes those of
// a part of the names.
func (l *loader) reform(ctx context.Context) error {
	names := l.generator.names
	return parallel(ctx, loaders, func(ctx context.Context, worker int) error {
		from, to := worker*len(names)/loaders, (worker+1)*len(names)/loaders
		after := ""
		if from > 0 {
			after = names[from-1]
		}
		analyzed := 0 // search rows
		for done := 0; ; {
			n, last, err := l.store.ReformAfter(ctx, after)
			if err != nil || n == 0 || last >= names[to-1] {
				return err
			}
			if after, done = last, done+n; done%100_000 < n {
				l.tell("    %d by worker %d", done, worker)
			}
			// Autovacuum, which is off, would do this. Otherwise Postgres keeps plans that read
			// the tables whole, because they were small.
			if worker == 0 && done >= 2*analyzed {
				if err := l.inAll(ctx, "ANALYZE", made); err != nil {
					return err
				}
				analyzed = done
			}
		}
	})
}

// finish marks the database as loaded.
func (l *loader) finish(ctx context.Context) error {
	for _, t := range tables {
		l.section.Add(harness.Figure{Name: t, Value: float64(l.count[t].Load()), Unit: "rows"})
	}
	_, err := l.pool.Exec(ctx, fmt.Sprintf("COMMENT ON DATABASE %s IS '%s'",
		pgx.Identifier{l.pool.Config().ConnConfig.Database}.Sanitize(), mark(len(l.generator.names))))
	return err
}

// parallel runs n workers until all are done or one has failed.
func parallel(ctx context.Context, n int, f func(ctx context.Context, worker int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	for worker := range n {
		group.Go(func() error { return f(ctx, worker) })
	}
	return group.Wait()
}
