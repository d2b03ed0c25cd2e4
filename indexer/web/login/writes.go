package login

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/web/answer"
)

// LimitWrites wraps f, with which a user changes something, so that each user does so only as
// often as access.Writes says, in all processes together. An administrator may do so more
// often: to begin with hundreds of accounts is usual.
//
// who returns the user, or an error for a client that f would refuse anyway; nobody in
// particular is not limited. Those who share a token are one user. All answers, with the
// header fields of pesde's registry server, say how much is left.
func (l *Login) LimitWrites(
	who func(*http.Request) (access.Subject, error), f answer.HandlerFunc,
) answer.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) error {
		s, err := who(r)
		if err != nil {
			return err
		}
		// A limited token changes nothing: f refuses it, and it must not use up what its owner may do.
		if l.UseRate == nil || s.Name == "" || s.Narrowed || s.Administers() {
			return f(w, r)
		}
		var full time.Duration
		var allowed bool
		err = l.Managing(r, func(ctx context.Context) (err error) {
			full, allowed, err = l.UseRate(ctx, "write "+s.WithName(ctx).Name, access.Writes)
			return err
		})
		if err != nil {
			return err
		}
		if err := WriteCounted(w, full, allowed); err != nil {
			return err
		}
		return f(w, r)
	}
}

// WriteCounted tells a client how many more changes it may make, full and allowed being what
// Config.UseRate returned for access.Writes. It returns a refusal if there were too many.
func WriteCounted(w http.ResponseWriter, full time.Duration, allowed bool) error {
	w.Header().Set("X-Ratelimit-Limit", strconv.Itoa(access.Writes.AtOnce))
	w.Header().Set("X-Ratelimit-Remaining", strconv.Itoa(access.Writes.Left(full)))
	if allowed {
		return nil
	}
	seconds := secondsOf(access.Writes.Wait(full))
	return answer.RefuseWith(http.StatusTooManyRequests,
		map[string]string{"X-Ratelimit-After": seconds, "Retry-After": seconds}, "Too many requests, retry in %ss", seconds)
}
