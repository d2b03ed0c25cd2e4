package postgres_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	diff "github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/postgres/pg"
	"github.com/portbook/portbook/indexer/postgres/postgrestest"
	"github.com/portbook/portbook/indexer/query"
	"github.com/portbook/portbook/indexer/web/answer"
)

// A question is asked by an asker who sees everything and by one who does not.
type question struct {
	ask func(*postgres.View) (any, error)
	// want returns the answer to who sees some repositories, made of the answer to who
	// sees all of them.
	want func(all any, sees indexer.Visibility) any
}

// Whatever an asker asks, the answer is that of Everyone without the repositories that
// the asker may not see, and no text or number in it is about these.
func TestViewsShowWhatTheirAskerSees(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	members := s.Crowd()
	for _, m := range members {
		countPulls(t, s.Store, aPull(m.Name, "v1", m.Image.Digest, indexer.ByPerson), aPull(m.Name, "", m.Image.Digest, indexer.ByScanner))
	}
	must(t, s.AddProtection(t.Context(), protection(t, access.Protect, "*", "v*", 0)))
	must(t, s.ChangePackages(t.Context(), func(x *postgres.PackageIndex) error {
		files := map[string][]byte{}
		for _, m := range members {
			files[m.Name] = []byte("the file of " + m.Name)
		}
		return x.Set(t.Context(), files)
	}))
	askers := map[string]indexer.Visibility{
		"of a tenth":     indexer.VisibleNames("space3?/*"),
		"of every tenth": indexer.VisibleNames("*3/app"),
		"of some names":  indexer.VisibleNames("space07/app", "space70/app", "space41/gone", "space99/none"),
		"of many":        indexer.VisibleNames("space1*", "space12/*", "space4*", "space5*", "space6*", "space90/app"),
		"of nothing":     {},
	}
	store := postgres.New(s.Pool, postgres.Config{Memory: 1 << 30})
	if err := store.CopyStep(t.Context()); err != nil {
		t.Fatal(err)
	}
	questions := bookQuestions(t.Context(), s, members)
	for method := range reflect.TypeFor[answer.Book]().Methods() {
		if len(questions[method.Name]) == 0 {
			t.Errorf("this test does not ask %s", method.Name)
		}
		for i, q := range questions[method.Name] {
			all := asked(t, store, indexer.Everyone, q)
			for asker, visible := range askers {
				what := fmt.Sprintf("%s, question %d, asker %s", method.Name, i, asker)
				got, want := textOf(t, asked(t, store, indexer.AskerOf(visible), q)), textOf(t, q.want(all, visible))
				told := mentions(got, members, visible)
				if d := diff.Diff(want, got); d != "" {
					t.Errorf("%s (-want +got)\n%s", what, d)
				}
				if len(told) > 0 {
					t.Errorf("%s: the answer mentions %q:\n%.2000s", what, told, got)
				}
			}
		}
	}
}

// asked returns the answer to a question. An error is an answer too.
func asked(t *testing.T, store *postgres.Store, asker indexer.Asker, q question) (got any) {
	t.Helper()
	err := store.View(t.Context(), asker, func(v *postgres.View) (err error) {
		got, err = q.ask(v)
		return err
	})
	if err != nil {
		t.Fatalf("asker %s: %v", asker, err)
	}
	return got
}

func textOf(t *testing.T, value any) string {
	t.Helper()
	b, err := json.MarshalIndent(value, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(b), "null", "[]") // no slice is an empty one
}

// mentions returns the texts of invisible members in a text.
func mentions(text string, members []postgrestest.Member, visible indexer.Visibility) (found []string) {
	for _, m := range members {
		if visible.Sees(m.Name) {
			continue
		}
		for _, own := range m.Own {
			if strings.Contains(text, own) {
				found = append(found, own)
			}
		}
	}
	return found
}

// same is a question whose answer does not depend on who asks.
func same[T any](ask func(*postgres.View) (T, error)) question {
	return question{
		func(v *postgres.View) (any, error) { return ask(v) },
		func(all any, _ indexer.Visibility) any { return all },
	}
}

