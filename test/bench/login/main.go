// Login measures with one command how fast clients log in: tokens for the registry, for
// personal tokens and for a password, searches and pages of those who are logged in, beside
// the same without a login. All figures are of one reader and a PostgreSQL on this machine.
//
// A missed goal is only shown, since it is also missed on a busy machine.
package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/test/bench/harness"
)

type bench struct {
	harness.Bench
	robots, requests int
	secrets          map[string]string // by name of the account
}

func main() { harness.Main("bench-login", &bench{robots: 1000, requests: 20_000}) }

// Flags implements harness.Benchmark.
func (b *bench) Flags(flags *flag.FlagSet) {
	flags.IntVar(&b.robots, "robots", b.robots, "number of robots, each with a token and five grants")
	flags.IntVar(&b.requests, "requests", b.requests,
		"number of requests of each kind with eight clients; one client sends a tenth")
}

// Check implements harness.Benchmark.
func (b *bench) Check() error {
	if b.robots < 1 || b.requests < 10 {
		return fmt.Errorf("%d robots, %d requests: want at least 1 and 10", b.robots, b.requests)
	}
	return nil
}

const (
	database = "bench_login"
	person   = "alice"
	password = "the password of alice"
)

// The goals: tokens a second for personal tokens with eight clients, and milliseconds.
const (
	goalPerSecond = 2000
	goalP99       = 10
)

// Measure implements harness.Benchmark.
func (b *bench) Measure(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "bench-login-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	keys, _ := access.Keys{}.Rotate()
	file := filepath.Join(dir, "keys.json")
	if err := os.WriteFile(file, keys.Marshal(), 0o600); err != nil {
		return err
	}
	if err := b.NewDatabase(ctx, database); err != nil {
		return err
	}
	if err := b.Migrate(ctx, database); err != nil {
		return err
	}
	if err := b.addAccounts(ctx); err != nil {
		return err
	}
	reader, err := b.StartReader(ctx, database,
		"PORTBOOK_AUTH_METHOD=accounts", "PORTBOOK_AUTH_KEYS="+file, "PORTBOOK_LOG_ACCESS=false")
	if err != nil {
		return err
	}
	a := harness.NewAsker(reader.URL)
	a.HTTP.Transport = withLogins{a.HTTP.Transport, b.secrets}
	for _, step := range []struct {
		title string
		run   func(context.Context, *harness.Section, *harness.Asker) error
	}{{"Logins", b.ask}, {"Names that exist, and that do not", b.timing}, {"A flood of logins", b.flood}} {
		err := b.Step(ctx, step.title, func(ctx context.Context, s *harness.Section) error { return step.run(ctx, s, a) })
		if err != nil {
			return err
		}
	}
	return nil
}

// addAccounts adds the robots and a person.
func (b *bench) addAccounts(ctx context.Context) error {
	pool, err := pgxpool.New(ctx, b.Postgres.URL(database))
	if err != nil {
		return err
	}
	defer pool.Close()
	store := postgres.New(pool, postgres.Config{})
	hash, err := access.HashPassword(ctx, password)
	if err != nil {
		return err
	}
	b.secrets = map[string]string{person: password}
	if err := store.AddAccount(ctx, access.Account{Name: person, Password: hash}); err != nil {
		return err
	}
	for i := range b.robots {
		name, token := fmt.Sprintf("robot%d", i), access.NewToken()
		b.secrets[name] = token.Text()
		if err := store.AddAccount(ctx, access.Account{Name: name, Robot: true}); err != nil {
			return err
		}
		if err := store.AddToken(ctx, access.PersonalToken{ID: token.ID(), Account: name}, token.Hash()); err != nil {
			return err
		}
		for n := range 5 {
			r, err := access.ParseRule(fmt.Sprintf("team%d/app%d:push", i, n))
			if err == nil {
				err = store.Grant(ctx, access.Grantee{Account: name}, r)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// withLogins sends each request with the login of its parameter "account", which docker
// sends too, changed by that of "wrong", and from the address of "from".
type withLogins struct {
	next    http.RoundTripper
	secrets map[string]string
}

// RoundTrip implements http.RoundTripper.
func (w withLogins) RoundTrip(r *http.Request) (*http.Response, error) {
	q := r.URL.Query()
	if name := q.Get("account"); name != "" {
		r.SetBasicAuth(name, w.secrets[name]+q.Get("wrong"))
	}
	if from := q.Get("from"); from != "" {
		r.Header.Set("X-Forwarded-For", from)
	}
	return w.next.RoundTrip(r)
}

// A kind is a kind of request.
type kind struct {
	name string
	path func(i int) string
	goal bool // whether it has the goals of tokens
}

func (b *bench) kinds() []kind {
	robot := func(i int) string { return fmt.Sprintf("robot%d", i%b.robots) }
	token := func(account string, i int) string {
		scope := fmt.Sprintf("repository:team%d/app1:pull,push", i%b.robots)
		return "/auth/token?" + url.Values{"account": {account}, "service": {"registry"}, "scope": {scope}}.Encode()
	}
	return []kind{
		{"nothing: GET /v1/_ping", func(int) string { return "/v1/_ping" }, false},
		{"token, by a personal token", func(i int) string { return token(robot(i), i) }, true},
		{"token, by a password", func(i int) string { return token(person, i) }, false},
		{"token, without a login", func(i int) string { return token("", i) }, false},
		{"search, without a login", func(int) string { return "/v1/search?q=app" }, false},
		{"search, by a personal token", func(i int) string { return "/v1/search?q=app&account=" + robot(i) }, false},
		{"first page, without a login", func(int) string { return "/" }, false},
		{"first page, by a personal token", func(i int) string { return "/?account=" + robot(i) }, false},
	}
}

// ask measures each kind with one client and with eight, after a first pass.
func (b *bench) ask(ctx context.Context, s *harness.Section, a *harness.Asker) error {
	for _, k := range b.kinds() {
		var paths []string
		for i := range b.requests {
			paths = append(paths, k.path(i))
		}
		if _, err := a.ClosedLoop(ctx, paths[:b.requests/10], 8, time.Minute); err != nil {
			return err
		}
		one, err := a.ClosedLoop(ctx, paths[:b.requests/10], 1, time.Minute)
		if err != nil {
			return err
		}
		eight, err := a.ClosedLoop(ctx, paths, 8, time.Minute)
		if err != nil {
			return err
		}
		perSecond := harness.Figure{Name: k.name + ": 8 clients", Value: eight.PerSecond(), Unit: "a second"}
		p99 := harness.Figure{Name: "  8 clients, p99", Value: eight.Quantile(0.99), Unit: "ms"}
		if k.goal {
			perSecond, p99 = perSecond.AtLeast(goalPerSecond), p99.Below(goalP99)
		}
		failed, status := eight.Failed()
		if failed > 0 {
			s.Note("%s: %d answers with status %d", k.name, failed, status)
		}
		for _, f := range slices.Concat([]harness.Figure{perSecond, p99}, []harness.Figure{
			{Name: "  1 client, median", Value: one.Quantile(0.5), Unit: "ms"},
			{Name: "  1 client, p99", Value: one.Quantile(0.99), Unit: "ms"},
		}) {
			s.Add(f)
		}
	}
	return nil
}
