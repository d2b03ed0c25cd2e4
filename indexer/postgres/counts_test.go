package postgres_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/schema/schematest"
)

// countPulls stores pulls and rolls them up.
func countPulls(t *testing.T, s *postgres.Store, pulls ...indexer.Pull) (counted postgres.Counted) {
	t.Helper()
	counted, err := s.CountPulls(t.Context(), pulls)
	if err != nil {
		t.Fatal(err)
	}
	rollUp(t, s)
	return counted
}

func rollUp(t *testing.T, s *postgres.Store) {
	t.Helper()
	if _, err := s.RollUpUsage(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func usageOf(t *testing.T, s *postgres.Store, q indexer.UsageQuery) (u indexer.Usage) {
	t.Helper()
	view(t, s, func(v *postgres.View) (err error) {
		u, err = v.Usage(t.Context(), q)
		return err
	})
	return u
}

// aPull returns a pull with an id of its own.
func aPull(repository, tag string, d digest.Digest, by indexer.ClientKind) indexer.Pull {
	id := fmt.Sprint(nextPull.next())
	return indexer.Pull{ID: id, At: time.Now(), Repository: repository, Tag: tag, Digest: d, By: by}
}

type counter struct {
	sync.Mutex
	n int
}

func (c *counter) next() int {
	c.Lock()
	defer c.Unlock()
	c.n++
	return c.n
}

var nextPull counter

// Pulls by tag and by digest are counted for the repository, the tag and the manifest, those
// of scanners apart, and each event once.
func TestPullsAreCounted(t *testing.T) {
	t.Parallel()
	s := postgres.New(schematest.New(t), postgres.Config{})
	m := image("team/app", "first")
	setTag(t, s, "v1", m)
	one := aPull("team/app", "v1", m.Digest, indexer.ByPerson)
	pulls := []indexer.Pull{one, one, aPull("team/app", "v1", m.Digest, indexer.ByToken),
		aPull("team/app", "", m.Digest, indexer.ByAnonymous), aPull("team/app", "v1", m.Digest, indexer.ByScanner)}
	if c := countPulls(t, s, pulls...); c.Fresh != 4 || c.Unknown != 0 {
		t.Errorf("counted %+v, want 4 fresh", c)
	}
	if c := countPulls(t, s, pulls...); c.Fresh != 0 || c.Unknown != 0 {
		t.Errorf("the same events again: counted %+v, want none", c)
	}
	for what, c := range map[string]struct {
		q              indexer.UsageQuery
		pulls, scanner int64
	}{
		"repository": {indexer.UsageQuery{}, 3, 1}, "tag": {indexer.UsageQuery{Tag: "v1"}, 2, 1},
		"manifest": {indexer.UsageQuery{Digest: m.Digest}, 3, 1},
	} {
		c.q.Repository, c.q.Days = "team/app", 30
		u := usageOf(t, s, c.q)
		if u.Pulls != c.pulls || u.ScannerPulls != c.scanner || u.PulledAt.IsZero() || u.Since.IsZero() || !u.StaleSince.IsZero() {
			t.Errorf("%s: %+v, want %d pulls and %d of scanners", what, u, c.pulls, c.scanner)
		}
		if len(u.Days) != 1 || u.Days[0].Pulls != c.pulls || u.Days[0].ScannerPulls != c.scanner {
			t.Errorf("%s: days %+v", what, u.Days)
		}
	}
}

// A client that resolves a tag and then pulls by digest pulls the manifest. Retention sees it by
// the digest that the tag shows.
func TestLastPulls(t *testing.T) {
	t.Parallel()
	s := postgres.New(schematest.New(t), postgres.Config{})
	one, two := image("team/app", "one"), image("team/app", "two")
	setTag(t, s, "v1", one)
	setTag(t, s, "v2", two)
	byTag, byDigest := aPull("team/app", "v1", one.Digest, indexer.ByToken), aPull("team/app", "", two.Digest, indexer.ByToken)
	byTag.At = time.Now().Add(-48 * time.Hour).Truncate(time.Microsecond)
	countPulls(t, s, byTag, byDigest, aPull("team/app", "v2", two.Digest, indexer.ByScanner))
	var got indexer.LastPulls
	view(t, s, func(v *postgres.View) (err error) {
		got, err = v.LastPulls(t.Context(), "team/app", []string{"v1", "v2", "v3"}, []digest.Digest{one.Digest, two.Digest})
		return err
	})
	if at := got.Tags["v1"]; at.Pulls != 1 || !at.At.Equal(byTag.At) || got.Digests[one.Digest] != at {
		t.Errorf("v1: %+v, and what it shows %+v, want one pull at %v", at, got.Digests[one.Digest], byTag.At)
	}
	if got.Tags["v2"].Pulls != 0 || !got.Tags["v2"].At.IsZero() || got.Digests[two.Digest].Pulls != 1 || got.Since.IsZero() {
		t.Errorf("v2: %+v, and what it shows %+v, want no pull by the tag and one by digest", got.Tags["v2"], got.Digests[two.Digest])
	}
}

// Counting begins with the first event of a pull, and again after a week without one. Pulls
// that wait too long to be counted make the counts stale.
func TestCountingBegins(t *testing.T) {
	t.Parallel()
	pool := schematest.New(t)
	s := postgres.New(pool, postgres.Config{})
	m := image("team/app", "first")
	setTag(t, s, "v1", m)
	exec := func(q string) {
		t.Helper()
		if _, err := pool.Exec(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	hear := func() indexer.Usage { // as a process that has just started
		t.Helper()
		if err := postgres.New(pool, postgres.Config{}).HearPull(t.Context()); err != nil {
			t.Fatal(err)
		}
		return usageOf(t, s, indexer.UsageQuery{Repository: "team/app"})
	}
	if u := usageOf(t, s, indexer.UsageQuery{Repository: "team/app"}); !u.Since.IsZero() || u.Pulls != 0 {
		t.Errorf("before the first event: %+v, want an unknown beginning", u)
	}
	first := hear()
	exec("UPDATE usage_state SET heard_at = heard_at - interval '6 days', counted_since = counted_since - interval '60 days'")
	if u := hear(); !u.Since.Before(first.Since) || u.HeardAt.Before(first.HeardAt) {
		t.Errorf("after 6 days without an event: %+v, want a beginning 60 days ago", u.Counting)
	}
	exec("UPDATE usage_state SET heard_at = heard_at - interval '8 days'")
	if u := hear(); u.Since.Before(first.Since) {
		t.Errorf("after 8 days without an event: %+v, want that counting begins again", u.Counting)
	}
	if _, err := s.CountPulls(t.Context(), []indexer.Pull{aPull("team/app", "v1", m.Digest, indexer.ByPerson)}); err != nil {
		t.Fatal(err)
	}
	if u := usageOf(t, s, indexer.UsageQuery{Repository: "team/app"}); u.Pulls != 0 || !u.StaleSince.IsZero() {
		t.Errorf("before a roll-up: %+v, want no pull yet, and not stale", u)
	}
	exec("UPDATE usage_pending SET received_at = now() - interval '6 minutes'")
	if u := usageOf(t, s, indexer.UsageQuery{Repository: "team/app"}); time.Since(u.StaleSince) < 6*time.Minute {
		t.Errorf("without a roll-up for 6 minutes: stale since %v", u.StaleSince)
	}
	rollUp(t, s)
	if u := usageOf(t, s, indexer.UsageQuery{Repository: "team/app"}); u.Pulls != 1 || !u.StaleSince.IsZero() {
		t.Errorf("after a roll-up: %+v, want 1 pull, and not stale", u)
	}
}

// Old days go, and with them the counts of what is gone; totals of what is there stay, and so
// does the memory of recent events.
func TestForgetUsage(t *testing.T) {
	t.Parallel()
	pool := schematest.New(t)
	s := postgres.New(pool, postgres.Config{})
	kept, gone := image("team/app", "kept"), image("team/app", "gone")
	setTag(t, s, "v1", kept)
	setTag(t, s, "old", gone)
	recent := aPull("team/app", "v1", kept.Digest, indexer.ByPerson)
	countPulls(t, s, recent, aPull("team/app", "old", gone.Digest, indexer.ByPerson))
	for _, q := range []string{
		"UPDATE usage_day SET day = day - 100", "UPDATE usage_tag SET used_on = used_on - 100", "UPDATE usage_manifest SET used_on = used_on - 100",
		"DELETE FROM tag WHERE name = 'old'", "DELETE FROM manifest WHERE id NOT IN (SELECT manifest_id FROM tag)",
		`INSERT INTO usage_seen VALUES ('\x000000000001'), ('\xffffff000001')`, // of 1970 and of the far future
	} {
		if _, err := pool.Exec(t.Context(), q); err != nil {
			t.Fatal(q, err)
		}
	}
	if n, err := s.ForgetUsage(t.Context(), 200*24*time.Hour); err != nil || n != (postgres.ForgottenUsage{Seen: 2}) {
		t.Errorf("kept for 200 days: %+v, %v, want nothing but two ids forgotten", n, err)
	}
	if n, err := s.ForgetUsage(t.Context(), 50*24*time.Hour); err != nil || n != (postgres.ForgottenUsage{Days: 2, Tags: 1, Manifests: 1}) {
		t.Errorf("kept for 50 days: %+v, %v", n, err)
	}
	if u := usageOf(t, s, indexer.UsageQuery{Repository: "team/app", Tag: "v1", Days: 300}); u.Pulls != 1 || len(u.Days) != 0 {
		t.Errorf("the tag: %+v, want a total and no day", u)
	}
	if c := countPulls(t, s, recent); c.Fresh != 0 {
		t.Errorf("a recent event was counted again: %+v", c)
	}
}

// A repository whose search row is written again keeps its count, and searches find it.
func TestPullsAreSearched(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	s.Stock()
	countPulls(t, s.Store, aPull("team/app", "", "", indexer.ByPerson), aPull("team/app", "", "", indexer.ByPerson), aPull("library/nginx", "", "", indexer.ByScanner))
	for range 2 {
		s.Finds("pulls:2", "team/app")
		s.Finds("pulled:<1h", "team/app")
		s.Finds("repo:team/app -pulled:never", "team/app")
		s.Finds("pulls:0 pulled:never repo:library/nginx", "library/nginx")
		if _, err := s.Pool.Exec(t.Context(), "TRUNCATE repository_search, image_search"); err != nil {
			t.Fatal(err)
		}
		s.Lead()
	}
}
