package answer

import (
	"testing"
	"time"
)

// A client's place does not rest after a cheap request, rests after a costly one,
// and never for longer than maxRest.
func TestRestAfter(t *testing.T) {
	t.Parallel()
	for read, want := range map[time.Duration]time.Duration{
		0: 0, costly - 1: 0, costly: 3 * costly, 100 * time.Millisecond: 300 * time.Millisecond, Budget: maxRest,
	} {
		if got := restAfter(read); got != want {
			t.Errorf("after %v: %v, want %v", read, got, want)
		}
	}
}
