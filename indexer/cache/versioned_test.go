package cache_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/cache"
)

// texts returns a cache of texts.
func texts(maxTotal, maxValue int) *cache.Versioned[string] {
	return cache.New(maxTotal, maxValue, func(s string) int { return len(s) })
}

// at returns the key of a question in version n.
func at(n int64, question string) cache.Key {
	return cache.Key{Version: indexer.Version{Epoch: "e", Number: n}, Asker: indexer.Everyone, Question: question}
}

// mustNot fails the test if it is called.
func mustNot(t *testing.T) func() (string, error) {
	return func() (string, error) {
		t.Helper()
		t.Error("a cached value was computed again")
		return "", nil
	}
}

// give returns a function that computes s.
func give(s string) func() (string, error) { return func() (string, error) { return s, nil } }

// cached reports whether c holds the value of k. If it does, it counts as used.
func cached(c *cache.Versioned[string], k cache.Key) bool {
	_, err := c.GetNow(k, func() (string, error) { return "", errors.New("not cached") })
	return err == nil
}

// However many callers need a value at the same time, it is computed once.
func TestConcurrentCallersComputeOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := texts(1<<20, 1<<20)
		release := make(chan struct{})
		var computed, answered atomic.Int32
		for range 50 {
			go func() {
				got, err := c.Get(t.Context(), at(1, "q"), func() (string, error) {
					computed.Add(1)
					<-release
					return "value", nil
				})
				if got != "value" || err != nil {
					t.Errorf("%q, %v", got, err)
				}
				answered.Add(1)
			}()
		}
		synctest.Wait()
		if n := computed.Load(); n != 1 || answered.Load() > 0 {
			t.Errorf("%d computed, %d answered before the value was there", n, answered.Load())
		}
		if got, err := c.GetNow(at(1, "q"), mustNot(t)); !errors.Is(err, cache.ErrRunning) {
			t.Errorf("GetNow while another computes: %q, %v", got, err)
		}
		if got, err := c.Get(t.Context(), at(2, "q"), give("later")); got != "later" || err != nil {
			t.Errorf("another version waits for this one: %q, %v", got, err)
		}
		close(release)
		synctest.Wait()
		if n := computed.Load(); n != 1 || answered.Load() != 50 {
			t.Errorf("%d computed for %d answers", n, answered.Load())
		}
	})
}

// A caller that fails, goes away or panics while it computes must not fail the callers
// that wait for it: one of them computes the value.
func TestWaitersTakeOver(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func() (string, error){
		"an error":      func() (string, error) { return "", context.Canceled },
		"a panic":       func() (string, error) { panic("lost") },
		"a wrong value": func() (string, error) { return "half", errors.New("stopped") },
	} {
		synctest.Test(t, func(t *testing.T) {
			c := texts(1<<20, 1<<20)
			release := make(chan struct{})
			go func() {
				defer func() { _ = recover() }()
				got, err := c.Get(t.Context(), at(1, "q"), func() (string, error) { <-release; return leave() })
				if err == nil {
					t.Errorf("%s: the failed caller got %q", name, got)
				}
			}()
			synctest.Wait()
			var computed, answered atomic.Int32
			for range 50 {
				go func() {
					got, err := c.Get(t.Context(), at(1, "q"), func() (string, error) { computed.Add(1); return "value", nil })
					if got != "value" || err != nil {
						t.Errorf("%s: a waiting caller got %q, %v", name, got, err)
					}
					answered.Add(1)
				}()
			}
			synctest.Wait()
			close(release)
			synctest.Wait()
			if computed.Load() != 1 || answered.Load() != 50 {
				t.Errorf("%s: %d computed for %d answers", name, computed.Load(), answered.Load())
			}
		})
	}
}

// A waiting caller whose context ends returns at once; the call that it waited for goes
// on.
func TestWaitersHonourTheirContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := texts(1<<20, 1<<20)
		release := make(chan struct{})
		go func() {
			got, err := c.Get(t.Context(), at(1, "q"), func() (string, error) { <-release; return "value", nil })
			if got != "value" || err != nil {
				t.Errorf("the computing caller got %q, %v", got, err)
			}
		}()
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		left := make(chan error, 1)
		go func() {
			_, err := c.Get(ctx, at(1, "q"), mustNot(t))
			left <- err
		}()
		synctest.Wait()
		cancel()
		synctest.Wait()
		select {
		case err := <-left:
			if !errors.Is(err, context.Canceled) {
				t.Errorf("the waiting caller got %v", err)
			}
		default:
			t.Error("a caller waits although its context has ended")
		}
		close(release)
		synctest.Wait()
		if !cached(c, at(1, "q")) {
			t.Error("the value was not stored")
		}
	})
}