// changed is a question whose answer is changed for an asker who does not see all.
func changed[T any](ask func(*postgres.View) (T, error), change func(T, indexer.Visibility) T) question {
	return question{
		func(v *postgres.View) (any, error) { return ask(v) },
		func(all any, visible indexer.Visibility) any {
			if visible.All() {
				return all
			}
			return change(all.(T), visible)
		},
	}
}

// list is a question for a list, which must be the same by pages of any size; all but
// the last are full. page returns a page after an item, nil for the first.
func list[T any](page func(v *postgres.View, after *T, limit int) ([]T, error), name func(T) string) question {
	return changed(func(v *postgres.View) (list []T, err error) {
		if list, err = page(v, nil, 10_000); err != nil {
			return nil, err
		}
		for _, limit := range []int{2, 7} {
			var paged []T
			var after *T
			for {
				items, err := page(v, after, limit)
				if err != nil {
					return nil, err
				}
				paged = append(paged, items...)
				if len(items) < limit {
					break
				}
				after = &items[len(items)-1]
			}
			if d := diff.Diff(list, paged); d != "" && len(list)+len(paged) > 0 {
				return nil, fmt.Errorf("by pages of %d (-want +got)\n%s", limit, d)
			}
		}
		return list, nil
	}, filtered(name))
}

func filtered[T any](name func(T) string) func([]T, indexer.Visibility) []T {
	return func(all []T, visible indexer.Visibility) []T {
		return slices.DeleteFunc(slices.Clone(all), func(x T) bool { return !visible.Sees(name(x)) })
	}
}

// A reply is the answer about one repository. In an error NAME stands for its name.
type reply struct {
	Value any
	Error string
}

// absent is the name of a repository that does not exist.
const absent = "space99/absent"

// each is a question about each repository; about one that the asker may not see it has
// the answer about one that does not exist.
func each[T any](names []string, ask func(v *postgres.View, name string) (T, error)) question {
	return changed(func(v *postgres.View) (map[string]reply, error) {
		replies := map[string]reply{}
		for _, name := range append(names, absent) {
			value, err := ask(v, name)
			r := reply{Value: value}
			if err != nil {
				r.Error = strings.ReplaceAll(err.Error(), name, "NAME")
			}
			if err != nil && !errors.Is(err, indexer.ErrNotFound) {
				return nil, err
			}
			replies[fmt.Sprintf("%x", name)] = r // so that the key mentions nothing
		}
		return replies, nil
	}, func(all map[string]reply, visible indexer.Visibility) map[string]reply {
		want := map[string]reply{}
		for _, name := range append(names, absent) {
			key := fmt.Sprintf("%x", name)
			if want[key] = all[key]; !visible.Sees(name) {
				want[key] = all[fmt.Sprintf("%x", absent)]
			}
		}
		return want
	})
}

// bookQuestions returns questions by the name of the method.
func bookQuestions(ctx context.Context, s shelf, members []postgrestest.Member) map[string][]question {
	questions := map[string][]question{}
	for _, part := range []map[string][]question{
		searchQuestions(ctx, members), oneQuestions(ctx, members), listQuestions(ctx, members), storageQuestions(ctx, s), numberQuestions(ctx, s),
	} {
		for method, list := range part {
			questions[method] = append(questions[method], list...)
		}
	}
	return questions
}

// visibleOf returns the members that an asker may see.
func visibleOf(members []postgrestest.Member, visible indexer.Visibility) []postgrestest.Member {
	return filtered(func(m postgrestest.Member) string { return m.Name })(members, visible)
}

// tagged returns the members that have a tag.
func tagged(members []postgrestest.Member) []postgrestest.Member { return members[:100] }

