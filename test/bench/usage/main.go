// Usage measures with one command how many events of pulls a second the indexer takes in, and
// how much later a push is found by a search meanwhile. All figures are of one writer, the stock
// registry and a PostgreSQL on this machine; the events are made up, and sent over connections
// that stay open, while a registry opens one for each.
//
// A missed goal is only shown, since it is also missed on a busy machine.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/portbook/portbook/registry/push"
	"github.com/portbook/portbook/test/bench/harness"
)

type bench struct {
	harness.Bench
	repositories, pushes, perSecond, seconds int

	client *push.Client
	url    string // of the indexer
	pushed int    // images so far

	indexer int // its process
	sent    int // pulls so far
}

func main() {
	harness.Main("bench-usage", &bench{repositories: 500, pushes: 60, perSecond: 2000, seconds: 90})
}

// Flags implements harness.Benchmark.
func (b *bench) Flags(flags *flag.FlagSet) {
	flags.IntVar(&b.repositories, "repositories", b.repositories, "number of repositories that are pulled")
	flags.IntVar(&b.pushes, "pushes", b.pushes, "number of pushes that are measured without pulls")
	flags.IntVar(&b.perSecond, "rate", b.perSecond, "pulls a second")
	flags.IntVar(&b.seconds, "seconds", b.seconds, "how long pulls arrive; the counts are rolled up once a minute")
}

// Check implements harness.Benchmark.
func (b *bench) Check() error {
	if b.repositories < 1 || b.pushes < 1 || b.perSecond < 1 || b.seconds < 1 {
		return fmt.Errorf("%d repositories, %d pushes, %d pulls a second for %d s: want at least 1 of each",
			b.repositories, b.pushes, b.perSecond, b.seconds)
	}
	return nil
}

const (
	database = "bench_usage"
	// goalTimes is the most by which pulls may slow down pushes: twice.
	goalTimes = 2
)

// Measure implements harness.Benchmark.
func (b *bench) Measure(ctx context.Context) error {
	if err := b.NewDatabase(ctx, database); err != nil {
		return err
	}
	registry, indexer, err := b.StartBoth(ctx, harness.InMemory, database)
	if err != nil {
		return err
	}
	b.client, b.url, b.indexer = push.New(registry.URL), indexer.URL, indexer.PID()
	for i := range b.repositories {
		if _, err := b.client.Image(ctx, repository(i), "v1", push.ImageSpec{}); err != nil {
			return err
		}
	}
	if _, err := b.push(ctx); err != nil { // what was pushed before is searchable too
		return err
	}
	if err := b.Step(ctx, "Pulls alone", b.alone); err != nil {
		return err
	}
	return b.Step(ctx, "Pulls beside pushes", b.beside)
}

// alone measures the processor time that pulls take.
func (b *bench) alone(ctx context.Context, s *harness.Section) error {
	indexer, database := harness.ProcessorSeconds(b.indexer), harness.FamilySeconds(b.Postmaster())
	flood, err := b.pull(ctx, b.perSecond*max(b.seconds/5, 1))
	if err != nil {
		return err
	}
	each := 1e6 / float64(len(flood.Answers))
	s.Add(harness.Figure{Name: "pulls a second that were answered", Value: flood.PerSecond()})
	s.Add(harness.Figure{Name: "  processor time of the indexer for each", Unit: "µs",
		Value: (harness.ProcessorSeconds(b.indexer) - indexer) * each})
	s.Add(harness.Figure{Name: "  of PostgreSQL", Unit: "µs",
		Value: (harness.FamilySeconds(b.Postmaster()) - database) * each})
	return nil
}

// pull sends the events of n pulls, at the rate of the flags.
func (b *bench) pull(ctx context.Context, n int) (harness.Pass, error) {
	a := harness.NewAsker(b.url)
	a.HTTP.Transport = pulls{a.HTTP.Transport, b.repositories}
	paths := make([]string, n)
	for i := range paths {
		paths[i] = fmt.Sprintf("/events?n=%d", b.sent+i)
	}
	b.sent += n
	return a.OpenLoop(ctx, paths, float64(b.perSecond))
}

func repository(i int) string { return fmt.Sprintf("pulled/app%d", i) }

// push pushes an image and returns the milliseconds until a search finds it.
func (b *bench) push(ctx context.Context) (float64, error) {
	b.pushed++
	word := harness.UniqueWord(b.pushed)
	spec := push.ImageSpec{Files: map[string]string{"word": word}}
	if _, err := b.client.Image(ctx, "bench/"+word, "v1", spec); err != nil {
		return 0, err
	}
	return harness.Searchable(ctx, http.DefaultClient, b.url, word, "bench/"+word)
}

