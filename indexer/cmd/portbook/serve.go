package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/config"
	"github.com/portbook/portbook/indexer/database"
	"github.com/portbook/portbook/indexer/ingest"
	"github.com/portbook/portbook/indexer/plan"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/web"
	"github.com/portbook/portbook/indexer/web/answer"
	"github.com/portbook/portbook/indexer/web/login"
	"github.com/portbook/portbook/schema"
)

const (
	// headerTimeout limits reading the header of a request, against clients that never
	// finish it. Handlers limit the time of bodies: an upload of a layer may take hours.
	headerTimeout = 10 * time.Second
	idleTimeout   = 2 * time.Minute
	// stopTimeout is how long a shutdown waits for active requests.
	stopTimeout = 10 * time.Second
)

func serveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Receive the registry's events, update the book and serve searches",
		Long: `Receives the registry's events, updates the book and serves searches, the API and
the catalogue, until SIGTERM or SIGINT. A reader only serves.`,
		Example: `  portbook serve --config portbook.yaml
  portbook serve --config portbook.yaml --role reader --http-address :8080`,
		Args: noArguments,
		RunE: with(func(command *cobra.Command, p *parts) error {
			p.log.Info("starting", "version", programVersion(), "config", p.config)
			err := serve(command.Context(), p)
			if errors.Is(err, context.Canceled) {
				err = nil // by a signal
			}
			p.log.Info("stopped", "error", err)
			return err
		}),
	}
}

// serve runs until the context ends, and then waits for active requests. It listens
// at once: until the database and its schema are ready, requests that need them get
// a 503.
func serve(ctx context.Context, p *parts) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return keepGC(ctx) })
	registerBacklog(p)
	operations := web.Operations(web.OperationsConfig{
		Gatherer: p.registry, Ready: p.ready, Version: programVersion(), Log: p.log,
	})
	if err := listen(ctx, group, p.config.HTTP.OperationsAddress, "operations", p, operations); err != nil {
		return errors.Join(err, group.Wait())
	}
	group.Go(func() error {
		handler, work, err := p.public(ctx.Done())
		if err != nil {
			return err
		}
		if err := listen(ctx, group, p.config.HTTP.Address, "serving", p, handler); err != nil {
			return err
		}
		if err := p.awaitSchema(ctx); err != nil {
			return err
		}
		p.open.Store(true)
		group.Go(p.reporting(func() error { return p.reads.KeepCopy(ctx) }))
		for _, keepIdle := range p.pools.KeepIdle {
			group.Go(func() error { return keepIdle(ctx) })
		}
		return work(ctx, group)
	})
	return group.Wait()
}

// errNotOpen is the error of requests before the schema is ready.
var errNotOpen = notReady("the database schema is not up to date yet")

// notReady returns an error with a reason that clients may read.
func notReady(format string, a ...any) error {
	text := fmt.Sprintf(format, a...)
	return &indexer.Fault{Reason: text, Err: fmt.Errorf("%s: %w", text, indexer.ErrUnavailable)}
}

// ready returns the reason why we cannot serve now, or nil.
func (p *parts) ready(ctx context.Context) error {
	if !p.open.Load() {
		return errNotOpen
	}
	select {
	case p.measuring <- struct{}{}:
		defer func() { <-p.measuring }()
	case <-ctx.Done():
		return fmt.Errorf("too many readiness checks wait for the database: %w", indexer.ErrUnavailable)
	}
	lag, err := p.lag.Measure(ctx)
	if err != nil {
		return err
	}
	return tooFarBehind(lag, p.config.Database.MaxLag)
}

// tooFarBehind returns an error if the lag of a standby is more than most. With 0
// there is no limit.
func tooFarBehind(lag postgres.Lag, most time.Duration) error {
	switch {
	case most == 0 || lag.Behind <= most:
		return nil
	case lag.Behind == postgres.UnknownLag:
		return notReady("the lag of the standby is unknown, and database.max_lag is %v", most)
	}
	return notReady("the standby is %v behind its primary, and database.max_lag is %v",
		lag.Behind.Round(time.Millisecond), most)
}

// awaitSchema returns when the schema is up to date: a writer migrates, a reader
// waits. A schema that is newer than the program is an error.
func (p *parts) awaitSchema(ctx context.Context) error {
	if p.config.Role == config.Writer {
		return p.migrate(ctx)
	}
	return p.untilThere(ctx, func() error {
		return p.pools.Ingest.AcquireFunc(ctx, func(conn *pgxpool.Conn) error { return schema.Check(ctx, conn.Conn()) })
	})
}

