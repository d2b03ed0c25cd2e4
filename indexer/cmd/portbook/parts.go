package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/user"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/config"
	"github.com/portbook/portbook/indexer/database"
	"github.com/portbook/portbook/indexer/deliver"
	"github.com/portbook/portbook/indexer/errorreport"
	"github.com/portbook/portbook/indexer/ingest"
	"github.com/portbook/portbook/indexer/manage"
	"github.com/portbook/portbook/indexer/packages"
	"github.com/portbook/portbook/indexer/plan"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/remote"
	"github.com/portbook/portbook/indexer/web/login"
)

// parts holds what several commands use.
type parts struct {
	config   config.Config
	log      *slog.Logger
	database *database.Connections
	pools    *database.Pools
	store    *postgres.Store // of ingestion, and of every command
	reads    *postgres.Store // of readers' requests
	lag      *postgres.LagMeter
	open     atomic.Bool    // serve has found the schema up to date
	remote   *remote.Client // nil without registry.url
	signer   *access.Signer // of tokens for the registry; nil without auth.keys
	registry *prometheus.Registry
	metrics  *ingest.Metrics
	manager  *manage.Manager   // nil on a reader
	plans    *plan.Service     // nil on a reader
	packages *packages.Service // nil if there is none
	webhooks *deliver.Webhooks
	sending  deliver.Config        // of webhooks
	faults   *errorreport.Reporter // of errors; nil: none
	refusals *login.Refusals       // nil on a reader, as uses
	uses     *access.Uses
	// measuring is a lock: one request at a time checks whether the database is ready.
	measuring chan struct{}
}

// with returns a command that runs f with the parts of its configuration.
func with(f func(*cobra.Command, *parts) error) func(*cobra.Command, []string) error {
	return withParts(f, false)
}

// withDatabase is with for commands that need only the database: a configuration with
// only the section database is valid for them.
func withDatabase(f func(*cobra.Command, *parts) error) func(*cobra.Command, []string) error {
	return withParts(f, true)
}

func withParts(f func(*cobra.Command, *parts) error, onlyDatabase bool) func(*cobra.Command, []string) error {
	return func(command *cobra.Command, _ []string) error {
		c, log, err := load(command, onlyDatabase)
		if err != nil {
			return err
		}
		metrics := prometheus.NewRegistry()
		reports, err := errorreport.New(errorreport.Config{
			DSN: c.Errors.SentryDSN, Release: programVersion(), Role: string(c.Role), Log: log, Metrics: metrics,
		})
		if err != nil {
			return err // config has checked it
		}
		defer reports.Close()
		defer reports.Crash()
		p, err := assemble(command.Context(), c, slog.New(reports.Handler(log.Handler())), metrics)
		if err != nil {
			return err
		}
		p.faults = reports
		defer p.pools.Close()
		command.SetContext(access.WithActor(command.Context(), ourselves()))
		return f(command, p)
	}
}

// ourselves returns who runs the command, for the records of what it changes.
func ourselves() access.Actor {
	a := access.Actor{Name: "cli"}
	if u, err := user.Current(); err == nil {
		a.Name += ":" + u.Username
	}
	a.Source, _ = os.Hostname() // "" if it is unknown
	return a
}

// withRegistry is with for commands that read a registry.
func withRegistry(f func(*cobra.Command, *parts) error) func(*cobra.Command, []string) error {
	return with(func(command *cobra.Command, p *parts) error {
		if p.remote == nil {
			return errors.New("registry.url is required: set it to the URL of the registry to read")
		}
		return f(command, p)
	})
}

// assemble creates the parts. It does not wait for the database.
func assemble(ctx context.Context, c config.Config, log *slog.Logger, metrics *prometheus.Registry) (*parts, error) {
	connections, err := database.New(ctx, c, log)
	if err != nil {
		return nil, err
	}
	pools, err := connections.OpenPools(ctx)
	if err != nil {
		return nil, err
	}
	p := &parts{
		config: c, log: log, database: connections, pools: pools,
		registry: metrics, measuring: make(chan struct{}, 1),
	}
	p.store = p.newStore(pools.Ingest, 0)
	p.reads = p.newStore(pools.Read, p.copyLimit())
	p.lag = &postgres.LagMeter{Store: p.store}
	p.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	p.metrics = ingest.NewMetrics(p.registry)
	if err := p.assembleWebhooks(); err != nil {
		return nil, err
	}
	if c.Auth.Keys != "" {
		if p.signer, err = access.NewSigner(c.Auth.Keys, c.Auth.Issuer, c.Auth.Service); err != nil {
			return nil, err
		}
	}
	if c.Registry.URL != "" {
		p.remote, err = remote.New(remote.Config{
			URL: c.Registry.URL, Username: c.Registry.Username, Password: c.Registry.Password, Token: p.ownToken(),
			UserAgent: userAgent, Connections: 2 * c.Scan.Parallelism,
		})
	}
	return p, err
}

