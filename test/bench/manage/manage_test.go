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

// The whole run at a small size: both repositories are deleted.
func TestSmall(t *testing.T) {
	if _, err := localpg.Find(); errors.Is(err, localpg.ErrNotInstalled) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	var out, progress bytes.Buffer
	if err := harness.Run(ctx, "bench-manage", &bench{manifests: 3}, nil, &out, &progress); err != nil {
		t.Fatalf("%v; it told:\n%s", err, &progress)
	}
	if n := strings.Count(out.String(), "deleted by an operation"); n != 2 {
		t.Errorf("%d were measured:\n%s", n, &out)
	}
}
