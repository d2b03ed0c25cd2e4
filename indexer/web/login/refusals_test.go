package login_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/web/login"
)

// A flood of refusals makes few records, which count the others; it does not hide the refusals
// of other addresses; and what could not be written is written later.
func TestRefusals(t *testing.T) {
	t.Parallel()
	var written []access.Record
	var down error
	f := login.NewRefusals(func(_ context.Context, batch []access.Record) error {
		if down == nil {
			written = append(written, batch...)
		}
		return down
	}, slog.New(slog.DiscardHandler))
	now := time.Now()
	f.Step(t.Context(), now) // the first window begins
	add := func(name, source, request string) {
		f.Add(access.Record{Event: access.Login, Actor: access.Actor{Claimed: name, Source: source}, Target: name, Request: request})
	}
	flood := func(source string, n int) {
		for i := range n {
			add(fmt.Sprint("name", i), source, fmt.Sprint(i))
		}
	}
	for i := range 50 {
		add("alice", "192.0.2.1", fmt.Sprint(i))
	}
	flood("192.0.2.2", 1000)
	add("bob", "192.0.2.3", "of bob")
	down = errors.New("down")
	f.Step(t.Context(), now.Add(2*time.Second))
	flood("192.0.2.4", 1000)
	f.Step(t.Context(), now.Add(time.Hour)) // a window does not end as long as it is not written
	down = nil
	f.Step(t.Context(), now.Add(time.Hour))
	f.Step(t.Context(), now.Add(time.Hour))
	sources := map[string]int{}
	for _, r := range written {
		sources[r.Actor.Source]++
		if !r.Refused || r.Actor.Name != "" {
			t.Errorf("recorded as %+v", r)
		}
	}
	last := written[len(written)-1]
	if sources["192.0.2.1"] != 1 || sources["192.0.2.2"] != 10 || sources["192.0.2.3"] != 1 || sources["192.0.2.4"] != 10 || len(written) != 23 {
		t.Errorf("records by address: %v, and %d in all", sources, len(written))
	}
	if !strings.Contains(last.Detail, "and 2029 more") || last.Actor != (access.Actor{}) {
		t.Errorf("the last record is %+v", last)
	}
	// The next window begins with nothing.
	add("alice", "192.0.2.1", "again")
	f.Step(t.Context(), now.Add(time.Hour+time.Second))
	if r := written[len(written)-1]; len(written) != 24 || r.Request != "again" {
		t.Errorf("%d records, the last %+v", len(written), r)
	}
	for i := range 100 {
		flood(fmt.Sprint("198.51.100.", i), 3)
	}
	f.Step(t.Context(), now.Add(time.Hour+2*time.Second))
	f.Step(t.Context(), now.Add(3*time.Hour))
	if len(written) != 24+29+1 {
		t.Errorf("%d records in the second window, want 31 with the count", len(written)-23)
	}
}
