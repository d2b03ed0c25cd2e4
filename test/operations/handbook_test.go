package operations

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// A handbook is the state of a run of the page's commands.
type handbook struct {
	*site
	t              *testing.T
	writer, reader *indexer
	kept           string // the rows of the kept tables before a step that must not change them
	last           string // the id of the last move of a tag before that step
	epoch          string // the epoch before a step that must change it
}

// The commands of the page, in order, have the results that the page promises: users
// that connect by TLS only, a standby, a backup of what a scan cannot rebuild, and a
// failover that the indexers follow.
func TestHandbook(t *testing.T) {
	blocks, names := read(t)
	h := &handbook{site: newSite(t), t: t}
	if want := slices.Sorted(maps.Keys(h.names("primary"))); !slices.Equal(slices.Sorted(maps.Keys(names)), want) {
		t.Fatalf("got variables %v on the page, want %v as in this test", slices.Sorted(maps.Keys(names)), want)
	}
	checks := map[string]struct {
		before func()
		after  func(output string)
	}{
		"tls":       {},
		"restart":   {},
		"hba":       {after: h.hbaIsRead},
		"passwords": {after: h.carrySecrets},
		"users":     {after: h.onlyTLS},
		"writer":    {after: h.writerWorks},
		"reader":    {},
		"more":      {after: h.moreUsers},
		"makemore":  {after: h.madeMore},
		"standby":   {},
		"start":     {after: h.readerWorks},
		"look":      {after: h.allIsSecure},
		"backup":    {before: h.ageAndRemember, after: h.dumpIsSmall},
		"restore":   {before: h.stopIndexers, after: h.keptIsBack},
		"rebuild":   {after: h.rebuilt},
		"epoch":     {before: h.remember, after: h.epochMoved},
		"anew":      {before: h.remember, after: h.begunAnew},
		"stop":      {before: h.startIndexers, after: h.readerAnswers},
		"promote":   {after: h.writerFollows},
		"again":     {after: h.standbyAgain},
	}
	for _, b := range blocks {
		check, known := checks[b.name]
		if !known {
			t.Fatalf("%s:%d: this test has no entry for the block %s: add one with its checks", page, b.line, b.name)
		}
		delete(checks, b.name)
		t.Logf("%s on %s", b.name, b.on)
		if check.before != nil {
			check.before()
		}
		output, err := h.try(b.on, b.text)
		if err != nil {
			t.Fatalf("%s:%d: %s on %s: %v\n%s", page, b.line, b.name, b.on, err, output)
		}
		if check.after != nil {
			check.after(output)
		}
	}
	if len(checks) > 0 {
		t.Errorf("the page does not have the blocks %v", slices.Sorted(maps.Keys(checks)))
	}
}

func (h *handbook) hbaIsRead(output string) {
	h.t.Helper()
	if strings.TrimSpace(output) != "t" {
		h.t.Fatalf("want t and no line with an error:\n%s", output)
	}
}

// carrySecrets copies files to the other machines, as the text of the page says.
func (h *handbook) carrySecrets(string) {
	h.t.Helper()
	h.command("primary", `umask 077
		cp ca.crt portbook_standby.pgpass "$SECRETS"
		cat portbook_migrator.pgpass portbook_app.pgpass portbook_view.pgpass >"$SECRETS/pgpass"`)
}

// onlyTLS checks that Portbook's users can connect with TLS only, and that the
// server's certificate is valid.
func (h *handbook) onlyTLS(string) {
	h.t.Helper()
	for _, user := range []string{"portbook_migrator", "portbook_app", "portbook_view"} {
		if conn, err := h.connect(primary, user, "disable"); err == nil {
			conn.Close(h.t.Context())
			h.t.Errorf("%s without TLS: got a connection, want error 28000", user)
		} else if !refused(err, "28000") { // invalid_authorization_specification
			h.t.Errorf("%s without TLS: got %v, want error 28000", user, err)
		}
		conn, err := h.connect(primary, user, "verify-full")
		if err != nil {
			h.t.Fatal(err)
		}
		conn.Close(h.t.Context())
	}
	if got := h.sql("primary", `SELECT string_agg(rolname, ' ') FROM pg_roles WHERE rolname ~ '^portbook_' AND (rolsuper OR rolcreaterole OR rolcreatedb OR rolbypassrls)`); got != "" {
		h.t.Errorf("%s have more privileges than the page says", got)
	}
}

