package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/portbook/portbook/schema/localpg"
	"github.com/portbook/portbook/test/bench/harness"
)

// The whole run at a small size: it must make a book, request every existing page, and
// write the figures.
func TestSmall(t *testing.T) {
	if _, err := localpg.Find(); errors.Is(err, localpg.ErrNotInstalled) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	file := filepath.Join(t.TempDir(), "out.json")
	var out, progress bytes.Buffer
	args := []string{"-repositories", "60", "-tags", "2", "-requests", "3", "-json", file}
	if err := harness.Run(ctx, "bench-pages", &bench{config: standard}, args, &out, &progress); err != nil {
		t.Fatalf("%v; it told:\n%s", err, &progress)
	}
	if !strings.Contains(out.String(), "median") {
		t.Errorf("the report has no median:\n%s", &out)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var r results
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	if r.Conditions.Repositories != 60 || len(r.Pages) != len(pages) {
		t.Errorf("%d repositories and %d pages, want 60 and %d", r.Conditions.Repositories, len(r.Pages), len(pages))
	}
	for _, f := range r.Pages {
		there := map[string]bool{"catalogue": true, "repository": true, "image by tag": true, "image by digest": true, "search for a word": true, "status": true}[f.Name]
		if there && (f.Requests != 3 || f.Median <= 0 || f.Bytes <= 0) {
			t.Errorf("%s was not measured: %+v", f.Name, f)
		}
	}
}