// searchQuestions are about what is searched.
func searchQuestions(ctx context.Context, members []postgrestest.Member) map[string][]question {
	type view = postgres.View
	count := func(visible indexer.Visibility) int { return len(visibleOf(tagged(members), visible)) }
	correction := func(correct func(*view, query.Query) (string, error)) question {
		return changed(func(v *view) (map[int]string, error) {
			corrected := map[int]string{}
			for i := 30; i < 50; i++ {
				text, err := correct(v, query.Plain(fmt.Sprintf("spac%d", i)))
				if err != nil {
					return nil, err
				}
				corrected[i] = text
			}
			return corrected, nil
		}, func(all map[int]string, visible indexer.Visibility) map[int]string {
			want := map[int]string{}
			for i, text := range all {
				if want[i] = text; !visible.Sees(members[i].Name) {
					want[i] = ""
				}
			}
			return want
		})
	}
	completion := func(format string) question {
		return changed(func(v *view) (map[int][]indexer.Suggestion, error) {
			completed := map[int][]indexer.Suggestion{}
			for i := 30; i < 50; i++ {
				list, err := v.Suggest(ctx, fmt.Sprintf(format, i), 20)
				if err != nil || len(list) > 1 {
					return nil, fmt.Errorf("%d suggestions: %w", len(list), err)
				}
				completed[i] = list
			}
			return completed, nil
		}, func(all map[int][]indexer.Suggestion, visible indexer.Visibility) map[int][]indexer.Suggestion {
			want := map[int][]indexer.Suggestion{}
			for i, list := range all {
				if want[i] = list; !visible.Sees(members[i].Name) {
					want[i] = nil
				}
			}
			return want
		})
	}
	return map[string][]question{
		"Search": {changed(func(v *view) (r indexer.Results, err error) { return v.Search(ctx, query.Plain("app").Page(1000, 0)) },
			func(all indexer.Results, visible indexer.Visibility) indexer.Results {
				all.Items = filtered(func(r indexer.Result) string { return r.Name })(all.Items, visible)
				all.Total = len(all.Items)
				return all
			})},
		"Facets": {changed(func(v *view) (indexer.Facets, error) { return v.Facets(ctx, query.Plain("app")) },
			func(all indexer.Facets, visible indexer.Visibility) indexer.Facets {
				return facetsOf(all, visibleOf(tagged(members), visible))
			})},
		"Suggest": {completion("space%d"), completion("repo:space%d"), completion("namespace:space%d")},
		"CountRepositories": {changed(func(v *view) (int, error) { return v.CountRepositories(ctx) },
			func(_ int, visible indexer.Visibility) int { return count(visible) })},
		"Correct": {correction(func(v *view, q query.Query) (string, error) { return v.Correct(ctx, q) })},
		"Near":    {correction(func(v *view, q query.Query) (string, error) { return v.Near(ctx, q) })},
	}
}

// facetsOf returns the facets of some members, made of those of all. Of each property
// all members have the same values, and each has a namespace and a label of its own.
func facetsOf(all indexer.Facets, members []postgrestest.Member) indexer.Facets {
	facets := indexer.Facets{Counted: len(members), All: true}
	if len(members) == 0 {
		return facets
	}
	for _, f := range all.Facets {
		var values []indexer.FacetValue
		for _, v := range f.Values {
			if v.Count == all.Counted {
				values = append(values, indexer.FacetValue{Value: v.Value, Count: len(members)})
			}
		}
		for _, m := range members {
			space, _, _ := strings.Cut(m.Name, "/")
			if own := map[indexer.FactKind]string{indexer.FactLabel: m.Label, indexer.FactNamespace: space}[f.Name]; own != "" {
				values = append(values, indexer.FacetValue{Value: own, Count: 1})
			}
		}
		slices.SortFunc(values, func(a, b indexer.FacetValue) int { return cmp.Or(b.Count-a.Count, cmp.Compare(a.Value, b.Value)) })
		facets.Facets = append(facets.Facets, indexer.Facet{Name: f.Name, Values: values[:min(len(values), len(f.Values))]})
	}
	return facets
}

