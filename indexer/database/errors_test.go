package database_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/portbook/portbook/indexer/database"
)

// connect returns the error of a connection.
func connect(t *testing.T, url string) error {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err == nil {
		conn.Close(context.WithoutCancel(t.Context()))
	}
	return err
}

// Each refusal of a real server must be explained with the user, the address, the
// reason and a remedy. Only a database that will be available later is away.
func TestExplain(t *testing.T) {
	t.Parallel()
	execute(t, "postgres", `
		CREATE ROLE explained LOGIN PASSWORD 'p';
		CREATE ROLE "without login" PASSWORD 'p';
		CREATE ROLE crowded LOGIN CONNECTION LIMIT 0 PASSWORD 'p';`)
	execute(t, "postgres", "CREATE DATABASE closed")
	execute(t, "postgres", "REVOKE CONNECT ON DATABASE closed FROM PUBLIC")
	for _, test := range []struct {
		name, url string
		says      []string
		away      bool
	}{
		{
			name: "wrong password", url: serverURL(t, "postgres", "explained", "wrong"),
			says: []string{"as explained@127.0.0.1:", "/postgres: ", "28P01", "portbook config check shows the source"},
		},
		{
			name: "no password", url: serverURL(t, "postgres", "explained", ""),
			says: []string{"no password was given: set database.password"},
		},
		{
			name: "a role that may not log in", url: serverURL(t, "postgres", "without login", "p"),
			says: []string{"28000", "check the user, and the server's pg_hba.conf"},
		},
		{
			name: "no such database", url: serverURL(t, "none", "explained", "p"),
			says: []string{"/none: ", "3D000", "create the database"},
		},
		{
			name: "no privilege", url: serverURL(t, "closed", "explained", "p"),
			says: []string{"42501", "GRANT CONNECT ON DATABASE to this user"},
		},
		{
			name: "no such parameter", url: serverURL(t, "postgres", "explained", "p") + "&no_such_parameter=1",
			says: []string{"42704", "correct the parameter in the URL or PGOPTIONS"},
		},
		{
			name: "too many connections", url: serverURL(t, "postgres", "crowded", "p"),
			says: []string{"53300"}, away: true,
		},
		{
			name: "no server", url: closedPort(t),
			says: []string{"start PostgreSQL, or correct host and port"}, away: true,
		},
		{
			name: "no socket", url: "postgres://u@/d?host=/no/such/directory",
			says: []string{"as u@/no/such/directory/.s.PGSQL.5432/d: ", "start PostgreSQL, or correct host and port"}, away: true,
		},
		{
			name: "no TLS", url: strings.Replace(serverURL(t, "postgres", "explained", "p"), "disable", "require", 1),
			says: []string{"database.sslMode requires TLS: turn it on in the server"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			err := connect(t, test.url)
			if err == nil {
				t.Fatal("it connects")
			}
			if got := database.Away(err); got != test.away {
				t.Errorf("away: %v, want %v: %v", got, test.away, err)
			}
			checkExplained(t, err, test.says)
		})
	}
}

func checkExplained(t *testing.T, err error, says []string) {
	t.Helper()
	explained := database.Explain(fmt.Errorf("ping: %w", err))
	text := explained.Error()
	for _, want := range append(says, "no connection to the database as ") {
		if !strings.Contains(text, want) {
			t.Errorf("%q does not say %q", text, want)
		}
	}
	if strings.Contains(text, "\n") {
		t.Errorf("%q has more than one line", text)
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](explained); !ok {
		t.Error("the error itself is lost")
	}
}

// closedPort returns the URL of a port where nothing listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return fmt.Sprintf("postgres://u@%s/d?sslmode=disable", l.Addr())
}

// Errors that are not about connecting must stay as they are.
func TestExplainOtherErrors(t *testing.T) {
	t.Parallel()
	if err := database.Explain(nil); err != nil {
		t.Errorf("nil became %v", err)
	}
	if err := database.Explain(io.EOF); err != io.EOF {
		t.Errorf("EOF became %v", err)
	}
}

// A connection that breaks, and a server that stops, are away; an error of a statement
// is not.
func TestAway(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		err  error
		want bool
	}{
		{errors.New("other"), false},
		{&pgconn.PgError{Code: "57P01"}, true},
		{&pgconn.PgError{Code: "57P03"}, true},
		{&pgconn.PgError{Code: "42P01"}, false},
		{fmt.Errorf("read: %w", io.ErrUnexpectedEOF), true},
		{fmt.Errorf("read: %w", syscall.ECONNRESET), true},
	} {
		if got := database.Away(test.err); got != test.want {
			t.Errorf("%v: away is %v", test.err, got)
		}
	}
}