// ownToken returns a function that signs the tokens with which we read and change the registry,
// nil if there are no keys.
func (p *parts) ownToken() func(pull, change string) (string, error) {
	if p.signer == nil {
		return nil
	}
	return func(pull, change string) (string, error) {
		var needs []access.Access
		if pull != "" {
			needs = append(needs, access.ToPull(pull))
		}
		if change != "" {
			needs = append(needs, access.ToChange(change))
		}
		if needs == nil {
			needs = append(needs, access.OfCatalogue)
		}
		return p.signer.ForRegistry(userAgent, needs, time.Now())
	}
}

// newStore returns a store that uses pool and may hold a copy of the search rows of a
// number of bytes.
func (p *parts) newStore(pool *pgxpool.Pool, memory int) *postgres.Store {
	return postgres.New(pool, postgres.Config{
		Log: p.log, Official: p.config.Search.OfficialNamespaces, Memory: memory, Strangers: p.config.Events.Token == "",
		Reports: p.reports(),
	})
}

// copyLimit returns the most bytes of the copy of the search rows, 0 for no copy.
func (p *parts) copyLimit() int {
	if !p.config.Search.Memory {
		return 0
	}
	return p.config.Search.MemoryLimit
}

// userAgent distinguishes our reads from pulls in the registry's events.
const userAgent = access.Ourselves

// workers returns workers: enough for the scan's parallelism, and eventWorkers for
// events only.
func (p *parts) workers() *ingest.Workers {
	return ingest.NewWorkers(ingest.WorkersConfig{
		Store: p.store, Remote: p.remote, Log: p.log, Metrics: p.metrics,
		MaxMeta: p.config.Database.MaxMetaSize, Events: eventWorkers, Scans: p.config.Scan.Parallelism,
	})
}

// answerAfter is how long a request waits for the end of an operation: 10 s. Then it is answered
// with the number of the operation.
const answerAfter = 10 * time.Second

// newManager returns what performs operations. wait is how long it waits for the end of one; 0:
// without a limit.
func (p *parts) newManager(workers *ingest.Workers, wait time.Duration) *manage.Manager {
	return manage.New(manage.Config{
		Store: p.store, Remote: p.remote, Log: p.log, Wake: workers.Wake, Wait: wait, Protected: p.store.Protected,
		Freed: p.freed,
		Performers: map[indexer.OperationKind]manage.Performer{
			indexer.ApplyPlan: &plan.Applier{Store: p.store, Cap: p.config.Plans.Cap},
		},
	})
}

// freed returns how many bytes nothing but some manifests uses, and how many others use too; -1
// if there is no time to find out.
func (p *parts) freed(ctx context.Context, manifests []indexer.Reference) (own, shared int64, err error) {
	refs := make([]indexer.ManifestRef, len(manifests))
	for i, m := range manifests {
		refs[i] = indexer.ManifestRef{Repository: m.Repository, Digest: m.Digest}
	}
	var f indexer.Freed
	err = p.store.View(ctx, indexer.Everyone, func(v *postgres.View) (err error) {
		f, err = v.Freed(ctx, refs)
		return err
	})
	if errors.Is(err, indexer.ErrTooSlow) || err == nil && !f.Known() {
		return -1, -1, nil
	}
	return f.Own(), f.SharedContent(), err
}

// newPlans returns the rules of retention and the plans, whose operations m performs.
func (p *parts) newPlans(m *manage.Manager) *plan.Service {
	return &plan.Service{
		Store: p.store, Planner: plan.NewPlanner(p.store, p.log), Do: m.Do, Cap: p.config.Plans.Cap,
	}
}

// eventWorkers is the number of workers that read only tasks of events: 8. They
// mostly wait until the registry writes the tag, 8 ms in the median, so 8 workers can
// read several hundred pushes a second, more than the registry accepts.
const eventWorkers = 8

func (p *parts) scanner(w *ingest.Workers) *ingest.Scanner {
	return ingest.NewScanner(ingest.ScannerConfig{
		Store: p.store, Remote: p.remote, Log: p.log, Metrics: p.metrics,
		Parallelism: p.config.Scan.Parallelism, Wake: w.WakeForScan,
	})
}
