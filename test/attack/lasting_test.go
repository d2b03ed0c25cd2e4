package attack

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// lastingRequests hold a resource as long as they can.
var lastingRequests = []attack{
	{
		name: "4 dumps read slowly",
		run: func(ctx context.Context, s *site, f *felt) {
			wait := f.hold(ctx, s, 4, "/api/v1/dump", func(resp *http.Response) { readSlowly(ctx, resp.Body) })
			f.oneMore(s, "/api/v1/dump", "a dump of another client")
			wait()
		},
	},
	{
		name: "1,000 waiters for a min_version",
		run: func(ctx context.Context, s *site, f *felt) {
			path, err := s.futureVersion(ctx)
			if err != nil {
				f.fail("%v", err)
				return
			}
			f.hold(ctx, s, 1000, path, func(*http.Response) {})()
		},
	},
	{
		name: "1,100 open pages from one address",
		run: func(ctx context.Context, s *site, f *felt) {
			wait := f.hold(ctx, s, 1100, "/live", func(*http.Response) { <-ctx.Done() })
			f.oneMore(s, "/live", "an open page of another client")
			wait()
		},
	},
}

// readSlowly reads one kilobyte a second.
func readSlowly(ctx context.Context, body io.Reader) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		if _, err := io.CopyN(io.Discard, body, 1<<10); err != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// futureVersion returns an address that waits for a version that will not exist.
func (s *site) futureVersion(ctx context.Context) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.indexer.URL+"/api/v1/repositories?limit=1", nil)
	if err != nil {
		return "", err
	}
	resp, err := victim.Do(req)
	if err != nil {
		return "", err
	}
	resp.Body.Close()
	epoch, _, found := strings.Cut(resp.Header.Get("Portbook-Version"), ".")
	if !found {
		return "", fmt.Errorf("no catalogue version in %v", resp.Header)
	}
	return "/api/v1/repositories?limit=1&min_version=" + epoch + ".900000000", nil
}

// oneMore sends a request from another client, which must get an answer.
func (f *felt) oneMore(s *site, path, what string) {
	ctx, cancel := context.WithTimeout(context.Background(), answerTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.indexer.URL+path, nil)
	if err != nil {
		f.fail("%v", err)
		return
	}
	resp, err := victim.Do(req)
	if err != nil {
		f.fail("%s: %s", what, outcome(0, err))
		return
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		f.fail("%s: %s", what, outcome(resp.StatusCode, nil))
	}
}
