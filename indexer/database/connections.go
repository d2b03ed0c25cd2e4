// Package database connects to the database that a configuration names: users and
// their passwords, TLS, pools of connections, errors with a remedy, and prime-db.
package database

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/portbook/portbook/indexer/config"
	"github.com/portbook/portbook/indexer/rdsiam"
	"github.com/portbook/portbook/schema"
)

// connectTimeout limits connecting and logging in to one host, so that a writer tries
// the next host if one is down. A login with TLS takes about 10 ms. connect_timeout
// in the URL and PGCONNECT_TIMEOUT override it.
const connectTimeout = 5 * time.Second

// applicationName is what pg_stat_activity shows for our connections, unless the
// configuration names another.
const applicationName = "portbook-indexer"

// A connection is the connection settings of one user.
type connection struct {
	*pgx.ConnConfig
	password string // the source of the password, for people to read
}

// Connections are the connection settings of the working user and the migrating user.
type Connections struct {
	config        config.Config
	log           *slog.Logger
	pool          *pgxpool.Config // of the working user
	work, migrate connection
	beforeConnect func(context.Context, *pgx.ConnConfig) error // creates a password for each connection; may be nil
}

// New returns the connections of a configuration. It does not connect, but asks AWS
// for the region if the configuration says so. It logs a pgpass file that cannot be
// used.
func New(ctx context.Context, c config.Config, log *slog.Logger) (*Connections, error) {
	cs, err := Parse(c, log)
	if err != nil {
		return nil, err
	}
	region := c.Database.DynamicAuth.AWSRDSIAM.Region
	if region == "" {
		return cs, nil
	}
	auth, err := rdsiam.New(ctx, rdsiam.Config{Region: region, Log: log})
	if err != nil {
		return nil, err
	}
	cs.beforeConnect, cs.pool.BeforeConnect = auth.BeforeConnect, auth.BeforeConnect
	return cs, nil
}

// Parse is like New, but does not use AWS. With dynamicAuth, the result cannot connect
// and only PasswordSources is useful.
func Parse(c config.Config, log *slog.Logger) (*Connections, error) {
	d := c.Database
	pool, err := pgxpool.ParseConfig(d.ConnString())
	if err != nil { // not wrapped: pgx's text may contain parts of a password
		return nil, errors.New("database.postgres.url cannot be parsed: write postgres://user:password@host:port/database")
	}
	pool.MaxConnLifetime = d.ConnMaxLifetime
	pc := pool.ConnConfig
	if pc.ConnectTimeout == 0 {
		pc.ConnectTimeout = connectTimeout
	}
	if pc.RuntimeParams["application_name"] == "" {
		pc.RuntimeParams["application_name"] = applicationName
	}
	pc.Database = databaseOf(&pc.Config) // the same for the migrating user
	work := connection{pc, "given"}
	migrate := connection{pc.Copy(), "given"}
	if d.MigrationUser != "" {
		migrate.User = d.MigrationUser
	}
	if migrate.User != work.User {
		migrate.Password = ""
	}
	if d.MigrationPassword != "" {
		migrate.Password = d.MigrationPassword
	}
	if c.Role == config.Writer { // a migration needs the primary
		migrate.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	cs := &Connections{config: c, log: log, pool: pool, work: work, migrate: migrate}
	return cs, cs.passwords(d, log)
}

// PasswordSources says, for people to read, where the passwords of the working user
// and of the migrating user come from.
func (cs *Connections) PasswordSources() (work, migrate string) {
	return cs.work.password, cs.migrate.password
}

// databaseOf returns the database that Postgres opens: by default, that of the user.
func databaseOf(c *pgconn.Config) string {
	if c.Database == "" {
		return c.User
	}
	return c.Database
}

// SchemaConfig returns the settings for changes of the schema. The user of a writer is
// granted the privileges that it needs; the user of a reader is granted nothing.
func (cs *Connections) SchemaConfig() schema.Config {
	c := schema.Config{
		Conn: cs.migrate.ConnConfig, BeforeConnect: cs.beforeConnect,
		LockTimeout: cs.config.Database.MigrationLockTimeout, Log: cs.log,
	}
	if cs.config.Role == config.Writer {
		c.Writer = cs.work.User
	}
	return c
}
