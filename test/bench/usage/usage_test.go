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

// The whole run at a small size: each pull must be answered and counted.
func TestSmall(t *testing.T) {
	if _, err := localpg.Find(); errors.Is(err, localpg.ErrNotInstalled) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	var out, progress bytes.Buffer
	b := &bench{repositories: 3, pushes: 2, perSecond: 50, seconds: 1}
	if err := harness.Run(ctx, "bench-usage", b, nil, &out, &progress); err != nil {
		t.Fatalf("%v; it told:\n%s", err, &progress)
	}
	if text := out.String(); !strings.Contains(text, "times that without") || strings.Contains(text, "with status") || strings.Contains(text, "were counted") {
		t.Errorf("pulls had no answer, or were not counted:\n%s", text)
	}
}
