package postgres_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/pg"
)

// A bookState is what a copy of the search rows depends on, each by repository.
type bookState struct {
	rows    map[int32]string // the search row, with the transaction that wrote it
	images  map[int32]string // the search rows of its images
	rest    map[int32]string // its tags and manifests
	version map[int32]string // the number of each shard of the catalogue version
}

func (s shelf) state() (b bookState) {
	s.T.Helper()
	for q, into := range map[string]*map[int32]string{
		"SELECT repository_id AS key, xmin::text || to_jsonb(r)::text AS value FROM repository_search r":                         &b.rows,
		"SELECT repository_id AS key, jsonb_agg(to_jsonb(i) ORDER BY manifest_id)::text AS value FROM image_search i GROUP BY 1": &b.images,
		`SELECT r.id AS key, concat((SELECT jsonb_agg(to_jsonb(t) ORDER BY t.name) FROM tag t WHERE t.repository_id = r.id),
			(SELECT jsonb_agg(to_jsonb(m) ORDER BY m.id) FROM manifest m WHERE m.repository_id = r.id)) AS value FROM repository r`: &b.rest,
		"SELECT shard::int AS key, v::text AS value FROM catalogue_version": &b.version,
	} {
		type row struct {
			Key   int32
			Value string
		}
		rows, err := pg.Collect[row](s.T.Context(), s.Pool, q)
		if err != nil {
			s.T.Fatal(err)
		}
		*into = map[int32]string{}
		for _, r := range rows {
			(*into)[r.Key] = r.Value
		}
	}
	return b
}

// differing returns the keys with different values, sorted. A missing value is "".
func differing(a, b map[int32]string) []int32 {
	keys := []int32{}
	for _, m := range []map[int32]string{a, b} {
		for key := range m {
			if a[key] != b[key] && !slices.Contains(keys, key) {
				keys = append(keys, key)
			}
		}
	}
	slices.Sort(keys)
	return keys
}

// change runs f and checks that search_change tells what it did: if the catalogue version
// moved, one row for its new number, with exactly the repositories whose search row was
// written or deleted; otherwise none, and nothing differs. It returns these repositories
// and whether the version moved.
func (s shelf) change(f func() error) (repositories []int32, moved bool) {
	s.T.Helper()
	before := s.state()
	execute(s.T, s.Pool, "DELETE FROM search_change")
	if err := f(); err != nil {
		s.T.Fatal(err)
	}
	after := s.state()
	want := []string{}
	for _, shard := range differing(before.version, after.version) {
		want = append(want, fmt.Sprintf("%d %s %v", shard, after.version[shard], differing(before.rows, after.rows)))
	}
	const changes = `SELECT format('%s %s [%s]', shard, v, array_to_string(repositories, ' ')) FROM search_change`
	got, err := pg.Column[string](s.T.Context(), s.Pool, changes)
	if err != nil {
		s.T.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" || len(got) > 1 {
		s.T.Fatalf("rows of search_change (-want +got)\n%s", diff)
	}
	repositories = differing(before.rows, after.rows)
	for _, id := range differing(before.images, after.images) {
		if !slices.Contains(repositories, id) {
			s.T.Fatalf("the rows of images of repository %d differ, and its search row was not written", id)
		}
	}
	if len(got) == 0 && len(repositories)+len(differing(before.rest, after.rest)) > 0 {
		s.T.Fatal("the catalogue version did not move, and rows differ")
	}
	return repositories, len(got) > 0
}

// A copy of the search rows that reads again what search_change names is right, whatever
// is pushed, moved, attached, deleted and rewritten, in any order.
func TestSearchChanges(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	random := rand.New(rand.NewPCG(11, 12))
	names := []string{"one", "team/two", "team/three", "four"}
	all := map[string][]indexer.Manifest{}
	for _, name := range names {
		a, b := made(name, "linux/amd64", 1, 1, "2026-01-01", "team", "a"), made(name, "linux/arm64", 2, 2, "2026-01-02")
		signature := made(name, "", 3, 1, "2026-01-03")
		signature.Subject, signature.ArtifactType = a.Digest, "application/vnd.cncf.notary.signature"
		all[name] = []indexer.Manifest{a, b, listing(name, a, b), signature}
	}
	// found returns what reading a random reference of a repository finds.
	found := func(name string) indexer.Finding {
		m := all[name][random.IntN(4)]
		tags := []string{"latest", "1.0", "main", "sha256-" + all[name][0].Digest.Encoded() + ".sig"}
		f := indexer.Finding{Task: indexer.Task{Repository: name, Reference: indexer.TagOrDigest(tags[random.IntN(4)])}, Outcome: indexer.Gone}
		if random.IntN(3) == 0 {
			f.Task.Reference = indexer.TagOrDigest(m.Digest)
		}
		switch n := random.IntN(6); {
		case n < 3:
			f.Outcome, f.Digest, f.Manifests = indexer.Found, m.Digest, []indexer.Manifest{m}
		case n == 3 && f.Task.Reference.IsTag():
			f.Outcome, f.Problem = indexer.Broken, "the registry answered 500"
		}
		return f
	}
	moves, sizes := 0, map[int]int{}
	for i := range 200 {
		f := func() error {
			var findings []indexer.Finding
			for _, n := range random.Perm(4)[:1+random.IntN(2)] {
				for range 1 + random.IntN(3) {
					findings = append(findings, found(names[n]))
				}
			}
			return s.apply(distinct(findings))
		}
		switch random.IntN(12) {
		case 0:
			f = func() (err error) { _, err = s.Reform(t.Context()); return err }
			if random.IntN(2) == 0 {
				execute(t, s.Pool, "UPDATE repository_search SET form = form - 1 WHERE repository_id % 2 = 0")
			}
		case 1:
			f = func() (err error) { _, err = s.CountStorage(t.Context()); return err }
		case 2:
			for _, table := range []string{"repository", "repository_search"} {
				execute(t, s.Pool, "UPDATE "+table+" SET updated_at = timestamptz '2026-01-01'")
			}
			f = func() (err error) { _, err = s.Tidy(t.Context()); return err }
		}
		repositories, moved := s.change(f)
		if moved {
			moves++
			sizes[len(repositories)]++
		}
		if i%5 == 0 {
			s.consistent(names...)
		}
	}
	if moves < 100 || sizes[0] < 5 || sizes[2] < 5 {
		t.Errorf("%d moves, by the number of repositories %v: too few for a test", moves, sizes)
	}
}

