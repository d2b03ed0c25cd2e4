package registrytest

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"
)

// patience is how long a test waits for what should come at once: an event, an
// answer of a started process. Only a failing test waits that long; it is so
// much because a loaded machine with two cores is slow, not wrong.
const patience = 30 * time.Second

// An Event is what a test looks at of an event as the registry posts it, and of
// the request that brought it.
type Event struct {
	ID     string `json:"id"`
	Action string `json:"action"` // push, pull, mount, delete
	Target struct {
		MediaType  string `json:"mediaType"` // "" in a delete
		Digest     string `json:"digest"`
		Repository string `json:"repository"`
		Tag        string `json:"tag"`
	} `json:"target"`
	Actor struct {
		Name string `json:"name"`
	} `json:"actor"`
	Source struct {
		InstanceID string `json:"instanceID"` // another one after each start
	} `json:"source"`

	Authorization []string `json:"-"` // header of the request
}

// A Receiver takes a registry's events and keeps them for a test.
type Receiver struct {
	URL string

	mu      sync.Mutex
	status  int
	events  []Event
	refused []Event
	changed chan struct{} // closed and replaced at each request
}

// NewReceiver starts a receiver that ends with the test. It answers 200.
func NewReceiver(t testing.TB) *Receiver {
	r := &Receiver{status: http.StatusOK, changed: make(chan struct{})}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	r.URL = server.URL + "/events"
	return r
}

// Answer sets the status of the answers from now on. What is not answered 2xx
// or 3xx is refused, and comes again.
func (r *Receiver) Answer(status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status = status
}

// Events returns the events taken so far, in the order of their coming.
func (r *Receiver) Events() []Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events)
}

// Wait returns the first event that match accepts, also one that came before
// the call. It fails the test if none comes.
func (r *Receiver) Wait(t testing.TB, what string, match func(Event) bool) Event {
	t.Helper()
	var found Event
	r.wait(t, what, func() bool {
		i := slices.IndexFunc(r.events, match)
		if i >= 0 {
			found = r.events[i]
		}
		return i >= 0
	})
	return found
}

// Refused counts the refused deliveries of the events that match accepts.
func (r *Receiver) Refused(match func(Event) bool) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return count(r.refused, match)
}

// WaitRefused waits until n deliveries of events that match accepts were
// refused. It fails the test if that does not happen.
func (r *Receiver) WaitRefused(t testing.TB, n int, match func(Event) bool) {
	t.Helper()
	r.wait(t, "refused delivery", func() bool { return count(r.refused, match) >= n })
}

func count(events []Event, match func(Event) bool) int {
	n := 0
	for _, e := range events {
		if match(e) {
			n++
		}
	}
	return n
}

// wait waits until done, which is called with the lock held, is true.
func (r *Receiver) wait(t testing.TB, what string, done func() bool) {
	t.Helper()
	deadline := time.After(patience)
	for {
		r.mu.Lock()
		ok, changed := done(), r.changed
		r.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("no %s in %v; events: %+v", what, patience, r.Events())
		}
	}
}

func (r *Receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	var envelope struct{ Events []Event }
	if err := json.NewDecoder(http.MaxBytesReader(w, q.Body, 1<<20)).Decode(&envelope); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	for i := range envelope.Events {
		envelope.Events[i].Authorization = q.Header.Values("Authorization")
	}
	w.WriteHeader(r.take(envelope.Events))
}

// take keeps events as taken or as refused, and returns the status that says so.
func (r *Receiver) take(events []Event) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.status >= 200 && r.status < 400 { // what the registry takes for success
		r.events = append(r.events, events...)
	} else {
		r.refused = append(r.refused, events...)
	}
	close(r.changed)
	r.changed = make(chan struct{})
	return r.status
}
