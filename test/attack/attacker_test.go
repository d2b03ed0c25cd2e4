package attack

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/portbook/portbook/test/bench/harness"
)

// attacker's address is not that of victims. On Linux all of 127.0.0.0/8 is this
// machine.
var attackerAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 66)}

var dialer = &net.Dialer{Timeout: answerTimeout, LocalAddr: attackerAddr}

// attacker is the client of attackers; each request may have a connection of its
// own.
var attacker = &http.Client{Timeout: answerTimeout, Transport: &http.Transport{DialContext: dialer.DialContext, MaxIdleConnsPerHost: 2000}}

// ask asks once, and counts the answer. None at all must not be, even if the
// phase has ended meanwhile: an answer comes first.
func (f *felt) ask(s *site, path string) {
	start := time.Now()
	status, body, err := get(context.Background(), attacker, s.indexer.URL+path)
	f.count(path, status, len(body), start, err)
}

func (f *felt) count(path string, status, size int, start time.Time, err error) {
	if err != nil {
		f.fail("an attacker's GET %.40s...: %s", path, outcome(status, err))
		return
	}
	if status >= 500 && status != http.StatusServiceUnavailable {
		f.fail("an attacker's GET %.40s...: status %d", path, status)
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

// several has so many attackers ask again and again, each after a pause, until
// ctx ends, and waits for their last answers.
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

// hold has so many attackers begin a request and stay until ctx ends: each with
// an answer that has begun does what stay says. It returns when all have an
// answer or ctx has ended; wait returns when all have left.
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

// begin begins a request; nil if no answer has begun when ctx ends.
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
		return nil // it waited as long as it could
	}
	if err != nil {
		f.count(path, 0, 0, start, err)
		return nil
	}
	f.count(path, resp.StatusCode, 0, start, nil)
	return resp
}