// consistent fails the test if derived rows of a repository do not follow from its manifests and
// tags. A repository may not be there.
func (s shelf) consistent(names ...string) {
	s.T.Helper()
	for _, name := range names {
		if found, err := s.Differences(s.T.Context(), name); len(found) > 0 || err != nil && !errors.Is(err, indexer.ErrNotFound) {
			s.T.Fatalf("%s differs from itself: %v, %v", name, found, err)
		}
	}
}

// distinct returns the first finding about each reference.
func distinct(findings []indexer.Finding) (first []indexer.Finding) {
	for _, f := range findings {
		if !slices.ContainsFunc(first, func(g indexer.Finding) bool {
			return g.Task.Repository == f.Task.Repository && g.Task.Reference == f.Task.Reference
		}) {
			first = append(first, f)
		}
	}
	return first
}

// apply stores findings in one transaction.
func (s shelf) apply(findings []indexer.Finding) error {
	execute(s.T, s.Pool, "DELETE FROM task") // what earlier findings asked for
	var asks []indexer.Ask
	for _, f := range findings {
		asks = append(asks, indexer.Ask{Repository: f.Task.Repository, Reference: f.Task.Reference})
	}
	if err := s.Ask(s.T.Context(), asks); err != nil {
		return err
	}
	tasks, err := s.Claim(s.T.Context(), indexer.PriorityConfirm, 100, time.Minute)
	if err != nil {
		return err
	}
	for i, f := range findings {
		n := slices.IndexFunc(tasks, func(t indexer.Task) bool {
			return t.Repository == f.Task.Repository && t.Reference == f.Task.Reference
		})
		findings[i].Task = tasks[n]
	}
	return s.Apply(s.T.Context(), findings)
}

// The latest rows of each shard stay, and the older ones go, however many they are.
func TestForgetChanges(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	execute(t, s.Pool, `UPDATE catalogue_version SET v = shard * 1000`)
	execute(t, s.Pool, `INSERT INTO search_change SELECT shard, g, '{}' FROM catalogue_version, generate_series(1, v) AS g`)
	forget := func(want int64) {
		t.Helper()
		if n, err := s.ForgetChanges(t.Context()); n != want || err != nil {
			t.Errorf("deleted %d rows, %v, want %d", n, err, want)
		}
	}
	forget(904 + 1904 + 2904 + 3904 + 4904 + 5904 + 6904 + 7904 + 8904 + 9904 + 10904)
	forget(0)
	const q = `
		SELECT count(*) FROM catalogue_version n
		WHERE (SELECT count(*) FROM search_change c WHERE c.shard = n.shard AND v > n.v - 4096) = LEAST(n.v, 4096)`
	if got := one[int](t, s.Pool, q); got != 16 {
		t.Errorf("%d shards have all their latest rows, want 16", got)
	}
}

// Rows that an older program left when it restored the catalogue version stop no writer.
func TestSearchChangeOfBefore(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	execute(t, s.Pool, "INSERT INTO search_change SELECT shard, v + 1, '{7}' FROM catalogue_version")
	s.Find("demo/app", "v1", made("demo/app", "linux/amd64", 1, 1, "2026-01-01"))
	const q = `SELECT c.repositories::text FROM search_change c JOIN catalogue_version n ON n.shard = c.shard AND n.v = c.v`
	if got, want := one[string](t, s.Pool, q), one[string](t, s.Pool, "SELECT ARRAY[id]::text FROM repository"); got != want {
		t.Errorf("got repositories %s, want %s", got, want)
	}
}