// beside measures pushes alone, and while pulls arrive.
func (b *bench) beside(ctx context.Context, s *harness.Section) error {
	var alone, under []float64
	for range b.pushes {
		ms, err := b.push(ctx)
		if err != nil {
			return err
		}
		alone = append(alone, ms)
	}
	var flood harness.Pass
	done := make(chan struct{})
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		defer close(done)
		flood, err = b.pull(ctx, b.perSecond*b.seconds)
		return err
	})
	group.Go(func() error {
		for {
			select {
			case <-done:
				return nil
			default:
			}
			ms, err := b.push(ctx)
			if err != nil {
				return err
			}
			under = append(under, ms)
		}
	})
	if err := group.Wait(); err != nil {
		return err
	}
	b.report(s, flood, alone, under)
	return b.count(context.WithoutCancel(ctx), s)
}

// report adds the figures.
func (b *bench) report(s *harness.Section, flood harness.Pass, alone, under []float64) {
	s.Note("%s", harness.HowSearchable)
	s.Add(harness.Figure{Name: "pulls a second that were answered", Value: flood.PerSecond()})
	s.Add(harness.Figure{Name: "  answer of one event: median", Value: flood.Quantile(0.5), Unit: "ms"})
	s.Add(harness.Figure{Name: "  p99", Value: flood.Quantile(0.99), Unit: "ms"})
	if failed, status := flood.Failed(); failed > 0 {
		s.Note("%d of %d events were answered with status %d", failed, len(flood.Answers), status)
	}
	for _, x := range []struct {
		what string
		ms   []float64
	}{{"without pulls", alone}, {"while they arrive", under}} {
		s.Add(harness.Figure{Name: fmt.Sprintf("push to searchable %s: median of %d", x.what, len(x.ms)),
			Value: harness.Quantile(x.ms, 0.5), Unit: "ms"})
		s.Add(harness.Figure{Name: "  p90", Value: harness.Quantile(x.ms, 0.9), Unit: "ms"})
	}
	times := harness.Quantile(under, 0.5) / harness.Quantile(alone, 0.5)
	s.Add(harness.Figure{Name: fmt.Sprintf("  median, times that without (goal: at most %d)", goalTimes), Value: times})
}

// count compares what was counted with what was sent.
func (b *bench) count(ctx context.Context, s *harness.Section) error {
	const q = `
		SELECT (SELECT COALESCE(sum(pulls), 0) FROM usage_pending)::bigint + (SELECT COALESCE(sum(pulls), 0) FROM usage_repository)::bigint,
			(SELECT sum(v) FROM catalogue_version)::bigint`
	var counted, version int64
	err := b.On(ctx, database, func(c *pgx.Conn) error { return c.QueryRow(ctx, q).Scan(&counted, &version) })
	if err == nil && counted != int64(b.sent) {
		s.Note("%d of %d pulls were counted", counted, b.sent)
	}
	s.Add(harness.Figure{Name: "moves of the catalogue version in all", Value: float64(version)})
	return err
}

// pulls sends the event of a pull instead of each request for /events.
type pulls struct {
	next         http.RoundTripper
	repositories int
}

// RoundTrip implements http.RoundTripper.
func (p pulls) RoundTrip(r *http.Request) (*http.Response, error) {
	var n int
	if _, err := fmt.Sscan(r.URL.Query().Get("n"), &n); err != nil {
		return nil, err
	}
	content := body(n, n*7919%p.repositories)
	event, err := http.NewRequestWithContext(r.Context(), http.MethodPost, "http://"+r.URL.Host+"/events", content)
	if err != nil {
		return nil, err
	}
	event.Header.Set("Authorization", "Bearer "+harness.EventsToken)
	return p.next.RoundTrip(event)
}

// body returns a notification like those of the registry.
func body(n, i int) io.Reader {
	return strings.NewReader(fmt.Sprintf(`{"events":[{"id":"%032x","timestamp":"%s","action":"pull","target":{
		"mediaType":"application/vnd.oci.image.manifest.v1+json","size":477,"length":477,"repository":"%s","tag":"v1",
		"digest":"sha256:%064x","url":"http://127.0.0.1:5000/v2/%s/manifests/v1","references":[{"mediaType":
		"application/vnd.oci.image.config.v1+json","digest":"sha256:%064x","size":243}]},"request":{"id":"%032x",
		"addr":"127.0.0.1:48234","host":"127.0.0.1:5000","method":"GET","useragent":"containerd/2.1.0"},
		"actor":{"name":"robot%d+7f3a12bc"},"source":{"addr":"vm:5000","instanceID":"one"}}]}`,
		n+1, time.Now().UTC().Format(time.RFC3339Nano), repository(i), i, repository(i), n, n, i%50))
}
