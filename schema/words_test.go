package schema_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portbook/portbook/schema/schematest"
)

// An older program replaces the beginning of a word by the words of search_lexeme. So
// migration 16 keeps that table empty, whatever the program inserts; and whoever goes
// back to the older program finds all words of the search rows there, with at most 40
// bytes of each.
func TestWordsOfOlderProgram(t *testing.T) {
	t.Parallel()
	url := schematest.Empty(t)
	c := config(t, url)
	up(t, c)
	pool := connect(t, url)
	run(t, pool, "INSERT INTO search_lexeme (word) VALUES ('nginx'), ('app') ON CONFLICT DO NOTHING")
	const words = "SELECT word FROM search_lexeme ORDER BY word"
	if got := rows(t, pool, words); len(got) > 0 {
		t.Errorf("the table has the words %q, want none", got)
	}
	ascii, twoBytes, mixed := strings.Repeat("a", 41), strings.Repeat("ä", 30), strings.Repeat("b", 38)+"€"
	run(t, pool, `
		INSERT INTO repository (name) VALUES ('nginx'), ('team/app');
		INSERT INTO repository_search (repository_id, name, basename, title, description, tags, updated_at, name_words, all_words)
		SELECT id, name, name, '', '', 1, now(), '', CASE name WHEN 'nginx' THEN '''nginx'':1 ''proxy'':2'
			ELSE '''app'':1 ''proxy'':3,4 ''`+ascii+`'':5 ''`+twoBytes+`'':6 ''`+mixed+`'':7' END::tsvector FROM repository`)
	down(t, c, len(files(t))-15)
	want := []string{ascii[:40], "app", mixed[:38], "nginx", "proxy", twoBytes[:40]}
	if diff := cmp.Diff(want, rows(t, pool, words)); diff != "" {
		t.Errorf("words (-want +got)\n%s", diff)
	}
	run(t, pool, "INSERT INTO search_lexeme (word) VALUES ('more') ON CONFLICT DO NOTHING")
	if got := rows(t, pool, words); len(got) != len(want)+1 {
		t.Errorf("the older program stores no words: got %q", got)
	}
}
