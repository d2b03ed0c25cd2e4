package attack

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/portbook/portbook/test/bench/harness"
)

// attackerAddr differs from the address of victims. On Linux all of 127.0.0.0/8 is the
// local machine.
var attackerAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 66)}

var dialer = &net.Dialer{Timeout: answerTimeout, LocalAddr: attackerAddr}

// attacker is the client of attackers; each request may use a new connection.
var attacker = &http.Client{Timeout: answerTimeout, Transport: &http.Transport{DialContext: dialer.DialContext, MaxIdleConnsPerHost: 2000}}

// ask sends one request and counts the answer. A missing answer is an error even if the
// phase has ended meanwhile, since the request continues to wait for one.
func (f *felt) ask(s *site, path string) {
	start := time.Now()
	status, body, err := get(context.Background(), attacker, s.indexer.URL+path)
	f.count(path, status, len(body), start, err)
}

func (f *felt) count(path string, status, size int, start time.Time, err error) {
	if err != nil {
		f.fail("attacker: GET %.40s...: %s", path, outcome(status, err))
		return
	}
	if status >= 500 && status != http.StatusServiceUnavailable {
		f.fail("attacker: GET %.40s...: status %d", path, status)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.answers == nil {
		f.answers = map[int]int{}
	}
	f.answers[status]++
	f.largest = max(f.largest, size)
	f.slowest = max(f.slowest, harness.Milliseconds(time.Since(start)))
}

// several runs attackers that send requests again and again, with a pause after each,
// until ctx ends. It returns after their last answers.
func (f *felt) several(ctx context.Context, s *site, attackers int, pause time.Duration, path func(attacker, n int) string) {
	var asking sync.WaitGroup
	for a := range attackers {
		asking.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				f.ask(s, path(a, n))
				select {
				case <-ctx.Done():
				case <-time.After(pause):
				}
			}
		})
	}
	asking.Wait()
}

// hold runs attackers that send one request each and call stay with the response once
// it has begun. It returns when all have a response or ctx has ended; wait returns when
// all are done.
func (f *felt) hold(ctx context.Context, s *site, attackers int, path string, stay func(*http.Response)) (wait func()) {
	// Uncompressed, so that reading slowly takes long.
	client := &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true, DisableCompression: true}}
	var answered, staying sync.WaitGroup
	answered.Add(attackers)
	for range attackers {
		staying.Go(func() {
			resp := f.begin(ctx, client, s.indexer.URL, path)
			answered.Done()
			if resp != nil {
				defer resp.Body.Close()
				stay(resp)
			}
		})
	}
	answered.Wait()
	return staying.Wait
}

// begin sends a request; it returns nil if no response has begun when ctx ends.
func (f *felt) begin(ctx context.Context, client *http.Client, server, path string) *http.Response {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, server+path, nil)
	if err != nil {
		f.fail("%v", err)
		return nil
	}
	start := time.Now()
	resp, err := client.Do(req)
	if ctx.Err() != nil {
		if err == nil {
			resp.Body.Close()
		}
		return nil // it waited until ctx ended
	}
	if err != nil {
		f.count(path, 0, 0, start, err)
		return nil
	}
	f.count(path, resp.StatusCode, 0, start, nil)
	return resp
}
