package schema

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"strings"
)

// Roles for the users who work with the schema. They are groups without a login. Up
// grants to those that exist and creates none, because the user who migrates may not
// be allowed to create roles.
const (
	WriterRole = "portbook_writer"
	ReaderRole = "portbook_reader" // SELECT only

	// toolhiveRole is the writer's role in the documentation of the ToolHive registry
	// server, so that a database prepared for it works here too.
	toolhiveRole = "toolhive_registry_server"
)

// An Access is a set of rights on the schema.
type Access int

const (
	Reader Access = iota // SELECT
	Writer               // SELECT, INSERT, UPDATE, DELETE, and creating and dropping partitions
)

// GrantSQL returns a statement that grants role the rights of access on all tables
// that owner has in the current schema and, by default privileges, on those that
// owner creates later. Owner is the user who migrates; if it is empty, the user who
// runs the statement.
//
// The statement does nothing if the role does not exist, if it has all rights
// already, or if another user owns the tables. It may run before the first
// migration.
func GrantSQL(role string, access Access, owner string) string {
	replace := strings.NewReplacer(
		"@role@", QuoteLiteral(role), "@owner@", QuoteLiteral(owner), "@writer@", fmt.Sprint(access == Writer),
	)
	return "DO " + DollarQuote(replace.Replace(grantBody))
}

// grantBody grants only what is missing, because a GRANT writes even if it changes
// nothing, and this runs at each start of each program.
const grantBody = `
DECLARE
	whom CONSTANT text := @role@;
	writer  CONSTANT boolean := @writer@;
	owner   CONSTANT text := COALESCE(NULLIF(@owner@, ''), current_user);
	book    CONSTANT text := current_schema();
	place   CONSTANT oid := (SELECT oid FROM pg_namespace WHERE nspname = current_schema());
	rights  text[];
	object  record;
	lacking text;
BEGIN
	IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = whom) OR NOT EXISTS (SELECT FROM pg_roles WHERE rolname = owner) THEN
		RETURN;
	END IF;
	IF pg_has_role(whom, owner, 'USAGE') THEN
		RETURN; -- the role owns everything
	END IF;
	IF EXISTS (SELECT FROM pg_class c JOIN pg_roles o ON o.oid = c.relowner
		WHERE c.relnamespace = place AND c.relname = 'schema_migrations' AND o.rolname <> owner) THEN
		RETURN; -- only the owner of the tables can grant
	END IF;
	IF NOT has_schema_privilege(whom, book, 'USAGE') THEN
		EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', book, whom);
	END IF;

	FOR object IN
		SELECT c.oid, c.relname, c.relkind FROM pg_class c
		WHERE c.relnamespace = place AND c.relkind IN ('r', 'p', 'S') AND c.relowner = (SELECT oid FROM pg_roles WHERE rolname = owner)
		ORDER BY c.relname
	LOOP
		rights := CASE
			WHEN NOT writer OR object.relname = 'schema_migrations' THEN ARRAY['SELECT']
			WHEN object.relkind = 'S' THEN ARRAY['SELECT', 'USAGE']
			ELSE ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE'] END;
		IF object.relkind = 'S' THEN
			SELECT string_agg(r, ', ') INTO lacking FROM unnest(rights) r WHERE NOT has_sequence_privilege(whom, object.oid, r);
		ELSE
			SELECT string_agg(r, ', ') INTO lacking FROM unnest(rights) r WHERE NOT has_table_privilege(whom, object.oid, r);
		END IF;
		IF lacking IS NOT NULL THEN
			EXECUTE format('GRANT %s ON %s %I.%I TO %I', lacking, CASE object.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, book, object.relname, whom);
		END IF;
		-- Default privileges granted these too, but only the user who migrates may write here.
		IF object.relname = 'schema_migrations' AND has_table_privilege(whom, object.oid, 'INSERT, UPDATE, DELETE, TRUNCATE') THEN
			EXECUTE format('REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON TABLE %I.%I FROM %I', book, object.relname, whom);
		END IF;
	END LOOP;

	IF writer THEN
		FOR object IN
			SELECT p.oid, p.oid::regprocedure::text AS signature FROM pg_proc p
			WHERE p.pronamespace = place AND p.proname IN ('create_partitions', 'create_history_partitions', 'drop_partitions') AND p.proowner = (SELECT oid FROM pg_roles WHERE rolname = owner)
		LOOP
			IF NOT has_function_privilege(whom, object.oid, 'EXECUTE') THEN
				EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', object.signature, whom);
			END IF;
		END LOOP;
	END IF;

	-- For the partitions of later months, and the tables of later migrations.
	IF NOT pg_has_role(current_user, owner, 'USAGE') THEN
		RETURN; -- only a member of the owner can do this; the next migration does it
	END IF;
	FOR object IN
		SELECT kind, word, list FROM (VALUES
			('r', 'TABLES', CASE WHEN writer THEN ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE'] ELSE ARRAY['SELECT'] END),
			('S', 'SEQUENCES', CASE WHEN writer THEN ARRAY['SELECT', 'USAGE'] ELSE ARRAY['SELECT'] END)) AS v (kind, word, list)
	LOOP
		SELECT string_agg(r, ', ') INTO lacking FROM unnest(object.list) r WHERE NOT EXISTS (
			SELECT FROM pg_default_acl d CROSS JOIN LATERAL aclexplode(d.defaclacl) a JOIN pg_roles g ON g.oid = a.grantee
			WHERE d.defaclnamespace = place AND d.defaclrole = (SELECT oid FROM pg_roles WHERE rolname = owner)
				AND d.defaclobjtype::text = object.kind AND a.privilege_type = r AND pg_has_role(whom, g.oid, 'USAGE'));
		IF lacking IS NOT NULL THEN
			EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE %I IN SCHEMA %I GRANT %s ON %s TO %I', owner, book, lacking, object.word, whom);
		END IF;
	END LOOP;
END `

