package api

import (
	"testing"
	"time"

	"github.com/portbook/portbook/indexer/web/answer"
)

// Who reads a dump slowly must not keep a snapshot of the database for ever, and who
// reads fast enough must not be broken off.
func TestDumpDeadline(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, test := range []struct {
		sent int
		want time.Duration
	}{
		{0, answer.Timeout},
		{dumpSpeed - 1, answer.Timeout},
		{10 * dumpSpeed, answer.Timeout + 10*time.Second},
		{1 << 50, dumpTime}, // more than a Duration of so many seconds in nanoseconds holds
	} {
		if got := dumpDeadline(start, test.sent).Sub(start); got != test.want {
			t.Errorf("%d bytes must be taken within %v, want %v", test.sent, got, test.want)
		}
	}
}
