package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/config"
	"github.com/portbook/portbook/indexer/ingest"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/web"
)

const (
	// headerTimeout bounds the header of a request, against senders that never
	// finish one. Bodies are bounded where they are read: an upload of a layer
	// may take hours.
	headerTimeout = 10 * time.Second
	idleTimeout   = 2 * time.Minute
	// stopTimeout is how long requests under way are waited for when stopping.
	stopTimeout = 10 * time.Second
)

func serveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Takes the registry's events, keeps the book and answers searches",
		Args:  cobra.NoArgs,
		RunE: with(func(command *cobra.Command, p *parts) error {
			p.log.Info("starting", "version", programVersion(), "config", p.config)
			err := serve(command.Context(), p)
			if errors.Is(err, context.Canceled) {
				err = nil // asked to stop
			}
			p.log.Info("stopped", "error", err)
			return err
		}),
	}
}

// serve runs until the context ends, then lets what is under way finish.
func serve(ctx context.Context, p *parts) error {
	group, ctx := errgroup.WithContext(ctx)
	var migrated atomic.Bool
	ready := func(ctx context.Context) error {
		if !migrated.Load() {
			return fmt.Errorf("the schema is not up to date yet: %w", indexer.ErrUnavailable)
		}
		return p.store.Ping(ctx)
	}
	registerBacklog(p.registry, p.store)
	if err := listen(ctx, group, p.config.HTTP.OperationsAddress, "operations", p, web.Operations(p.registry, ready, p.log)); err != nil {
		return errors.Join(err, group.Wait())
	}
	group.Go(func() error {
		if p.config.Role == config.Writer {
			if err := p.migrate(ctx); err != nil {
				return err
			}
		}
		handler, err := p.work(ctx, group)
		if err != nil {
			return err
		}
		if err := listen(ctx, group, p.config.HTTP.Address, "serving", p, handler); err != nil {
			return err
		}
		migrated.Store(true)
		return nil
	})
	return group.Wait()
}

// work starts what a writer does, and gives the handler of everything public.
func (p *parts) work(ctx context.Context, group *errgroup.Group) (http.Handler, error) {
	c := web.Config{
		Read: p.read, Log: p.log, Metrics: p.registry, Version: programVersion(),
		PublicURL: p.config.Registry.PublicURL, MaxAgeIndex: p.config.Cache.MaxAgeIndex, MaxAgeHTML: p.config.Cache.MaxAgeHTML,
		WebUI: p.config.Components.WebUI, AssertEndpoint: p.config.Components.AssertEndpoint,
	}
	if p.config.Components.RegistryProxy {
		u, err := url.Parse(p.config.Registry.URL)
		if err != nil {
			return nil, err // config has checked it
		}
		c.RegistryProxy = u
	}
	if p.config.Role == config.Reader {
		return web.New(c), nil
	}
	if p.config.Events.Token == "" {
		p.log.WarnContext(ctx, "events.token is empty: whoever reaches the address can ask for any reference to be read again")
	}
	workers := p.workers()
	c.Events = &ingest.Receiver{
		Token: p.config.Events.Token, Receive: p.store.Receive, Wake: workers.Wake, Log: p.log, Metrics: p.metrics,
	}
	leader := &ingest.Leader{
		Store: p.store, Scanner: p.scanner(workers), Log: p.log, Metrics: p.metrics,
		FetchAll: p.config.Interval.FetchAll, GarbageCollect: p.config.Interval.GarbageCollect,
	}
	if err := p.store.RequestScan(ctx, "start"); err != nil {
		return nil, err
	}
	group.Go(func() error { return workers.Run(ctx) })
	group.Go(func() error { return leader.Run(ctx) })
	return web.New(c), nil
}

// read gives the web one state of the book.
func (p *parts) read(ctx context.Context, f func(web.Book) error) error {
	return p.store.View(ctx, func(v *postgres.View) error { return f(v) })
}

// listen serves until the context ends, and then as long as requests last.
func listen(ctx context.Context, group *errgroup.Group, address, what string, p *parts, handler http.Handler) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("listen: %w: is another program there? http.address and http.operations_address say where to listen", err)
	}
	p.log.InfoContext(ctx, what, "address", listener.Addr().String())
	server := &http.Server{Handler: handler, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout}
	group.Go(func() error {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		if err := server.Shutdown(stop); err != nil {
			return server.Close() // those that would not end
		}
		return nil
	})
	return nil
}

// backlogTimeout bounds the question that a scrape asks the database.
const backlogTimeout = 2 * time.Second

// registerBacklog shows the database's own numbers. A database that is away
// shows none, and hides no other metric.
func registerBacklog(registry *prometheus.Registry, store *postgres.Store) {
	registry.MustRegister(&backlog{
		store:   store,
		due:     prometheus.NewDesc("portbook_tasks_due", "References waiting to be read.", nil, nil),
		oldest:  prometheus.NewDesc("portbook_tasks_oldest_seconds", "How long the oldest of them has waited.", nil, nil),
		givenUp: prometheus.NewDesc("portbook_tasks_given_up", "References that could not be read and are not tried again.", nil, nil),
		version: prometheus.NewDesc("portbook_catalogue_version", "The number that changes with the catalogue.", nil, nil),
	})
}

type backlog struct {
	store                         *postgres.Store
	due, oldest, givenUp, version *prometheus.Desc
}

func (b *backlog) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{b.due, b.oldest, b.givenUp, b.version} {
		ch <- d
	}
}

func (b *backlog) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), backlogTimeout)
	defer cancel()
	var s indexer.Status
	err := b.store.View(ctx, func(v *postgres.View) (err error) {
		s, err = v.Status(ctx)
		return err
	})
	if err != nil {
		return
	}
	for desc, value := range map[*prometheus.Desc]float64{
		b.due: float64(s.TasksDue), b.oldest: s.OldestDue.Seconds(), b.givenUp: float64(s.GivenUp), b.version: float64(s.Version.Number),
	} {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value)
	}
}
