package main

import (
	"strings"
	"sync"
	"testing"
)

// A fault is a fault that a check found on a page. In knownFaults, says is a part of
// the text, and page "" means any page.
type fault struct{ page, check, says string }

// knownFaults are known faults that are not fixed yet. A test fails if one is no longer
// found, so that it is removed from the list.
var knownFaults = []fault{}

// faults records the known faults that were found.
type faults struct {
	mu    sync.Mutex
	known map[fault]bool // which of knownFaults were found
}

// judge fails the test for each fault that is not known.
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

// fixed fails the test for each known fault that was not found.
func (f *faults) fixed(t *testing.T) {
	for _, k := range knownFaults {
		if !f.known[k] {
			t.Errorf("%q is fixed: remove it from knownFaults", k)
		}
	}
}

// known returns the entry of knownFaults for f.
func (f fault) known() (fault, bool) {
	for _, k := range knownFaults {
		if (k.page == "" || k.page == f.page) && k.check == f.check && strings.Contains(f.says, k.says) {
			return k, true
		}
	}
	return fault{}, false
}