// A value is never returned for another version, asker or question. After a value of a
// later version was stored, an old view must not replace it.
func TestValuesStayWithTheirKey(t *testing.T) {
	t.Parallel()
	c := texts(1<<20, 1<<20)
	k := at(5, "q")
	keys := []cache.Key{k, k, k, k, k, k}
	keys[1].Version.Number = 6
	keys[2].Version.Epoch = "f"
	keys[3].Version.State = 1 // two servers
	keys[4].Asker = indexer.Asker{}
	keys[5].Question = "q\x00"
	for i, k := range keys {
		if got, err := c.Get(t.Context(), k, give(fmt.Sprint(i))); got != fmt.Sprint(i) || err != nil {
			t.Errorf("%+v: %q, %v, want %d", k, got, err, i)
		}
		if got, err := c.Get(t.Context(), k, mustNot(t)); got != fmt.Sprint(i) || err != nil {
			t.Errorf("%+v, again: %q, %v, want %d", k, got, err, i)
		}
	}
	old, err := c.Get(t.Context(), at(4, "q"), give("old"))
	if old != "old" || err != nil {
		t.Errorf("an old view: %q, %v", old, err)
	}
	if cached(c, at(4, "q")) || !cached(c, keys[3]) {
		t.Error("an old view has replaced the value of a later version")
	}
}

// The cache never holds more bytes than allowed, also if values are a thousand times
// larger than usual, and no single value is larger than allowed.
func TestBytesAreBounded(t *testing.T) {
	t.Parallel()
	const maxTotal, maxValue = 100_000, 30_000
	c := texts(maxTotal, maxValue)
	var keys []cache.Key
	sizes := map[cache.Key]int{}
	for i := range 2000 {
		k, size := at(int64(i/100), fmt.Sprint(i)), 30
		if i%7 == 0 {
			size = rand.IntN(2 * maxValue)
		}
		if got, err := c.Get(t.Context(), k, give(strings.Repeat("x", size))); len(got) != size || err != nil {
			t.Fatalf("%d bytes, %v, want %d", len(got), err, size)
		}
		keys, sizes[k] = append(keys, k), size
		if is := cached(c, k); is != (size <= maxValue) {
			t.Fatalf("a value of %d bytes is cached: %v", size, is)
		}
		if i%50 > 0 {
			continue
		}
		held := 0
		for _, k := range keys {
			if cached(c, k) {
				held += sizes[k]
			}
		}
		if held > maxTotal {
			t.Fatalf("%d bytes are held", held)
		}
	}
}

// The entries themselves count: as many empty values as one likes must not fit.
func TestEmptyValuesAreBounded(t *testing.T) {
	t.Parallel()
	c := texts(100_000, 1)
	for i := range 10_000 {
		if _, err := c.Get(t.Context(), at(1, fmt.Sprint(i)), give("")); err != nil {
			t.Fatal(err)
		}
	}
	held := 0
	for i := range 10_000 {
		if cached(c, at(1, fmt.Sprint(i))) {
			held++
		}
	}
	if held < 100 || held > 1000 {
		t.Errorf("%d empty values are held in 100 kB", held)
	}
}

// A value that is used stays while others come and go.
func TestUsedValuesStay(t *testing.T) {
	t.Parallel()
	c := texts(10_000, 10_000)
	for i := range 1000 {
		if _, err := c.Get(t.Context(), at(1, "used"), give("value")); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Get(t.Context(), at(1, fmt.Sprint(i)), give("other")); err != nil {
			t.Fatal(err)
		}
		if !cached(c, at(1, "used")) {
			t.Fatalf("the used value was removed after %d others", i)
		}
	}
}

// Many callers of few keys, some of which fail, always get the value of their own key.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	c := texts(2000, 1000)
	var callers sync.WaitGroup
	for range 50 {
		callers.Go(func() {
			for range 1000 {
				k := at(rand.Int64N(3), fmt.Sprint(rand.IntN(10)))
				want, failed := fmt.Sprint(k), errors.New("failed")
				fails := rand.IntN(4) == 0
				got, err := c.Get(t.Context(), k, func() (string, error) {
					if fails {
						return "", failed
					}
					return want, nil
				})
				if err == nil && got != want || err != nil && !(fails && err == failed) {
					t.Errorf("%s: %q, %v", want, got, err)
				}
			}
		})
	}
	callers.Wait()
}

// A value that is not good any more is computed again, but those who waited for it take it.
func TestGetWhileGood(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := texts(1<<20, 1<<20)
		k := at(1, "q")
		never := func(string) bool { return false }
		release := make(chan struct{})
		go func() {
			_, _ = c.GetWhile(t.Context(), k, never, func() (string, error) { <-release; return "first", nil })
		}()
		synctest.Wait()
		go func() {
			if got, err := c.GetWhile(t.Context(), k, never, mustNot(t)); got != "first" || err != nil {
				t.Errorf("a waiting caller: got %q, %v", got, err)
			}
		}()
		synctest.Wait()
		close(release)
		synctest.Wait()
		if got, err := c.GetWhile(t.Context(), k, func(s string) bool { return s == "first" }, mustNot(t)); got != "first" || err != nil {
			t.Errorf("a good value: got %q, %v", got, err)
		}
		if got, err := c.GetWhile(t.Context(), k, never, give("second")); got != "second" || err != nil {
			t.Errorf("a value that is not good: got %q, %v, want it to be computed again", got, err)
		}
		if got, err := c.Get(t.Context(), k, mustNot(t)); got != "second" || err != nil {
			t.Errorf("afterwards: got %q, %v", got, err)
		}
	})
}
