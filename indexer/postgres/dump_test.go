package postgres_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/query"
)

// With pages of any size, a walk over everything returns each item once, in order,
// and ends.
func TestAllOfEverything(t *testing.T) {
	t.Parallel()
	s, _ := stock(t)
	count := func(table string) (n int) {
		t.Helper()
		if err := s.Pool.QueryRow(t.Context(), "SELECT count(*) FROM "+table).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	manifests, tags, repositories := count("manifest"), count("tag"), count("repository_search")
	for _, limit := range []int{1, 2, 3, 1000} {
		err := s.View(t.Context(), indexer.Everyone, func(v *postgres.View) error {
			var last indexer.Reference
			seen := 0
			for {
				page, err := v.AllManifests(t.Context(), last.Repository, last.Digest, limit)
				if err != nil || len(page) == 0 {
					if seen != manifests {
						t.Errorf("by %d: %d manifests, want %d", limit, seen, manifests)
					}
					break
				}
				for _, m := range page {
					seen++
					if strings.Compare(last.Repository+"@"+last.Digest.String(), m.Repository+"@"+m.Digest.String()) >= 0 || m.Digest.Algorithm().FromBytes(m.Body) != m.Digest {
						t.Errorf("by %d: %s@%s after %s, with the body %s", limit, m.Repository, m.Digest, last, m.Body)
					}
					last = indexer.Reference{Repository: m.Repository, Digest: m.Digest}
				}
			}
			last, seen = indexer.Reference{}, 0
			for {
				page, err := v.AllTags(t.Context(), last.Repository, last.Tag, limit)
				if err != nil || len(page) == 0 {
					if seen != tags {
						t.Errorf("by %d: %d tags, want %d", limit, seen, tags)
					}
					return err
				}
				for _, p := range page {
					seen++
					if p.Repository < last.Repository || p.Repository == last.Repository && p.Name <= last.Tag || p.Digest == "" || p.MovedAt.IsZero() {
						t.Errorf("by %d: %+v after %s", limit, p, last)
					}
					last = indexer.Reference{Repository: p.Repository, Tag: p.Name}
				}
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	err := s.View(t.Context(), indexer.Everyone, func(v *postgres.View) error {
		all, err := v.Names(t.Context(), "", 1000)
		if err != nil || len(all) != repositories || !slices.IsSorted(all) {
			t.Errorf("names %v, %v", all, err)
		}
		rest, err := v.Names(t.Context(), all[1], 1)
		if len(rest) != 1 || rest[0] != all[2] {
			t.Errorf("after %s: %v, want %s", all[1], rest, all[2])
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A page must not contain hundreds of bodies of several megabytes.
func TestAllManifestsIsBounded(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	for i := range 7 {
		m := made("large", "linux/amd64", int64(i), 1, "2026-01-01")
		// Incompressible, because the stored size of a body counts.
		random := make([]byte, 2<<20)
		for j, state := 0, uint64(i+1); j < len(random); j++ {
			state ^= state << 13
			state ^= state >> 7
			state ^= state << 17
			random[j] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_"[state%64]
		}
		m.Body = append(append([]byte(`{"x":"`), random...), `"}`...)
		m.Digest, m.Size = digest.FromBytes(m.Body), int64(len(m.Body))
		s.Find("large", string(rune('a'+i)), m)
	}
	err := s.View(t.Context(), indexer.Everyone, func(v *postgres.View) error {
		var last digest.Digest
		var sizes []int
		for {
			page, err := v.AllManifests(t.Context(), "large", last, 100)
			if err != nil || len(page) == 0 {
				if len(sizes) < 2 || slices.Max(sizes) > 5 {
					t.Errorf("got pages of %v manifests of 2 MiB each, want small ones", sizes)
				}
				return err
			}
			sizes, last = append(sizes, len(page)), page[len(page)-1].Digest
			if !bytes.HasPrefix(page[0].Body, []byte(`{"x":"`)) {
				t.Errorf("body %.20s", page[0].Body)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// The history at a time contains exactly the moves that were seen until then.
func TestHistoryAt(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(minutes float64) int64 {
		t.Helper()
		var id int64
		err := s.View(t.Context(), indexer.Everyone, func(v *postgres.View) (err error) {
			id, err = v.HistoryAt(t.Context(), begin.Add(time.Duration(minutes*float64(time.Minute))))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	if got := at(0); got != 0 {
		t.Errorf("without a history: got %d, want 0", got)
	}
	if _, err := s.Pool.Exec(t.Context(), "SELECT create_partition('tag_history', $1)", begin); err != nil {
		t.Fatal(err)
	}
	const q = `
		INSERT INTO tag_history (id, repository, tag, to_digest, seen_at, seen_by)
		SELECT i * 7, 'r', 't' || i, decode(lpad(to_hex(i), 64, '0'), 'hex'), $1::timestamptz + i * interval '1 minute', 'event'
		FROM generate_series(1, 100) AS i WHERE i NOT BETWEEN 40 AND 60`
	if _, err := s.Pool.Exec(t.Context(), q, begin); err != nil {
		t.Fatal(err)
	}
	for minutes, want := range map[float64]struct{ newest, older int }{
		-1: {0, 1}, 0.5: {0, 1}, 1: {1, 2}, 39: {39, 61}, 45: {39, 61}, 99.5: {99, 100}, 100: {100, 0}, 1000: {100, 0},
	} {
		id := at(minutes)
		if want.older == 0 && id != 0 || want.older > 0 && (id <= int64(want.newest*7) || id > int64(want.older*7)) {
			t.Errorf("at minute %v: got move %d, want more than %d and at most %d", minutes, id, want.newest*7, want.older*7)
		}
	}
}

// Results by name continue after the last page, with each way of searching.
func TestSearchAfter(t *testing.T) {
	t.Parallel()
	s, _ := stock(t)
	for _, text := range []string{"", "nginx", "reverse", "os:linux", "has:sbom OR is:tagged"} {
		q, err := query.Parse(text, now)
		if err != nil {
			t.Fatal(err)
		}
		q.Sort = query.SortName
		err = s.View(t.Context(), indexer.Everyone, func(v *postgres.View) error {
			whole, err := v.Search(t.Context(), q.Page(100, 0))
			if err != nil {
				return err
			}
			var got []string
			step := q.Page(1, 0)
			for range whole.Items {
				page, err := v.Search(t.Context(), step)
				if err != nil || len(page.Items) != 1 {
					t.Errorf("%q after %q: %+v, %v", text, step.After, page, err)
					return err
				}
				step.After = page.Items[0].Name
				got = append(got, step.After)
			}
			last, err := v.Search(t.Context(), step)
			if len(last.Items) > 0 || len(got) != whole.Total || !slices.IsSorted(got) {
				t.Errorf("%q: %v and then %d more, want %d", text, got, len(last.Items), whole.Total)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
