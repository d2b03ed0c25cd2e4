package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/query"
	"github.com/portbook/portbook/schema/schematest"
)

// A moment is the tags of all repositories at a time.
type moment struct {
	at   time.Time
	tags map[string]map[string]digest.Digest // by repository and tag
}

func (m moment) repositories() (names []string) {
	for name, tags := range m.tags {
		if len(tags) > 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func clock(t *testing.T, pool *pgxpool.Pool) (now time.Time) {
	t.Helper()
	if err := pool.QueryRow(t.Context(), "SELECT clock_timestamp()").Scan(&now); err != nil {
		t.Fatal(err)
	}
	return now
}

// randomMoments pushes, moves and deletes tags and manifests at random, and returns what
// there was after each step.
func randomMoments(t *testing.T, s *postgres.Store, pool *pgxpool.Pool, random *rand.Rand) (all []moment) {
	t.Helper()
	now := map[string]map[string]digest.Digest{}
	for range 60 {
		repository := []string{"team/a", "team/b", "other/c", "alone"}[random.IntN(4)]
		tag := []string{"v1", "v2", "latest"}[random.IntN(3)]
		m := image(repository, fmt.Sprint("content ", random.IntN(6)))
		gone := indexer.Finding{Task: indexer.Task{Repository: repository}, Outcome: indexer.Gone}
		if now[repository] == nil {
			now[repository] = map[string]digest.Digest{}
		}
		switch shown := slices.Contains(slices.Collect(maps.Values(now[repository])), m.Digest); {
		case random.IntN(3) == 0:
			store(t, s, tag, gone)
			delete(now[repository], tag)
		case random.IntN(4) == 0 && !shown:
			store(t, s, m.Digest.String(), gone)
		default:
			setTag(t, s, tag, m)
			now[repository][tag] = m.Digest
		}
		state := moment{at: clock(t, pool), tags: map[string]map[string]digest.Digest{}}
		for name, tags := range now {
			state.tags[name] = maps.Clone(tags)
		}
		all = append(all, state)
	}
	return all
}

// checkMoment compares what the book says of the past with what there was.
func checkMoment(t *testing.T, s *postgres.Store, was moment, sees indexer.Visibility) {
	t.Helper()
	want := slices.DeleteFunc(was.repositories(), func(name string) bool { return !sees.Sees(name) })
	err := s.View(t.Context(), indexer.AskerOf(sees), func(v *postgres.View) error {
		names, err := v.RepositoriesAt(t.Context(), was.at, "", 10)
		if diff := cmp.Diff(want, names, cmpopts.EquateEmpty()); diff != "" || err != nil {
			return fmt.Errorf("repositories at %v: %w (-want +got)\n%s", was.at, err, diff)
		}
		for name, tags := range was.tags {
			list, err := v.TagsAt(t.Context(), name, was.at, "", "", 10)
			got := map[string]digest.Digest{}
			for _, tag := range list {
				got[tag.Name] = tag.Digest
			}
			if !sees.Sees(name) {
				tags = nil
			}
			if diff := cmp.Diff(tags, got, cmpopts.EquateEmpty()); diff != "" || err != nil {
				return fmt.Errorf("tags of %s at %v: %w (-want +got)\n%s", name, was.at, err, diff)
			}
			past, err := v.RepositoryAt(t.Context(), name, was.at)
			if len(tags) == 0 && errors.Is(err, indexer.ErrNotFound) {
				continue
			}
			if err != nil || past.Tags != len(tags) || past.Digest != tags[past.Leading] {
				return fmt.Errorf("%s at %v: got %+v, %w, want %v", name, was.at, past, err, tags)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// What there was at a time is told as it was, also if the book has lost the earlier part of
// the history since.
func TestPast(t *testing.T) {
	t.Parallel()
	pool := schematest.New(t)
	s := postgres.New(pool, postgres.Config{})
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	all := randomMoments(t, s, pool, rand.New(rand.NewPCG(seed, 1)))
	for _, sees := range []indexer.Visibility{indexer.AllVisible, indexer.VisibleNames("team/*")} {
		for _, was := range all {
			checkMoment(t, s, was, sees)
			if t.Failed() {
				return
			}
		}
	}
	dropped := all[len(all)/2].at
	if _, err := pool.Exec(t.Context(), "DELETE FROM tag_history WHERE seen_at < $1", dropped); err != nil {
		t.Fatal(err)
	}
	var begins time.Time
	view(t, s, func(v *postgres.View) (err error) {
		begins, err = v.HistoryBegins(t.Context())
		return err
	})
	if begins.Before(dropped) || begins.After(all[len(all)-1].at) {
		t.Errorf("the history begins at %v, and was dropped up to %v", begins, dropped)
	}
	for _, was := range all {
		if was.at.After(begins) {
			checkMoment(t, s, was, indexer.AllVisible)
		}
	}
}

// searchAt returns the names of all repositories that matched at a time, by pages.
func searchAt(t *testing.T, v *postgres.View, text string, at time.Time, limit int) (names []string, incomplete bool) {
	t.Helper()
	q, err := query.Parse(text, at)
	if err != nil {
		t.Fatal(err)
	}
	for q.Limit = limit; ; {
		found, err := v.SearchAt(t.Context(), q, at)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		for _, r := range found.Items {
			names = append(names, r.Name)
		}
		incomplete = incomplete || found.Incomplete
		if q.After = found.Next; q.After == "" {
			return names, incomplete
		}
	}
}

var pastQueries = []string{"", "demo", "team", `"app two"`, "ap*", "edge", "edge -windows", "repo:team/*", "repo:team/app", "namespace:team", "ns:t*", "tag:v*", "tag:v1 os:linux",
	"os:windows OR tag:latest", "arch:arm64", "platform:linux/arm", "platform:linux/arm/v7", "type:index", "type:image", "type:*helm*", "label:team", "label:team=edge", "label:te*=e*", "-label:team=edge",
	"annotation:note=x", "size:>100", "size:<1kB type:index", "layers:2", "layers:<2", "created:>2025", "created:<2025", "pushed:<1h", "pushed:>1h", "licence:MIT", "is:tagged", "app:v1", "redis OR licence:MIT", "-namespace:team",
	"tag:multi arch:arm64", "tag:multi -arch:amd64"}

// A search in the past that is only a moment ago finds what a search finds now.
func TestSearchAtIsSearch(t *testing.T) {
	t.Parallel()
	pool := schematest.New(t)
	s := postgres.New(pool, postgres.Config{})
	arm, windows, helm := image("team/app", "arm"), image("library/demo", "windows"), image("charts/redis", "chart")
	arm.Platform = indexer.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}
	arm.Labels = map[string]string{"team": "edge", "org.opencontainers.image.title": "An app two", "org.opencontainers.image.licenses": "MIT"}
	arm.CreatedAt, arm.ContentSize = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), 5000
	windows.Platform, windows.Annotations = indexer.Platform{OS: "windows", Architecture: "amd64"}, map[string]string{"note": "x"}
	windows.CreatedAt, windows.Layers = time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC), nil
	helm.Kind, helm.ArtifactType, helm.Platform = indexer.KindArtifact, "application/vnd.cncf.helm.config.v1+json", indexer.Platform{}
	arm64 := image("team/multi", "arm64")
	arm64.Platform = indexer.Platform{OS: "linux", Architecture: "arm64"}
	put(t, s, arm64)
	setTag(t, s, "multi", indexOf("team/multi", arm64, arm64))
	setTag(t, s, "v1", arm)
	setTag(t, s, "latest", windows)
	setTag(t, s, "1.0", helm)
	setTag(t, s, "v2", image("app", "plain edge"))
	for i := range 60 { // more than are read at a time
		setTag(t, s, "v1", image(fmt.Sprintf("demo/n%02d", i), fmt.Sprint(i)))
	}
	at := clock(t, pool)
	view(t, s, func(v *postgres.View) error {
		for _, text := range pastQueries {
			q, err := query.Parse(text, at)
			if err != nil {
				return err
			}
			q.Sort, q.Limit = query.SortName, query.MaxPage
			found, err := v.Search(t.Context(), q)
			if err != nil {
				return err
			}
			var want []string
			for _, r := range found.Items {
				want = append(want, r.Name)
			}
			for _, limit := range []int{100, 7} {
				got, incomplete := searchAt(t, v, text, at, limit)
				if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" || incomplete {
					t.Errorf("%q by pages of %d: incomplete %v (-want +got)\n%s", text, limit, incomplete, diff)
				}
			}
		}
		return nil
	})
}

// A search in the past finds what tags showed then; what the book has lost is said to be
// incomplete, and what has no history is refused.
func TestSearchAt(t *testing.T) {
	t.Parallel()
	pool := schematest.New(t)
	s := postgres.New(pool, postgres.Config{})
	old := image("app", "old")
	setTag(t, s, "v1", old)
	first := clock(t, pool)
	setTag(t, s, "v1", image("app", "new"))
	second := clock(t, pool)
	gone := indexer.Finding{Task: indexer.Task{Repository: "app"}, Outcome: indexer.Gone}
	store(t, s, "v1", gone)
	check := func(when string, text string, at time.Time, want string, incomplete bool) {
		t.Helper()
		view(t, s, func(v *postgres.View) error {
			got, is := searchAt(t, v, text, at, 10)
			if strings.Join(got, " ") != want || is != incomplete {
				t.Errorf("%s, %s: got %v, incomplete %v, want %q, %v", when, text, got, is, want, incomplete)
			}
			return nil
		})
	}
	check("first", "label:content=old", first, "app", false)
	check("second", "label:content=old", second, "", false)
	check("second", "label:content=new", second, "app", false)
	check("now", "app", clock(t, pool), "", false)
	check("first", "digest:"+old.Digest.String()[:20], first, "app", false)
	store(t, s, old.Digest.String(), gone)
	check("first, of a lost manifest", "label:content=old", first, "", true)
	check("first, of a lost manifest", "tag:v1", first, "app", false)
	check("first, of a lost manifest", "digest:"+old.Digest.String()[:20], first, "app", true)
	for _, text := range []string{"has:sbom", "is:multiarch", "app -has:signature"} {
		q, err := query.Parse(text, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		err = s.View(context.Background(), indexer.Everyone, func(v *postgres.View) error {
			_, err := v.SearchAt(t.Context(), q, first)
			return err
		})
		if !errors.Is(err, indexer.ErrInvalid) {
			t.Errorf("%s: %v, want that it cannot be asked", text, err)
		}
	}
}
