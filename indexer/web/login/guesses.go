package login

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
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
	useRate  func(ctx context.Context, key string, r access.Rate) (time.Duration, bool, error) // Config.UseRate
}

// A counter is the time at which all wrong passwords are forgiven, in nanoseconds since 1970.
type counter struct{ atomic.Int64 }

func (g *guesses) of(key string) *counter {
	return &g.counters[maphash.String(g.seed, key)%buckets]
}

// wait returns how long a client must wait until it may try a password for a name again.
func (g *guesses) wait(client netip.Prefix, name string) time.Duration {
	now := time.Now()
	wait := max(g.of(keyHere(client, name)).wait(guessesHere, now), g.from(client).wait(guessesFrom, now))
	if g.from(client).full(now) > 0 {
		wait = max(wait, g.of(keyFor(name)).wait(guessesFor, now))
	}
	return wait
}

// shareTime limits how long a wrong password waits until it is counted for all processes: 1 s.
const shareTime = time.Second

// wrong counts that a client has sent a wrong password for a name. Writers count in the
// database too, and learn from it what others have counted; so a right password costs no
// statement, and each writer lets in one wrong one before it knows. If the database does not
// answer, each counts for itself.
func (g *guesses) wrong(ctx context.Context, client netip.Prefix, name string) {
	ctx, cancel := context.WithTimeout(ctx, shareTime)
	defer cancel()
	for key, r := range map[string]access.Rate{
		keyHere(client, name): guessesHere, keyFrom(client): guessesFrom, keyFor(name): guessesFor,
	} {
		g.of(key).add(r)
		if g.useRate == nil {
			continue
		}
		hash := sha256.Sum256([]byte(key)) // what somebody typed may be long
		if full, _, err := g.useRate(ctx, "guess "+hex.EncodeToString(hash[:]), r); err == nil {
			g.of(key).raise(full)
		}
	}
}

func keyFrom(client netip.Prefix) string { return "from " + client.String() }

func keyFor(name string) string { return "for " + name }

func keyHere(client netip.Prefix, name string) string { return keyFrom(client) + " " + keyFor(name) }

func (g *guesses) from(client netip.Prefix) *counter { return g.of(keyFrom(client)) }

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

// raise makes it take at least full until all is forgiven.
func (c *counter) raise(full time.Duration) {
	for {
		before, at := c.Load(), time.Now().UnixNano()+int64(full)
		if before >= at || c.CompareAndSwap(before, at) {
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