func refused(err error, code string) bool {
	var answer *pgconn.PgError
	return errors.As(err, &answer) && answer.Code == code
}

// forbidden fails unless the server refuses a statement because the user has no right
// to run it.
func (h *handbook) forbidden(host, user, statement string) {
	h.t.Helper()
	conn, err := h.connect(host, user, "verify-full")
	if err != nil {
		h.t.Fatal(err)
	}
	defer conn.Close(h.t.Context())
	if _, err := conn.Exec(h.t.Context(), statement); !refused(err, "42501") { // insufficient_privilege
		h.t.Errorf("%s: %s: got %v, want error 42501", user, statement, err)
	}
}

// writerWorks checks that a writer serves, also without database.migrationUser, and
// that its user cannot create anything.
func (h *handbook) writerWorks(string) {
	h.t.Helper()
	h.startWriter()
	h.finds(h.writer, "demo/one")
	for _, statement := range []string{
		"CREATE TABLE x ()", "DROP TABLE task", "ALTER TABLE tag ADD COLUMN x int", "CREATE SCHEMA x", "CREATE TEMPORARY TABLE x ()",
		"DELETE FROM schema_migrations", "SELECT create_partition('event', now())",
	} {
		h.forbidden(primary, "portbook_app", statement)
	}
	h.forbidden(primary, "portbook_view", "UPDATE catalogue_epoch SET epoch = ''")
	h.forbidden(primary, "portbook_view", "SELECT create_partitions()")

	h.command("indexer", `grep -v migrationUser "$SECRETS/writer.yaml" >"$SECRETS/work.yaml"`)
	h.serve("work.yaml", h.freeAddress()).stop()
}

func (h *handbook) startWriter() { h.writer = h.serve("writer.yaml", h.mailbox) }
func (h *handbook) startReader() { h.reader = h.serve("reader.yaml", h.freeAddress()) }

func (h *handbook) startIndexers() {
	h.startWriter()
	h.startReader()
}

func (h *handbook) stopIndexers() {
	h.writer.stop()
	h.reader.stop()
}

// moreUsers copies the SQL file to the primary. The file must not have the password.
func (h *handbook) moreUsers(string) {
	h.t.Helper()
	h.command("indexer", "cp portbook_report.sql ../primary/")
	sql, err := os.ReadFile(filepath.Join(h.dir, "indexer", "portbook_report.sql"))
	h.check(err)
	password, err := os.ReadFile(filepath.Join(h.dir, "indexer", "portbook_report.password"))
	h.check(err)
	if text := strings.TrimSpace(string(password)); text == "" || strings.Contains(string(sql), text) {
		h.t.Error("portbook_report.sql contains the password in plain text, or there is no password")
	}
}

func (h *handbook) madeMore(string) {
	h.t.Helper()
	const q = `SELECT has_table_privilege('portbook_report', 'tag', 'SELECT'), has_table_privilege('portbook_report', 'tag', 'INSERT, UPDATE, DELETE, TRUNCATE')`
	if got := h.sql("primary", q); got != "t|f" {
		h.t.Errorf("portbook_report may read, may write: got %s, want t|f", got)
	}
}

// readerWorks checks that a reader uses the standby, and that a push reaches it.
func (h *handbook) readerWorks(string) {
	h.t.Helper()
	h.startReader()
	h.finds(h.reader, "demo/one")
	h.push("demo/later", "v1")
	h.finds(h.writer, "demo/later")
	h.finds(h.reader, "demo/later")
	const sessions = `SELECT count(*) > 0 FROM pg_stat_activity WHERE usename = 'portbook_view'`
	if on, off := h.sql("standby", sessions), h.sql("primary", sessions); on != "t" || off != "f" {
		h.t.Errorf("sessions of the reader on the standby, on the primary: got %s, %s, want t, f", on, off)
	}
	if got := h.sql("standby", "SELECT pg_is_in_recovery()"); got != "t" {
		h.t.Errorf("pg_is_in_recovery on the standby: got %s, want t", got)
	}
}

