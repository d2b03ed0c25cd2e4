package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	portbook "github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/schema/localpg"
	"github.com/portbook/portbook/test/bench/harness"
)

// The whole run at a small size: it must load, measure every class without a failure,
// and write the figures in the documented form. The resulting book must be what the
// program itself would have written.
func TestSmall(t *testing.T) {
	if _, err := localpg.Find(); errors.Is(err, localpg.ErrNotInstalled) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	dir := t.TempDir()
	file, data := filepath.Join(dir, "out.json"), filepath.Join(dir, "postgres")
	// PostgreSQL may run as another user, who must be able to enter.
	for name := dir; strings.HasPrefix(name, os.TempDir()+"/"); name = filepath.Dir(name) {
		if err := os.Chmod(name, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	var out, progress bytes.Buffer
	args := []string{"-repositories", "1000", "-requests", "2", "-baselines", "1", "-pushes", "3", "-ingest", "200",
		"-json", file, "-data", data}
	err := harness.Run(ctx, "bench-search", &bench{config: standard}, args, &out, &progress)
	if err != nil {
		t.Fatalf("%v; it told:\n%s", err, &progress)
	}
	for _, want := range []string{"two words", "growth", "push", "rows written", "PostgreSQL 1", "shared_buffers"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the report does not tell %q:\n%s", want, &out)
		}
	}
	for _, not := range []string{"with status", "NOT MEASURED"} {
		if strings.Contains(out.String(), not) {
			t.Errorf("the report tells %q:\n%s", not, &out)
		}
	}
	checkJSON(t, file)

	server, err := localpg.Start(ctx, localpg.Config{Dir: data, Durable: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	pool, err := pgxpool.New(ctx, server.URL("book_1000"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	checkCounts(t, pool)
	checkReferences(t, pool)
	checkSearchRows(t, pool)
}

func checkJSON(t *testing.T, file string) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var report struct{ Classes []map[string]any }
	if err := json.Unmarshal(raw, &report); err != nil {
		t.Fatal(err)
	}
	// Each class on the small book, and with one client and with several on the big one;
	// four mixes; for the askers all classes but three; and three cold ones.
	if got, want := len(report.Classes), 3*len(classes)+4+len(shares)*(len(classes)-3)+3; got != want {
		t.Errorf("%d classes, want %d", got, want)
	}
	want := []string{"baseline_p50_ms", "clients", "failed", "goal_ms", "name", "p50_bytes", "p50_ms", "p999_ms", "p99_ms",
		"processor_ms", "queries", "repositories", "requests", "rps", "sees", "worst_ms"}
	for _, c := range report.Classes {
		var keys []string
		for k := range c {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		if !slices.Equal(keys, want) {
			t.Errorf("class has the keys %v, want %v", keys, want)
		}
		if ms, _ := c["p50_ms"].(float64); ms <= 0 {
			t.Errorf("%v took %v ms", c["name"], c["p50_ms"])
		}
	}
}

// checkCounts: about 10 tags and 12 manifests for each repository, apart from the one
// with 10,000 tags. The repositories of pushes and bulk ingest must be gone.
func checkCounts(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	const q = `
		SELECT (SELECT count(*) FROM repository), (SELECT count(*) FROM repository_search WHERE tags > 0),
			(SELECT count(*) FROM tag WHERE repository_id <> r.id), (SELECT count(*) FROM manifest WHERE repository_id <> r.id),
			(SELECT tags FROM repository_search WHERE repository_id = r.id)
		FROM repository r WHERE r.name = $1`
	var repositories, found, tags, manifests, many int
	err := pool.QueryRow(t.Context(), q, manyTagsName).Scan(&repositories, &found, &tags, &manifests, &many)
	if err != nil {
		t.Fatal(err)
	}
	if repositories != 1000 || found != 1000 || many < 9000 {
		t.Errorf("%d repositories, %d in the search, %d tags in one", repositories, found, many)
	}
	if tags < 8_000 || tags > 12_000 || manifests < 10_000 || manifests > 15_000 {
		t.Errorf("%d tags and %d manifests of 1,000 repositories", tags, manifests)
	}
}

// checkReferences: the load checks no foreign keys, so they must be correct.
func checkReferences(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	for table, q := range map[string]string{
		"tag":           "SELECT count(*) FROM tag t WHERE NOT EXISTS (SELECT FROM manifest m WHERE (m.repository_id, m.id) = (t.repository_id, t.manifest_id))",
		"manifest":      "SELECT count(*) FROM manifest m WHERE NOT EXISTS (SELECT FROM repository r WHERE r.id = m.repository_id) OR NOT EXISTS (SELECT FROM manifest_body b WHERE (b.repository_id, b.manifest_id) = (m.repository_id, m.id))",
		"manifest.blob": "SELECT count(*) FROM manifest m, unnest(layer_ids || config_id) AS blob_id WHERE blob_id IS NOT NULL AND NOT EXISTS (SELECT FROM blob b WHERE b.id = blob_id)",
		"index_entry":   "SELECT count(*) FROM index_entry e WHERE NOT EXISTS (SELECT FROM manifest m WHERE (m.repository_id, m.id) = (e.repository_id, e.manifest_id)) OR NOT EXISTS (SELECT FROM manifest m WHERE (m.repository_id, m.digest) = (e.repository_id, e.digest))",
		"referrer":      "SELECT count(*) FROM referrer f WHERE NOT EXISTS (SELECT FROM manifest m WHERE (m.repository_id, m.id) = (f.repository_id, f.manifest_id)) OR NOT EXISTS (SELECT FROM manifest m WHERE (m.repository_id, m.digest) = (f.repository_id, f.subject))",
		"image_search":  "SELECT count(*) FROM image_search i WHERE NOT EXISTS (SELECT FROM manifest m WHERE (m.repository_id, m.id) = (i.repository_id, i.manifest_id))",
	} {
		var n int
		if err := pool.QueryRow(t.Context(), q).Scan(&n); err != nil || n > 0 {
			t.Errorf("%d rows of %s refer to nothing, %v", n, table, err)
		}
	}
}

// checkSearchRows makes search rows again, with every index and check in place.
func checkSearchRows(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	content := func() (text string) {
		t.Helper()
		const q = `
			SELECT string_agg(x, E'\n' ORDER BY x) FROM (
				SELECT s::text AS x FROM repository_search s WHERE repository_id % 10 = 0
				UNION ALL SELECT i::text FROM image_search i WHERE repository_id % 10 = 0) AS sample`
		if err := pool.QueryRow(t.Context(), q).Scan(&text); err != nil {
			t.Fatal(err)
		}
		return text
	}
	before := content()
	for _, q := range []string{
		"UPDATE repository_search SET form = 0, title = '', facts = '{}' WHERE repository_id % 10 = 0",
		"DELETE FROM image_search WHERE repository_id % 10 = 0",
	} {
		if _, err := pool.Exec(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	if before == content() {
		t.Error("the sample is empty")
	}
	store, last := postgres.New(pool, postgres.Config{}), ""
	for n := 1; n > 0; {
		var err error
		if n, last, err = store.ReformAfter(t.Context(), last); err != nil {
			t.Fatal(err)
		}
	}
	if before != content() {
		t.Error("the search rows of the load are not those that the program writes")
	}
}

// Figures of two runs are comparable only if both had the same book.
func TestSameBookAgain(t *testing.T) {
	t.Parallel()
	one, two := newGenerator(300), newGenerator(300)
	var a, b rows
	for number := 300; number > 250; number-- { // in any order
		one.repository(number).add(&a)
	}
	for number := 300; number > 250; number-- {
		two.repository(number).add(&b)
	}
	if !reflect.DeepEqual(a, b) {
		t.Error("two generators of one size make different books")
	}
	if !slices.IsSorted(one.names) || len(slices.Compact(slices.Clone(one.names))) != 300 {
		t.Error("names are not sorted, or not different")
	}
}

// A kept book is reused if its form is the same. If this test fails, the rows have
// changed: increase form, and write the new sum here.
func TestForm(t *testing.T) {
	t.Parallel()
	g, sum := newGenerator(3000), sha256.New()
	for number := range 3000 {
		var out rows
		g.repository(number + 1).add(&out)
		for _, table := range tables {
			fmt.Fprintln(sum, table, out.of(table))
		}
	}
	if got, want := fmt.Sprintf("%d:%x", form, sum.Sum(nil)[:8]), "1:53393404c29474ec"; got != want {
		t.Errorf("form and sum of the rows are %s, want %s", got, want)
	}
}

func TestVocabulary(t *testing.T) {
	t.Parallel()
	words := newVocabulary()
	seen := map[string]bool{}
	for _, w := range words {
		if seen[w] || strings.Trim(w, "abcdefghijklmnopqrstuvwxyz") != "" {
			t.Errorf("word %q", w)
		}
		seen[w] = true
	}
	if len(words) != vocabularySize {
		t.Errorf("%d words, want %d", len(words), vocabularySize)
	}
}

// Labels are formatted as JSON by hand, so they must be valid JSON. There must be four
// to eleven, and four more for flatpaks.
func TestLabels(t *testing.T) {
	t.Parallel()
	g := newGenerator(2000)
	n, flatpaks := 0, 0
	for number := 1; number <= 2000; number++ {
		p := g.repository(number)
		if p.name == manyTagsName {
			continue
		}
		var out rows
		p.add(&out)
		for _, m := range out.manifest {
			labels, err := labelsOf(m)
			if err != nil {
				t.Fatalf("%v: %v", err, m)
			}
			if labels == nil {
				continue
			}
			most := 11
			if labels["org.flatpak.ref"] != "" {
				most = 15
				flatpaks++
			}
			if n++; len(labels) < 4 || len(labels) > most {
				t.Errorf("%d labels: %v", len(labels), labels)
			}
		}
	}
	if n < 10_000 || flatpaks == 0 {
		t.Errorf("%d images with labels, %d of flatpaks", n, flatpaks)
	}
}

// A class has so many different queries that no answer is fast by chance, or it says why
// it has fewer.
func TestEnoughQueries(t *testing.T) {
	t.Parallel()
	k := &book{generator: newGenerator(10_000)}
	for _, c := range classes {
		seen := map[string]bool{}
		for _, path := range c.draws(k, "one", standard.requests) {
			seen[path] = true
		}
		if (len(seen) < leastQueries) != (c.few != "") {
			t.Errorf("%s has %d different queries of %d, and says %q", c.name, len(seen), standard.requests, c.few)
		}
	}
}

// The parts that askers see are about as large as they should be.
func TestParts(t *testing.T) {
	t.Parallel()
	g := newGenerator(10_000)
	for _, share := range shares {
		p := g.part(share)
		seen, visible := 0, portbook.VisibleNames(p.names...)
		for _, name := range g.names {
			if visible.Sees(name) {
				seen++
			}
		}
		got := float64(seen) / float64(len(g.names))
		if got != p.sees || math.Abs(got-share) > share/10 || len(p.names) > 50 {
			t.Errorf("for %v: %v of the names are seen, %v said, with %v", share, got, p.sees, p.names)
		}
	}
}

// The picture has a median and a 99th percentile of each size for the classes in it, and
// nothing of other askers or of several clients.
func TestChart(t *testing.T) {
	t.Parallel()
	var b bench
	for _, repositories := range []int{10, 100} {
		for _, c := range classes {
			for _, f := range []classFigures{{Clients: 1, Sees: 1}, {Clients: 8, Sees: 1}, {Clients: 1, Sees: 0.1}} {
				f.Name, f.Repositories, f.P50, f.P99 = c.name, repositories, 1, 2
				b.add(f)
			}
		}
	}
	drawn := 0
	for _, c := range classes {
		if c.drawn {
			drawn++
		}
	}
	lines := b.chart().Lines
	if len(lines) != 2*drawn || drawn == 0 {
		t.Errorf("%d lines for %d classes", len(lines), drawn)
	}
	for i, l := range lines {
		y := float64(1 + i%2)
		if want := [][2]float64{{10, y}, {100, y}}; !slices.Equal(l.Points, want) || l.Dashed != (i%2 == 1) {
			t.Errorf("line %d is %+v", i, l)
		}
	}
}

// A misspelt word must not be in the book, but must be close to one that is.
func TestTypo(t *testing.T) {
	t.Parallel()
	k := &book{generator: newGenerator(2000)}
	for i := range 200 {
		if w := (draw{source("typo", i), k}).typo(); k.known[w] || len(w) < 4 {
			t.Errorf("typo %q", w)
		}
	}
}

// What is dropped for the load must be restored unchanged.
func TestDefinitionSeesIndexes(t *testing.T) {
	if _, err := localpg.Find(); errors.Is(err, localpg.ErrNotInstalled) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	url, err := localpg.Shared()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }() // rolls back everything
	var texts []string
	for _, q := range []string{
		"CREATE TABLE benchsearch_a (n int CONSTRAINT benchsearch_u UNIQUE)",
		"CREATE INDEX benchsearch_i ON benchsearch_a (n)", "ALTER TABLE benchsearch_a DROP CONSTRAINT benchsearch_u", "ALTER TABLE benchsearch_a ADD m int",
	} {
		if _, err := tx.Exec(t.Context(), q); err != nil {
			t.Fatal(err)
		}
		text, err := definition(t.Context(), tx)
		if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(texts, text) {
			t.Errorf("%s changes nothing", q)
		}
		texts = append(texts, text)
	}
}
