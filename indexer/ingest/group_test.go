package ingest

import (
	"errors"
	"sync"
	"testing"

	"github.com/portbook/portbook/indexer"
)

// Findings that arrive while a batch is being stored must form the next batch. Each
// must be stored once, and each caller must get the result of its batch.
func TestGroup(t *testing.T) {
	const workers = 8
	refused := errors.New("refused")
	begun, goOn := make(chan struct{}), make(chan struct{})
	var batches []int // written only by the caller that stores
	store := func(all []indexer.Finding) error {
		batches = append(batches, len(all))
		if len(batches) == 1 {
			close(begun)
			<-goOn
			return nil
		}
		return refused
	}
	var g group
	var waiting sync.WaitGroup
	var first error
	waiting.Go(func() { first = g.apply(make([]indexer.Finding, 1), store) })
	<-begun
	later := make([]error, workers)
	for i := range later {
		waiting.Go(func() { later[i] = g.apply(make([]indexer.Finding, 1), store) })
	}
	for joined := 0; joined < workers; {
		g.mu.Lock()
		if g.next != nil {
			joined = len(g.next.findings)
		}
		g.mu.Unlock()
	}
	close(goOn)
	waiting.Wait()

	if len(batches) != 2 || batches[0] != 1 || batches[1] != workers {
		t.Errorf("got batches of %v findings, want 1 and then %d", batches, workers)
	}
	if first != nil {
		t.Errorf("first batch: got %v, want nil", first)
	}
	for _, err := range later {
		if !errors.Is(err, refused) {
			t.Errorf("second batch: got %v, want its error", err)
		}
	}
}
