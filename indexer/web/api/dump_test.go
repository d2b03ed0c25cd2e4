package api

import (
	"testing"
	"time"

	"github.com/portbook/portbook/indexer/web/answer"
)

// A slow reader of a dump must not hold a database snapshot for ever, and a fast
// enough one must not be interrupted.
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
		{1 << 50, dumpTime}, // more seconds than a Duration can hold
	} {
		if got := dumpDeadline(start, test.sent).Sub(start); got != test.want {
			t.Errorf("%d bytes must be taken within %v, want %v", test.sent, got, test.want)
		}
	}
}