func (h *handbook) allIsSecure(output string) {
	h.t.Helper()
	if !strings.Contains(output, "streaming") || !strings.Contains(output, "TLSv1.3") {
		h.t.Errorf("want a streaming standby and sessions with TLSv1.3:\n%s", output)
	}
	for _, machine := range []string{"primary", "standby"} {
		const q = `SELECT count(*) FILTER (WHERE NOT ssl), count(*) > 0 FROM pg_stat_activity JOIN pg_stat_ssl USING (pid) WHERE usename ~ '^portbook_'`
		if got := h.sql(machine, q); got != "0|t" {
			h.t.Errorf("sessions on %s without TLS, any sessions: got %s, want 0|t", machine, got)
		}
	}
}

// rows returns counts and hashes of the rows of the kept tables; of tag_history, up to
// the id last.
func (h *handbook) rows(last string) string {
	h.t.Helper()
	const q = `SELECT (SELECT count(*) FROM event), (SELECT md5(string_agg(e::text, ' ' ORDER BY e::text)) FROM event e),
		(SELECT md5(string_agg(m::text, ' ' ORDER BY m::text)) FROM tag_history m WHERE id <= @last@),
		(SELECT md5(string_agg(i::text, ' ' ORDER BY i::text)) FROM registry_instance i),
		(SELECT string_agg(relid::text, ' ' ORDER BY relid::text) FROM pg_partition_tree('event') WHERE isleaf)`
	return h.sql("primary", strings.ReplaceAll(q, "@last@", last))
}

func (h *handbook) remember() {
	h.t.Helper()
	h.last = h.sql("primary", "SELECT max(id) FROM tag_history")
	h.kept, h.epoch = h.rows(h.last), h.sql("primary", "SELECT epoch FROM catalogue_epoch")
	if h.last == "" || strings.HasPrefix(h.kept, "0|") {
		h.t.Fatalf("the kept tables are empty: %s", h.kept)
	}
}

// ageAndRemember adds rows and partitions of an earlier month.
func (h *handbook) ageAndRemember() {
	h.t.Helper()
	h.sql("primary", `SELECT create_partition(parent, date_trunc('month', now(), 'UTC') - interval '2 months') FROM unnest(ARRAY['event', 'tag_history']) parent;
		INSERT INTO event (id, received_at, at, action, repository) SELECT 'old', old, old, 'push', 'demo/one' FROM (SELECT date_trunc('month', now(), 'UTC') - interval '50 days') o (old);
		INSERT INTO tag_history (repository, tag, to_digest, seen_at, seen_by) SELECT 'demo/one', 'old', '\x00', date_trunc('month', now(), 'UTC') - interval '50 days', 'scan'`)
	h.remember()
}

func (h *handbook) dumpIsSmall(string) {
	h.t.Helper()
	list := h.command("primary", "pg_restore -l portbook.dump | grep 'TABLE DATA' | awk '{ print $7 }'")
	kept := strings.Fields(h.sql("primary", "SELECT string_agg(relname, ' ') FROM pg_class WHERE relkind = 'r' AND obj_description(oid, 'pg_class') LIKE 'kept:%'"))
	for _, table := range strings.Fields(list) {
		if !strings.HasPrefix(table, "event_") && !strings.HasPrefix(table, "tag_history_") && !slices.Contains(kept, table) && table != "schema_migrations" {
			h.t.Errorf("the dump contains the rows of %s, which a scan can rebuild", table)
		}
	}
	for _, want := range []string{"event_", "tag_history_", "registry_instance", "schema_migrations"} {
		if !strings.Contains(list, want) {
			h.t.Errorf("the dump lacks the rows of %s: got\n%s", want, list)
		}
	}
	if roles := h.command("primary", "cat roles.sql"); !strings.Contains(roles, "portbook_app") {
		h.t.Error("roles.sql lacks portbook_app")
	}
}