// oneQuestions are about one repository.
func oneQuestions(ctx context.Context, members []postgrestest.Member) map[string][]question {
	type view = postgres.View
	then := time.Now()
	var names []string
	image := map[string]digest.Digest{absent: members[0].Image.Digest}
	for _, m := range append(slices.Clone(members[28:44]), members[100:]...) {
		names = append(names, m.Name)
		image[m.Name] = m.Image.Digest
	}
	held := func(r indexer.HeldRepository) string { return r.Name }
	return map[string][]question{
		"Project":  {changed(func(v *view) ([]indexer.HeldRepository, error) { return v.Project(ctx, "space31", 100) }, filtered(held))},
		"Held":     {each(names, func(v *view, name string) (indexer.HeldRepository, error) { return v.Held(ctx, name) })},
		"HeldTags": {each(names, func(v *view, name string) ([]indexer.HeldTag, error) { return v.HeldTags(ctx, name, 100) })},
		"HeldManifests": {each(names, func(v *view, name string) ([]indexer.HeldManifest, error) {
			return v.HeldManifests(ctx, name, 100)
		})},
		"ProjectStorage": {changed(func(v *view) (string, error) {
			s, err := v.ProjectStorage(ctx, "space31")
			if errors.Is(err, indexer.ErrNotFound) {
				return "hidden", nil
			}
			return fmt.Sprint(s), err
		}, func(all string, visible indexer.Visibility) string {
			if !visible.SeesAll("space31") {
				return "hidden"
			}
			return all
		})},
		"Repository": {each(names, func(v *view, name string) (indexer.Repository, error) { return v.Repository(ctx, name) })},
		"Tags":       {each(names, func(v *view, name string) ([]indexer.Tag, error) { return v.Tags(ctx, name, "", 100) })},
		"RepositoryAt": {each(names, func(v *view, name string) (indexer.PastRepository, error) {
			r, err := v.RepositoryAt(ctx, name, then)
			if errors.Is(err, indexer.ErrNotFound) { // its text has the time
				err = indexer.ErrNotFound
			}
			return r, err
		})},
		"Holding": {
			each(names, func(v *view, name string) (bool, error) {
				h, err := v.Holding(ctx, indexer.HoldingOf{Reference: indexer.Reference{Repository: name}})
				return h.Frees.Manifests > 0, err
			}),
			each(names, func(v *view, name string) (*indexer.Reference, error) {
				h, err := v.Holding(ctx, indexer.HoldingOf{Reference: indexer.Reference{Repository: name, Tag: "v1"}})
				if err != nil {
					return nil, err
				}
				return &indexer.Reference{Digest: h.Manifest.Digest, Tag: strings.Join(h.Manifest.Tags, " ")}, nil
			}),
		},
		"TagsAt": {each(names, func(v *view, name string) ([]indexer.Tag, error) {
			return v.TagsAt(ctx, name, time.Now(), "", "", 100)
		})},
		"Manifest": {
			each(names, func(v *view, name string) (indexer.Manifest, error) {
				return v.Manifest(ctx, indexer.Reference{Repository: name, Tag: "v1"})
			}),
			each(names, func(v *view, name string) (indexer.Manifest, error) {
				m, err := v.Manifest(ctx, indexer.Reference{Repository: name, Digest: image[name]})
				if errors.Is(err, indexer.ErrNotFound) { // its text has the digest that was asked for
					err = fmt.Errorf("%s: %w", strings.ReplaceAll(err.Error(), image[name].String(), "DIGEST"), indexer.ErrNotFound)
				}
				return m, err
			}),
		},
		"Usage": {
			each(names, func(v *view, name string) (indexer.Usage, error) {
				return v.Usage(ctx, indexer.UsageQuery{Repository: name, Days: 9})
			}),
			each(names, func(v *view, name string) (indexer.Usage, error) {
				return v.Usage(ctx, indexer.UsageQuery{Repository: name, Tag: "v1", Days: 9})
			}),
			each(names, func(v *view, name string) (indexer.Usage, error) {
				return v.Usage(ctx, indexer.UsageQuery{Repository: name, Digest: image[name], Days: 9})
			}),
		},
		"LastPulls": {each(names, func(v *view, name string) (indexer.LastPulls, error) {
			return v.LastPulls(ctx, name, []string{"v1"}, []digest.Digest{image[name]})
		})},
		"Notices": {each(names, func(v *view, name string) ([]indexer.Kept, error) {
			n, err := v.Notices(ctx, name)
			return n.Kept, err
		})},
		"PackageFiles": {changed(
			func(v *view) (map[string][]byte, error) { return v.PackageFiles(ctx, "", append(names, absent)) },
			func(all map[string][]byte, visible indexer.Visibility) map[string][]byte {
				all = maps.Clone(all)
				maps.DeleteFunc(all, func(name string, _ []byte) bool { return !visible.Sees(name) })
				return all
			})},
		"Descriptors": {each(names, func(v *view, name string) ([]digest.Digest, error) {
			known, err := v.Descriptors(ctx, name, []digest.Digest{image[name]})
			return slices.Collect(maps.Keys(known)), err
		})},
		"TagsOf": {each(names, func(v *view, name string) ([]string, error) { return v.TagsOf(ctx, name, image[name]) })},
		"Referrers": {each(names, func(v *view, name string) ([]indexer.Referrer, error) {
			page, err := v.Referrers(ctx, indexer.ReferrerQuery{Repository: name, Subject: image[name], Limit: 100})
			return page.Items, err
		})},
		"History": {
			each(names, func(v *view, name string) ([]indexer.Move, error) { return v.History(ctx, name, "", 0, 100) }),
			each(names, func(v *view, name string) ([]indexer.Move, error) { return v.History(ctx, name, "v1", 0, 100) }),
		},
		"Versions": {changed(func(v *view) (map[string][]string, error) { return v.Versions(ctx, append(names, absent)) },
			func(all map[string][]string, visible indexer.Visibility) map[string][]string {
				all = maps.Clone(all)
				maps.DeleteFunc(all, func(name string, _ []string) bool { return !visible.Sees(name) })
				return all
			})},
	}
}

