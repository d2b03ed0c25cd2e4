package postgres_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/portbook/portbook/schema"
)

// newSQL lists SQL that PostgreSQL understands only since a version after 14, the
// oldest that we support. It is taken from the release notes of 15 to 18, as far as
// a service like ours might use it. Each pattern must match its example.
var newSQL = []struct {
	since         int
	name, example string
	pattern       *regexp.Regexp
}{
	{15, "MERGE", "MERGE INTO tag t USING found f ON true WHEN MATCHED THEN DO NOTHING", p(`\bMERGE\s+INTO\b`)},
	{15, "NULLS NOT DISTINCT", "UNIQUE NULLS NOT DISTINCT (name)", p(`\bNULLS\s+NOT\s+DISTINCT\b`)},
	{15, "security_invoker", "CREATE VIEW v WITH (security_invoker = true) AS SELECT 1", p(`\bsecurity_invoker\b`)},
	{15, "an unlogged sequence", "CREATE UNLOGGED SEQUENCE s", p(`\bUNLOGGED\s+SEQUENCE\b`)},
	{15, "SET NULL or SET DEFAULT of some columns", "REFERENCES m ON DELETE SET NULL (manifest_id)", p(`\bON\s+DELETE\s+SET\s+(NULL|DEFAULT)\s*\(`)},
	{15, "regexp_count, regexp_instr, regexp_like, regexp_substr", "SELECT regexp_like(name, 'a')", p(`\bregexp_(count|instr|like|substr)\s*\(`)},
	{15, "pg_backup_start, pg_backup_stop", "SELECT pg_backup_start('x')", p(`\bpg_backup_(start|stop)\s*\(`)},
	{15, "privileges on settings", "GRANT SET ON PARAMETER log_min_messages TO portbook", p(`\bON\s+PARAMETER\b`)},
	{15, "ALTER TABLE ... SET ACCESS METHOD", "ALTER TABLE t SET ACCESS METHOD heap", p(`\bSET\s+ACCESS\s+METHOD\b`)},
	{15, "pg_ident_file_mappings, pg_stat_recovery_prefetch", "SELECT FROM pg_stat_recovery_prefetch", p(`\b(pg_ident_file_mappings|pg_stat_recovery_prefetch)\b`)},
	{16, "any_value", "SELECT any_value(name) FROM tag", p(`\bany_value\s*\(`)},
	{16, "IS JSON", "SELECT body IS NOT JSON OBJECT FROM manifest_body", p(`\bIS\s+(NOT\s+)?JSON\b`)},
	{16, "json_array, json_arrayagg, json_objectagg", "SELECT json_arrayagg(name) FROM tag", p(`\bjson_(array|arrayagg|objectagg)\s*\(`)},
	{16, "array_sample, array_shuffle", "SELECT array_shuffle(ids)", p(`\barray_(sample|shuffle)\s*\(`)},
	{16, "random_normal, erf, erfc", "SELECT random_normal(0, 1)", p(`\b(random_normal|erfc?)\s*\(`)},
	{16, "date_add, date_subtract", "SELECT date_add(now(), '1 day')", p(`\bdate_(add|subtract)\s*\(`)},
	{16, "pg_input_is_valid, pg_input_error_info", "SELECT pg_input_is_valid('1', 'int')", p(`\bpg_input_(is_valid|error_info)\s*\(`)},
	{16, "system_user", "SELECT system_user", p(`\bsystem_user\b`)},
	{16, "0x, 0o, 0b and _ in numbers", "SELECT 1_000", p(`(?:^|[\s(,=<>+*/-])(0[xob][0-9a-f]|[0-9]+_[0-9])`)},
	{16, "GRANT ... WITH INHERIT or SET", "GRANT portbook_writer TO worker WITH INHERIT TRUE", p(`\bWITH\s+(INHERIT|SET)\s+(TRUE|FALSE|OPTION)\b`)},
	{16, "EXPLAIN (GENERIC_PLAN)", "EXPLAIN (GENERIC_PLAN) SELECT 1", p(`\bGENERIC_PLAN\b`)},
	{16, "pg_stat_io", "SELECT FROM pg_stat_io", p(`\bpg_stat_io\b`)},
	{16, "VACUUM (BUFFER_USAGE_LIMIT)", "VACUUM (BUFFER_USAGE_LIMIT 0) tag", p(`\bBUFFER_USAGE_LIMIT\b`)},
	{17, "JSON_TABLE, JSON_VALUE, JSON_QUERY, JSON_EXISTS, JSON_SCALAR, JSON_SERIALIZE", "SELECT JSON_VALUE(labels, '$.a')", p(`\bjson_(table|value|query|exists|scalar|serialize)\s*\(`)},
	{17, "RETURNING of MERGE", "MERGE INTO t USING s ON true WHEN MATCHED THEN DELETE RETURNING merge_action()", p(`\bMERGE\s+INTO\b[^;]*\bRETURNING\b`)},
	{17, "WHEN NOT MATCHED BY SOURCE", "WHEN NOT MATCHED BY SOURCE THEN DELETE", p(`\bNOT\s+MATCHED\s+BY\b`)},
	{17, "COPY ... ON_ERROR", "COPY tag FROM STDIN (ON_ERROR ignore)", p(`\bON_ERROR\s+\(?(ignore|stop)\b`)},
	{17, "AT LOCAL", "SELECT now() AT LOCAL", p(`\bAT\s+LOCAL\b`)},
	{17, "to_bin, to_oct", "SELECT to_bin(5)", p(`\bto_(bin|oct)\s*\(`)},
	{17, "random of a range", "SELECT random(1, 16)", p(`\brandom\s*\([^)]`)},
	{17, "the privilege MAINTAIN", "GRANT MAINTAIN ON tag TO portbook", p(`\b(GRANT|REVOKE)\s[^;]*\bMAINTAIN\b|\bpg_maintain\b`)},
	{17, "transaction_timeout", "SET transaction_timeout = '1s'", p(`\btransaction_timeout\b`)},
	{17, "pg_stat_checkpointer, pg_wait_events", "SELECT FROM pg_stat_checkpointer", p(`\bpg_(stat_checkpointer|wait_events)\b`)},
	{17, "uuid_extract_timestamp, uuid_extract_version", "SELECT uuid_extract_version(id)", p(`\buuid_extract_`)},
	{18, "uuidv4, uuidv7", "SELECT uuidv7()", p(`\buuidv[47]\s*\(`)},
	{18, "a virtual generated column", "words int GENERATED ALWAYS AS (a + 1) VIRTUAL", p(`\bGENERATED\s+ALWAYS\s+AS\s*\(.*\)\s*VIRTUAL\b`)},
	{18, "a generated column that does not say STORED", "words int GENERATED ALWAYS AS (a + 1),", p(`\bGENERATED\s+ALWAYS\s+AS\s*\((?:[^()]|\([^()]*\))*\)\s*(,|\)|NOT\b|$)`)},
	{18, "OLD and NEW in RETURNING", "UPDATE tag SET name = 'a' RETURNING old.name", p(`\bRETURNING\b[^;]*\b(old|new)\.`)},
	{18, "array_reverse, array_sort", "SELECT array_sort(ids)", p(`\barray_(reverse|sort)\s*\(`)},
	{18, "casefold", "SELECT casefold(name)", p(`\bcasefold\s*\(`)},
	{18, "crc32, crc32c", "SELECT crc32(body)", p(`\bcrc32c?\s*\(`)},
	{18, "gamma, lgamma", "SELECT gamma(2)", p(`\bl?gamma\s*\(`)},
	{18, "WITHOUT OVERLAPS", "PRIMARY KEY (id, during WITHOUT OVERLAPS)", p(`\bWITHOUT\s+OVERLAPS\b`)},
	{18, "NOT ENFORCED", "CHECK (size > 0) NOT ENFORCED", p(`\bNOT\s+ENFORCED\b`)},
	{18, "COPY ... REJECT_LIMIT", "COPY tag FROM STDIN (REJECT_LIMIT 3)", p(`\bREJECT_LIMIT\b`)},
	{18, "autovacuum_vacuum_max_threshold", "ALTER TABLE task SET (autovacuum_vacuum_max_threshold = 1000)", p(`\bautovacuum_vacuum_max_threshold\b`)},
}

