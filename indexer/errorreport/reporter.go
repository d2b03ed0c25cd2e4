package errorreport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/getsentry/sentry-go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/portbook/portbook/indexer"
)

const (
	// queued is how many reports may wait to be sent: 32, of a few kilobytes each.
	queued = 32
	// sendTimeout limits sending one report: 5 s. Nobody waits for it.
	sendTimeout = 5 * time.Second
	// closeTimeout is how long the end of the program waits for reports: 2 s.
	closeTimeout = 2 * time.Second
	// maxAnswerHeader limits the header of an answer: 64 KiB.
	maxAnswerHeader = 64 << 10
)

// A Config configures a Reporter.
type Config struct {
	DSN     string // address and key of the server; empty: nothing is reported
	Release string // version of the program
	Role    string // writer or reader
	Log     *slog.Logger
	Metrics prometheus.Registerer // nil: no metrics
}

// A Reporter sends reports. It is safe for concurrent use. A nil Reporter does nothing.
type Reporter struct {
	config  Config
	limiter limiter
	queue   chan *sentry.Event
	results *prometheus.CounterVec

	sender  *sentry.HTTPSyncTransport
	client  *http.Client
	asked   bool // the server was asked to take the last report; used by run alone
	failing bool // and it did not
	ctx     context.Context
	cancel  context.CancelFunc
	stop    chan struct{} // closed by Close
	done    chan struct{} // closed when nothing is sent any more
	once    sync.Once
}

// New returns a Reporter that sends until Close. It returns nil if there is no DSN: then nothing is
// started.
func New(c Config) (*Reporter, error) {
	if c.DSN == "" {
		return nil, nil
	}
	if err := CheckDSN(c.DSN); err != nil {
		return nil, err
	}
	r := &Reporter{
		config: c, queue: make(chan *sentry.Event, queued), stop: make(chan struct{}), done: make(chan struct{}),
		results: promauto.With(c.Metrics).NewCounterVec(prometheus.CounterOpts{
			Name: "portbook_error_reports_total",
			Help: "Reports of errors: sent, failed (the server did not take it), dropped (more than the limits allow).",
		}, []string{"result"}),
	}
	for _, result := range []string{sent, failed, dropped} {
		r.results.WithLabelValues(result)
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.client = r.newClient()
	r.sender = sentry.NewHTTPSyncTransport()
	r.sender.Configure(sentry.ClientOptions{Dsn: c.DSN, HTTPClient: r.client})
	go r.run()
	return r, nil
}

// The values of the label result.
const (
	sent    = "sent"
	failed  = "failed"
	dropped = "dropped"
)

// errDSN is the error of every wrong DSN. It quotes nothing, since a DSN has a key.
var errDSN = errors.New("is not a DSN (value not shown): write https://KEY@HOST/PROJECT, as the settings of the" +
	" project in Sentry show it")

// CheckDSN returns an error, without the DSN, if dsn is not one.
func CheckDSN(dsn string) error {
	u, err := url.Parse(dsn)
	if err != nil || u.Opaque != "" || u.RawQuery != "" || u.Fragment != "" {
		return errDSN
	}
	project := u.Path[strings.LastIndexByte(u.Path, '/')+1:]
	if strings.Trim(project, "0123456789") != "" {
		return errDSN
	}
	if _, err := sentry.NewDsn(dsn); err != nil {
		return errDSN
	}
	return nil
}

// newClient returns a client with TLS and a proxy as the environment says (HTTPS_PROXY, NO_PROXY,
// SSL_CERT_FILE). It follows no redirect, which would send the key to another server.
func (r *Reporter) newClient() *http.Client {
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
		MaxConnsPerHost: 1, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: maxAnswerHeader, ForceAttemptHTTP2: true,
	}
	return &http.Client{
		Timeout: sendTimeout, Transport: counting{r, transport},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// counting counts what became of requests. Only run sends any.
type counting struct {
	r    *Reporter
	next http.RoundTripper
}

func (c counting) RoundTrip(request *http.Request) (*http.Response, error) {
	c.r.asked = true
	response, err := c.next.RoundTrip(request)
	why := ""
	switch {
	case err != nil:
		why = indexer.CauseOf(err).Public
	case response.StatusCode >= 300:
		why = fmt.Sprintf("answered %d", response.StatusCode)
	}
	c.r.ended(why)
	return response, err
}

// ended counts a report that was sent, or was not because of why. It logs the first of several
// failures in a row.
func (r *Reporter) ended(why string) {
	if why == "" {
		r.results.WithLabelValues(sent).Inc()
		r.failing = false
		return
	}
	r.results.WithLabelValues(failed).Inc()
	if !r.failing {
		r.config.Log.Warn("error report not sent: the server of errors.sentry_dsn "+why,
			"remedy", "check errors.sentry_dsn and the network; /metrics counts what is lost")
	}
	r.failing = true
}

// run sends what is queued until Close.
func (r *Reporter) run() {
	defer close(r.done)
	for {
		select {
		case e := <-r.queue:
			r.send(e)
		case <-r.stop:
			for r.ctx.Err() == nil {
				select {
				case e := <-r.queue:
					r.send(e)
				default:
					return
				}
			}
			return
		}
	}
}

// send sends one report. The transport drops it if the server has asked for a pause.
func (r *Reporter) send(e *sentry.Event) {
	r.asked = false
	r.sender.SendEventWithContext(r.ctx, e)
	if !r.asked {
		r.drop(1)
	}
}

// drop counts reports that nobody will get.
func (r *Reporter) drop(n int) {
	r.results.WithLabelValues(dropped).Add(float64(n))
	r.limiter.add(n)
}

// Close sends what is queued, for at most two seconds.
func (r *Reporter) Close() {
	if r == nil {
		return
	}
	r.once.Do(func() { close(r.stop) })
	select {
	case <-r.done:
	case <-time.After(closeTimeout):
		r.cancel()
		<-r.done
	}
	r.cancel()
	r.client.CloseIdleConnections()
}

// report queues a report, unless it is more than the limits allow. It does not wait.
func (r *Reporter) report(p problem) {
	before, ok := r.limiter.take(p.kind(), time.Now())
	if !ok {
		r.results.WithLabelValues(dropped).Inc()
		return
	}
	select {
	case r.queue <- r.event(p, before):
	default:
		r.results.WithLabelValues(dropped).Inc()
		r.limiter.add(before + 1)
	}
}
