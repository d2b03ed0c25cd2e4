package attack

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

// passing are requests that are proxied to the registry, or claim to come from it.
var passing = []attack{
	{
		name: "paths that leave /v2/",
		run: func(ctx context.Context, s *site, f *felt) {
			for _, path := range []string{
				"/v2/../admin", "/v2/..%2fadmin", "/v2/%2e%2e/admin", "/v2/x/%2e%2e/%2e%2e/admin", "/v2/x/..%2f..%2fadmin", "/v2/.%2e/admin",
				"/v2/x/../../admin", "/v2/%2e./admin", "/v2//../../admin", "/v2/..", "/v2/..%5cadmin", "/v2/..;/admin",
			} {
				f.rawGet(ctx, s, path)
			}
			for _, escaped := range s.faults.outside() {
				f.fail("the registry received %s", escaped)
			}
		},
	},
	{
		name: "forged events of new registries, 100 a second",
		run: func(ctx context.Context, s *site, f *felt) {
			before := s.scans(ctx, f)
			var sending sync.WaitGroup
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for n := 0; ctx.Err() == nil; n++ {
				sending.Go(func() {
					f.postEvents(s, []map[string]any{event(fmt.Sprintf("ghost/app%d", n), "latest", fmt.Sprintf("forged %d", n))})
				})
				select {
				case <-ctx.Done():
				case <-tick.C:
				}
			}
			sending.Wait()
			// One requested earlier may run, and these may request one a minute.
			if scans := s.scans(context.Background(), f) - before; scans > 2 {
				f.fail("got %d requested scans, want one a minute", scans)
			} else {
				f.note("%d scans were requested", scans)
			}
		},
	},
}

// scans returns the number of scans so far.
func (s *site) scans(ctx context.Context, f *felt) int {
	n, err := s.count(ctx, "SELECT count(*) FROM scan")
	if err != nil {
		f.fail("scans: %v", err)
	}
	return n
}

// rawGet requests a path as it is: a client of net/http would clean it.
func (f *felt) rawGet(ctx context.Context, s *site, path string) {
	start := time.Now()
	host := strings.TrimPrefix(s.indexer.URL, "http://")
	conn, err := dialer.DialContext(ctx, "tcp", host)
	if err != nil {
		f.count(path, 0, 0, start, err)
		return
	}
	defer conn.Close()
	_ = conn.SetDeadline(start.Add(answerTimeout))
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", path, host)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		f.count(path, 0, 0, start, err)
		return
	}
	resp.Body.Close()
	f.count(path, resp.StatusCode, 0, start, nil)
}

// event returns an event as a registry sends it.
func event(repository, tag, instance string) map[string]any {
	return map[string]any{
		"id": digest.FromString(repository + tag + instance).Encoded(), "timestamp": time.Now().UTC().Format(time.RFC3339Nano), "action": "push",
		"target": map[string]any{"mediaType": imageType, "digest": digest.FromString(instance), "repository": repository, "tag": tag},
		"source": map[string]any{"instanceID": instance},
	}
}

// postEvents sends events without a token, as anybody can.
func (f *felt) postEvents(s *site, events []map[string]any) {
	body, err := json.Marshal(map[string]any{"events": events})
	if err != nil {
		f.fail("%v", err)
		return
	}
	start := time.Now()
	resp, err := attacker.Post(s.indexer.URL+"/events", "application/json", bytes.NewReader(body))
	if err != nil {
		f.count("/events", 0, 0, start, err)
		return
	}
	resp.Body.Close()
	f.count("/events", resp.StatusCode, 0, start, nil)
}
