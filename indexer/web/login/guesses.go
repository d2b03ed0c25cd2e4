package login

import (
	"hash/maphash"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/web/answer"
)

// Wrong passwords are limited: some at once, and then one in each pause. So are those for one
// name from one address, those from one address, since many may be behind it, and those for
// one name, but only for addresses that have sent wrong ones: nobody can lock another out.
// Personal tokens are not, because nobody can guess 256 bits. For tokens of workloads there is
// another limit, workloadsFrom.
var (
	guessesHere = access.Rate{AtOnce: 20, Pause: 3 * time.Second}
	guessesFrom = access.Rate{AtOnce: 200, Pause: time.Second}
	guessesFor  = access.Rate{AtOnce: 100, Pause: 10 * time.Second}
)

// buckets is the number of counters, into which addresses and names are hashed: 65,536, which
// take 0.5 MB. If two share one, they share its limit.
const buckets = 1 << 16

// guesses counts wrong passwords.
type guesses struct {
	seed     maphash.Seed
	counters [buckets]counter
}

// A counter is the time at which all wrong passwords are forgiven, in nanoseconds since 1970.
type counter struct{ atomic.Int64 }

func newGuesses() *guesses { return &guesses{seed: maphash.MakeSeed()} }

func (g *guesses) of(key string) *counter {
	return &g.counters[maphash.String(g.seed, key)%buckets]
}

// wait returns how long a client must wait until it may try a password for a name again.
func (g *guesses) wait(client netip.Prefix, name string) time.Duration {
	now := time.Now()
	wait := max(g.here(client, name).wait(guessesHere, now), g.from(client).wait(guessesFrom, now))
	if g.from(client).full(now) > 0 {
		wait = max(wait, g.of("for "+name).wait(guessesFor, now))
	}
	return wait
}

// wrong records that a client has sent a wrong password for a name.
func (g *guesses) wrong(client netip.Prefix, name string) {
	g.here(client, name).add(guessesHere)
	g.from(client).add(guessesFrom)
	g.of("for " + name).add(guessesFor)
}

func (g *guesses) from(client netip.Prefix) *counter { return g.of("from " + client.String()) }

func (g *guesses) here(client netip.Prefix, name string) *counter {
	return g.of("from " + client.String() + " for " + name)
}

// full returns how long it takes until all is forgiven.
func (c *counter) full(now time.Time) time.Duration {
	return max(time.Duration(c.Load()-now.UnixNano()), 0)
}

func (c *counter) wait(r access.Rate, now time.Time) time.Duration { return r.Wait(c.full(now)) }

func (c *counter) add(r access.Rate) {
	for {
		before, now := c.Load(), time.Now().UnixNano()
		full, _ := r.Use(time.Duration(before - now))
		if c.CompareAndSwap(before, now+int64(full)) {
			return
		}
	}
}

// secondsOf returns a time in whole seconds, rounded up.
func secondsOf(d time.Duration) string { return strconv.Itoa(int(math.Ceil(d.Seconds()))) }

// tooMany is the answer to a client that must wait. What was wrong is passwords, or tokens.
func tooMany(what string, wait time.Duration) error {
	seconds := secondsOf(wait)
	return answer.RefuseWith(http.StatusTooManyRequests, map[string]string{"Retry-After": seconds},
		"too many wrong %s: try again in %s s", what, seconds)
}
