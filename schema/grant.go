package schema

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"strings"
)

// Roles whose members work with the schema. They are groups: nobody logs in as
// one. Up grants to those that exist and makes none, since the user who migrates
// need not be allowed to make roles.
const (
	WriterRole = "portbook_writer"
	ReaderRole = "portbook_reader" // nothing but SELECT

	// toolhiveRole is what the handbook of the ToolHive registry server calls the
	// role of the user who works: its users find that it works here too.
	toolhiveRole = "toolhive_registry_server"
)

// An Access is what a user may do with the schema.
type Access int

const (
	Reader Access = iota // SELECT
	Writer               // SELECT, INSERT, UPDATE and DELETE, and the upkeep of partitions
)

// GrantSQL gives a statement that grants role what access needs, on the tables
// that are there and, by default privileges, on those that owner makes later.
// Owner is the user who migrates; empty: the user who runs the statement. It does
// nothing if there is no such role, or where the role has it already, and works
// before the first migration as well. It grants on what owner owns in the current
// schema and on nothing else, and on nothing if the schema is somebody else's.
func GrantSQL(role string, access Access, owner string) string {
	replace := strings.NewReplacer("@role@", QuoteLiteral(role), "@owner@", QuoteLiteral(owner), "@writer@", fmt.Sprint(access == Writer))
	return "DO " + DollarQuote(replace.Replace(grantBody))
}

// grantBody asks before it grants: a grant that changes nothing still writes,
// and this runs at each start of each program.
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
		RETURN; -- all is its own
	END IF;
	IF EXISTS (SELECT FROM pg_class c JOIN pg_roles o ON o.oid = c.relowner
		WHERE c.relnamespace = place AND c.relname = 'schema_migrations' AND o.rolname <> owner) THEN
		RETURN; -- the tables are somebody else's to grant
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
		-- Default privileges are for tables of the book, which this is none of.
		IF object.relname = 'schema_migrations' AND has_table_privilege(whom, object.oid, 'INSERT, UPDATE, DELETE, TRUNCATE') THEN
			EXECUTE format('REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON TABLE %I.%I FROM %I', book, object.relname, whom);
		END IF;
	END LOOP;

	IF writer THEN
		FOR object IN
			SELECT p.oid, p.oid::regprocedure::text AS signature FROM pg_proc p
			WHERE p.pronamespace = place AND p.proname IN ('create_partitions', 'drop_partitions') AND p.proowner = (SELECT oid FROM pg_roles WHERE rolname = owner)
		LOOP
			IF NOT has_function_privilege(whom, object.oid, 'EXECUTE') THEN
				EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', object.signature, whom);
			END IF;
		END LOOP;
	END IF;

	-- Partitions of later months, and tables of later migrations.
	IF NOT pg_has_role(current_user, owner, 'USAGE') THEN
		RETURN; -- the next migration does it
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

// grantAll grants to the roles that exist, and to the writer if it is not a
// member of one.
func grantAll(ctx context.Context, db *sql.DB, c Config) error {
	grants := []string{GrantSQL(WriterRole, Writer, ""), GrantSQL(toolhiveRole, Writer, ""), GrantSQL(ReaderRole, Reader, "")}
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

// warn tells when the user who works may make tables. PostgreSQL 14 gives that
// right in the schema public to everybody.
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
		c.Log.WarnContext(ctx, "the user who works with the book may also make tables", slog.String("user", c.Writer),
			slog.String("remedy", "REVOKE CREATE ON SCHEMA "+QuoteIdentifier(book)+" FROM PUBLIC, as the owner of the schema"))
	}
	return rows.Err()
}

// QuoteLiteral writes a string as SQL does, whatever standard_conforming_strings
// says. The string must have no zero byte, which PostgreSQL cannot hold.
func QuoteLiteral(s string) string {
	quoted := "'" + strings.ReplaceAll(s, "'", "''") + "'"
	if strings.Contains(s, `\`) {
		return " E" + strings.ReplaceAll(quoted, `\`, `\\`)
	}
	return quoted
}

// QuoteIdentifier writes a name as SQL does.
func QuoteIdentifier(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

// DollarQuote quotes a body, which may hold any name, by a tag that it does not
// hold.
func DollarQuote(body string) string {
	tag := "$do$"
	for i := 1; strings.Contains(body, tag); i++ {
		tag = fmt.Sprintf("$do%d$", i)
	}
	return tag + body + tag
}
