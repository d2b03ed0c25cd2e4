package database_test

import (
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/portbook/portbook/indexer/config"
	"github.com/portbook/portbook/indexer/database"
)

// What the URL leaves out has a default. Both users must open the same database.
func TestParse(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		url, database, application string
		timeout                    time.Duration
	}{
		{"postgres://u:p@h/d?sslmode=disable", "d", "portbook-indexer", 5 * time.Second},
		{"postgres://u:p@h?sslmode=disable", "u", "portbook-indexer", 5 * time.Second},
		{"postgres://u:p@h/d?sslmode=disable&connect_timeout=2&application_name=a", "d", "a", 2 * time.Second},
	} {
		cs, _ := parse(t, test.url, "PORTBOOK_DATABASE_MIGRATIONUSER=m", "PORTBOOK_DATABASE_MIGRATIONPASSWORD=q")
		c := cs.SchemaConfig().Conn
		if got := c.RuntimeParams["application_name"]; got != test.application {
			t.Errorf("%s: the application is %q, want %q", test.url, got, test.application)
		}
		if c.Database != test.database || c.ConnectTimeout != test.timeout {
			t.Errorf("%s: database %q, timeout %v; want %q, %v", test.url, c.Database, c.ConnectTimeout, test.database, test.timeout)
		}
	}
}

// The text of an error must not have any part of a URL that cannot be parsed: it may
// be of a password.
func TestParseHidesPassword(t *testing.T) {
	t.Parallel()
	c := config.Config{Database: config.Database{Postgres: config.Postgres{URL: "postgres://u:sec@ret@h:x/d"}}}
	_, err := database.Parse(c, slog.New(slog.DiscardHandler))
	if err == nil || strings.Contains(err.Error(), "sec") || strings.Contains(err.Error(), "ret@") {
		t.Errorf("got %v, want an error without the password", err)
	}
	if !strings.Contains(err.Error(), "write postgres://user:password@host:port/database") {
		t.Errorf("got %q, want a remedy", err)
	}
}

// The migrating user must not use the password of another user, and only a writer's
// user is granted the privileges of one.
func TestMigratingUser(t *testing.T) {
	t.Parallel()
	const url = "postgres://u:p@h/d?sslmode=disable"
	for _, test := range []struct {
		name           string
		environ        []string
		user, password string
		source         string // of the migrating user's password
		writer         string
		onlyPrimary    bool
	}{
		{"the same user", nil, "u", "p", "given", "u", true},
		{"the same user by name", []string{"PORTBOOK_DATABASE_MIGRATIONUSER=u"}, "u", "p", "given", "u", true},
		{"another user", []string{"PORTBOOK_DATABASE_MIGRATIONUSER=m"}, "m", "", "none", "u", true},
		{
			"another user with a password",
			[]string{"PORTBOOK_DATABASE_MIGRATIONUSER=m", "PORTBOOK_DATABASE_MIGRATIONPASSWORD=q"},
			"m", "q", "given", "u", true,
		},
		{"a reader", []string{"PORTBOOK_ROLE=reader"}, "u", "p", "given", "", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			cs, _ := parse(t, url, test.environ...)
			c := cs.SchemaConfig()
			if c.Conn.User != test.user || c.Conn.Password != test.password || c.Writer != test.writer {
				t.Errorf("user %q, password %q, writer %q", c.Conn.User, c.Conn.Password, c.Writer)
			}
			work, migrate := cs.PasswordSources()
			if work != "given" || !strings.HasPrefix(migrate, test.source) {
				t.Errorf("the passwords come from %q and %q", work, migrate)
			}
			if got := c.Conn.ValidateConnect != nil; got != test.onlyPrimary {
				t.Errorf("connects to a primary only: %v", got)
			}
		})
	}
}

// With dynamicAuth there is no password to read, but one is made for each connection.
func TestNewWithDynamicAuth(t *testing.T) {
	t.Parallel()
	c := load(t, "postgres://u@h/d", "PORTBOOK_DATABASE_DYNAMICAUTH_AWSRDSIAM_REGION=eu-west-1")
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	cs, err := database.New(t.Context(), c, log)
	if err != nil {
		t.Fatal(err)
	}
	if cs.SchemaConfig().BeforeConnect == nil {
		t.Error("nothing makes a password for a connection")
	}
	if work, migrate := cs.PasswordSources(); work != "database.dynamicAuth" || migrate != work {
		t.Errorf("the passwords come from %q and %q", work, migrate)
	}
}
