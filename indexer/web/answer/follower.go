package answer

import (
	"context"
	"net/http"

	"github.com/portbook/portbook/indexer"
)

// A Follower follows the versions of the catalogue. Meanwhile it holds no connection to
// the database.
type Follower struct {
	versions *versions
	leave    func()
}

// Follow returns a Follower that sees a new version after about lookLater. The caller
// must call Leave.
func (a *Answerer) Follow() *Follower {
	return &Follower{a.versions, a.versions.follow(false)}
}

// FollowSoon returns a Follower that sees a new version after about lookSoon. The caller
// must call Leave. If maxWaiters requests already have one, or maxWaitersEach of this
// client, FollowSoon returns false.
func (a *Answerer) FollowSoon(r *http.Request) (f *Follower, ok bool) {
	leave, ok := a.waiters.Take(r)
	if !ok {
		return nil, false
	}
	stop := a.versions.follow(true)
	return &Follower{a.versions, func() { stop(); leave() }}, true
}

// Leave ends the following.
func (f *Follower) Leave() { f.leave() }

// Now returns the latest version, or zero if none was seen yet, and a channel that is
// closed at the next change.
func (f *Follower) Now() (version indexer.Version, changed <-chan struct{}) {
	return f.versions.latest()
}

// Next waits for a version other than known. If the context ends first, it returns
// known and the error.
func (f *Follower) Next(ctx context.Context, known indexer.Version) (indexer.Version, error) {
	for {
		version, changed := f.Now()
		if version != known && version != (indexer.Version{}) {
			return version, nil
		}
		select {
		case <-ctx.Done():
			return known, ctx.Err()
		case <-changed:
		}
	}
}