// listQuestions are about all repositories.
func listQuestions(ctx context.Context, members []postgrestest.Member) map[string][]question {
	type view = postgres.View
	manifests := func(start indexer.Manifest) question {
		return list(func(v *view, after *indexer.Manifest, limit int) ([]indexer.Manifest, error) {
			after = cmp.Or(after, &start)
			return v.AllManifests(ctx, after.Repository, after.Digest, limit)
		}, func(m indexer.Manifest) string { return m.Repository })
	}
	tags := func(start indexer.TagOf) question {
		return list(func(v *view, after *indexer.TagOf, limit int) ([]indexer.TagOf, error) {
			after = cmp.Or(after, &start)
			return v.AllTags(ctx, after.Repository, after.Name, limit)
		}, func(t indexer.TagOf) string { return t.Repository })
	}
	uses := func(d digest.Digest) question {
		return list(func(v *view, after *indexer.Use, limit int) ([]indexer.Use, error) {
			after = cmp.Or(after, &indexer.Use{})
			uses, err := v.Uses(ctx, d, after.Repository, after.Digest, limit)
			if after.Repository == "" && err == nil {
				_, walked, whole, e := postgres.UsesBothWays(ctx, v, d, limit)
				if err = e; whole {
					uses = walked
				}
			}
			return uses, err
		}, func(u indexer.Use) string { return u.Repository })
	}
	moves := func(walked, few int) question {
		return list(func(v *view, after *indexer.Move, limit int) ([]indexer.Move, error) {
			return postgres.VisibleMoves(ctx, v, walked, few, cmp.Or(after, &indexer.Move{}).ID, limit)
		}, func(m indexer.Move) string { return m.Repository })
	}
	images := func(q ...query.Condition) question {
		return changed(func(v *view) ([]indexer.RepositoryImages, error) { return v.Images(ctx, q) },
			filtered(func(r indexer.RepositoryImages) string { return r.Name }))
	}
	text := func(s string) string { return s }
	then := time.Now()
	past := func(text string) question {
		return list(func(v *view, after *indexer.PastRepository, limit int) ([]indexer.PastRepository, error) {
			q := query.Plain(text)
			if parsed, err := query.Parse(text, then); err == nil {
				q = parsed
			}
			q.Sort, q.Limit, q.After = query.SortName, limit, cmp.Or(after, &indexer.PastRepository{}).Name
			var all []indexer.PastRepository
			for {
				found, err := v.SearchAt(ctx, q, then)
				all = append(all, found.Items...)
				if q.After = found.Next; err != nil || q.After == "" || len(all) >= limit {
					return all[:min(len(all), limit)], err
				}
			}
		}, func(r indexer.PastRepository) string { return r.Name })
	}
	label := query.Condition{Field: query.FieldLabel, Name: indexer.FlatpakRefLabel, Op: query.OpExists}
	tag := query.Condition{Field: query.FieldTag, Op: query.OpEquals, Values: []string{"latest", "multi"}}
	return map[string][]question{
		"Repositories": {list(func(v *view, after *indexer.Repository, limit int) ([]indexer.Repository, error) {
			return v.Repositories(ctx, cmp.Or(after, &indexer.Repository{}).Name, limit)
		}, func(r indexer.Repository) string { return r.Name })},
		"Names": {list(func(v *view, after *string, limit int) ([]string, error) {
			return v.Names(ctx, *cmp.Or(after, new(string)), limit)
		}, text)},
		"RepositoriesAt": {list(func(v *view, after *string, limit int) ([]string, error) {
			return v.RepositoriesAt(ctx, time.Now(), *cmp.Or(after, new(string)), limit)
		}, text)},
		"HistoryBegins": {same(func(v *view) (time.Time, error) { return v.HistoryBegins(ctx) })},
		"SearchAt":      {past("label:org.flatpak.ref"), past(""), past("namespace:space3*"), past("-tag:v1"), past("app")},
		"AllManifests":  {manifests(indexer.Manifest{}), manifests(indexer.Manifest{Repository: "space40/app"})},
		"AllTags":       {tags(indexer.TagOf{}), tags(indexer.TagOf{Repository: "space40/app"})},
		"History": {list(func(v *view, after *indexer.Move, limit int) ([]indexer.Move, error) {
			return v.History(ctx, "", "", cmp.Or(after, &indexer.Move{}).ID, limit)
		}, func(m indexer.Move) string { return m.Repository }), moves(100, 3), moves(100, 50), moves(1000, 3)},
		"Uses": {uses(members[0].Image.Layers[0].Digest), uses(members[0].Layer), uses(members[33].Layer),
			uses(members[33].Image.Digest), uses(digest.FromString("nothing"))},
		"Images": {images(), images(label), images(label, tag), images(tag)},
	}
}

