package main_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/registry/push"
	"github.com/portbook/portbook/registry/registrytest"
)

// The indexer is killed at random moments while images are pulled. Each pull must be counted
// once: none may be lost, and none counted again although the registry sends its event again.
func TestPullsWhileKilled(t *testing.T) {
	t.Parallel()
	f := launchWith(t, func(*fleet) registrytest.ProcessConfig { return registrytest.ProcessConfig{Pulls: true} })
	indexer := f.indexer(f.address)
	for _, name := range []string{"team/app", "team/end"} {
		if _, err := f.registry.Push.Image(t.Context(), name, "v1", push.ImageSpec{}); err != nil {
			t.Fatal(err)
		}
	}
	f.equal(patience)
	const pulls = 150
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range pulls {
			if _, _, err := f.registry.Push.Fetch(t.Context(), "team/app", "v1"); err != nil {
				t.Error(err)
			}
			time.Sleep(4 * time.Millisecond) // longer than the indexer takes to start
		}
	}()
	kills := 0
	for r := random(t); kills < 2 && !pause(done, time.Duration(50+r.IntN(200))*time.Millisecond); kills++ {
		indexer.process.Kill()
		indexer = f.indexer(f.address)
	}
	if kills == 0 {
		t.Error("the pulls ended before the first kill: nothing was tested")
	}
	<-done
	if _, _, err := f.registry.Push.Fetch(t.Context(), "team/end", "v1"); err != nil { // the last in the queue
		t.Fatal(err)
	}
	pool := f.pool()
	within(t, patience, "the last pull has arrived", func() bool {
		return f.query(pool, "SELECT count(*) FROM usage_pending WHERE repository = 'team/end' AND pulls > 0") > 0 ||
			f.query(pool, "SELECT COALESCE(sum(pulls), 0)::int FROM usage_repository WHERE name = 'team/end'") > 0
	})
	if _, err := postgres.New(pool, postgres.Config{}).RollUpUsage(t.Context()); err != nil { // the leader does it once a minute
		t.Fatal(err)
	}
	var u struct {
		Pulls        int
		CountedSince time.Time `json:"counted_since"`
	}
	if err := json.Unmarshal([]byte(f.must("usage", "team/app:v1", "--json")), &u); err != nil {
		t.Fatal(err)
	}
	if u.Pulls != pulls || u.CountedSince.IsZero() {
		t.Errorf("%d pulls were counted, want %d; counted since %v; %d kills", u.Pulls, pulls, u.CountedSince, kills)
	}
	for _, of := range []string{"team/app", "team/app:v1"} {
		if out := f.must("usage", of); !strings.Contains(out, of+": 150 pulls, the last at ") || !strings.Contains(out, "pulls before are unknown") {
			t.Errorf("usage %s: %s", of, out)
		}
	}
	if out, err := f.run("usage", "team/absent"); err == nil || !strings.Contains(out, "team/absent") {
		t.Errorf("usage of a repository that does not exist: %v, %s", err, out)
	}
	indexer.stop(t)
}
