// Package schema holds the numbered migrations of the database and runs them.
//
// Migrations are files in migrations/. Each runs in one transaction and can be undone.
// Files are added, never edited. A table whose comment begins with "derived:"
// can be rebuilt by a scan of the registry; one whose comment begins with "kept:"
// cannot, and references no derived table.
//
// Any number of programs may call Up on one database at the same time: a
// session-level advisory lock lets one work while the others wait. That needs a
// direct connection, not a transaction-pooling proxy.
//
// The user who migrates owns the tables. The user who works with them needs only
// what GrantSQL grants.
package schema

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
)

//go:embed migrations/*.sql
var migrations embed.FS

// versionTable records which migrations are applied.
const versionTable = "schema_migrations"

// A Config says which database to migrate, and as whom.
type Config struct {
	// Conn connects the user who migrates.
	Conn *pgx.ConnConfig

	// BeforeConnect is called before each connection, for example to set a password
	// that is valid for a few minutes. It may be nil.
	BeforeConnect func(context.Context, *pgx.ConnConfig) error

	// LockTimeout is the maximum time that Up and Down wait for another program that
	// migrates. 0 means two minutes, more than any migration so far takes.
	LockTimeout time.Duration

	Log *slog.Logger // may be nil

	// Writer is the user who works with the schema, if that is not Conn.User. Up
	// grants it what it needs. If it is empty, Up grants to the roles only.
	Writer string
}

// A Migration is one numbered step.
type Migration struct {
	Version int64
	Name    string // of its file; empty if this program does not have it
	Applied bool
}

// Up applies all missing migrations and returns them. Then it grants missing privileges
// to the roles that exist and to Config.Writer.
//
// It returns a *NewerError and changes nothing if a migration is applied that this
// program does not have.
func Up(ctx context.Context, c Config) ([]Migration, error) {
	var done []Migration
	err := locked(ctx, c, func(db *sql.DB, p *goose.Provider) error {
		results, err := p.Up(ctx)
		if done = applied(results); err != nil {
			return err
		}
		return grantAll(ctx, db, c)
	})
	if err != nil {
		return done, fmt.Errorf("migrate up: %w", refusal(c, err))
	}
	return done, nil
}

// Down undoes the latest n migrations and returns them, latest first. If fewer than n
// are applied, it returns an error and undoes none.
func Down(ctx context.Context, c Config, n int) ([]Migration, error) {
	var done []Migration
	err := locked(ctx, c, func(db *sql.DB, p *goose.Provider) error {
		version, err := p.GetDBVersion(ctx)
		if err != nil {
			return err
		}
		if int64(n) > version {
			return fmt.Errorf("cannot undo %d migrations: only %d are applied", n, version)
		}
		results, err := p.DownTo(ctx, version-int64(n))
		done = applied(results)
		return err
	})
	if err != nil {
		return done, fmt.Errorf("migrate down: %w", refusal(c, err))
	}
	return done, nil
}

// refusal adds the remedy to an error about missing rights. A user without rights can
// call Up only if the schema is up to date.
func refusal(c Config, err error) error {
	var refused *pgconn.PgError
	if errors.As(err, &refused) && refused.Code == "42501" { // insufficient_privilege
		return fmt.Errorf("%w: the user %q may not change the schema: set database.migrationUser to the owner"+
			" of the tables or, if there are none, to a user with CREATE on the schema", err, c.Conn.User)
	}
	return err
}

// Status returns all migrations in order: those of this program, and those that a
// newer program has applied. It needs only SELECT.
func Status(ctx context.Context, c Config) ([]Migration, error) {
	all, err := known()
	if err != nil {
		return nil, err
	}
	db := open(c)
	defer db.Close()
	versions, err := appliedVersions(ctx, db)
	if err != nil {
		return nil, fmt.Errorf("migrate status: %w", err)
	}
	for i, m := range all {
		all[i].Applied = versions[m.Version]
		delete(versions, m.Version)
	}
	return append(all, unknown(versions)...), nil
}

// Migrations returns the files of the migrations.
func Migrations() fs.FS {
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		panic(err) // the folder is embedded at build time
	}
	return sub
}

// locked runs f while no other program migrates the database.
func locked(ctx context.Context, c Config, f func(*sql.DB, *goose.Provider) error) (err error) {
	db := open(c)
	defer func() { err = errors.Join(err, db.Close()) }() // ends the session, which releases the lock
	if err := lockSession(ctx, db, c); err != nil {
		return err
	}
	if err := checkNewer(ctx, db); err != nil {
		return err
	}
	p, err := provider(db)
	if err != nil {
		return err
	}
	return f(db, p)
}

func provider(db *sql.DB) (*goose.Provider, error) {
	store, err := database.NewStore(database.DialectPostgres, versionTable)
	if err != nil {
		return nil, err
	}
	// The dialect must be empty if WithStore is used.
	return goose.NewProvider("", db, Migrations(), goose.WithStore(store))
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
