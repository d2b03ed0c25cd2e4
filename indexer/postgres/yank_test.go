package postgres_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/postgres/postgrestest"
	"github.com/portbook/portbook/indexer/query"
)

// A yanking is a book with a plain reading of what is in it and what is yanked.
type yanking struct {
	postgrestest.Shelf
	reader *postgres.Store // with a copy in memory
	images []indexer.Manifest
	tags   map[string]map[string]int // the image of each tag, by repository
	yanked map[indexer.Yank]bool     // without reasons
}

var yankedRepositories = []string{"a/one", "a/two", "three"}

func (y *yanking) push(repository, tag string, image int) {
	m := y.images[image]
	m.Repository = repository
	y.Find(repository, tag, m)
	if y.tags[repository] == nil {
		y.tags[repository] = map[string]int{}
	}
	y.tags[repository][tag] = image
}

// listed returns the tags of a repository that are not yanked, and whether there are any that
// are.
func (y *yanking) listed(repository string) (tags []string, some bool) {
	whole := y.yanked[indexer.Yank{Repository: repository}]
	some = whole
	for tag, image := range y.tags[repository] {
		if whole || y.yanked[indexer.Yank{Repository: repository, Tag: tag}] ||
			y.yanked[indexer.Yank{Repository: repository, Digest: y.images[image].Digest}] {
			some = true
			continue
		}
		tags = append(tags, tag)
	}
	for i := range y.images {
		some = some || y.yanked[indexer.Yank{Repository: repository, Digest: y.images[i].Digest}]
	}
	slices.Sort(tags)
	return tags, some
}

// expected returns what queries find, by the plain reading.
func (y *yanking) expected() map[string][]string {
	found := map[string][]string{}
	for _, name := range slices.Sorted(slices.Values(yankedRepositories)) {
		if len(y.tags[name]) == 0 {
			continue
		}
		tags, some := y.listed(name)
		deprecated := y.yanked[indexer.Yank{Repository: name, Deprecated: true}]
		add := func(text string, if_ bool) {
			if if_ {
				found[text] = append(found[text], name)
			}
		}
		unlisted := len(tags) == 0 || deprecated
		add("", !unlisted)
		add("is:yanked", some)
		add("is:deprecated", deprecated)
		add("is:unlisted", unlisted)
		add("-is:yanked", !some)
		add("tag:v1", !unlisted && slices.Contains(tags, "v1"))
		add("label:n=1", !unlisted && slices.ContainsFunc(tags, func(t string) bool { return y.tags[name][t] == 1 }))
		add("tag:v1 label:n=1", !unlisted && slices.Contains(tags, "v1") && y.tags[name]["v1"] == 1)
		if slices.Contains(tags, "v1") { // flatpak's index has it, also if the repository is deprecated
			found["images"] = append(found["images"], name)
		}
	}
	return found
}

func (y *yanking) check(when string) {
	y.T.Helper()
	want := y.expected()
	for what, store := range map[string]*postgres.Store{"SQL": y.Store, "the copy": y.reader} {
		for _, text := range []string{
			"", "is:yanked", "is:deprecated", "is:unlisted", "-is:yanked", "tag:v1", "label:n=1", "tag:v1 label:n=1",
		} {
			got, total := foundBy(y.T, store, text)
			slices.Sort(got)
			if diff := cmp.Diff(want[text], got); diff != "" || total != len(want[text]) {
				y.T.Errorf("%s, %s: %q finds %d (-want +got)\n%s", when, what, text, total, diff)
			}
		}
		view(y.T, store, func(v *postgres.View) error {
			n, err := v.CountRepositories(y.T.Context())
			if n != len(want[""]) {
				y.T.Errorf("%s, %s: %d repositories are counted, want %d", when, what, n, len(want[""]))
			}
			for _, name := range want[""] {
				r, err := v.Repository(y.T.Context(), name)
				tags, _ := y.listed(name)
				if err != nil || !slices.Contains(tags, r.Leading) || r.TagsWith.Of != len(tags) || r.Tags != len(y.tags[name]) {
					y.T.Errorf("%s: %s has %+v, %v; %v are listed", when, name, r, err, tags)
				}
			}
			return err
		})
	}
	var images []string
	for _, r := range y.Images(query.Images{{Field: query.FieldTag, Op: query.OpEquals, Values: []string{"v1"}}}) {
		images = append(images, r.Name)
	}
	if diff := cmp.Diff(want["images"], images); diff != "" {
		y.T.Errorf("%s: images with the tag v1 (-want +got)\n%s", when, diff)
	}
}

