package database

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
)

// Explain returns an error of connecting to the database with a text of one line:
// the user, the address, the reason and the remedy. It returns other errors as they
// are.
func Explain(err error) error {
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
	text := fmt.Sprintf("no connection to the database as %s@%s/%s: %s",
		c.User, strings.Join(hosts, ","), databaseOf(c), reason)
	if remedy := remedy(failed); remedy != "" {
		text += ": " + remedy
	}
	return &explained{text, err}
}

type explained struct {
	text string
	err  error
}

func (e *explained) Error() string { return e.text }
func (e *explained) Unwrap() error { return e.err }

// remedy returns what an operator can do, or "". The codes are in
// https://www.postgresql.org/docs/current/errcodes-appendix.html
func remedy(failed *pgconn.ConnectError) string {
	var answer *pgconn.PgError
	if errors.As(failed, &answer) {
		switch answer.Code {
		case "28P01": // invalid_password
			if failed.Config.Password == "" {
				return "no password was given: set database.password or database.migrationPassword, or add a line for" +
					" this user to the pgpass file (portbook config check shows which file is read)"
			}
			return "portbook config check shows the source of this user's password"
		case "28000": // invalid_authorization_specification
			return "check the user, and the server's pg_hba.conf for this user, address and TLS; on RDS with" +
				" dynamicAuth, GRANT rds_iam to the user, and allow rds-db:connect as this user in the workload's IAM" +
				" role"
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
		return "a writer needs the primary: add its host, or promote this server"
	case pgconn.Timeout(failed):
		return "check host and port, and that no firewall blocks them"
	}
	return ""
}

// Away reports whether the database is unavailable for now: it is down, starts up or
// shuts down, or has no free connection.
func Away(err error) bool {
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		switch refused.Code {
		case "57P01", "57P02", "57P03", "53300": // admin_shutdown, crash_shutdown, cannot_connect_now, too_many_connections
			return true
		}
		return false
	}
	if tlsRemedy(err) != "" {
		return false
	}
	var connect *pgconn.ConnectError
	return errors.As(err, &connect) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET)
}
