package access_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/portbook/portbook/indexer/access"
)

// A Rate agrees with a bucket that leaks: it holds AtOnce drops, each use is a drop, and one
// leaks out in each pause.
func TestRateAsBucket(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(9, 10))
	allowed, refused := 0, 0
	for range 300 {
		r := access.Rate{AtOnce: 1 + random.IntN(15), Pause: time.Duration(1+random.IntN(100)) * time.Second}
		var full time.Duration
		level := 0 // of the bucket, in drops of Pause nanoseconds each
		for range 100 {
			passed := time.Duration(random.Int64N(int64(2 * r.Pause)))
			if random.IntN(4) > 0 {
				passed = 0
			}
			full -= passed
			level = max(level-int(passed), 0)

			fits := level+int(r.Pause) <= r.AtOnce*int(r.Pause)
			wait := max(level+int(r.Pause)-r.AtOnce*int(r.Pause), 0)
			left := (r.AtOnce*int(r.Pause) - level) / int(r.Pause)
			if got := r.Wait(full); got != time.Duration(wait) {
				t.Fatalf("%+v at %v: wait %v, want %v", r, full, got, time.Duration(wait))
			}
			if got := r.Left(full); got != left {
				t.Fatalf("%+v at %v: %d left, want %d", r, full, got, left)
			}
			after, ok := r.Use(full)
			if ok != fits {
				t.Fatalf("%+v at %v: use allowed: %v, want %v", r, full, ok, fits)
			}
			if ok {
				full, level = after, level+int(r.Pause)
				allowed++
			} else {
				refused++
			}
		}
	}
	if allowed < 3000 || refused < 3000 {
		t.Errorf("%d uses were allowed and %d refused: the test asks too little", allowed, refused)
	}
}