func (h *handbook) keptIsBack(string) {
	h.t.Helper()
	if got := h.rows(h.last); got != h.kept {
		h.t.Errorf("kept rows after the restore: got %s, want %s", got, h.kept)
	}
	if got := h.sql("primary", "SELECT count(*) FROM manifest"); got != "0" {
		h.t.Errorf("got %s manifests from the dump, want none: nothing would be tested", got)
	}
	h.forbidden(primary, "portbook_app", "CREATE TABLE x ()")
	h.forbidden(primary, "portbook_view", "DELETE FROM event")
}

// rebuilt runs after a verify that found no difference.
func (h *handbook) rebuilt(string) {
	h.t.Helper()
	h.sameRows()
	h.epochMoved("")
}

func (h *handbook) sameRows() {
	h.t.Helper()
	if got := h.rows(h.last); got != h.kept {
		h.t.Errorf("kept rows: got %s, want %s as before", got, h.kept)
	}
	if got := h.sql("primary", "SELECT count(*) > 0 FROM manifest"); got != "t" {
		h.t.Error("got no manifests after the scan")
	}
	if got := h.sql("primary", "SELECT max(id) FROM tag_history"); got != h.last {
		h.t.Errorf("id of the last move: got %s, want %s, since no tag has moved", got, h.last)
	}
}

func (h *handbook) epochMoved(string) {
	h.t.Helper()
	if got := h.sql("primary", "SELECT epoch FROM catalogue_epoch"); got == h.epoch || got == "" {
		h.t.Errorf("got epoch %q, want another than %q: otherwise caches would serve old content", got, h.epoch)
	}
}

func (h *handbook) begunAnew(string) {
	h.t.Helper()
	h.verify("portbook scan --config \"$SECRETS/writer.yaml\"\n")
	h.sameRows()
	h.epochMoved("")
}

// verify runs portbook verify after the commands first.
func (h *handbook) verify(first string) {
	h.t.Helper()
	h.command("indexer", first+`portbook verify --config "$SECRETS/writer.yaml"`)
}

// readerAnswers checks that readers serve without a primary.
func (h *handbook) readerAnswers(string) {
	h.t.Helper()
	h.epoch = h.sql("standby", "SELECT epoch FROM catalogue_epoch")
	h.finds(h.reader, "demo/one")
}

// writerFollows checks that the writer finds the new primary, and that a push reaches
// it.
func (h *handbook) writerFollows(output string) {
	h.t.Helper()
	if strings.TrimSpace(output) != "t" {
		h.t.Fatalf("pg_promote: got %s, want t", output)
	}
	h.push("demo/after", "v1")
	h.finds(h.writer, "demo/after")
	h.finds(h.reader, "demo/after")
	if got := h.sql("standby", "SELECT count(*) = count(DISTINCT id), max(id) > "+h.last+" FROM tag_history"); got != "t|t" {
		h.t.Errorf("ids of tag_history are unique, are higher than before the restore: got %s, want t|t", got)
	}
	h.within("the epoch has changed", h.writer.Process, func() bool { return h.sql("standby", "SELECT epoch FROM catalogue_epoch") != h.epoch })
	h.verify("portbook scan --config \"$SECRETS/writer.yaml\"\n")
	h.forbidden(standby, "portbook_app", "CREATE TABLE x ()")
}

func (h *handbook) standbyAgain(string) {
	h.t.Helper()
	h.within("the old primary streams from the new one", h.writer.Process, func() bool {
		return h.sql("standby", "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'") == "1"
	})
	h.push("demo/last", "v1")
	h.finds(h.writer, "demo/last")
	h.within("the new standby has demo/last", h.writer.Process, func() bool {
		return h.sql("primary", "SELECT count(*) FROM repository WHERE name = 'demo/last'") == "1"
	})
}
