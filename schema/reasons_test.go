package schema_test

import (
	"testing"

	"github.com/portbook/portbook/schema"
	"github.com/portbook/portbook/schema/schematest"
)

// Migration 12 replaces the reasons that older programs stored, which may contain
// secrets, and keeps those in the current form.
func TestReasonsAreReplaced(t *testing.T) {
	t.Parallel()
	url := schematest.Empty(t)
	c := config(t, url)
	up(t, c)
	all, err := schema.Status(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	later := 0
	for _, m := range all {
		if m.Version >= 12 {
			later++
		}
	}
	down(t, c, later)
	pool := connect(t, url)
	run(t, pool, `
		INSERT INTO repository (name) VALUES ('a');
		INSERT INTO tag (repository_id, name, problem) SELECT id, x.name, x.problem FROM repository, (VALUES
			('old', 'GET /v2/a: Get "http://storage.internal/a?X-Amz-Signature=hunter2"'), ('new', 'the registry answered 500')) x (name, problem);
		INSERT INTO task (repository, reference, priority, error) SELECT 'a', name, 1, problem FROM tag;
		INSERT INTO scan (reason, started_at, error) SELECT 'start', now(), problem FROM tag`)
	up(t, c)
	for table, column := range map[string]string{"tag": "problem", "task": "error", "scan": "error"} {
		for what, want := range map[string]string{
			column + " LIKE '%hunter2%'": "0", column + " = 'the registry answered 500'": "1", column + " LIKE 'the reason was stored by an older version%'": "1",
		} {
			if got := rows(t, pool, "SELECT count(*)::text FROM "+table+" WHERE "+what); len(got) != 1 || got[0] != want {
				t.Errorf("rows of %s with %s: %v, want %s", table, what, got, want)
			}
		}
	}
}