func p(pattern string) *regexp.Regexp { return regexp.MustCompile(`(?is)` + pattern) }

var comment = regexp.MustCompile(`--[^\n]*`)

// notIn14 returns the parts of a text that PostgreSQL 14 does not understand.
func notIn14(sql string) (found []string) {
	sql = comment.ReplaceAllString(sql, "")
	for _, f := range newSQL {
		if at := f.pattern.FindString(sql); at != "" {
			found = append(found, fmt.Sprintf("%s, which came with PostgreSQL %d, in %q", f.name, f.since, at))
		}
	}
	return found
}

// PostgreSQL 14 must understand all our SQL, also statements that no test runs
// there.
func TestSQLIsOf14(t *testing.T) {
	t.Parallel()
	migrations := schema.Migrations()
	names, err := fs.Glob(migrations, "*.sql")
	if err != nil || len(names) == 0 {
		t.Fatalf("%d migrations, %v", len(names), err)
	}
	for _, name := range names {
		b, err := fs.ReadFile(migrations, name)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range notIn14(string(b)) {
			t.Errorf("%s uses %s", name, found)
		}
	}
	statements := 0
	for _, dir := range []string{".", "../cmd/portbook", "../../schema", "../../schema/localpg"} {
		for at, text := range literals(t, dir) {
			if looksLikeSQL.MatchString(text) {
				statements++
			}
			for _, found := range notIn14(text) {
				t.Errorf("%s uses %s", at, found)
			}
		}
	}
	if statements < 50 { // there were 100 when this was written
		t.Errorf("only %d statements found in Go: does this test still read the right files?", statements)
	}
}

