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

// The whole run at a small size.
func TestSmall(t *testing.T) {
	if _, err := localpg.Find(); errors.Is(err, localpg.ErrNotInstalled) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	var out, progress bytes.Buffer
	if err := harness.Run(ctx, "bench-plans", &bench{tags: 20, repositories: 3}, nil, &out, &progress); err != nil {
		t.Fatalf("%v; it told:\n%s", err, &progress)
	}
	for _, figure := range []string{"plan, when the tables were analyzed", "plan of all", "search meanwhile"} {
		if !strings.Contains(out.String(), figure) {
			t.Errorf("no figure for %q:\n%s", figure, &out)
		}
	}
}
