package errorreport_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/errorreport"
	"github.com/portbook/portbook/indexer/errorreport/errorreporttest"
)

// start returns a Reporter that sends to a server, the log that it is connected to, and its counters.
func start(t *testing.T, dsn string) (*errorreport.Reporter, *slog.Logger, *prometheus.Registry) {
	t.Helper()
	metrics := prometheus.NewRegistry()
	r, err := errorreport.New(errorreport.Config{
		DSN: dsn, Release: "v1.2.3", Role: "writer", Log: slog.New(slog.DiscardHandler), Metrics: metrics,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r, slog.New(r.Handler(slog.DiscardHandler)), metrics
}

// count returns how many reports had a result.
func count(t *testing.T, metrics *prometheus.Registry, result string) int {
	t.Helper()
	families, err := metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if m.GetLabel()[0].GetValue() == result {
				return int(m.GetCounter().GetValue())
			}
		}
	}
	t.Fatalf("no counter of %s", result)
	return 0
}

// Without a DSN nothing may be started, and every method does nothing.
func TestOff(t *testing.T) {
	before := runtime.NumGoroutine()
	metrics := prometheus.NewRegistry()
	r, err := errorreport.New(errorreport.Config{Metrics: metrics})
	if r != nil || err != nil {
		t.Fatalf("New: %v, %v", r, err)
	}
	h := slog.DiscardHandler
	if r.Handler(h) != h {
		t.Error("the log goes through another handler")
	}
	ctx, q := r.Begin(t.Context())
	if ctx != t.Context() || q != nil {
		t.Error("a request is recorded")
	}
	q.End(ctx, "GET /", 500, "panic")
	r.Crash()
	r.Close()
	if n := runtime.NumGoroutine(); n > before {
		t.Errorf("%d goroutines, before %d", n, before)
	}
	if n, _ := testutil.GatherAndCount(metrics); n != 0 {
		t.Errorf("%d metrics", n)
	}
}

// A wrong DSN is refused by a text without it.
func TestDSN(t *testing.T) {
	t.Parallel()
	for dsn, ok := range map[string]bool{
		"https://k3yk3y@sentry.example.com/7":          true,
		"https://k3yk3y:s3cret@sentry.example.com/a/7": true,
		"http://k3yk3y@127.0.0.1:9000/7":               true,
		"k3yk3y":                                       false,
		"https://sentry.example.com/7":                 false,
		"https://k3yk3y@sentry.example.com":            false,
		"https://k3yk3y@sentry.example.com/":           false,
		"https://k3yk3y@sentry.example.com/project":    false,
		"ftp://k3yk3y@sentry.example.com/7":            false,
		"https://k3yk3y@/7":                            false,
		"https://k3yk3y@h:port/7":                      false,
		"https://k3yk3y@h/7?x=k3yk3y":                  false,
		"https://k3yk3y@h/%zz7":                        false,
	} {
		err := errorreport.CheckDSN(dsn)
		if (err == nil) != ok {
			t.Errorf("%s: %v", dsn, err)
		}
		text := fmt.Sprint(err)
		if err != nil && (strings.Contains(text, "k3yk3y") || !strings.Contains(text, "https://KEY@HOST/PROJECT")) {
			t.Errorf("%s: %v", dsn, err)
		}
	}
}