// untilThere repeats f until the database and its schema are ready. It returns any
// other error of f.
func (p *parts) untilThere(ctx context.Context, f func() error) error {
	for {
		err := f()
		switch {
		case err == nil || ctx.Err() != nil:
			return err
		case !errors.Is(err, schema.ErrNotMigrated) && !errors.Is(err, indexer.ErrUnavailable) && !database.Away(err):
			return fmt.Errorf("database: %w", database.Explain(err))
		}
		p.log.WarnContext(ctx, "waiting for the database", "error", database.Explain(err))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(migrateAgain):
		}
	}
}

// reporting returns f, whose panic ends the program, and is reported first.
func (p *parts) reporting(f func() error) func() error {
	return func() error {
		defer p.faults.Crash()
		return f()
	}
}

// A starter starts the work of a process besides serving requests.
type starter func(context.Context, *errgroup.Group) error

// flatpakOwners parses flatpak.owners.
func flatpakOwners(texts []string) (owners []indexer.FlatpakOwner, err error) {
	for _, text := range texts {
		o, err := indexer.ParseFlatpakOwner(text)
		if err != nil {
			return nil, err
		}
		owners = append(owners, o)
	}
	return owners, nil
}

// public returns the handler of the public address, and the work to start when the
// schema is ready. stopping is closed when the program shuts down.
func (p *parts) public(stopping <-chan struct{}) (http.Handler, starter, error) {
	owners, err := flatpakOwners(p.config.Flatpak.Owners)
	if err != nil {
		return nil, nil, err
	}
	c := web.Config{
		FlatpakOwners: owners, Webhooks: p.webhooks,
		Read: p.read, Connections: p.pools.ReadConns, Ready: p.ready, Stopping: stopping,
		Log: p.log, AccessLog: p.config.Log.Access, Metrics: p.registry, Reports: p.faults, Version: programVersion(),
		PublicURL: p.config.Registry.PublicURL, MaxAgeIndex: p.config.Cache.MaxAgeIndex, MaxAgeHTML: p.config.Cache.MaxAgeHTML,
		WebUI: p.config.Components.WebUI, AssertEndpoint: p.config.Components.AssertEndpoint,
		ExperimentalOCI: p.config.Components.ExperimentalOCI,
		// is_official and the content of flatpak's index depend on them.
		Settings: strings.Join(p.config.Search.OfficialNamespaces, ",") + "\x00" + strings.Join(p.config.Flatpak.Owners, "\x00"),
		Revision: programRevision(), LogLevel: strings.ToLower(p.config.Log.Level.String()), Address: p.config.HTTP.Address,
	}
	var workers *ingest.Workers
	if p.config.Role == config.Writer {
		workers = p.workers()
		p.manager = p.newManager(workers, answerAfter)
		p.plans = p.newPlans(p.manager)
	}
	if c.Package, err = p.servePackages(context.Background(), workers); err != nil {
		return nil, nil, err
	}
	c.Protection = p.protection()
	if c.Login, err = p.login(c.Protection.Keeper); err != nil {
		return nil, nil, err
	}
	if p.config.Components.RegistryProxy {
		u, err := url.Parse(p.config.Registry.URL)
		if err != nil {
			return nil, nil, err // config has checked it
		}
		c.RegistryProxy = u
	}
	if p.config.Role == config.Reader {
		return web.New(c), p.reader, nil
	}
	if p.config.Events.Token == "" {
		p.log.Warn("events.token is empty: anybody who can reach the address can request reads of any" +
			" reference, and a scan every minute")
	}
	if p.config.Audit.Pushes && !p.namesAreProved() {
		p.log.Warn("audit.pushes without auth.keys or events.token: names in the records of pushes are what clients claim")
	}
	if p.config.Interval.FetchAll == 0 {
		p.log.Warn("interval.fetch_all is 0: there are no scans after the first one, and changes without an event,"+
			" as after a restart of the registry, are missed until somebody runs `portbook scan`",
			"remedy", "remove interval.fetch_all to scan every hour, or set it to a duration")
	}
	p.serveJobs(&c)
	collector, err := p.collector()
	if err != nil {
		return nil, nil, err
	}
	c.Writes, c.FetchAll = true, p.config.Interval.FetchAll
	c.Events = ingest.NewReceiver(ingest.ReceiverConfig{
		Token: p.config.Events.Token, Receive: p.receive, Blobs: p.receiveBlobs, Used: p.usedBy(),
		Wake: workers.Wake, Log: p.log,
		Metrics: p.metrics, Pulls: p.countPulls, Heard: p.hearPull, Kind: access.KindOf, Scanners: p.config.Usage.Scanners,
	})
	return web.New(c), p.writer(workers, p.leader(workers, collector)), nil
}

