package ingest

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/schema/schematest"
)

// Small findings that wait for a large one of their repository must be stored together
// after it. If they were stored one by one, many tags of a large index would still wait
// for each other long after it was stored.
func TestSmallFindingsWaitTogether(t *testing.T) {
	t.Parallel()
	pool := schematest.New(t)
	store := postgres.New(pool, postgres.Config{})
	const name, tags = "team/app", 20
	manifest := indexer.Manifest{Repository: name, Digest: digest.FromString("{}"), Kind: indexer.KindImage, Body: []byte("{}")}
	s := &saver{store: store, limit: time.Minute}
	var asks []indexer.Ask
	for i := range tags {
		asks = append(asks, indexer.Ask{Repository: name, Reference: indexer.TagOrDigest(fmt.Sprint("v", i))})
	}
	if err := store.Ask(t.Context(), asks); err != nil {
		t.Fatal(err)
	}
	tasks, err := store.Claim(t.Context(), indexer.PriorityConfirm, tags, time.Minute)
	if err != nil || len(tasks) != tags {
		t.Fatalf("got %d tasks, want %d (%v)", len(tasks), tags, err)
	}
	s.alone.Lock() // as while a large finding is stored
	s.count(name, 1)
	var waiting sync.WaitGroup
	for pair := range slices.Chunk(tasks, 2) {
		waiting.Go(func() {
			var findings []indexer.Finding
			for _, task := range pair {
				findings = append(findings, indexer.Finding{Task: task, Outcome: indexer.Found, Digest: manifest.Digest, Manifests: []indexer.Manifest{manifest}})
			}
			if failed, err := s.save(t.Context(), findings, true, func() {}); err != nil || len(failed) > 0 {
				t.Errorf("%v not stored: %v", failed, err)
			}
		})
	}
	for here := 0; here < 1+tags/2; runtime.Gosched() {
		s.mu.Lock()
		here = s.apart[name]
		s.mu.Unlock()
	}
	s.alone.Unlock()
	s.count(name, -1)
	waiting.Wait()
	var stored, transactions int
	if err := pool.QueryRow(t.Context(), "SELECT count(*), count(DISTINCT moved_at) FROM tag").Scan(&stored, &transactions); err != nil {
		t.Fatal(err)
	}
	if stored != tags || transactions > tags/4 {
		t.Errorf("got %d tags stored in %d transactions, want %d in a few", stored, transactions, tags)
	}
	if len(s.apart)+len(s.beside) > 0 {
		t.Errorf("the saver still counts %v and %v after everything was stored", s.apart, s.beside)
	}
}
