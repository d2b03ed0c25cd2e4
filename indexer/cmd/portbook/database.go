package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/portbook/portbook/indexer/config"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/rdsiam"
	"github.com/portbook/portbook/schema"
)

// connectTimeout bounds reaching and logging in to one host, so that a dead one
// does not keep a writer from the next: 5 s, where a log-in over TLS takes some
// 10 ms. connect_timeout in the URL and PGCONNECT_TIMEOUT say otherwise.
const connectTimeout = 5 * time.Second

// A connection is how one user reaches the database.
type connection struct {
	*pgx.ConnConfig
	password string // where it comes from, for a person to read
}

// connections are those of the working user and of the migrating user.
type connections struct {
	pool          *pgxpool.Config // of work
	work, migrate connection
	beforeConnect func(context.Context, *pgx.ConnConfig) error // makes a password for each; or nil
}

// connect makes connections of a configuration. It connects to nothing, but for
// asking AWS where it runs if it is told to detect that. What is wrong with the
// pgpass file goes to log, once.
func connect(ctx context.Context, c config.Config, log *slog.Logger) (connections, error) {
	cs, err := connectionsOf(c, log)
	if region := c.Database.DynamicAuth.AWSRDSIAM.Region; err == nil && region != "" {
		var auth *rdsiam.Auth
		if auth, err = rdsiam.New(ctx, rdsiam.Config{Region: region, Log: log}); err == nil {
			cs.beforeConnect, cs.pool.BeforeConnect = auth.BeforeConnect, auth.BeforeConnect
		}
	}
	return cs, err
}