// storageQuestions are about the storage. They need what the leader has counted.
func storageQuestions(ctx context.Context, s shelf) map[string][]question {
	type view = postgres.View
	s.T.Helper()
	type row struct {
		indexer.RepositoryStorage
		Namespace string
	}
	rows, err := pg.Collect[row](ctx, s.Pool, "SELECT name, own, shared, manifests, untagged, untagged_size, pushed_at, namespace FROM repository_storage")
	if err != nil {
		s.T.Fatal(err)
	}
	// seen returns what an asker sees: all bytes are shared.
	seen := func(visible indexer.Visibility, namespace *string) (seen []row) {
		for _, r := range rows {
			if visible.Sees(r.Name) && (namespace == nil || r.Namespace == *namespace) {
				r.Own, r.Shared, r.UntaggedSize = 0, r.Own+r.Shared, 0
				seen = append(seen, r)
			}
		}
		return seen
	}
	spaces := func(name *string, limit int) question {
		return changed(func(v *view) ([]indexer.NamespaceStorage, error) { return v.NamespaceStorage(ctx, name, limit) },
			func(_ []indexer.NamespaceStorage, visible indexer.Visibility) []indexer.NamespaceStorage {
				sums := map[string]indexer.NamespaceStorage{}
				for _, r := range seen(visible, name) {
					sum := sums[r.Namespace]
					sums[r.Namespace] = indexer.NamespaceStorage{Namespace: r.Namespace, Repositories: sum.Repositories + 1, Shared: sum.Shared + r.Shared}
				}
				list := slices.SortedFunc(maps.Values(sums), func(a, b indexer.NamespaceStorage) int {
					return cmp.Or(cmp.Compare(b.Shared, a.Shared), cmp.Compare(a.Namespace, b.Namespace))
				})
				return list[:min(limit, len(list))]
			})
	}
	orders := map[indexer.StorageOrder]func(a, b row) int{
		indexer.ByName:     func(a, b row) int { return cmp.Compare(a.Name, b.Name) },
		indexer.ByStorage:  func(a, b row) int { return cmp.Or(cmp.Compare(b.Shared, a.Shared), cmp.Compare(a.Name, b.Name)) },
		indexer.ByPush:     func(a, b row) int { return cmp.Or(a.PushedAt.Compare(b.PushedAt), cmp.Compare(a.Name, b.Name)) },
		indexer.ByUntagged: func(a, b row) int { return cmp.Or(b.Untagged-a.Untagged, cmp.Compare(a.Name, b.Name)) },
	}
	repositories := func(q indexer.StorageQuery) question {
		return changed(func(v *view) ([]indexer.RepositoryStorage, error) { return v.RepositoryStorage(ctx, q) },
			func(_ []indexer.RepositoryStorage, visible indexer.Visibility) (list []indexer.RepositoryStorage) {
				all := slices.DeleteFunc(seen(visible, q.Namespace), func(r row) bool {
					return r.Name <= q.After || q.Order == indexer.ByUntagged && r.Untagged == 0
				})
				slices.SortFunc(all, orders[q.Order])
				for _, r := range all[min(q.Offset, len(all)):min(q.Offset+q.Limit, len(all))] {
					list = append(list, r.RepositoryStorage)
				}
				return list
			})
	}
	questions := map[string][]question{
		"Storage": {changed(func(v *view) (indexer.Storage, error) { return v.Storage(ctx) },
			func(all indexer.Storage, visible indexer.Visibility) indexer.Storage {
				sum := indexer.Storage{CountedAt: all.CountedAt, Part: true}
				for _, r := range seen(visible, nil) {
					sum.Repositories, sum.Manifests, sum.Untagged = sum.Repositories+1, sum.Manifests+r.Manifests, sum.Untagged+r.Untagged
					sum.Size += r.Shared
				}
				return sum
			})},
		"StorageLook": {changed(func(v *view) (indexer.StorageLook, error) { return v.StorageLook(ctx) },
			func(indexer.StorageLook, indexer.Visibility) (none indexer.StorageLook) { return none })},
		"NamespaceStorage": {spaces(nil, 1000), spaces(nil, 3), spaces(new("space31"), 1), spaces(new("space33"), 1), spaces(new("space41"), 1), spaces(new(""), 1)},
	}
	for order := range orders {
		for _, q := range []indexer.StorageQuery{{Limit: 1000}, {Limit: 5, Offset: 3}, {Limit: 1000, Namespace: new("space31")}, {Limit: 1000, Namespace: new("")}} {
			q.Order = order
			questions["RepositoryStorage"] = append(questions["RepositoryStorage"], repositories(q))
		}
	}
	questions["RepositoryStorage"] = append(questions["RepositoryStorage"], repositories(indexer.StorageQuery{After: "space40/app", Limit: 3}))
	return questions
}

