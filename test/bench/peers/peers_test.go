package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/schema/localpg"
	"github.com/portbook/portbook/test/bench/content"
	"github.com/portbook/portbook/test/bench/harness"
)

// The test binary also stands for zot: see fakeZot.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "serve" {
		if err := fakeZot(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// fakeZot answers pushes like a registry that keeps nothing but names and digests, and
// each question with what it contains.
func fakeZot(file string) error {
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var config struct {
		HTTP       struct{ Address, Port string }
		Extensions struct{ Search struct{ Enable bool } }
	}
	if err := json.Unmarshal(raw, &config); err != nil || !config.Extensions.Search.Enable {
		return fmt.Errorf("config %s: %w", raw, err)
	}
	var mu sync.Mutex
	digests := map[string]digest.Digest{} // by path of the manifest
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		manifest := strings.Contains(r.URL.Path, "/manifests/")
		switch {
		case r.URL.Path == "/v2/_zot/ext/search":
			names := []string{}
			for path := range digests {
				name, _, _ := strings.Cut(strings.TrimPrefix(path, "/v2/"), "/manifests/")
				if q := r.URL.Query().Get("query"); !strings.Contains(q, `"qq`) {
					names = append(names, name)
				}
			}
			_ = json.NewEncoder(w).Encode(names)
		case r.Method == http.MethodHead && manifest:
			w.Header().Set("Docker-Content-Digest", string(digests[r.URL.Path]))
		case r.Method == http.MethodHead:
			w.WriteHeader(http.StatusNotFound)
		case r.Method == http.MethodPost:
			w.Header().Set("Location", strings.TrimSuffix(r.URL.Path, "/")+"/1")
			w.WriteHeader(http.StatusAccepted)
		case r.Method == http.MethodPut:
			body, _ := io.ReadAll(r.Body)
			if manifest {
				digests[r.URL.Path] = digest.FromBytes(body)
				w.Header().Set("Docker-Content-Digest", string(digests[r.URL.Path]))
			}
			w.WriteHeader(http.StatusCreated)
		}
	})
	return http.ListenAndServe(config.HTTP.Address+":"+config.HTTP.Port, handler)
}

// The whole run at a small size, with the registry, the indexer and something that
// stands for zot.
func TestSmall(t *testing.T) {
	if _, err := localpg.Find(); errors.Is(err, localpg.ErrNotInstalled) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file, picture := filepath.Join(dir, "out.json"), filepath.Join(dir, "out.svg")
	var out, progress bytes.Buffer
	args := []string{
		"-repositories", "100", "-tags", "2", "-requests", "10", "-zot", self, "-json", file, "-picture", picture,
	}
	if err := harness.Run(ctx, "bench-peers", &bench{}, args, &out, &progress); err != nil {
		t.Fatalf("%v; it told:\n%s", err, &progress)
	}
	for _, not := range []string{"with status", "NOT MEASURED"} {
		if strings.Contains(out.String(), not) {
			t.Errorf("the report tells %q:\n%s", not, &out)
		}
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var report struct{ Questions []figures }
	if err := json.Unmarshal(raw, &report); err != nil {
		t.Fatal(err)
	}
	if got, want := len(report.Questions), 2*2*len(questions); got != want {
		t.Errorf("%d figures, want %d", got, want)
	}
	for _, f := range report.Questions {
		measured := f.P50 > 0 && f.P99 >= f.P50 && f.RPS > 0 && f.Bytes > 0 && f.Processor > 0
		if !measured || f.Requests != 10*min(f.Clients, 4) {
			t.Errorf("not measured: %+v", f)
		}
	}
	if svg, err := os.ReadFile(picture); err != nil || !strings.Contains(string(svg), ">zot<") {
		t.Errorf("the picture is %s, %v", svg, err)
	}
}

// Each question has many different parameters, so that no answer is fast by chance, and
// both peers are asked for the same.
func TestQuestions(t *testing.T) {
	t.Parallel()
	w := newWords(content.Repositories(1000))
	for i := range 500 {
		w.digests = append(w.digests, digest.FromString(fmt.Sprint(i)).String())
	}
	fewer := map[question]int{firstPage: 20, newest: 20, commonWord: 70, typeAhead: 70}
	for _, q := range questions {
		a, asked := &asker{path: portbookPath, words: w}, map[string]bool{}
		for i, path := range a.paths(q, "clients 1", 1000) {
			asked[path] = true
			d := newDraw(q, "clients 1", i, w)
			p := d.parameter(q)
			if zot := zotPath(q, newDraw(q, "clients 1", i, w)); !strings.Contains(path, p) ||
				!strings.Contains(strings.NewReplacer("%2F", "/", "%3A", ":").Replace(zot), p) {
				t.Fatalf("for %s Portbook is asked %s, and zot %s", p, path, zot)
			}
		}
		want := fewer[q]
		if want == 0 {
			want = 100
		}
		if len(asked) < want {
			t.Errorf("%s: %d different queries, want %d", q, len(asked), want)
		}
	}
}
