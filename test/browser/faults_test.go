package main

import (
	"strings"
	"sync"
	"testing"
)

// A fault is one that a check found on a page, or, in knownFaults, a part of what
// it says; page "" is any.
type fault struct{ page, check, says string }

// knownFaults are faults that we know of and have not mended yet. A test fails
// when one of them is there no more, so that the list cannot outlive them.
var knownFaults = []fault{}

// faults gathers those of all pages.
type faults struct {
	mu    sync.Mutex
	known map[fault]bool // which of knownFaults were found
}

// judge fails for each fault that is not known.
func (f *faults) judge(t *testing.T, found []fault) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, one := range found {
		if known, ok := one.known(); ok {
			f.known[known] = true
			t.Logf("known: %s: %s: %s", one.page, one.check, one.says)
			continue
		}
		t.Errorf("%s: %s: %s", one.page, one.check, one.says)
	}
}

// mended fails for each known fault that was not found.
func (f *faults) mended(t *testing.T) {
	for _, k := range knownFaults {
		if !f.known[k] {
			t.Errorf("%q is mended: take it out of knownFaults", k)
		}
	}
}

// known gives the entry of knownFaults that a fault is.
func (f fault) known() (fault, bool) {
	for _, k := range knownFaults {
		if (k.page == "" || k.page == f.page) && k.check == f.check && strings.Contains(f.says, k.says) {
			return k, true
		}
	}
	return fault{}, false
}
