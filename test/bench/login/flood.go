package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/portbook/portbook/test/bench/harness"
)

const (
	// readsPerSecond is how many searches a second go on during a flood: 100, a tenth of what
	// two cores answer.
	readsPerSecond = 100
	// floodPerSecond is how many logins a second a flood has: 1,000.
	floodPerSecond = 1000
)

// guess returns the path of a login with a wrong password for an account, from an address of
// its own, so that no limit of guesses stops it.
func guess(account string, i int) string {
	from := fmt.Sprintf("2001:db8:%x:%x::1", i>>16, i&0xffff)
	return "/auth/token?" + url.Values{"account": {account}, "wrong": {"yes"}, "from": {from}}.Encode()
}

// flood measures searches alone, and while more logins arrive than passwords can be checked.
func (b *bench) flood(ctx context.Context, s *harness.Section, a *harness.Asker) error {
	searches := make([]string, b.requests/4)
	for i := range searches {
		searches[i] = "/v1/search?q=app"
	}
	alone, err := a.OpenLoop(ctx, searches, readsPerSecond)
	if err != nil {
		return err
	}
	add := func(what string, p harness.Pass) {
		s.Add(harness.Figure{Name: what + ": median", Value: p.Quantile(0.5), Unit: "ms"})
		s.Add(harness.Figure{Name: "  p99", Value: p.Quantile(0.99), Unit: "ms"})
		if failed, status := p.Failed(); failed > 0 {
			s.Note("%s: %d of %d answers with status %d", what, failed, len(p.Answers), status)
		}
	}
	add("searches alone", alone)
	for _, kind := range []struct {
		what string
		path func(i int) string
	}{
		{"personal tokens", func(i int) string { return b.kinds()[1].path(i) }},
		{"wrong passwords", func(i int) string { return guess(person, i) }},
	} {
		paths := make([]string, len(searches)*floodPerSecond/readsPerSecond)
		for i := range paths {
			paths[i] = kind.path(i)
		}
		group, ctx := errgroup.WithContext(ctx)
		var flood, under harness.Pass
		group.Go(func() (err error) { flood, err = a.OpenLoop(ctx, paths, floodPerSecond); return err })
		group.Go(func() (err error) { under, err = a.OpenLoop(ctx, searches, readsPerSecond); return err })
		if err := group.Wait(); err != nil {
			return err
		}
		add(fmt.Sprintf("searches while %.0f logins a second with %s were answered", flood.PerSecond(), kind.what), under)
		times := under.Quantile(0.5) / alone.Quantile(0.5)
		s.Add(harness.Figure{Name: "  median, times that of searches alone", Value: times})
	}
	return nil
}

// timing measures a wrong password of an account, and of a name that has none.
func (b *bench) timing(ctx context.Context, s *harness.Section, a *harness.Asker) error {
	var known, unknown []float64
	for i := range max(b.requests/200, 1) {
		for account, times := range map[string]*[]float64{person: &known, "nobody-of-this-name": &unknown} {
			begin := time.Now()
			if err := send(ctx, a, guess(account, 1<<20+i)); err != nil {
				return err
			}
			*times = append(*times, harness.Milliseconds(time.Since(begin)))
		}
	}
	k, u := harness.Quantile(known, 0.5), harness.Quantile(unknown, 0.5)
	s.Add(harness.Figure{Name: "a wrong password of an account: median", Value: k, Unit: "ms"})
	s.Add(harness.Figure{Name: "of a name without an account: median", Value: u, Unit: "ms"})
	s.Add(harness.Figure{Name: "  ratio", Value: u / k})
	return nil
}

// send sends a login that must be refused.
func send(ctx context.Context, a *harness.Asker, path string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.URL+path, nil)
	if err != nil {
		return err
	}
	resp, err := a.HTTP.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusUnauthorized {
		return fmt.Errorf("%s: %s, want 401", path, resp.Status)
	}
	return nil
}
