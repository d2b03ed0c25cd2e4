package memory_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/memory"
	"github.com/portbook/portbook/indexer/query"
)

// images returns the images of a row: each has some of its facts and keys, and together
// they have all. A few rows have too many images.
func images(r memory.Row) (of []memory.Image, few bool) {
	if r.ID%31 == 0 {
		return nil, false
	}
	of = make([]memory.Image, 1+r.ID%3)
	for n, f := range r.Facts {
		if f.Kind() == indexer.FactOS || f.Kind() == indexer.FactArchitecture {
			i := (n + int(r.UpdatedAt)) % len(of)
			of[i].Facts = append(of[i].Facts, f)
		}
	}
	for n, key := range []string{"label:team", "label:stage", "annotation:k"} {
		if hash := memory.Hash(key); slices.Contains(r.Terms, hash) {
			i := (n + int(r.UpdatedAt)) % len(of)
			of[i].Terms = append(of[i].Terms, hash)
			if r.ID%2 == 0 { // in every image
				for j := range of {
					of[j].Terms = append(of[j].Terms, hash)
				}
			}
		}
	}
	return of, true
}

// has reports whether an image has a fact, or the key of a label.
func has(image memory.Image, fact string) bool {
	return slices.Contains(image.Facts, indexer.Fact(fact)) || slices.Contains(image.Terms, memory.Hash(fact))
}

// What a copy has read of images stays right when repositories change and segments are
// merged: the answers are those of an evaluation of each image. What is unknown is not
// counted, and the copy says so.
func TestKindsOfImages(t *testing.T) {
	t.Parallel()
	b := newBook(7)
	for range 50 {
		b.commit(300, 20)
	}
	c := memory.New(1 << 30)
	b.fill(t, c, 37)
	certain, matched := 0, 0
	each := 50 // afterwards hardly more than what changes, so nothing may be forgotten
	for i := range 200 {
		if i == 50 {
			each = 6
		}
		b.commit(300, 1+i%7)
		st := b.state(t, c)
		if ids := st.Unread(each); i%3 > 0 {
			of := map[int32][]memory.Image{}
			for _, id := range ids {
				if images, few := images(b.rows[id]); few {
					of[id] = images
				}
			}
			st.Learn(ids, of)
		}
		if _, err := c.Merge(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, facts := range [][]string{{"os:linux", "arch:arm64"}, {"arch:amd64", "arch:arm64"}, {"label:team", "os:linux"}, {"label:team", "label:stage"}} {
			sure, right := b.checkImages(t, b.state(t, c), facts)
			certain, matched = certain+sure, matched+right
		}
	}
	if certain < matched*9/10 || matched == 0 {
		t.Errorf("%d of %d matches were certain: the images were forgotten", certain, matched)
	}
}

// checkImages asks for the repositories with an image that has two facts, and returns how
// many a state is sure of, and how many there are.
func (b *book) checkImages(t *testing.T, st *memory.State, facts []string) (certain, matching int) {
	t.Helper()
	text := strings.Join(facts, " ")
	q, err := query.Parse(text, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	m, err := st.Match(t.Context(), memory.Question{Query: q, Visible: indexer.AllVisible})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	counts := map[string]int{}
	for _, h := range m.Top(1000) {
		of, few := images(b.rows[h.ID])
		of = slices.DeleteFunc(of, func(i memory.Image) bool { return !has(i, facts[0]) || !has(i, facts[1]) })
		if !h.Maybe && (len(of) == 0 || !few) {
			t.Fatalf("%q: repository %d matches for certain, with images %v", text, h.ID, of)
		}
		if len(of) > 0 && few {
			matching++
		}
		if h.Maybe {
			continue
		}
		certain++
		for _, value := range []string{"arm64", "amd64"} {
			if slices.ContainsFunc(of, func(i memory.Image) bool { return has(i, "arch:"+value) }) {
				counts[value]++
			}
		}
	}
	got, counted := m.ImageFacets(20)
	if !m.DecidedByImages() || counted != certain {
		t.Fatalf("%q: %d repositories were counted, want %d", text, counted, certain)
	}
	values := map[string]int{}
	for _, f := range got {
		if f.Name == indexer.FactArchitecture {
			for _, v := range f.Values {
				values[v.Value] = v.Count
			}
		}
	}
	if diff := cmp.Diff(counts, values); diff != "" {
		t.Fatal(fmt.Sprintf("architectures of %q (-want +got)\n", text), diff)
	}
	return certain, matching
}