var looksLikeSQL = regexp.MustCompile(`^\s*(SELECT|INSERT|UPDATE|DELETE|WITH|CREATE|ALTER|GRANT)\s`)

// literals returns the strings in the Go sources of a directory without tests, by
// file, line and column.
func literals(t *testing.T, dir string) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%d Go files in %s, %v", len(files), dir, err)
	}
	all := map[string]string{}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, source, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			literal, ok := n.(*ast.BasicLit)
			if !ok || literal.Kind != token.STRING {
				return true
			}
			text, err := strconv.Unquote(literal.Value)
			if err != nil {
				t.Fatal(err)
			}
			all[set.Position(literal.Pos()).String()] = text
			return true
		})
	}
	return all
}

// Each pattern matches its example, and none matches SQL that 14 understands.
func TestNotIn14(t *testing.T) {
	t.Parallel()
	for _, f := range newSQL {
		if !strings.Contains(strings.Join(notIn14(f.example), "\n"), f.name+", which came with PostgreSQL "+strconv.Itoa(f.since)) {
			t.Errorf("%s is not found in %q", f.name, f.example)
		}
	}
	for _, old := range []string{
		"SELECT date_bin('1 hour', at, '2000-01-01'), string_to_table('a,b', ',') FROM event",
		"SELECT regexp_match(name, 'a'), regexp_matches(name, 'b'), regexp_replace(name, 'a', 'b') FROM tag",
		"SELECT json_agg(name), jsonb_object_agg(name, 1), json_object('{a,b}'), json_array_elements('[]') FROM tag",
		"id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, n bigint GENERATED ALWAYS AS IDENTITY",
		"words tsvector GENERATED ALWAYS AS (to_tsvector('simple', name)) STORED",
		"SELECT random(), md5(random()::text), 1000, 0.5, event_2026_11.id FROM event_2026_11",
		"CREATE TABLE event_2026_11 (LIKE event INCLUDING DEFAULTS)",
		"SET idle_in_transaction_session_timeout = '1s'",
		"UPDATE tag SET name = 'a' RETURNING name, renewed.at",
		"INSERT INTO tag SELECT 1 ON CONFLICT DO NOTHING RETURNING id",
		"SELECT 1 -- MERGE INTO is of 15",
	} {
		if found := notIn14(old); len(found) > 0 {
			t.Errorf("%q is reported to use %v", old, found)
		}
	}
}
