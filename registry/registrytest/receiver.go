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

// patience limits the wait for an event or for the first answer of a process: 30 s, so
// that a test does not fail on a busy machine with two cores. Usually both take
// milliseconds.
const patience = 30 * time.Second

// An Event has the parts that tests need of an event and of the request that
// brought it.
type Event struct {
	ID     string `json:"id"`
	Action string `json:"action"` // push, pull, mount or delete
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
		InstanceID string `json:"instanceID"` // changes at each start
	} `json:"source"`

	Authorization []string `json:"-"` // the header of the request
}

// A Receiver collects the events of a registry.
type Receiver struct {
	URL string

	mu      sync.Mutex
	status  int
	events  []Event
	refused []Event
	changed chan struct{} // closed and replaced at each request
}

// NewReceiver starts a receiver that answers 200. It stops when the test ends.
func NewReceiver(t testing.TB) *Receiver {
	r := &Receiver{status: http.StatusOK, changed: make(chan struct{})}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	r.URL = server.URL + "/events"
	return r
}

// Answer sets the status of all further answers. An event that is answered with
// anything but 2xx or 3xx is refused, and the registry sends it again.
func (r *Receiver) Answer(status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status = status
}

// Events returns the accepted events so far, in the order in which they came.
func (r *Receiver) Events() []Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events)
}

// Wait returns the first accepted event for which match returns true; it may have
// come before the call. It fails the test if there is none within 30 s. What names
// the event in the failure.
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

// Refused returns the number of refused deliveries for which match returns true.
func (r *Receiver) Refused(match func(Event) bool) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return count(r.refused, match)
}

// WaitRefused waits until Refused(match) is at least n. It fails the test after 30 s.
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

// wait waits until done returns true. It calls done with the lock held.
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
			t.Fatalf("no %s within %v; events: %+v", what, patience, r.Events())
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

// take stores events as accepted or refused and returns the status to answer.
func (r *Receiver) take(events []Event) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.status >= 200 && r.status < 400 { // the registry takes 3xx for success too
		r.events = append(r.events, events...)
	} else {
		r.refused = append(r.refused, events...)
	}
	close(r.changed)
	r.changed = make(chan struct{})
	return r.status
}
