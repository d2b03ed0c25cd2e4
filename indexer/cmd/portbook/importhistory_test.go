package main_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portbook/portbook/registry/push"
)

// historyOf returns the moves of a repository as the API shows them, without their numbers.
func historyOf(t *testing.T, i *indexerProcess, repository string) (all []map[string]any) {
	t.Helper()
	resp, err := http.Get("http://" + i.address + "/api/v1/repositories/" + repository + "/-/history")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var page struct{ Moves []map[string]any }
	if err := json.NewDecoder(resp.Body).Decode(&page); err != nil {
		t.Fatal(err)
	}
	for _, m := range page.Moves {
		delete(m, "id")
	}
	return page.Moves
}

// The history of an older book is taken over from its dump into a new database, all of it or
// nothing; the scan after it finds no more moves, and what is there has its times.
func TestImportHistory(t *testing.T) {
	t.Parallel()
	f := launch(t)
	old := f.indexer(f.address)
	for i, tag := range []string{"v1", "v2", "latest", "latest", "gone"} {
		spec := push.ImageSpec{Labels: map[string]string{"i": string(rune('a' + i))}}
		if _, err := f.registry.Push.Image(t.Context(), "team/app", tag, spec); err != nil {
			t.Fatal(err)
		}
		f.equal(patience)
	}
	if err := f.registry.Push.Delete(t.Context(), "team/app", "gone"); err != nil {
		t.Fatal(err)
	}
	f.equal(patience)
	within(t, patience, "six moves are known", func() bool { return len(historyOf(t, old, "team/app")) == 6 })
	// Years ago, for which the new database has no partitions yet.
	pool := f.pool()
	if _, err := pool.Exec(t.Context(), "SELECT create_history_partitions('2020-01-01'::timestamptz)"); err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(t.Context(), "UPDATE tag_history SET seen_at = seen_at - interval '4 years'"); err != nil {
		t.Fatal(err)
	}
	want := historyOf(t, old, "team/app")
	resp, err := http.Get("http://" + f.address + "/api/v1/dump")
	if err != nil {
		t.Fatal(err)
	}
	dump, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		t.Fatal(err)
	}
	cut := dump[:bytes.LastIndexByte(dump[:len(dump)-1], '\n')+1] // without its last line
	seen := f.column(t, "SELECT max(seen_at)::text FROM manifest")
	old.process.Kill()

	if _, err := pool.Exec(t.Context(), "CREATE DATABASE fresh"); err != nil {
		t.Fatal(err)
	}
	f.database = f.postgres.URL("fresh")
	f.must("migrate", "up", "--yes")
	file := filepath.Join(t.TempDir(), "book.ndjson")
	for text, say := range map[string]string{
		string(cut): "cut off",
		strings.Replace(string(dump), `"type":"move"`, `"type":"move","x":`, 1): "not a record",
		"{}": "not a dump of Portbook",
		strings.Replace(string(dump), `"tag":"latest"`, `"tag":"-"`, 1): "line",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := f.run("import", "history", file); err == nil || !strings.Contains(out, say) {
			t.Errorf("%v %s, want %s", err, out, say)
		}
	}
	// Killed before the end of the dump has come.
	killed := exec.Command(f.binary, "import", "history", "-")
	killed.Env = f.environment()
	in, err := killed.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := killed.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write(cut); err != nil {
		t.Fatal(err)
	}
	time.Sleep(500 * time.Millisecond)
	_ = killed.Process.Kill()
	_ = killed.Wait()

	f.input = string(dump)
	if out := f.must("import", "history", "-"); !strings.HasPrefix(out, "6 moves") {
		t.Errorf("%s", out)
	}
	if out, err := f.run("import", "history", "-"); err == nil || !strings.Contains(out, "has begun") {
		t.Errorf("the second time: %v %s", err, out)
	}
	fresh := f.indexer(f.address)
	f.equal(patience)
	if diff := cmp.Diff(want, historyOf(t, fresh, "team/app")); diff != "" {
		t.Errorf("the history (-old +new)\n%s", diff)
	}
	within(t, patience, "the manifests have their times", func() bool {
		return cmp.Equal(f.column(t, "SELECT max(seen_at)::text FROM manifest"), seen)
	})
}