// What an error quotes must not be reported; what it is must be.
func TestWhatIsReported(t *testing.T) {
	t.Parallel()
	server := errorreporttest.Start(t, http.StatusOK)
	r, log, _ := start(t, server.DSN)
	database := &pgconn.PgError{
		Code: "42P01", Message: "relation s3cret-relation does not exist", Detail: "Key (s3cret-key)", Hint: "s3cret-hint",
	}
	address := &net.OpError{Op: "dial", Err: errors.New("s3cret-refused"),
		Addr: &net.TCPAddr{IP: net.IPv4(10, 9, 8, 7), Port: 65432}} // no port of a test is above 61000
	unavailable := fmt.Errorf("postgres://u:s3cret-password@10.9.8.7/d: %w: %w", indexer.ErrUnavailable, address)

	log.With("s3cret-name", "s3cret-value").Error("reference given up", "repository", "s3cret/repository",
		"error", fmt.Errorf("read s3cret: %w", database))
	log.Error("no error", "path", "/s3cret", "error", "s3cret-text")
	log.Warn("not an error", "error", database)
	request(r, "GET /api/v1/search", 503, func(ctx context.Context) {
		log.InfoContext(ctx, "s3cret-info", "error", database)
		log.WarnContext(ctx, "request unavailable", "path", "/s3cret", "error", unavailable)
	})
	request(r, "GET /", 200, func(ctx context.Context) { log.WarnContext(ctx, "answered all the same") })
	request(r, "GET /pages", 200, func(ctx context.Context) {
		log.ErrorContext(ctx, "not recorded", "error", database)
	})
	request(r, "GET /readiness", 503, func(context.Context) {})
	gone, leave := context.WithCancel(t.Context())
	ctx, q := r.Begin(gone)
	leave()
	q.End(ctx, "GET /gone", 503, nil)
	request(r, "GET /none", 502, func(context.Context) {})
	request(r, "GET /aborted", 200, func(context.Context) { panic(http.ErrAbortHandler) })
	request(r, "GET /fault", 500, func(ctx context.Context) {
		log.ErrorContext(ctx, "request failed", "error", &indexer.Fault{Reason: "the index is broken: s3cret", Err: database})
	})
	request(r, "GET /quote", 500, func(ctx context.Context) {
		log.ErrorContext(ctx, "request failed", "error", &indexer.Fault{Reason: "the name \"s3cret\" is wrong", Err: database})
	})
	request(r, "GET /text", 200, func(context.Context) { panic("s3cret-panic") })
	request(r, "GET /list", 200, func(context.Context) { _ = []int{1}[len(t.Name())] })
	request(r, "GET /error", 200, func(context.Context) { panic(unavailable) })
	r.Close()

	want := []string{
		"error reference given up | ",
		"error no error | ",
		"warning request unavailable | GET /api/v1/search",
		"error not recorded | GET /pages",
		"warning answered Bad Gateway | GET /none",
		"error request failed | GET /fault",
		"error request failed | GET /quote",
		"error panic | GET /text",
		"error panic | GET /list",
		"error panic | GET /error",
	}
	all := server.Events()
	if len(all) != len(want) {
		t.Fatalf("%d reports, want %d:\n%s", len(all), len(want), server.Bytes())
	}
	for i, e := range all {
		tags, _ := e["tags"].(map[string]any)
		route, _ := tags["route"].(string)
		if got := fmt.Sprintf("%v %v | %s", e["level"], e["message"], route); got != want[i] {
			t.Errorf("report %d is %q, want %q", i, got, want[i])
		}
		if e["release"] != "portbook@v1.2.3" || tags["role"] != "writer" || route != "" && tags["request_id"] != "7e57-1d" {
			t.Errorf("report %d: %v", i, e)
		}
	}
	for i, text := range map[int]string{
		0: "(*fmt.wrapError > *pgconn.PgError) SQLSTATE 42P01",
		2: "the indexer's database did not answer (*fmt.wrapErrors > *errors.errorString > *net.OpError",
		5: "the index is broken (*indexer.Fault > *pgconn.PgError) SQLSTATE 42P01", 6: "a fault (", 7: "string",
		8: "runtime error: index out of range [18] with length 1", 9: "*fmt.wrapErrors",
	} {
		if x := fmt.Sprint(all[i]["exception"]); !strings.Contains(x, text) {
			t.Errorf("report %d has %s, want %s", i, x, text)
		}
	}
	if x := fmt.Sprint(all[8]["exception"]); !strings.Contains(x, "TestWhatIsReported") || strings.Contains(x, "gopanic") {
		t.Errorf("the stack is %s", x)
	}
	server.Check(t, "s3cret", "10.9.8.7", ":65432")
}

// request answers a request with a status, unless f panics.
func request(r *errorreport.Reporter, route string, status int, f func(context.Context)) {
	ctx, q := r.Begin(indexer.WithRequest(context.Background(), "7e57-1d"))
	defer func() { q.End(ctx, route, status, recover()) }()
	f(ctx)
}

// Lines that others log quote what they like.
func TestLogOfOthers(t *testing.T) {
	t.Parallel()
	server := errorreporttest.Start(t, http.StatusOK)
	r, log, _ := start(t, server.DSN)
	other := &http.Server{ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelError), Handler: http.HandlerFunc(
		func(w http.ResponseWriter, _ *http.Request) { panic("s3cret") })}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go other.Serve(listener)
	t.Cleanup(func() { other.Close() })
	if resp, err := http.Get("http://" + listener.Addr().String()); err == nil {
		resp.Body.Close()
		t.Error("the handler answered")
	}
	server.Await(t, 1)
	r.Close()
	if all := server.Events(); len(all) != 1 || !strings.HasPrefix(fmt.Sprint(all[0]["message"]), "logged by ") {
		t.Errorf("reports: %v", all)
	}
	server.Check(t, "s3cret", "panic")
}

// A storm of errors must send few reports, and say how many there were.
func TestStorm(t *testing.T) {
	t.Parallel()
	server := errorreporttest.Start(t, http.StatusOK)
	r, _, metrics := start(t, server.DSN)
	const storm = 5000
	began := time.Now()
	for i := range storm {
		request(r, "GET /api/v1/search", 500, func(context.Context) {})
		request(r, "GET /route"+strconv.Itoa(i), 500, func(context.Context) {})
	}
	took := time.Since(began)
	r.Close()
	n := len(server.Events())
	t.Logf("%d reports of %d errors, %v for each error", n, 2*storm, took/(2*storm))
	if n < 2 || n > 20 || count(t, metrics, "sent") != n || count(t, metrics, "dropped") != 2*storm-n {
		t.Errorf("%d reports, %d sent, %d dropped", n, count(t, metrics, "sent"), count(t, metrics, "dropped"))
	}
	if !strings.Contains(server.Bytes(), `"not_sent_before":"`) {
		t.Error("no report says how many were dropped before it")
	}
}

