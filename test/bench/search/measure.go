package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/test/bench/harness"
)

// A book is a database with a made-up book in it.
type book struct {
	*generator
	database string
}

// Measure implements harness.Benchmark.
func (b *bench) Measure(ctx context.Context) error {
	b.Report.Conditions.Repositories = b.repositories
	var books []*book
	for _, repositories := range b.books() {
		k, err := b.book(ctx, repositories)
		if err != nil {
			return err
		}
		books = append(books, k)
	}
	if b.load {
		return nil
	}
	if err := b.settings(ctx, b.measured()); err != nil {
		return err
	}
	if err := b.conditions(ctx); err != nil {
		return err
	}
	big := books[len(books)-1]
	if err := b.sizes(ctx, big); err != nil {
		return err
	}
	if err := b.classes(ctx, books); err != nil || b.only != "" {
		return err
	}
	steps := []struct {
		title string
		some  bool // whether it is measured at all
		run   func(context.Context, *harness.Section, *book) error
	}{
		{"Askers who see a part", b.part, b.parts},
		{"Cold", b.cold, b.measureCold},
		{"Push to searchable", b.pushes > 0, b.pushed},
		{"Bulk ingest, all indexes in place", b.ingest > 0, b.ingested},
	}
	for _, step := range steps {
		if !step.some {
			continue
		}
		err := b.Step(ctx, step.title, func(ctx context.Context, s *harness.Section) error { return step.run(ctx, s, big) })
		if err != nil {
			return err
		}
	}
	return nil
}

// books returns the numbers of repositories of the books: ten times as many from one to
// the next.
func (b *bench) books() (all []int) {
	for n := b.small; n < b.repositories; n *= 10 {
		all = append(all, n)
	}
	return append(all, b.repositories)
}

// measured returns the settings of PostgreSQL for measuring.
func (b *bench) measured() []string {
	settings := slices.Clone(measureSettings)
	if b.LogFile != "" {
		settings = append(settings, planSettings...)
	}
	if b.statements > 0 {
		settings = append(settings, statementSettings...)
	}
	return settings
}