func connectionsOf(c config.Config, log *slog.Logger) (connections, error) {
	d := c.Database
	pool, err := pgxpool.ParseConfig(d.ConnString())
	if err != nil { // config has checked it; pgx's text may hold pieces of a password
		return connections{}, errors.New("database.postgres.url cannot be understood: write it as postgres://user:password@host:port/database")
	}
	pool.MaxConnLifetime = d.ConnMaxLifetime
	pc := pool.ConnConfig
	if pc.ConnectTimeout == 0 {
		pc.ConnectTimeout = connectTimeout
	}
	if pc.RuntimeParams["application_name"] == "" {
		pc.RuntimeParams["application_name"] = userAgent
	}
	pc.Database = databaseOf(&pc.Config) // the migrating user must not find another
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
	if c.Role == config.Writer { // any server would do for work, but not for a migration
		migrate.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	cs := connections{pool: pool, work: work, migrate: migrate}
	return cs, cs.passwords(d, log)
}

// A share is how many connections one pool may have, and how many of them it keeps
// when nobody needs them.
type share struct{ open, idle int }

// shares returns what of the connections ingestion has, and what readers' requests
// have: these come from anybody, and must not keep pushes from getting into the
// book. If read is zero, there is one pool for everything: of a reader, and of a
// writer that may have 2 connections only.
//
// Ingestion gets two fifths, at least 2, since the leader's session keeps one: 10
// of 25 take in several hundred pushes a second.
func shares(c config.Config) (ingest, read share) {
	all := share{c.Database.MaxOpenConns, c.Database.MaxIdleConns}
	if c.Role == config.Reader || all.open < 3 {
		return all, share{}
	}
	ingest.open = max(2*all.open/5, 2)
	ingest.idle = min(all.idle-all.idle/2, ingest.open)
	return ingest, share{all.open - ingest.open, min(all.idle-ingest.idle, all.open-ingest.open)}
}

// openPools opens the pools of a process. It connects to nothing.
func (p *parts) openPools(ctx context.Context) (err error) {
	ingest, read := shares(p.config)
	if p.pool, err = p.openPool(ctx, ingest); err != nil {
		return err
	}
	p.store = p.newStore(p.pool)
	p.reads, p.readers = p.store, ingest.open
	if read.open == 0 {
		return nil
	}
	pool, err := p.openPool(ctx, read)
	if err != nil {
		return err
	}
	p.reads, p.readers = p.newStore(pool), read.open
	return nil
}

func (p *parts) openPool(ctx context.Context, s share) (*pgxpool.Pool, error) {
	sized := p.database.pool.Copy()
	sized.MaxConns = int32(min(s.open, 1<<15)) // the configuration allows no more than Postgres does
	pool, keepIdle, err := postgres.OpenPool(ctx, sized, s.idle)
	if err != nil {
		return nil, fmt.Errorf("database: %w", err)
	}
	p.pools, p.keepIdle = append(p.pools, pool), append(p.keepIdle, keepIdle)
	return pool, nil
}

func (p *parts) newStore(pool *pgxpool.Pool) *postgres.Store {
	s := postgres.New(pool)
	s.Official, s.Log, s.Strangers = p.config.Search.OfficialNamespaces, p.log, p.config.Events.Token == ""
	return s
}

// passwords looks for those in the pgpass file that nothing else gives.
func (cs *connections) passwords(d config.Database, log *slog.Logger) error {
	if d.DynamicAuth.AWSRDSIAM.Region != "" {
		cs.work.password, cs.migrate.password = "database.dynamicAuth", "database.dynamicAuth"
		return nil
	}
	if cs.work.Password != "" && cs.migrate.Password != "" {
		return nil
	}
	file, err := readPassfile(d.Passfile)
	switch {
	case errors.Is(err, fs.ErrNotExist) && d.PassfileFrom == "": // the one in the home directory is read if it is there
	case errors.Is(err, fs.ErrNotExist):
		log.Warn("pgpass file not used: it is not there", "file", d.Passfile, "named_by", d.PassfileFrom, "remedy", "make it, with mode 0600, or name another")
	case err != nil:
		log.Warn("pgpass file not used", "file", d.Passfile, "error", err)
	}
	return errors.Join(cs.work.look(file), cs.migrate.look(file))
}

// look takes the password from a pgpass file, unless there is one.
//
// pgx has one password for all hosts of a list, and so have the servers of one
// cluster: a standby has the users of its primary. A file that says otherwise
// cannot be followed.
func (c *connection) look(file passfile) error {
	if c.Password != "" {
		return nil
	}
	c.password = "none"
	if file.path != "" {
		c.password = fmt.Sprintf("none: no line fits in pgpass file %s", file.path)
		if file.lines == nil {
			c.password = fmt.Sprintf("none: pgpass file %s is absent or not used", file.path)
		}
	}
	found := 0
	for _, h := range append([]*pgconn.FallbackConfig{{Host: c.Host, Port: c.Port}}, c.Fallbacks...) {
		password, line := file.find(h.Host, h.Port, databaseOf(&c.Config), c.User)
		if line == 0 {
			continue
		}
		if found != 0 && password != c.Password {
			return fmt.Errorf("pgpass file %s: lines %d and %d have different passwords of %q for the hosts of one list: give the servers of one cluster one password", file.path, found, line, c.User)
		}
		if found == 0 {
			found, c.Password, c.password = line, password, fmt.Sprintf("pgpass file %s:%d", file.path, line)
		}
	}
	return nil
}

// databaseOf is the database that Postgres opens.
func databaseOf(c *pgconn.Config) string {
	if c.Database == "" {
		return c.User
	}
	return c.Database
}

// schemaConfig is how the schema is changed. A writer's user is granted what it
// needs; that of a reader gets no more than it has.
func (p *parts) schemaConfig() schema.Config {
	c := schema.Config{
		Conn: p.database.migrate.ConnConfig, BeforeConnect: p.database.beforeConnect,
		LockTimeout: p.config.Database.MigrationLockTimeout, Log: p.log,
	}
	if p.config.Role == config.Writer {
		c.Writer = p.database.work.User
	}
	return c
}

// refusal gives an error of connecting to the database in one line: as whom,
// where, why and what to do. Other errors it gives as they are. The error's kind
// is kept.
func refusal(err error) error {
	var failed *pgconn.ConnectError
	if !errors.As(err, &failed) {
		return err
	}
	c := failed.Config
	var hosts []string
	for _, h := range append([]*pgconn.FallbackConfig{{Host: c.Host, Port: c.Port}}, c.Fallbacks...) {
		_, address := pgconn.NetworkAddress(h.Host, h.Port)
		hosts = append(hosts, address)
	}
	reason := strings.ReplaceAll(failed.Unwrap().Error(), "\n", "; ")
	text := fmt.Sprintf("no connection to the database as %s@%s/%s: %s", c.User, strings.Join(hosts, ","), databaseOf(c), reason)
	if remedy := remedy(failed); remedy != "" {
		text += ": " + remedy
	}
	return &refused{text, err}
}

type refused struct {
	text string
	err  error
}

func (r *refused) Error() string { return r.text }
func (r *refused) Unwrap() error { return r.err }

// remedy says what an operator can do. The codes are in
// https://www.postgresql.org/docs/current/errcodes-appendix.html
func remedy(failed *pgconn.ConnectError) string {
	var answer *pgconn.PgError
	if errors.As(failed, &answer) {
		switch answer.Code {
		case "28P01": // invalid_password
			if failed.Config.Password == "" {
				return "no password was given: set database.password or database.migrationPassword, or add a line for this user to the pgpass file (portbook config check tells what is read)"
			}
			return "portbook config check tells where this user's password is read"
		case "28000": // invalid_authorization_specification
			return "check the user, and the server's pg_hba.conf for this user, address and TLS; on RDS with dynamicAuth, GRANT rds_iam to the user, and let the workload's IAM role rds-db:connect as it"
		case "3D000": // invalid_catalog_name
			return "create the database, or correct database.database or the URL"
		case "42501": // insufficient_privilege
			return "GRANT CONNECT ON DATABASE to this user"
		case "42704": // undefined_object
			return "correct the parameter in the URL or PGOPTIONS"
		}
		return ""
	}
	return networkRemedy(failed)
}

func networkRemedy(failed error) string {
	var name *net.DNSError
	switch tls := tlsRemedy(failed); {
	case tls != "":
		return tls
	case errors.As(failed, &name):
		return "correct database.host or the URL"
	case errors.Is(failed, syscall.ECONNREFUSED), errors.Is(failed, os.ErrNotExist):
		return "start PostgreSQL, or correct host and port"
	case errors.Is(failed, pgconn.ErrReadOnlyConnection), errors.Is(failed, pgconn.ErrStandbyConnection):
		return "a writer needs the primary: add its host, or promote this one"
	case pgconn.Timeout(failed):
		return "check that a firewall lets host and port through"
	}
	return ""
}
