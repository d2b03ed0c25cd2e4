package main

import "testing"

// A small heap is collected seldom, and a large one does not grow to several times its
// size.
func TestGCTarget(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		live uint64
		want int
	}{{0, 450}, {25 << 20, 450}, {100 << 20, 150}, {400 << 20, 75}, {4 << 30, 50}} {
		if got := gcTarget(test.live); got != test.want {
			t.Errorf("%d MB: got %d, want %d", test.live>>20, got, test.want)
		}
	}
}