// A server that does not answer, or refuses, must delay neither requests nor the end.
func TestServerIsAway(t *testing.T) {
	t.Parallel()
	hanging, err := net.Listen("tcp", "127.0.0.1:0") // accepts connections and never answers
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { hanging.Close() })
	var log bytes.Buffer
	metrics := prometheus.NewRegistry()
	r, err := errorreport.New(errorreport.Config{
		DSN: "http://k3yk3y@" + hanging.Addr().String() + "/7",
		Log: slog.New(slog.NewTextHandler(&log, nil)), Metrics: metrics,
	})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for i := range 100 {
		request(r, "GET /"+strconv.Itoa(i), 500, func(context.Context) {})
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("100 errors took %v", took)
	}
	began = time.Now()
	r.Close()
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("the end took %v", took)
	}
	if strings.Count(log.String(), "error report not sent") != 1 || strings.Contains(log.String(), "k3yk3y") {
		t.Errorf("log: %s", &log)
	}

	refusing := errorreporttest.Start(t, http.StatusForbidden)
	r, _, metrics = start(t, refusing.DSN)
	request(r, "GET /a", 500, func(context.Context) {})
	request(r, "GET /b", 500, func(context.Context) {})
	r.Close()
	if n := count(t, metrics, "failed"); n != 2 {
		t.Errorf("%d failed", n)
	}
	r.Close() // a second time
	request(r, "GET /c", 500, func(context.Context) {})
}

// Only the server of the DSN gets reports: not one with a certificate that nobody trusts, and not
// one that it redirects to. A server that asks for a pause gets one.
func TestServerRefuses(t *testing.T) {
	t.Parallel()
	other := errorreporttest.Start(t, http.StatusOK)
	secure := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("a server without a valid certificate got a request")
	}))
	t.Cleanup(secure.Close)
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	redirecting := httptest.NewServer(http.RedirectHandler(other.DSN, http.StatusTemporaryRedirect))
	t.Cleanup(redirecting.Close)
	for name, url := range map[string]string{"TLS": secure.URL, "redirect": redirecting.URL} {
		r, _, metrics := start(t, strings.Replace(url, "://", "://key@", 1)+"/7")
		request(r, "GET /", 500, func(context.Context) {})
		r.Close()
		if n := count(t, metrics, "failed"); n != 1 {
			t.Errorf("%s: %d failed", name, n)
		}
	}
	if got := other.Bytes(); got != "" {
		t.Errorf("the other server got %s", got)
	}
	busy := errorreporttest.Start(t, http.StatusTooManyRequests)
	r, _, metrics := start(t, busy.DSN)
	request(r, "GET /a", 500, func(context.Context) {})
	request(r, "GET /b", 500, func(context.Context) {})
	r.Close()
	if f, d := count(t, metrics, "failed"), count(t, metrics, "dropped"); f != 1 || d != 1 {
		t.Errorf("%d failed and %d dropped", f, d)
	}
}

// A panic that ends the program is reported first.
func TestCrash(t *testing.T) {
	t.Parallel()
	server := errorreporttest.Start(t, http.StatusOK)
	r, _, _ := start(t, server.DSN)
	again := func() (value any) {
		defer func() { value = recover() }()
		defer r.Crash()
		panic("s3cret")
	}()
	all := server.Events()
	if again != "s3cret" || len(all) != 1 || all[0]["level"] != "fatal" {
		t.Errorf("panic %v, reports %v", again, all)
	}
	server.Check(t, "s3cret")
}

// A report is made of messages of the log, so these must be fixed in the source.
func TestMessagesAreFixed(t *testing.T) {
	t.Parallel()
	checked := 0
	err := filepath.WalkDir("..", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") ||
			strings.HasSuffix(filepath.Dir(name), "test") || strings.HasSuffix(filepath.Dir(name), "errorreport") {
			return err
		}
		files := token.NewFileSet()
		file, err := parser.ParseFile(files, name, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if message := messageIn(n); message != nil {
				checked++
				if !fixed(message) {
					t.Errorf("%s: the message is not fixed", files.Position(message.Pos()))
				}
			}
			return true
		})
		return nil
	})
	if err != nil || checked < 50 {
		t.Errorf("%d messages, %v", checked, err)
	}
}

// messageIn returns the message of a call that logs a warning or an error, nil for anything else.
func messageIn(n ast.Node) ast.Expr {
	call, ok := n.(*ast.CallExpr)
	if !ok {
		return nil
	}
	method, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return nil
	}
	if of, ok := method.X.(*ast.Ident); ok && of.Name == "http" {
		return nil // http.Error
	}
	at, logs := map[string]int{"Warn": 0, "Error": 0, "WarnContext": 1, "ErrorContext": 1}[method.Sel.Name]
	if !logs || len(call.Args) <= at {
		return nil
	}
	return call.Args[at]
}

// fixed reports whether an expression is made of literals and constants.
func fixed(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.BasicLit:
		return true
	case *ast.BinaryExpr:
		return fixed(e.X) && fixed(e.Y)
	case *ast.Ident: // a constant, by its name
		return e.Name == "message"
	case *ast.SelectorExpr:
		return e.Sel.Name == "HoldRepository"
	}
	return false
}