// login returns what finds out who sends a request; nil if nobody logs in.
func (p *parts) login(keeper *access.Keeper) (_ *login.Login, err error) {
	a := p.config.Auth
	p.recordInBackground()
	c := login.Config{
		Signer: p.signer, PublicURL: p.config.Registry.PublicURL, ToRead: a.LoginToRead, Refusals: p.refusals, Uses: p.uses,
		Version: programVersion(), Keeper: keeper, Log: p.log,
	}
	if p.manager != nil {
		c.Operations, c.Plans = p.manager, p.plans
	}
	switch a.Method {
	case config.NoLogins:
		p.log.Warn("auth.method is none: anybody who can reach the address sees everything",
			"remedy", "set auth.method, or keep the address within your network")
		return nil, nil
	case config.Accounts:
		c.Accounts, c.Audit = access.NewAccounts(p.reads, p.signer), p.reads
		if p.config.Role == config.Writer {
			c.Changer, c.UseRate = p.store, p.store.UseRate
		}
		c.Providers = p.providers()
		if c.Sessions, err = p.sessions(c.Accounts, c.Changer); err != nil {
			return nil, err
		}
	case config.OneToken:
		c.Verifier = access.Tokens{Both: a.Token, Open: !a.LoginToRead}
	case config.TwoTokens:
		c.Verifier = access.Tokens{Read: a.ReadToken, Write: a.WriteToken}
	case config.GitHubToken:
		c.Verifier = access.NewGitHub(access.GitHubConfig{
			API: a.GitHub.URL, ClientID: a.GitHub.ClientID, ClientSecret: a.GitHub.ClientSecret, Open: !a.LoginToRead,
		})
	case config.Delegated:
		c.Verifier = access.NewDelegate(access.DelegateConfig{
			URL: a.Delegate.URL, Anonymous: a.Delegate.Anonymous, Namespaces: p.namespaces, Log: p.log,
		})
	}
	p.log.Info("clients log in", "method", a.Method)
	return login.New(c), nil
}

// namespaces returns the namespaces of the book, at most limit of them.
func (p *parts) namespaces(ctx context.Context, limit int) ([]string, error) {
	if !p.open.Load() {
		return nil, errNotOpen
	}
	return p.reads.Namespaces(ctx, limit)
}

// reader starts the work of a reader.
func (p *parts) reader(ctx context.Context, group *errgroup.Group) error {
	group.Go(p.reporting(func() error { return p.lag.Run(ctx) }))
	return nil
}

// leader returns the leader. collect is a step of the garbage collection of blobs; nil: there is
// none.
func (p *parts) leader(workers *ingest.Workers, collect func(context.Context) error) *ingest.Leader {
	return ingest.NewLeader(ingest.LeaderConfig{
		Collect: collect,
		Store:   p.store, Scanner: p.scanner(workers), Log: p.log, Metrics: p.metrics,
		FetchAll: p.config.Interval.FetchAll, GarbageCollect: p.config.Interval.GarbageCollect,
		Retention: postgres.Retention{
			Events: p.config.Retention.Events, History: p.config.Retention.History, Usage: p.config.Retention.Usage,
		},
		Trash: p.config.Manage.Trash,
		Plans: p.schedule(),
	})
}

// schedule returns what makes a plan when one is due; nil if none ever is.
func (p *parts) schedule() func(context.Context) error {
	if p.config.Plans.Interval == 0 {
		return nil
	}
	s := &plan.Schedule{Service: p.plans, Every: p.config.Plans.Interval, Apply: p.config.Plans.Apply}
	return s.Due
}

// writer returns the starter of a writer.
func (p *parts) writer(workers *ingest.Workers, leader *ingest.Leader) starter {
	return func(ctx context.Context, group *errgroup.Group) error {
		group.Go(p.reporting(func() error { return workers.Run(ctx) }))
		err := p.untilThere(ctx, func() error { return p.store.RequestScan(ctx, "start") })
		if err != nil {
			return err
		}
		group.Go(p.reporting(func() error { return leader.Run(ctx) }))
		group.Go(p.reporting(func() error { return p.manager.Run(ctx) }))
		group.Go(p.reporting(func() error { return p.plans.Planner.Run(ctx) }))
		group.Go(p.reporting(func() error { return p.sender().Run(ctx) }))
		group.Go(p.reporting(func() error {
			p.ensurePackages(ctx)
			return nil
		}))
		p.startRecords(ctx, group)
		return nil
	}
}

// read runs f on one state of the book, as the asker sees it.
func (p *parts) read(ctx context.Context, asker indexer.Asker, f func(answer.Book) error) error {
	if !p.open.Load() {
		return errNotOpen
	}
	return p.reads.View(ctx, asker, func(v *postgres.View) error { return f(v) })
}

