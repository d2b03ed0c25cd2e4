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

// The whole run at a small size: every request must have an answer.
func TestSmall(t *testing.T) {
	if _, err := localpg.Find(); errors.Is(err, localpg.ErrNotInstalled) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	var out, progress bytes.Buffer
	b := &bench{robots: 3, requests: 40}
	if err := harness.Run(ctx, "bench-login", b, nil, &out, &progress); err != nil {
		t.Fatalf("%v; it told:\n%s", err, &progress)
	}
	if n := strings.Count(out.String(), "8 clients, p99"); n != len(b.kinds()) || strings.Contains(out.String(), "with status") {
		t.Errorf("%d kinds were measured, or some had no answer:\n%s", n, &out)
	}
}
