package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/portbook/portbook/schema/localpg"
	"github.com/portbook/portbook/test/bench/harness"
)

// The whole run at a small size: it must measure everything, and find that a rescan
// reads and writes nothing.
func TestSmall(t *testing.T) {
	if _, err := localpg.Find(); errors.Is(err, localpg.ErrNotInstalled) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	var out, progress bytes.Buffer
	b := &bench{config: standard}
	args := strings.Fields("-repositories 12 -tags 2 -scans 2 -rescans 2 -serial 5 -rate 10 -seconds 1 -wide 15")
	if err := harness.Run(ctx, "bench", b, args, &out, &progress); err != nil { // also if a count is wrong
		t.Fatalf("%v; it told:\n%s", err, &progress)
	}
	for _, s := range b.Report.Sections {
		for _, f := range s.Figures {
			if f.Value <= 0 && f.Unit != "" { // figures without a unit are counts and may be 0
				t.Errorf("%s: %s is %v %s", s.Title, f.Name, f.Value, f.Unit)
			}
		}
	}
	for _, want := range []string{
		"First scan", "Rescan", "ratio", "p99", "peak memory", "a manifest (", "an event (", "Memory", "PostgreSQL 1",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the report does not tell %q:\n%s", want, &out)
		}
	}
}

// Missing, extra and repeated requests must all be counted.
func TestDifference(t *testing.T) {
	t.Parallel()
	list, tag := request{"GET", "/v2/a/tags/list", ""}, request{"HEAD", "/v2/a/manifests/v1", "sha256:1"}
	fetch := request{"GET", "/v2/a/manifests/v1", ""}
	more, missing := difference([]request{list, list, fetch}, []request{list, tag})
	if more != 2 || missing != 1 {
		t.Errorf("difference = %d more, %d missing, want 2, 1", more, missing)
	}
	if n := bodies([]request{list, tag, fetch, {"GET", "/v2/a/blobs/sha256:2", ""}, {"GET", "/v2/a/manifests/v1", "sha256:1"}}); n != 2 {
		t.Errorf("bodies = %d, want 2", n)
	}
}

func TestCanonical(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"/v2/_catalog?n=1000&last=a%2Fb": "/v2/_catalog?last=a%2Fb&n=1000",
		"/v2/a/tags/list":                "/v2/a/tags/list",
		"http://r:5000/v2/a/tags/list":   "/v2/a/tags/list",
	} {
		if got, err := canonical(address); got != want || err != nil {
			t.Errorf("canonical(%q) = %q, %v, want %q", address, got, err, want)
		}
	}
}

// The first error must be returned, and stop the rest.
func TestEach(t *testing.T) {
	t.Parallel()
	failure := errors.New("three")
	err := each(t.Context(), 2, []int{1, 2, 3, 4}, func(_ context.Context, n int) error {
		if n == 3 {
			return failure
		}
		return nil
	})
	if !errors.Is(err, failure) {
		t.Errorf("each: %v, want %v", err, failure)
	}
}
