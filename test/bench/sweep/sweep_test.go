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

// The whole run at a small size: a look must see all blobs.
func TestSmall(t *testing.T) {
	if _, err := localpg.Find(); errors.Is(err, localpg.ErrNotInstalled) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	var out, progress bytes.Buffer
	if err := harness.Run(ctx, "bench-sweep", &bench{blobs: 200}, nil, &out, &progress); err != nil {
		t.Fatalf("%v; it told:\n%s\n%s", err, &progress, &out)
	}
	if !strings.Contains(out.String(), "A further look") {
		t.Errorf("no second look:\n%s", &out)
	}
}
