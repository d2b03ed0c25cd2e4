// Package schema is the database: numbered migrations, and how they are run.
//
// Migrations are files in migrations/, each in one transaction, with a way up
// and a way down. They are added, never edited. Tables whose comment begins with
// "derived" can be rebuilt by a scan of the registry; those that begin with
// "kept" cannot, and refer to no derived table.
//
// Any number of programs may call Up on one database at once: a session-level
// advisory lock lets one of them work while the others wait. That needs a direct
// connection, not a transaction-pooling proxy.
package schema

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations/*.sql
var migrations embed.FS

// versionTable records which migrations have been applied.
const versionTable = "schema_migrations"

// How long Up and Down wait for another program that migrates: one try a second
// for two minutes. goose's own default of five seconds between tries made five
// starters take 6 s where one second takes 3 (measured); two minutes is more
// than any migration so far needs.
const (
	lockEvery = 1   // seconds
	lockTries = 120 // times
)

// A Migration is one numbered step.
type Migration struct {
	Version int64
	Name    string
	Applied bool
}

// Up applies every migration that is not yet applied and returns those it
// applied, which may be none.
func Up(ctx context.Context, config *pgx.ConnConfig) ([]Migration, error) {
	var done []Migration
	err := with(config, func(p *goose.Provider) error {
		results, err := p.Up(ctx)
		done = applied(results)
		return err
	})
	if err != nil {
		return done, fmt.Errorf("migrate up: %w", err)
	}
	return done, nil
}

// Down takes back the latest n migrations and returns them, latest first. It
// takes back none if fewer than n are applied.
func Down(ctx context.Context, config *pgx.ConnConfig, n int) ([]Migration, error) {
	var done []Migration
	err := with(config, func(p *goose.Provider) error {
		version, err := p.GetDBVersion(ctx)
		if err != nil {
			return err
		}
		if int64(n) > version {
			return fmt.Errorf("cannot take back %d migrations: %d are applied", n, version)
		}
		results, err := p.DownTo(ctx, version-int64(n))
		done = applied(results)
		return err
	})
	if err != nil {
		return done, fmt.Errorf("migrate down: %w", err)
	}
	return done, nil
}

// Status lists all migrations in order and whether each is applied.
func Status(ctx context.Context, config *pgx.ConnConfig) ([]Migration, error) {
	var all []Migration
	err := with(config, func(p *goose.Provider) error {
		status, err := p.Status(ctx)
		for _, s := range status {
			all = append(all, Migration{Version: s.Source.Version, Name: name(s.Source), Applied: s.State == goose.StateApplied})
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("migrate status: %w", err)
	}
	return all, nil
}

// Migrations gives the files, for tests.
func Migrations() fs.FS {
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		panic(err) // the folder is embedded at build time
	}
	return sub
}

// with runs f on a provider for the database of config.
func with(config *pgx.ConnConfig, f func(*goose.Provider) error) (err error) {
	db := stdlib.OpenDB(*config)
	defer func() { err = errors.Join(err, db.Close()) }()
	p, err := provider(db)
	if err != nil {
		return err
	}
	return f(p)
}

func provider(db *sql.DB) (*goose.Provider, error) {
	store, err := database.NewStore(database.DialectPostgres, versionTable)
	if err != nil {
		return nil, err
	}
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(lockEvery, lockTries))
	if err != nil {
		return nil, err
	}
	// A store of our own excludes a dialect, hence the empty one.
	return goose.NewProvider("", db, Migrations(), goose.WithStore(store), goose.WithSessionLocker(locker))
}

func applied(results []*goose.MigrationResult) []Migration {
	var done []Migration
	for _, r := range results {
		if r.Error == nil {
			done = append(done, Migration{Version: r.Source.Version, Name: name(r.Source), Applied: r.Direction == "up"})
		}
	}
	return done
}

func name(s *goose.Source) string { return s.Path }