// Whatever is yanked, given back and pushed meanwhile: searches by SQL and from memory, counts,
// leading tags and flatpak's index show what a plain reading of the yanks says, and still do
// after the derived tables were emptied and filled again.
func TestYankedIsNotFound(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	y := &yanking{Shelf: postgrestest.New(t), tags: map[string]map[string]int{}, yanked: map[indexer.Yank]bool{}}
	y.reader = postgres.New(y.Pool, postgres.Config{Memory: 1 << 30})
	for i := range 3 {
		y.images = append(y.images, postgrestest.Made("x", "linux/amd64", 1, 1, "2026-11-01", "n", fmt.Sprint(i)))
	}
	for _, name := range yankedRepositories {
		y.push(name, "v1", 0)
	}
	must(t, y.reader.CopyStep(ctx))
	random := rand.New(rand.NewPCG(5, 6))
	for step := range 60 {
		name, tag, image := yankedRepositories[random.IntN(3)], []string{"v1", "v2", "latest"}[random.IntN(3)], random.IntN(3)
		_, tagged := y.tags[name][tag]
		k := indexer.Yank{Repository: name}
		switch random.IntN(5) {
		case 0:
			y.push(name, tag, image)
			y.check(fmt.Sprintf("step %d, push of %s:%s", step, name, tag))
			continue
		case 1:
			k.Digest = y.images[image].Digest
			tagged = slices.ContainsFunc(y.digestsOf(name), func(d digest.Digest) bool { return d == k.Digest })
		case 2:
			k.Deprecated, tagged = true, true
		case 3:
			tagged = true
		default:
			k.Tag = tag
		}
		change, was := k, y.yanked[k]
		if change.Reason = "a reason"; was && random.IntN(2) == 0 || !was && random.IntN(8) == 0 {
			err := y.Unyank(ctx, change)
			if was != (err == nil) || !was && !errors.Is(err, indexer.ErrConflict) {
				t.Fatalf("step %d: unyank of %+v, which was yanked: %v: %v", step, k, was, err)
			}
			delete(y.yanked, k)
		} else {
			err := y.Yank(ctx, change)
			switch {
			case was && !errors.Is(err, indexer.ErrConflict), !was && !tagged && !errors.Is(err, indexer.ErrNotFound),
				!was && tagged && err != nil:
				t.Fatalf("step %d: yank of %+v, which was yanked: %v, and is there: %v: %v", step, k, was, tagged, err)
			case err == nil:
				y.yanked[k] = true
			}
		}
		y.check(fmt.Sprintf("step %d, %+v", step, k))
	}
	y.same("in the end")

	_, err := y.Pool.Exec(ctx, "TRUNCATE repository, manifest, tag CASCADE; TRUNCATE repository_search, image_search")
	must(t, err)
	for name, tags := range y.tags {
		for tag, image := range tags {
			y.push(name, tag, image)
		}
	}
	y.reader = postgres.New(y.Pool, postgres.Config{Memory: 1 << 30})
	must(t, y.reader.CopyStep(ctx))
	for k := range y.yanked { // digests that no tag shows any more are not in the book again
		if k.Digest != "" && !slices.Contains(y.digestsOf(k.Repository), k.Digest) {
			delete(y.yanked, k)
		}
	}
	y.check("filled again")
	y.same("filled again")
}

// digestsOf returns the digests in a repository of the book.
func (y *yanking) digestsOf(repository string) (all []digest.Digest) {
	rows, err := y.Pool.Query(y.T.Context(),
		"SELECT encode(m.digest, 'hex') FROM manifest m JOIN repository r ON r.id = m.repository_id WHERE r.name = $1", repository)
	must(y.T, err)
	defer rows.Close()
	for rows.Next() {
		var hex string
		must(y.T, rows.Scan(&hex))
		all = append(all, digest.NewDigestFromEncoded(digest.SHA256, hex))
	}
	return all
}

// same fails the test unless the search rows are what would be written now.
func (y *yanking) same(when string) {
	y.T.Helper()
	for _, name := range yankedRepositories {
		found, err := y.Differences(y.T.Context(), name)
		must(y.T, err)
		if len(found) > 0 {
			y.T.Errorf("%s: %s differs: %v", when, name, found)
		}
	}
}

// Only who may push yanks, and what was done is recorded.
func TestYankNeedsThePermit(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := postgrestest.New(t)
	s.Stock()
	must(t, s.AddAccount(ctx, access.Account{Name: "ann"}))
	must(t, s.Grant(ctx, access.Grantee{Account: "ann"}, rule(t, "team/*:push")))
	as := func(repository string) error {
		actor := access.WithActor(ctx, access.Actor{Name: "ann"})
		return s.Yank(access.WithPermit(actor, access.Changers(repository, access.Push)), indexer.Yank{Repository: repository})
	}
	if err := as("library/nginx"); !errors.Is(err, indexer.ErrForbidden) {
		t.Errorf("ann yanked library/nginx: %v", err)
	}
	must(t, as("team/app"))
	records, err := s.Audit(ctx, access.AuditQuery{Event: access.YankAdd, Limit: 10})
	if err != nil || len(records) != 1 || records[0].Actor.Name != "ann" || records[0].Target != "team/app" {
		t.Errorf("records: %+v, %v", records, err)
	}
	for _, wrong := range []indexer.Yank{
		{Repository: "team/app", Deprecated: true}, {Repository: "team/app", Tag: "v1", Deprecated: true, Reason: "x"},
		{Repository: "team/app", Tag: "-"}, {Repository: "T"}, {Repository: "team/app", Reason: "two\nlines"},
	} {
		if err := s.Yank(ctx, wrong); !errors.Is(err, indexer.ErrInvalid) {
			t.Errorf("%+v: %v, want invalid", wrong, err)
		}
	}
}