// grantAll grants to the roles that exist and to c.Writer.
func grantAll(ctx context.Context, db *sql.DB, c Config) error {
	grants := []string{
		GrantSQL(WriterRole, Writer, ""), GrantSQL(toolhiveRole, Writer, ""), GrantSQL(ReaderRole, Reader, ""),
	}
	if c.Writer != "" {
		grants = append(grants, GrantSQL(c.Writer, Writer, ""))
	}
	for _, grant := range grants {
		if _, err := db.ExecContext(ctx, grant); err != nil {
			return fmt.Errorf("grants: %w", err)
		}
	}
	return warn(ctx, db, c)
}

// warn logs a warning if c.Writer may create tables. PostgreSQL 14 grants that right
// on the schema public to everybody.
func warn(ctx context.Context, db *sql.DB, c Config) error {
	if c.Writer == "" || c.Log == nil {
		return nil
	}
	const q = `
		SELECT current_schema() FROM pg_roles w WHERE w.rolname = $1 AND NOT pg_has_role(w.oid, current_user, 'USAGE')
			AND has_schema_privilege(w.oid, current_schema(), 'CREATE')`
	rows, err := db.QueryContext(ctx, q, c.Writer)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var book string
		if err := rows.Scan(&book); err != nil {
			return err
		}
		c.Log.WarnContext(ctx, "the database user may also create tables", slog.String("user", c.Writer),
			slog.String("remedy", "REVOKE CREATE ON SCHEMA "+QuoteIdentifier(book)+" FROM PUBLIC, as the owner of the schema"))
	}
	return rows.Err()
}

// QuoteLiteral returns s as an SQL string constant that does not depend on
// standard_conforming_strings. s must not have a zero byte, which PostgreSQL does not
// allow.
func QuoteLiteral(s string) string {
	quoted := "'" + strings.ReplaceAll(s, "'", "''") + "'"
	if strings.Contains(s, `\`) {
		return " E" + strings.ReplaceAll(quoted, `\`, `\\`)
	}
	return quoted
}

// QuoteIdentifier returns s as a quoted SQL identifier.
func QuoteIdentifier(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

// DollarQuote returns body as a dollar-quoted SQL string constant, with a tag that is
// not in body.
func DollarQuote(body string) string {
	tag := "$do$"
	for i := 1; strings.Contains(body, tag); i++ {
		tag = fmt.Sprintf("$do%d$", i)
	}
	return tag + body + tag
}
