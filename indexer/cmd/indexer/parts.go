package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"

	"github.com/portbook/portbook/indexer/config"
	"github.com/portbook/portbook/indexer/ingest"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/remote"
)

// Parts are what the commands have in common.
type parts struct {
	config   config.Config
	log      *slog.Logger
	database connections
	pool     *pgxpool.Pool
	keepIdle func(context.Context) error // closes the pool's connections that nobody needs
	store    *postgres.Store
	lag      *postgres.LagMeter
	open     atomic.Bool    // serve has found the schema up to date
	remote   *remote.Client // nil without registry.url
	registry *prometheus.Registry
	metrics  *ingest.Metrics
}

// with gives a command that runs f with the parts that its configuration asks
// for.
func with(f func(*cobra.Command, *parts) error) func(*cobra.Command, []string) error {
	return withParts(f, false)
}

// withDatabase is with for commands that need the database alone: a file with
// nothing but its key "database" is enough for them.
func withDatabase(f func(*cobra.Command, *parts) error) func(*cobra.Command, []string) error {
	return withParts(f, true)
}

func withParts(f func(*cobra.Command, *parts) error, onlyDatabase bool) func(*cobra.Command, []string) error {
	return func(command *cobra.Command, _ []string) error {
		c, log, err := load(command, onlyDatabase)
		if err != nil {
			return err
		}
		p, err := assemble(command.Context(), c, log)
		if err != nil {
			return err
		}
		defer p.pool.Close()
		return f(command, p)
	}
}

// withRegistry is with for commands that read a registry.
func withRegistry(f func(*cobra.Command, *parts) error) func(*cobra.Command, []string) error {
	return with(func(command *cobra.Command, p *parts) error {
		if p.remote == nil {
			return errors.New("registry.url is required: it says which registry to read")
		}
		return f(command, p)
	})
}

// assemble makes the parts. It does not wait for the database.
func assemble(ctx context.Context, c config.Config, log *slog.Logger) (*parts, error) {
	database, err := connect(ctx, c, log)
	if err != nil {
		return nil, err
	}
	pool, keepIdle, err := postgres.OpenPool(ctx, database.pool, c.Database.MaxIdleConns)
	if err != nil {
		return nil, fmt.Errorf("database: %w", err)
	}
	p := &parts{config: c, log: log, database: database, pool: pool, keepIdle: keepIdle, store: postgres.New(pool), registry: prometheus.NewRegistry()}
	p.store.Official, p.store.Log, p.store.Strangers = c.Search.OfficialNamespaces, log, c.Events.Token == ""
	p.lag = &postgres.LagMeter{Store: p.store}
	p.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	p.metrics = ingest.NewMetrics(p.registry)
	if c.Registry.URL != "" {
		p.remote, err = remote.New(remote.Config{
			URL: c.Registry.URL, Username: c.Registry.Username, Password: c.Registry.Password,
			UserAgent: userAgent, Connections: 2 * c.Scan.Parallelism,
		})
	}
	return p, err
}

// userAgent tells our own reads from real pulls in the registry's events.
const userAgent = "portbook-indexer"

// workers gives workers enough to keep the scan's parallelism up, and a few
// that wait for events alone.
func (p *parts) workers() *ingest.Workers {
	return &ingest.Workers{
		Store: p.store, Remote: p.remote, Log: p.log, Metrics: p.metrics,
		MaxMeta: p.config.Database.MaxMetaSize, Events: eventWorkers, Scans: p.config.Scan.Parallelism,
	}
}

// eventWorkers read what events ask for, and mostly wait for the tag to be
// written: 8 ms in the median. 8 of them carry several hundred pushes a second,
// more than the registry takes.
const eventWorkers = 8

func (p *parts) scanner(w *ingest.Workers) *ingest.Scanner {
	return &ingest.Scanner{
		Store: p.store, Remote: p.remote, Log: p.log, Metrics: p.metrics,
		Parallelism: p.config.Scan.Parallelism, Wake: w.WakeForScan,
	}
}