// receive stores events. If it fails, the registry sends them again.
func (p *parts) receive(ctx context.Context, events []indexer.Event) (fresh int, err error) {
	if !p.open.Load() {
		return 0, errNotOpen
	}
	return p.store.Receive(ctx, events)
}

// countPulls stores pulls. If it fails, the registry sends their events again.
func (p *parts) countPulls(ctx context.Context, pulls []indexer.Pull) (postgres.Counted, error) {
	if !p.open.Load() {
		return postgres.Counted{}, errNotOpen
	}
	return p.store.CountPulls(ctx, pulls)
}

// hearPull stores that events of pulls arrive.
func (p *parts) hearPull(ctx context.Context) error {
	if !p.open.Load() {
		return errNotOpen
	}
	return p.store.HearPull(ctx)
}

// listen serves until the context ends, and then waits for active requests.
func listen(ctx context.Context, group *errgroup.Group, address, what string, p *parts, handler http.Handler) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("listen: %w: stop the program that uses the address, or change http.address or"+
			" http.operations_address", err)
	}
	p.log.InfoContext(ctx, what, "address", listener.Addr().String())
	server := &http.Server{Handler: handler, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout,
		ErrorLog: slog.NewLogLogger(p.log.Handler(), slog.LevelError)}
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
			return server.Close()
		}
		return nil
	})
	return nil
}

// backlogTimeout limits the query of the database for one scrape.
const backlogTimeout = 2 * time.Second

// registerBacklog registers the metrics that are read from the database. They are
// missing while it is unavailable; other metrics are not affected.
func registerBacklog(p *parts) {
	p.registry.MustRegister(&backlog{
		parts:   p,
		due:     prometheus.NewDesc("portbook_tasks_due", "References waiting to be read.", nil, nil),
		oldest:  prometheus.NewDesc("portbook_tasks_oldest_seconds", "Time that the oldest reference has waited to be read.", nil, nil),
		givenUp: prometheus.NewDesc("portbook_tasks_given_up", "References that could not be read and were given up.", nil, nil),
		version: prometheus.NewDesc("portbook_catalogue_version", "Version of the catalogue, which changes with its content.", nil, nil),
		standby: prometheus.NewDesc("portbook_database_standby", "1 if the database is a standby.", nil, nil),
		waiting: prometheus.NewDesc("portbook_webhook_deliveries_waiting",
			"Deliveries that wait for webhooks.", nil, nil),
		longest: prometheus.NewDesc("portbook_webhook_deliveries_oldest_seconds",
			"Time that the oldest delivery to an enabled webhook has waited.", nil, nil),
		hooks: prometheus.NewDesc("portbook_webhooks", "Webhooks, by state: all, failing, paused.", []string{"state"}, nil),
		lag: prometheus.NewDesc("portbook_database_lag_seconds",
			"How far the standby is behind its primary; +Inf if unknown.", nil, nil),
	})
	registerCopy(p)
	registerCollection(p)
}

type backlog struct {
	parts                         *parts
	due, oldest, givenUp, version *prometheus.Desc
	standby, lag                  *prometheus.Desc
	waiting, longest, hooks       *prometheus.Desc
}

func (b *backlog) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		b.due, b.oldest, b.givenUp, b.version, b.standby, b.lag, b.waiting, b.longest, b.hooks,
	} {
		ch <- d
	}
}

func (b *backlog) Collect(ch chan<- prometheus.Metric) {
	if !b.parts.open.Load() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), backlogTimeout)
	defer cancel()
	gauge := func(desc *prometheus.Desc, value float64) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value)
	}
	if lag, err := b.parts.lag.Measure(ctx); err == nil {
		standby, seconds := 0.0, lag.Behind.Seconds()
		if lag.Standby {
			standby = 1
		}
		if lag.Behind == postgres.UnknownLag {
			seconds = math.Inf(1)
		}
		gauge(b.standby, standby)
		gauge(b.lag, seconds)
	}
	var s indexer.Status
	err := b.parts.store.View(ctx, indexer.Everyone, func(v *postgres.View) (err error) {
		s, err = v.Status(ctx)
		return err
	})
	if err != nil {
		return
	}
	gauge(b.due, float64(s.TasksDue))
	gauge(b.oldest, s.OldestDue.Seconds())
	gauge(b.givenUp, float64(s.GivenUp))
	gauge(b.version, float64(s.Version.Number))
	gauge(b.waiting, float64(s.Webhooks.Waiting))
	gauge(b.longest, s.Webhooks.Oldest.Seconds())
	w := s.Webhooks
	for state, n := range map[string]int{"all": w.All, "failing": w.Failing, "paused": w.Paused} {
		ch <- prometheus.MustNewConstMetric(b.hooks, prometheus.GaugeValue, float64(n), state)
	}
}
