package login

import (
	"hash/maphash"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/portbook/portbook/indexer/web/answer"
)

// Wrong passwords are limited: some at once, and then one in each pause. So are those for one
// name from one address, those from one address, since many may be behind it, and those for
// one name, but only for addresses that have sent wrong ones: nobody can lock another out.
// Personal tokens are not, because nobody can guess 256 bits. For tokens of workloads there is
// another limit, workloadsFrom.
var (
	guessesHere = limit{20, 3 * time.Second}
	guessesFrom = limit{200, time.Second}
	guessesFor  = limit{100, 10 * time.Second}
)

type limit struct {
	atOnce int
	pause  time.Duration
}

// buckets is the number of counters, into which addresses and names are hashed: 65,536, which
// take 0.5 MB. If two share one, they share its limit.
const buckets = 1 << 16

// guesses counts wrong passwords. A counter is the time at which all of them are forgiven, in
// nanoseconds since 1970, as in the generic cell rate algorithm.
type guesses struct {
	seed     maphash.Seed
	counters [buckets]atomic.Int64
}

func newGuesses() *guesses { return &guesses{seed: maphash.MakeSeed()} }

func (g *guesses) of(key string) *atomic.Int64 {
	return &g.counters[maphash.String(g.seed, key)%buckets]
}

// wait returns how long a client must wait until it may try a password for a name again.
func (g *guesses) wait(client netip.Prefix, name string) time.Duration {
	now := time.Now()
	wait := max(guessesHere.wait(g.here(client, name), now), guessesFrom.wait(g.from(client), now))
	if g.from(client).Load() > now.UnixNano() {
		wait = max(wait, guessesFor.wait(g.of("for "+name), now))
	}
	return wait
}

// wrong records that a client has sent a wrong password for a name.
func (g *guesses) wrong(client netip.Prefix, name string) {
	guessesHere.add(g.here(client, name))
	guessesFrom.add(g.from(client))
	guessesFor.add(g.of("for " + name))
}

func (g *guesses) from(client netip.Prefix) *atomic.Int64 { return g.of("from " + client.String()) }

func (g *guesses) here(client netip.Prefix, name string) *atomic.Int64 {
	return g.of("from " + client.String() + " for " + name)
}

func (l limit) wait(counter *atomic.Int64, now time.Time) time.Duration {
	return max(time.Duration(counter.Load()-now.UnixNano())-time.Duration(l.atOnce-1)*l.pause, 0)
}

func (l limit) add(counter *atomic.Int64) {
	for {
		before := counter.Load()
		if counter.CompareAndSwap(before, max(before, time.Now().UnixNano())+int64(l.pause)) {
			return
		}
	}
}

// tooMany is the answer to a client that must wait. What was wrong is passwords, or tokens.
func tooMany(what string, wait time.Duration) error {
	seconds := strconv.Itoa(int(math.Ceil(wait.Seconds())))
	return answer.RefuseWith(http.StatusTooManyRequests, map[string]string{"Retry-After": seconds},
		"too many wrong %s: try again in %s s", what, seconds)
}
