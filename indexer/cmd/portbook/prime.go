package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/spf13/cobra"
	"golang.org/x/term"
	"golang.org/x/text/unicode/norm"

	"github.com/portbook/portbook/schema"
)

// primeTimeout bounds the work of prime-db, which takes some milliseconds unless
// somebody else is changing the same roles.
const primeTimeout = 30 * time.Second

func primeCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "prime-db USER",
		Short: "Create a database user, or set its password, and grant its privileges",
		Long: `Creates a database user and grants the privileges that it needs: to read and write
the book, with --reader only to read it, with --migration to create and change its
tables. If the user exists, prime-db sets its password and grants what is missing.

The password is one line of standard input. It is not sent to the server and not
printed by --dry-run: both get a SCRAM-SHA-256 verifier.

It connects as database.migrationUser, which needs CREATEROLE. Without that, let
a superuser run the output of --dry-run.`,
		Example: `  portbook prime-db registry_app <password.txt
  portbook prime-db --reader registry_view <password.txt
  portbook prime-db --dry-run registry_app <password.txt | psql -U postgres registry`,
	}
	var u primedUser
	flags := command.Flags()
	dryRun := flags.Bool("dry-run", false, "print the SQL, and do not connect")
	flags.BoolVar(&u.reader, "reader", false, "the user may only read")
	flags.BoolVar(&u.migration, "migration", false, "the user creates and changes the tables")
	command.MarkFlagsMutuallyExclusive("reader", "migration")
	command.Args = func(command *cobra.Command, args []string) error {
		if len(args) != 1 {
			return fmt.Errorf("prime-db makes one user, and %d are named: write portbook prime-db USER", len(args))
		}
		u.name = args[0]
		if err := u.check(); err != nil {
			return err
		}
		return command.ValidateFlagGroups()
	}
	command.RunE = withDatabase(func(command *cobra.Command, p *parts) error { return p.prime(command, u, *dryRun) })
	return command
}

// A primedUser is whom prime-db makes.
type primedUser struct {
	name, verifier    string
	reader, migration bool
}

// maxNameLength is NAMEDATALEN less one: PostgreSQL cuts off what is longer.
const maxNameLength = 63

func (u primedUser) check() error {
	switch {
	case u.name == "":
		return errors.New("the name of the user is empty")
	case len(u.name) > maxNameLength:
		return fmt.Errorf("the name of the user has %d bytes: PostgreSQL keeps %d", len(u.name), maxNameLength)
	case !utf8.ValidString(u.name) || strings.ContainsRune(u.name, 0):
		return fmt.Errorf("the name of the user, %q, is not text: use UTF-8 without a zero byte", u.name)
	}
	return nil
}

func (p *parts) prime(command *cobra.Command, u primedUser, dryRun bool) error {
	c := p.schemaConfig()
	if u.name == c.Conn.User && !u.migration {
		return fmt.Errorf("%q is database.migrationUser, to whom the tables belong: give another user, or --migration to set its password", u.name)
	}
	password, err := readPassword(command)
	if err != nil {
		return err
	}
	if u.verifier, err = scramVerifier(password); err != nil {
		return err
	}
	script := u.script(c.Conn)
	if dryRun {
		_, err := io.WriteString(command.OutOrStdout(), script)
		return err
	}
	if err := p.runScript(command.Context(), c, script); err != nil {
		return fmt.Errorf("user %q was not changed: %w", u.name, err)
	}
	fmt.Fprintf(command.OutOrStdout(), "user %q is ready: it may %s\n", u.name, u.may())
	return nil
}

func (u primedUser) may() string {
	switch {
	case u.migration:
		return "make and change tables in the schema (database.migrationUser)"
	case u.reader:
		return "read the book (database.user of a reader)"
	}
	return "work with the book (database.user)"
}

// runScript runs the script as the user who migrates.
func (p *parts) runScript(ctx context.Context, c schema.Config, script string) error {
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
		return refusal(err)
	}
	defer db.Close(context.WithoutCancel(ctx))
	_, err = db.PgConn().Exec(ctx, script).ReadAll() // the first error ends it, and with the session its transaction
	var refused *pgconn.PgError
	if errors.As(err, &refused) && refused.Code == "42501" { // insufficient_privilege
		return fmt.Errorf("%w: %q, who migrates, lacks the right: let a superuser run the output of prime-db --dry-run by psql, or, if it may not make roles, ALTER ROLE %s CREATEROLE (and from PostgreSQL 16 on GRANT it the roles that exist WITH ADMIN OPTION)",
			err, conn.User, schema.QuoteIdentifier(conn.User))
	}
	return err
}

