package database

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/portbook/portbook/schema"
)

// primeTimeout limits prime-db, which takes a few milliseconds unless another session
// is changing the same roles.
const primeTimeout = 30 * time.Second

// A User is a user of the database that prime-db creates or changes. By default it
// may read and write the book.
type User struct {
	Name      string
	Reader    bool // may only read
	Migration bool // creates and changes the tables
}

// maxNameLength is NAMEDATALEN - 1, in bytes: PostgreSQL truncates longer names.
const maxNameLength = 63

// Check returns an error if PostgreSQL would not accept the name unchanged.
func (u User) Check() error {
	switch {
	case u.Name == "":
		return errors.New("the user name is empty")
	case len(u.Name) > maxNameLength:
		return fmt.Errorf("the user name has %d bytes: PostgreSQL allows %d", len(u.Name), maxNameLength)
	case !utf8.ValidString(u.Name) || strings.ContainsRune(u.Name, 0):
		return fmt.Errorf("the user name %q is not text: use UTF-8 without zero bytes", u.Name)
	}
	return nil
}

// CheckUser returns an error if u has the name of the migrating user without Migration.
func (cs *Connections) CheckUser(u User) error {
	if u.Name == cs.migrate.User && !u.Migration {
		return fmt.Errorf("%q is database.migrationUser, which owns the tables: name another user, or use"+
			" --migration to set its password", u.Name)
	}
	return nil
}

// PrimeScript returns SQL that creates a user with a password, or sets its password,
// and grants the privileges that it needs. It contains the password as a SCRAM-SHA-256
// verifier.
func (cs *Connections) PrimeScript(u User, password string) (string, error) {
	verifier, err := scramVerifier(password)
	if err != nil {
		return "", err
	}
	return u.script(cs.migrate.ConnConfig, verifier), nil
}

// RunPrimeScript runs a script of PrimeScript as the migrating user.
func (cs *Connections) RunPrimeScript(ctx context.Context, script string) error {
	c := cs.SchemaConfig()
	ctx, cancel := context.WithTimeout(ctx, primeTimeout)
	defer cancel()
	conn := c.Conn.Copy()
	if c.BeforeConnect != nil {
		if err := c.BeforeConnect(ctx, conn); err != nil {
			return err
		}
	}
	db, err := pgx.ConnectConfig(ctx, conn)
	if err != nil {
		return Explain(err)
	}
	defer db.Close(context.WithoutCancel(ctx))
	_, err = db.PgConn().Exec(ctx, script).ReadAll() // the first error ends the script and its transaction
	var refused *pgconn.PgError
	if errors.As(err, &refused) && refused.Code == "42501" { // insufficient_privilege
		return fmt.Errorf("%w: database.migrationUser, %q, lacks the privilege: let a superuser run the output"+
			" of prime-db --dry-run with psql; or, if the user may not create roles, run ALTER ROLE %s CREATEROLE"+
			" (and, on PostgreSQL 16 or later, GRANT it the existing roles WITH ADMIN OPTION)",
			err, conn.User, schema.QuoteIdentifier(conn.User))
	}
	return err
}

// script returns one transaction. If it is run again, it only sets the password. Names
// are literals in it, so they may contain any character.
func (u User) script(conn *pgx.ConnConfig, verifier string) string {
	group, access := schema.WriterRole, schema.Writer
	if u.Reader {
		group, access = schema.ReaderRole, schema.Reader
	}
	statements := []string{"SET client_encoding = 'UTF8'", "BEGIN"}
	if path := conn.RuntimeParams["search_path"]; path != "" {
		statements = append(statements, "SELECT set_config('search_path', "+schema.QuoteLiteral(path)+", true)")
	}
	if u.Migration {
		group = u.Name
	}
	do := func(body string) {
		body = strings.NewReplacer(
			"@user@", schema.QuoteLiteral(u.Name),
			"@verifier@", schema.QuoteLiteral(verifier),
			"@group@", schema.QuoteLiteral(group),
			"@database@", schema.QuoteLiteral(databaseOf(&conn.Config)),
			"@migration@", fmt.Sprint(u.Migration),
			"@writers@", schema.QuoteLiteral(schema.WriterRole),
			"@reader@", fmt.Sprint(u.Reader),
		).Replace(body)
		statements = append(statements, "DO "+schema.DollarQuote(body))
	}
	do(primeRoles)
	do(primeGrants)
	if !u.Migration {
		statements = append(statements, schema.GrantSQL(group, access, conn.User))
	}
	return strings.Join(append(statements, "COMMIT"), ";\n") + ";\n"
}

const primeRoles = `
BEGIN
	IF current_database() <> @database@ THEN
		RAISE EXCEPTION 'connected to the database %, but the configuration names %', current_database(), @database@
			USING HINT = 'Connect psql to the configured database.';
	END IF;
	IF NOT @migration@ AND NOT EXISTS (SELECT FROM pg_roles WHERE rolname = @group@) THEN
		EXECUTE format('CREATE ROLE %I NOLOGIN', @group@);
	END IF;
	IF EXISTS (SELECT FROM pg_roles WHERE rolname = @user@) THEN
		EXECUTE format('ALTER ROLE %I LOGIN PASSWORD %L', @user@, @verifier@);
	ELSE
		EXECUTE format('CREATE ROLE %I LOGIN PASSWORD %L', @user@, @verifier@);
	END IF;
	IF NOT @migration@ AND NOT pg_has_role(@user@, @group@, 'USAGE') THEN
		EXECUTE format('GRANT %I TO %I', @group@, @user@);
	END IF;
	IF @reader@ AND EXISTS (SELECT FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid JOIN pg_roles u ON u.oid = m.member
		WHERE g.rolname = @writers@ AND u.rolname = @user@) THEN
		EXECUTE format('REVOKE %I FROM %I', @writers@, @user@);
	END IF;
END `

const primeGrants = `
BEGIN
	IF current_schema() IS NULL THEN
		RAISE EXCEPTION 'no schema in search_path exists: %', current_setting('search_path') USING HINT = 'Create the schema first.';
	END IF;
	IF NOT has_database_privilege(@group@, current_database(), 'CONNECT') THEN
		EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), @group@);
	END IF;
	IF NOT has_schema_privilege(@group@, current_schema(), 'USAGE') THEN
		EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', current_schema(), @group@);
	END IF;
	IF @migration@ AND NOT has_schema_privilege(@user@, current_schema(), 'CREATE') THEN
		EXECUTE format('GRANT CREATE ON SCHEMA %I TO %I', current_schema(), @user@);
	END IF;
	-- GRANT only warns if the user may not grant the privilege.
	IF NOT has_database_privilege(@group@, current_database(), 'CONNECT') OR NOT has_schema_privilege(@group@, current_schema(), 'USAGE')
		OR @migration@ AND NOT has_schema_privilege(@user@, current_schema(), 'CREATE') THEN
		RAISE EXCEPTION 'cannot grant CONNECT on database %, or USAGE or CREATE on schema %', current_database(), current_schema()
			USING ERRCODE = 'insufficient_privilege';
	END IF;
END `
