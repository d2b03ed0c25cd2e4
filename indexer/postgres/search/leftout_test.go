package search_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/search"
	"github.com/portbook/portbook/indexer/query"
)

// An index may list one image 30,000 times, and each time the answer had 8 KB of
// labels.
func TestImageListedOften(t *testing.T) {
	t.Parallel()
	s, _ := stock(t)
	image := made("evil/x", "linux/amd64", 1, 1, "", indexer.FlatpakRefLabel, "app/a.b.C/x86_64/stable", "long", strings.Repeat("x", 8<<10))
	s.Find("evil/x", "latest", listing("evil/x", slices.Repeat([]indexer.Manifest{image}, 30_000)...), image)
	found := s.Images(query.Images{{Field: query.FieldLabel, Name: indexer.FlatpakRefLabel, Op: query.OpExists}})
	if len(found) != 1 || len(found[0].Lists) != 1 || len(found[0].Lists[0].Images) != 1 {
		t.Errorf("got %d repositories; want one image, once", len(found))
	}
}

// The same images of a repository that has too many are left out each time. They keep
// their ref, and other repositories lose nothing.
func TestImagesLeftOut(t *testing.T) {
	t.Parallel()
	s, _ := stock(t)
	var many []indexer.Manifest
	for n := range 200 {
		many = append(many, made("evil/x", "linux/amd64", int64(n), 1, "", indexer.FlatpakRefLabel, "app/a.b.C/x86_64/stable", "long", strings.Repeat("x", 30_000)))
	}
	s.Find("evil/x", "latest", append([]indexer.Manifest{listing("evil/x", many...)}, many...)...)
	s.Find("evil/y", "latest", made("evil/y", "linux/amd64", 1, 1, "", indexer.FlatpakRefLabel, "app/a.b.D/x86_64/stable", "long", strings.Repeat("x", search.MaxImageBytes)))
	s.Find("good/app", "latest", made("good/app", "linux/amd64", 1, 1, "", indexer.FlatpakRefLabel, "app/a.b.E/x86_64/stable"))
	q := query.Images{{Field: query.FieldLabel, Name: indexer.FlatpakRefLabel, Op: query.OpExists}}
	found := s.Images(q)
	if diff := cmp.Diff(found, s.Images(q)); diff != "" {
		t.Errorf("got another answer of the same state:\n%s", diff)
	}
	var got []string
	for _, r := range found {
		images := r.Images
		for _, l := range r.Lists {
			images = append(images, l.Images...)
		}
		out, bytes := 0, 0
		for _, i := range images {
			if i.LeftOut {
				out++
			}
			if i.Labels[indexer.FlatpakRefLabel] == "" || i.LeftOut != (len(i.Labels) == 1) && r.Name != "good/app" {
				t.Errorf("%s: left out %v with %d labels", r.Name, i.LeftOut, len(i.Labels))
			}
			bytes += len(i.Labels["long"])
		}
		if bytes > search.MaxRepositoryBytes {
			t.Errorf("%s has %d bytes", r.Name, bytes)
		}
		got = append(got, fmt.Sprintf("%s %d of %d", r.Name, out, len(images)))
	}
	if want := "evil/x 62 of 200, evil/y 1 of 1, good/app 0 of 1"; strings.Join(got, ", ") != want {
		t.Errorf("left out: %s, want %s", strings.Join(got, ", "), want)
	}
}

// The tags of a large index with many tags are looked up once for the index, not once
// for each of its images.
func TestImagesOfManyTags(t *testing.T) {
	t.Parallel()
	s, _ := stock(t)
	var many []indexer.Manifest
	for n := range 60 {
		many = append(many, made("big/x", "linux/amd64", int64(n), 1, "", "k", "v"))
	}
	index := listing("big/x", many...)
	for n := range 30 {
		s.Find("big/x", fmt.Sprint("t", n), append([]indexer.Manifest{index}, many...)...)
	}
	s.Find("big/x", "one", many[0])
	found := s.Images(query.Images{{Field: query.FieldRepository, Op: query.OpEquals, Values: []string{"big/x"}}, {Field: query.FieldTag, Op: query.OpMatches, Values: []string{"t1*", "on?"}}})
	if len(found) != 1 || len(found[0].Lists) != 1 || len(found[0].Lists[0].Tags) != 30 || len(found[0].Lists[0].Images) != 60 || len(found[0].Images) != 1 ||
		!slices.Equal(found[0].Images[0].Tags, []string{"one"}) {
		t.Errorf("got %d repositories", len(found))
	}
}