// script is one transaction, and does nothing the second time but set the
// password. It holds names only as literals, so any may be in it.
func (u primedUser) script(conn *pgx.ConnConfig) string {
	group, access := schema.WriterRole, schema.Writer
	if u.reader {
		group, access = schema.ReaderRole, schema.Reader
	}
	statements := []string{"SET client_encoding = 'UTF8'", "BEGIN"}
	if path := conn.RuntimeParams["search_path"]; path != "" {
		statements = append(statements, "SELECT set_config('search_path', "+schema.QuoteLiteral(path)+", true)")
	}
	if u.migration {
		group = u.name // it needs no other
	}
	do := func(body string) {
		body = strings.NewReplacer(
			"@user@", schema.QuoteLiteral(u.name), "@verifier@", schema.QuoteLiteral(u.verifier), "@group@", schema.QuoteLiteral(group),
			"@database@", schema.QuoteLiteral(databaseOf(&conn.Config)), "@migration@", fmt.Sprint(u.migration),
			"@writers@", schema.QuoteLiteral(schema.WriterRole), "@reader@", fmt.Sprint(u.reader),
		).Replace(body)
		statements = append(statements, "DO "+schema.DollarQuote(body))
	}
	do(primeRoles)
	do(primeGrants)
	if !u.migration {
		statements = append(statements, schema.GrantSQL(group, access, conn.User))
	}
	return strings.Join(append(statements, "COMMIT"), ";\n") + ";\n"
}

const primeRoles = `
BEGIN
	IF current_database() <> @database@ THEN
		RAISE EXCEPTION 'this is the database %, and the configuration names %', current_database(), @database@
			USING HINT = 'connect psql to the database of the book';
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
		RAISE EXCEPTION 'none of the schemas of search_path exists: %', current_setting('search_path') USING HINT = 'CREATE SCHEMA first';
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
	-- A grant of what one may not grant is a warning.
	IF NOT has_database_privilege(@group@, current_database(), 'CONNECT') OR NOT has_schema_privilege(@group@, current_schema(), 'USAGE')
		OR @migration@ AND NOT has_schema_privilege(@user@, current_schema(), 'CREATE') THEN
		RAISE EXCEPTION 'may not grant CONNECT on database %, or USAGE or CREATE on schema %', current_database(), current_schema()
			USING ERRCODE = 'insufficient_privilege';
	END IF;
END `

// passwordLimit is the most bytes of a password: libpq's tools read no longer
// ones.
const passwordLimit = 1 << 10

// readPassword reads one line, at a terminal twice and without showing it.
func readPassword(command *cobra.Command) (string, error) {
	in := command.InOrStdin()
	if file, ok := in.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		return askPassword(command.ErrOrStderr(), int(file.Fd()))
	}
	line, err := bufio.NewReader(io.LimitReader(in, passwordLimit+2)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read the password from standard input: %w", err)
	}
	return strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r"), nil
}

func askPassword(out io.Writer, terminal int) (string, error) {
	var answers [2][]byte
	for i, prompt := range []string{"Password: ", "Again: "} {
		fmt.Fprint(out, prompt)
		answer, err := term.ReadPassword(terminal)
		fmt.Fprintln(out)
		if err != nil {
			return "", fmt.Errorf("read the password: %w", err)
		}
		answers[i] = answer
	}
	if !bytes.Equal(answers[0], answers[1]) {
		return "", errors.New("the two passwords differ: nothing was changed")
	}
	return string(answers[0]), nil
}

// scramIterations is PostgreSQL's own number (scram_iterations, section 20.3 of
// its manual).
const scramIterations = 4096

// scramVerifier is what PostgreSQL stores of a password (RFC 5803): it takes one
// as it is, so that the password need not be sent.
func scramVerifier(password string) (string, error) {
	if err := checkPassword(password); err != nil {
		return "", err
	}
	salt := make([]byte, 16) // as PostgreSQL's own
	if _, err := rand.Read(salt); err != nil {
		return "", err
	}
	salted, err := pbkdf2.Key(sha256.New, password, salt, scramIterations, sha256.Size)
	if err != nil {
		return "", err
	}
	mac := func(text string) []byte {
		h := hmac.New(sha256.New, salted)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	stored := sha256.Sum256(mac("Client Key"))
	encode := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", scramIterations, encode(salt), encode(stored[:]), encode(mac("Server Key"))), nil
}

// checkPassword refuses what clients do not all understand as the same password:
// SASLprep (RFC 4013) changes it, some do that and some do not.
func checkPassword(password string) error {
	switch {
	case password == "":
		return errors.New("the password is empty: give one line on standard input")
	case len(password) > passwordLimit:
		return fmt.Errorf("the password is longer than %d bytes", passwordLimit)
	case !utf8.ValidString(password):
		return errors.New("the password is not UTF-8")
	case !norm.NFKC.IsNormalString(password) || strings.ContainsFunc(password, dropped):
		return errors.New("the password has a character that clients write in different ways, such as a control character, a special space or a ligature: choose another")
	}
	return nil
}

// dropped reports whether SASLprep leaves out, changes or forbids a character
// that is in normal form: control and format characters, spaces but the usual
// one, and the variation selectors of its table B.1.
func dropped(r rune) bool {
	return !unicode.IsGraphic(r) || r != ' ' && unicode.IsSpace(r) || unicode.Is(unicode.Zs, r) && r != ' ' ||
		unicode.Is(unicode.Variation_Selector, r) || r == '\u034f' || r == '\u1806'
}
