package main

import (
	"context"
	"log/slog"
	"os"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/config"
)

// logger returns the log of the program, on standard error.
func logger(c config.Log) *slog.Logger {
	options := &slog.HandlerOptions{Level: c.Level}
	if c.Format == "json" {
		return slog.New(withRequest{slog.NewJSONHandler(os.Stderr, options)})
	}
	return slog.New(withRequest{slog.NewTextHandler(os.Stderr, options)})
}

// withRequest adds the id of the request to each line that is logged with the context
// of one.
type withRequest struct{ slog.Handler }

func (h withRequest) Handle(ctx context.Context, r slog.Record) error {
	if id := indexer.RequestOf(ctx); id != "" {
		r = r.Clone()
		r.AddAttrs(slog.String("request", id))
	}
	return h.Handler.Handle(ctx, r)
}

func (h withRequest) WithAttrs(attrs []slog.Attr) slog.Handler {
	return withRequest{h.Handler.WithAttrs(attrs)}
}

func (h withRequest) WithGroup(name string) slog.Handler {
	return withRequest{h.Handler.WithGroup(name)}
}
