package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/portbook/portbook/schema/localpg"
)

// The whole run at a small size: it must measure everything, and find that a
// rescan fetches and writes nothing.
func TestSmall(t *testing.T) {
	if _, err := localpg.Find(); errors.Is(err, localpg.ErrNotInstalled) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	var progress bytes.Buffer
	r, err := measure(ctx, config{
		repositories: 12, tags: 2, scans: 2, rescans: 2, serial: 5, rate: 10, seconds: 1, wide: 15,
	}, &progress)
	if err != nil {
		t.Fatalf("%v; it told:\n%s", err, &progress)
	}
	if wrong := r.failed(); len(wrong) > 0 {
		t.Errorf("wrong counts: %v", wrong)
	}
	for _, s := range r.Sections {
		for _, f := range s.Figures {
			if f.Value <= 0 && f.Unit != "" { // those without a unit are counts, and may be 0
				t.Errorf("%s: %s is %v %s", s.Title, f.Name, f.Value, f.Unit)
			}
		}
	}
	var out strings.Builder
	if err := r.write(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"First scan", "Rescan", "ratio", "p99", "peak memory", "a manifest (", "an event (", "PostgreSQL 1"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the report does not tell %q:\n%s", want, &out)
		}
	}
}

func TestQuantile(t *testing.T) {
	t.Parallel()
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[99-i] = float64(i + 1)
	}
	for _, test := range []struct {
		values []float64
		q      float64
		want   float64
	}{
		{nil, 0.5, 0},
		{[]float64{7}, 0.99, 7},
		{[]float64{3, 1, 2}, 0.5, 2},
		{[]float64{4, 1, 3, 2}, 0.5, 2},
		{hundred, 0.5, 50},
		{hundred, 0.9, 90},
		{hundred, 0.99, 99},
		{hundred, 1, 100},
	} {
		if got := quantile(test.values, test.q); got != test.want {
			t.Errorf("quantile(%d values, %v) = %v, want %v", len(test.values), test.q, got, test.want)
		}
	}
}

func TestNumber(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{
		0: "0", 5: "5", 0.1234: "0.123", 1.234: "1.23", 12.34: "12.3", 123.4: "123", 999.6: "1,000", 1000: "1,000", 12501: "12,501", 1234567: "1,234,567",
	} {
		if got := number(v); got != want {
			t.Errorf("number(%v) = %q, want %q", v, got, want)
		}
	}
}

// What a scan asks for too much and too little must both be seen, and doubles.
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

// No word may be the beginning of another, or a search would find both.
func TestUniqueWords(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for n := range 10_000 {
		seen[uniqueWord(n)] = true
		if len(uniqueWord(n)) != len(uniqueWord(0)) {
			t.Fatalf("word %d is %q", n, uniqueWord(n))
		}
	}
	if len(seen) != 10_000 {
		t.Errorf("%d different words of 10,000", len(seen))
	}
}

// Figures of two runs compare only if both had the same images.
func TestSameImagesAgain(t *testing.T) {
	t.Parallel()
	few, many := repositories(20), repositories(200)
	if !reflect.DeepEqual(few, many[:20]) {
		t.Error("the first of many are not those of few")
	}
	if a, b := few[3].image(1, "amd64", true), many[3].image(1, "amd64", true); !reflect.DeepEqual(a, b) {
		t.Errorf("two images of one tag: %v and %v", a, b)
	}
	names := map[string]bool{}
	for _, p := range many {
		names[p.name] = true
	}
	if len(names) != len(many) {
		t.Errorf("%d names of %d repositories", len(names), len(many))
	}
}

// The first error must come back, and end the rest.
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

// The clock of our own process grows while it works, and a process that is
// gone has none.
func TestProcessorSeconds(t *testing.T) {
	t.Parallel()
	before := processorSeconds(os.Getpid())
	if before <= 0 {
		t.Fatalf("this process has used %v s", before)
	}
	for deadline := time.Now().Add(10 * time.Second); processorSeconds(os.Getpid()) == before; {
		if time.Now().After(deadline) {
			t.Fatal("working for 10 s used no processor time")
		}
	}
	if got := processorSeconds(1<<22 + 1); got != 0 { // above the highest pid of Linux
		t.Errorf("a process that is not there has used %v s", got)
	}
}
