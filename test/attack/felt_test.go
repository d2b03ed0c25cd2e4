package attack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/portbook/portbook/registry/push"
	"github.com/portbook/portbook/test/bench/harness"
)

const (
	// The pauses of victims: five pushes, 25 searches and five reads of the index a
	// second are a small load for any machine.
	betweenPushes   = 200 * time.Millisecond
	betweenSearches = 40 * time.Millisecond
	betweenIndexes  = 200 * time.Millisecond
	// foundTimeout is how long to wait for a push to be found: 30 s; usually it takes
	// some milliseconds. After that it counts as never found.
	foundTimeout = 30 * time.Second
	// answerTimeout is how long to wait for an answer: 30 s. A request has a budget of
	// some seconds; a slower answer counts as none.
	answerTimeout = 30 * time.Second
	// maxIndex is the maximum number of bytes of flatpak's index in an answer to a victim:
	// 1 MiB. Without attacks it has 500 bytes; anybody who pushes may add images, but not
	// one image many times.
	maxIndex = 1 << 20
	// maxIndexer and maxPostgres are the limits of memory in bytes: 512 MiB for the
	// indexer, where a busy one takes 150, and 1 GiB for PostgreSQL's processes, without
	// shared memory.
	maxIndexer  = 512 << 20
	maxPostgres = 1 << 30
)

// felt is what victims experienced in one phase, and what attackers were answered.
type felt struct {
	name              string
	indexer, postgres int64         // peak memory in bytes
	settled           time.Duration // until no task of the attack was left

	mu                        sync.Mutex
	pushes, searches, indexes []float64 // milliseconds
	index                     int       // bytes of the largest answer with flatpak's index
	wrong                     map[string]int
	answers                   map[int]int // to attackers, by status
	largest                   int         // bytes of the largest
	slowest                   float64     // milliseconds of the slowest
	notes                     []string
}

// fail records something that must not happen.
func (f *felt) fail(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.wrong == nil {
		f.wrong = map[string]int{}
	}
	f.wrong[fmt.Sprintf(format, args...)]++
}

// note records information for people.
func (f *felt) note(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.notes = append(f.notes, fmt.Sprintf(format, args...))
}

func (f *felt) add(to *[]float64, since time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	*to = append(*to, harness.Milliseconds(time.Since(since)))
}

// judge fails the test for each recorded failure.
func (f *felt) judge(t *testing.T) {
	t.Helper()
	for what, times := range f.wrong {
		t.Errorf("%s (%d times)", what, times)
	}
	if f.index > maxIndex {
		t.Errorf("flatpak's index: got %d bytes, want at most %d", f.index, maxIndex)
	}
	if f.indexer > maxIndexer {
		t.Errorf("memory of the indexer: got %d MB, want at most %d", f.indexer>>20, maxIndexer>>20)
	}
	if f.postgres > maxPostgres {
		t.Errorf("memory of PostgreSQL: got %d MB, want at most %d", f.postgres>>20, maxPostgres>>20)
	}
}

// victim is the client of victims. They have another address than attackers, so that a
// limit for each address tells them apart.
var victim = &http.Client{Timeout: answerTimeout, Transport: &http.Transport{MaxIdleConnsPerHost: 16}}

// startVictims starts victims that work until ctx ends. The returned function waits for
// the answers to their last requests, at most until all ends.
func (s *site) startVictims(ctx, all context.Context, f *felt) (wait func()) {
	var victims sync.WaitGroup
	every := func(pause time.Duration, do func(n int)) {
		victims.Go(func() {
			tick := time.NewTicker(pause)
			defer tick.Stop()
			for n := 0; ctx.Err() == nil; n++ {
				do(n)
				select {
				case <-ctx.Done():
				case <-tick.C:
				}
			}
		})
	}
	every(betweenPushes, func(n int) { s.pushAndFind(all, f, n) })
	every(betweenSearches, func(n int) { s.search(all, f, n) })
	every(betweenIndexes, func(int) { s.askIndex(all, f) })
	return victims.Wait
}

// pushAndFind pushes a small image and searches until the search finds it.
func (s *site) pushAndFind(ctx context.Context, f *felt, n int) {
	s.words++
	word, name := harness.UniqueWord(s.words), fmt.Sprintf("victims/app%d", n%5)
	spec := push.ImageSpec{Labels: map[string]string{"org.opencontainers.image.description": word}}
	if _, err := s.push.Image(ctx, name, "latest", spec); err != nil {
		f.fail("victim: push failed: %v", err)
		return
	}
	start := time.Now()
	for step := time.Millisecond; ; step = min(max(time.Since(start)/10, time.Millisecond), 200*time.Millisecond) {
		status, body, err := get(ctx, victim, s.indexer.URL+"/v1/search?q="+word)
		if err != nil || status != http.StatusOK {
			f.fail("victim: search for its push: %s", outcome(status, err))
		}
		if finds(body, name) {
			f.add(&f.pushes, start)
			return
		}
		if time.Since(start) > foundTimeout {
			f.fail("victim: push not found within %v", foundTimeout)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(step):
		}
	}
}

func finds(body []byte, name string) bool {
	var answer struct{ Results []struct{ Name string } }
	if json.Unmarshal(body, &answer) != nil {
		return false
	}
	for _, r := range answer.Results {
		if r.Name == name {
			return true
		}
	}
	return false
}

// searches are the requests of victims.
var searches = []string{
	"/v1/search?n=25&q=bystander", "/api/v1/search?q=harbour+label:team%3Dblue", "/?q=firefox", "/api/v1/search?q=demo&sort=updated",
}

func (s *site) search(ctx context.Context, f *felt, n int) {
	path := searches[n%len(searches)]
	start := time.Now()
	status, body, err := get(ctx, victim, s.indexer.URL+path)
	if err != nil || status != http.StatusOK || len(body) == 0 {
		f.fail("victim: search %s: %s", path, outcome(status, err))
		return
	}
	f.add(&f.searches, start)
}

// flatpakQuery is the query that flatpak sends (seen with 1.14: label, architecture,
// os, tag).
const flatpakQuery = "/index/static?label:org.flatpak.ref:exists=1&architecture=amd64&os=linux&tag=latest"

// askIndex sends flatpak's query and checks the answer.
func (s *site) askIndex(ctx context.Context, f *felt) {
	start := time.Now()
	status, body, err := get(ctx, victim, s.indexer.URL+flatpakQuery)
	if err != nil || status != http.StatusOK {
		f.fail("flatpak's index: %s", outcome(status, err))
		return
	}
	f.add(&f.indexes, start)
	f.mu.Lock()
	f.index = max(f.index, len(body))
	f.mu.Unlock()
	if owners := ownersOf(body, firefox); !slices.Equal(owners, []string{"flathub/firefox"}) {
		f.fail("owners of %s: got %q, want flathub/firefox only", firefox, owners)
	}
}

// maxBody is the maximum number of bytes of an answer that are read: 256 MiB, to see
// how large it is.
const maxBody = 256 << 20

func get(ctx context.Context, client *http.Client, address string) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return 0, nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	return resp.StatusCode, body, err
}

// outcome describes the result of a request, without its address.
func outcome(status int, err error) string {
	var asked *url.Error
	if errors.As(err, &asked) {
		err = asked.Err
	}
	if err != nil {
		return "no answer: " + err.Error()
	}
	return fmt.Sprintf("status %d", status)
}
