package schema

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// oldestServer is the oldest major version of PostgreSQL that our SQL runs on.
const oldestServer = 14

// ErrNotMigrated means that migrations are missing. The start of a writer or
// `portbook migrate up` applies them.
var ErrNotMigrated = errors.New("the schema is not up to date")

// A NewerError means that the database has migrations that this program does not
// have, so the program cannot use it.
type NewerError struct {
	Database int64 // the latest migration of the database
	Program  int64 // the latest that this program knows
}

func (e *NewerError) Error() string {
	return fmt.Sprintf("the schema of the database is at version %d, and this program knows versions up to %d:"+
		" run a newer program, or undo the migrations with the program that applied them (portbook migrate down)",
		e.Database, e.Program)
}

// Check returns nil if this program can work with the schema of the database. It
// needs only SELECT, so readers on a standby can call it.
//
// It returns ErrNotMigrated if migrations are missing, and a *NewerError if there are
// some that this program does not have.
func Check(ctx context.Context, conn *pgx.Conn) error {
	if err := supported(conn.PgConn()); err != nil {
		return err
	}
	versions, err := versionsOf(ctx, conn)
	if err != nil {
		return err
	}
	return compare(versions, true)
}

// versionsOf returns the applied versions in order. It returns ErrNotMigrated if the
// table of versions does not exist.
func versionsOf(ctx context.Context, conn *pgx.Conn) ([]int64, error) {
	rows, err := conn.Query(ctx, versionsQuery)
	if err != nil {
		return nil, versionsError(err)
	}
	versions, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	return versions, versionsError(err)
}

// versionsQuery selects the applied versions. Version 0 is a row that goose adds when
// it creates the table.
const versionsQuery = "SELECT version_id FROM " + versionTable +
	" WHERE is_applied AND version_id > 0 ORDER BY version_id"

// versionsError adds the kind or the remedy to an error of versionsQuery.
func versionsError(err error) error {
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		switch refused.Code {
		case "42P01": // undefined_table
			return fmt.Errorf("%w: there is no table %s", ErrNotMigrated, versionTable)
		case "42501": // insufficient_privilege
			return fmt.Errorf("%w: GRANT SELECT ON %s to the user, or make it a member of portbook_reader or portbook_writer",
				err, versionTable)
		}
	}
	return err
}

// compare returns an error if versions, in order, are not those of this program.
// Missing versions are an error only if complete is set.
func compare(versions []int64, complete bool) error {
	all, err := known()
	if err != nil {
		return err
	}
	latest := all[len(all)-1].Version
	if n := len(versions); n > 0 && versions[n-1] > latest {
		return &NewerError{Database: versions[n-1], Program: latest}
	}
	if missing := len(all) - len(versions); complete && missing > 0 {
		return fmt.Errorf("%w: %d of %d migrations are missing", ErrNotMigrated, missing, len(all))
	}
	return nil
}

// checkNewer returns a *NewerError if the database is newer than this program.
func checkNewer(ctx context.Context, db *sql.DB) error {
	versions, err := appliedVersions(ctx, db)
	if err != nil {
		return err
	}
	var sorted []int64
	for v := range versions {
		sorted = append(sorted, v)
	}
	slices.Sort(sorted)
	return compare(sorted, false)
}

// appliedVersions returns the set of applied versions. It is empty if the table of
// versions does not exist.
func appliedVersions(ctx context.Context, db *sql.DB) (map[int64]bool, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	versions := map[int64]bool{}
	err = conn.Raw(func(driver any) error {
		applied, err := versionsOf(ctx, driver.(*stdlib.Conn).Conn())
		for _, v := range applied {
			versions[v] = true
		}
		return err
	})
	if errors.Is(err, ErrNotMigrated) {
		err = nil
	}
	return versions, err
}

// known returns the migrations of this program in order.
func known() ([]Migration, error) {
	files, err := fs.Glob(Migrations(), "*.sql")
	if err != nil {
		return nil, err
	}
	var all []Migration
	for _, file := range files { // sorted, because fs.ReadDir sorts
		number, _, _ := strings.Cut(file, "_")
		version, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("migration %s has no number", file)
		}
		all = append(all, Migration{Version: version, Name: file})
	}
	return all, nil
}

// unknown returns the migrations for versions that this program does not have.
func unknown(versions map[int64]bool) []Migration {
	var list []Migration
	for v := range versions {
		list = append(list, Migration{Version: v, Applied: true})
	}
	slices.SortFunc(list, func(a, b Migration) int { return int(a.Version - b.Version) })
	return list
}

// supported returns an error if the server is too old. A server sends its version at
// the start of a session.
func supported(conn *pgconn.PgConn) error {
	version := conn.ParameterStatus("server_version")
	digits := strings.IndexFunc(version, func(r rune) bool { return r < '0' || r > '9' })
	if digits < 0 {
		digits = len(version)
	}
	major, err := strconv.Atoi(version[:digits])
	if err != nil || major >= oldestServer { // accepts a version that is not PostgreSQL's
		return nil
	}
	return fmt.Errorf("the server is PostgreSQL %s: %d or later is required; upgrade it, or set database.host"+
		" to another server", version, oldestServer)
}