// classes measures every class on every book, the smallest first.
func (b *bench) classes(ctx context.Context, books []*book) error {
	var smallest []measured
	for n, k := range books {
		s := b.Section("Questions to a book of " + harness.Number(float64(len(k.names))) + " repositories")
		big := n == len(books)-1
		b.Tell("%s (load average %s)", s.Title, harness.LoadAverage())
		if err := b.Warm(ctx, k.database); err != nil {
			return err
		}
		all, err := b.questions(ctx, k, s, big)
		if !big {
			if b.reportSmall(s, k, all); n == 0 {
				smallest = all
			}
		} else {
			if err == nil {
				err = b.allNaive(ctx, k, all)
			}
			b.reportBig(s, all, smallest)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// conditions reads PostgreSQL's settings.
func (b *bench) conditions(ctx context.Context) error {
	return b.On(ctx, "postgres", func(conn *pgx.Conn) error {
		c := &b.Report.Conditions
		const q = `
			SELECT name || '=' || current_setting(name) FROM pg_settings
			WHERE name IN ('shared_buffers', 'work_mem', 'effective_cache_size', 'fsync', 'synchronous_commit',
				'random_page_cost', 'jit', 'max_wal_size', 'autovacuum', 'max_parallel_workers_per_gather')
			ORDER BY name`
		rows, err := conn.Query(ctx, q)
		if err != nil {
			return err
		}
		c.Settings, err = pgx.CollectRows(rows, pgx.RowTo[string])
		c.Settings = append(c.Settings, fmt.Sprintf("huge pages in use=%t", harness.HugePages(b.Postmaster())))
		return err
	})
}

// sizes reports the largest tables and indexes.
func (b *bench) sizes(ctx context.Context, k *book) error {
	s := b.Section("Sizes of the big book")
	return b.On(ctx, k.database, func(conn *pgx.Conn) error {
		const q = `
			SELECT relname, pg_relation_size(oid)::float8 / 1e6 FROM pg_class
			WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'i') ORDER BY 2 DESC LIMIT 24`
		rows, err := conn.Query(ctx, q)
		if err != nil {
			return err
		}
		var name string
		var size float64
		_, err = pgx.ForEachRow(rows, []any{&name, &size}, func() error {
			s.Add(harness.Figure{Name: name, Value: size, Unit: "MB"})
			return nil
		})
		if err != nil {
			return err
		}
		if err := conn.QueryRow(ctx, "SELECT pg_database_size(current_database())::float8 / 1e6").Scan(&size); err != nil {
			return err
		}
		s.Add(harness.Figure{Name: "the whole database", Value: size, Unit: "MB"})
		return nil
	})
}

// book loads a book, unless it exists already.
func (b *bench) book(ctx context.Context, repositories int) (*book, error) {
	k := &book{newGenerator(repositories), fmt.Sprintf("book_%d", repositories)}
	s := b.Section(fmt.Sprintf("Book of %s repositories", harness.Number(float64(repositories))))
	loaded, err := b.loaded(ctx, k.database, mark(repositories))
	if err != nil {
		return nil, err
	}
	if !loaded {
		b.Tell("Loading %s repositories (load average %s)", harness.Number(float64(repositories)), harness.LoadAverage())
		start := time.Now()
		if err := b.settings(ctx, loadSettings); err != nil {
			return nil, err
		}
		if err := b.NewDatabase(ctx, k.database); err != nil {
			return nil, err
		}
		if err := b.fill(ctx, k, s); err != nil {
			return nil, fmt.Errorf("load %s: %w", k.database, err)
		}
		s.Add(harness.Figure{Name: "load: all", Value: time.Since(start).Seconds(), Unit: "s"}.Below(goalLoad))
		return k, nil
	}
	if err := b.Migrate(ctx, k.database); err != nil { // it may have been loaded by an older program
		return nil, err
	}
	if err := b.sameSchema(ctx, k.database); err != nil {
		return nil, err
	}
	return k, b.reform(ctx, k, s)
}

// sameSchema compares the schema of a kept book with that of an empty one: they may
// differ if the book was loaded while a migration was still being written.
func (b *bench) sameSchema(ctx context.Context, database string) error {
	const fresh = "benchsearch_empty"
	if err := b.NewDatabase(ctx, fresh); err != nil {
		return err
	}
	var texts [2]string
	for i, name := range []string{fresh, database} {
		err := b.On(ctx, name, func(conn *pgx.Conn) (err error) {
			texts[i], err = definition(ctx, conn)
			return err
		})
		if err != nil {
			return err
		}
	}
	if texts[0] != texts[1] {
		return fmt.Errorf("%s in %s does not have the schema of the migrations: remove the directory, or set DATA to another",
			database, b.Data)
	}
	return nil
}

// reform makes the search rows of a kept book again if an older program made them.
func (b *bench) reform(ctx context.Context, k *book, s *harness.Section) error {
	pool, err := pgxpool.New(ctx, b.Postgres.URL(k.database))
	if err != nil {
		return err
	}
	defer pool.Close()
	store := postgres.New(pool, postgres.Config{})
	done, after := 0, ""
	for {
		n, last, err := store.ReformAfter(ctx, after)
		if err != nil || n == 0 {
			s.Add(harness.Figure{Name: "search rows made again", Value: float64(done), Unit: "repositories"})
			return err
		}
		done, after = done+n, last
	}
}

// loaded reports whether a database holds a completely loaded book.
func (b *bench) loaded(ctx context.Context, database, mark string) (yes bool, err error) {
	const q = `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1 AND shobj_description(oid, 'pg_database') = $2)`
	err = b.On(ctx, "postgres", func(conn *pgx.Conn) error { return conn.QueryRow(ctx, q, database, mark).Scan(&yes) })
	return yes, err
}