// numberQuestions are about the whole book.
func numberQuestions(ctx context.Context, s shelf) map[string][]question {
	type view = postgres.View
	s.T.Helper()
	// in returns a function that counts the rows of a statement that are in repositories
	// that an asker sees.
	in := func(q string) func(indexer.Visibility) int {
		names, err := pg.Column[string](ctx, s.Pool, q)
		if err != nil || len(names) == 0 {
			s.T.Fatalf("%s: %d, %v", q, len(names), err)
		}
		return func(visible indexer.Visibility) int {
			return len(filtered(func(n string) string { return n })(names, visible))
		}
	}
	const named = "SELECT r.name FROM repository r JOIN %s x ON x.repository_id = r.id"
	tags, manifests := in(fmt.Sprintf(named, "tag")), in(fmt.Sprintf(named, "manifest"))
	due, givenUp := in("SELECT repository FROM task WHERE given_up_at IS NULL"), in("SELECT repository FROM task WHERE given_up_at IS NOT NULL")
	when := func(scan *indexer.Scan) *indexer.Scan {
		if scan == nil {
			return nil
		}
		return &indexer.Scan{ID: scan.ID, Reason: scan.Reason, AskedAt: scan.AskedAt, StartedAt: scan.StartedAt, FinishedAt: scan.FinishedAt}
	}
	return map[string][]question{
		"Asker": {changed(func(v *view) (int, error) { return len(v.Asker().Visibility().Patterns()), nil },
			func(_ int, visible indexer.Visibility) int { return len(visible.Patterns()) })},
		"Version":   {same(func(v *view) (indexer.Version, error) { return v.Version(ctx) })},
		"Freshness": {same(func(v *view) (indexer.Freshness, error) { return v.Freshness(ctx) })},
		"HistoryAt": {same(func(v *view) (int64, error) { return v.HistoryAt(ctx, time.Unix(0, 0)) })},
		"ImagesState": {same(func(v *view) (bool, error) {
			state, err := v.ImagesState(ctx, nil) // TestImagesStateOfAsker compares it
			return state != "", err
		})},
		"Overview": {changed(func(v *view) (indexer.Overview, error) {
			o, err := v.Overview(ctx)
			o.Repositories = 0 // that is CountRepositories
			return o, err
		}, func(all indexer.Overview, visible indexer.Visibility) indexer.Overview {
			all.Tags.N, all.Manifests.N, all.LastEvent = tags(visible), manifests(visible), time.Time{}
			return all
		})},
		"Copy": {changed(func(v *view) (indexer.SearchCopy, error) {
			return v.Copy(ctx)
		}, func(all indexer.SearchCopy, visible indexer.Visibility) indexer.SearchCopy {
			if !visible.All() {
				all.Repositories, all.Segments, all.Bytes = 0, 0, 0
			}
			return all
		})},
		"Jobs": {changed(func(v *view) (indexer.JobReport, error) {
			report, err := v.Jobs(ctx)
			report.Age = 0 // it grows
			return report, err
		}, func(all indexer.JobReport, _ indexer.Visibility) indexer.JobReport {
			all.Jobs = slices.Clone(all.Jobs)
			all.Jobs[0].Done, all.Jobs[0].Total = 0, 0
			all.Jobs[0].LastError = "the reason may name repositories, and is shown only to those who see all of them"
			return all
		})},
		"Status": {changed(func(v *view) (indexer.Status, error) {
			status, err := v.Status(ctx)
			if status.OldestDue > 0 {
				status.OldestDue = 1 // it grows
			}
			return status, err
		}, func(all indexer.Status, visible indexer.Visibility) indexer.Status {
			all.LastScan, all.Running = when(all.LastScan), when(all.Running)
			all.TasksDue, all.GivenUp = due(visible), givenUp(visible)
			all.OldestDue = time.Duration(min(all.TasksDue, 1))
			all.Failures = filtered(func(f indexer.TaskFailure) string { return f.Repository })(all.Failures, visible)
			return all
		})},
	}
}

// Images that an asker does not see do not change the state of those that it sees.
func TestImagesStateOfAsker(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	store, asker := postgres.New(s.Pool, postgres.Config{}), indexer.AskerOf(indexer.VisibleNames("open/*"))
	state := func() (state string) {
		t.Helper()
		err := store.View(t.Context(), asker, func(v *postgres.View) (err error) {
			state, err = v.ImagesState(t.Context(), nil)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return state
	}
	push := func(name, date string) { s.Find(name, "v1", made(name, "linux/amd64", 1, 1, date)) }
	push("open/app", "2026-01-01")
	before := state()
	push("shut/app", "2026-01-01")
	if got := state(); got != before {
		t.Errorf("an invisible push changed the state from %s to %s", before, got)
	}
	push("open/app", "2026-01-02")
	if got := state(); got == before {
		t.Errorf("a visible push did not change the state %s", got)
	}
}
