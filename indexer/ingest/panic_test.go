package ingest

import (
	"errors"
	"log/slog"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
)

// A read that panics must be a failed read: content may not end the program that reads it.
func TestReadPanics(t *testing.T) {
	t.Parallel()
	r := reader{log: slog.New(slog.DiscardHandler)} // without a client, it panics
	task := indexer.Task{Repository: "a/b", Reference: indexer.TagOrDigest(digest.FromString("a").String())}
	f, err := r.readSafely(t.Context(), task)
	var panicked *indexer.Panic
	if !errors.As(err, &panicked) || f.Outcome != "" {
		t.Errorf("finding %+v, error %v", f, err)
	}
}
