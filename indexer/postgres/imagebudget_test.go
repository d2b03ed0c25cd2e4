package postgres

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/pg"
	"github.com/portbook/portbook/indexer/query"
)

// groupOf makes a group of tagged images that take so many bytes.
func groupOf(name string, sizes ...int64) *group {
	g := &group{name: name}
	for n, size := range sizes {
		g.entries = append(g.entries, &grouped{image: &foundImage{Name: name, ID: int64(n)}, size: size})
	}
	return g
}

// Whoever pushes much must leave out what is his own, and nothing of others.
func TestBudget(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		groups []*group
		want   string // repository: sizes of what stays
	}{
		{"room for all", []*group{groupOf("a/x", 300, 200), groupOf("b/x", 100)}, "a/x: 300 200, b/x: 100"},
		{"one image is too large", []*group{groupOf("a/x", 100, 900), groupOf("b/x", 100)}, "a/x: 100, b/x: 100"},
		{"one repository is", []*group{groupOf("a/x", 300, 200, 300, 100, 250), groupOf("b/x", 100)}, "a/x: 200 100 250, b/x: 100"},
		{"one namespace is", []*group{groupOf("a/w", 300), groupOf("a/x", 300), groupOf("a/y", 300), groupOf("a/z", 100, 200), groupOf("b/x", 300, 290), groupOf("c", 60)},
			"a/w: 300, a/x: , a/y: , a/z: , b/x: 300 290, c: 60"},
		{"many namespaces share alike", []*group{groupOf("a", 350), groupOf("b", 350), groupOf("c", 350), groupOf("d", 40)}, "a: 350, b: 350, c: , d: 40"},
		{"small ones stay", []*group{groupOf("a", 350, 240), groupOf("b", 350, 240), groupOf("c", 350, 240), groupOf("d", 40)}, "a: 240, b: 240, c: 240, d: 40"},
	} {
		budget(test.groups, 1000, 600, 600-imageOverhead)
		var got []string
		for _, g := range test.groups {
			var sizes []string
			for _, e := range g.entries {
				if !e.leftOut {
					sizes = append(sizes, fmt.Sprint(e.size))
				}
			}
			got = append(got, g.name+": "+strings.Join(sizes, " "))
		}
		if got := strings.Join(got, ", "); got != test.want {
			t.Errorf("%s: got  %s\nwant %s", test.name, got, test.want)
		}
	}
}

func (s shelf) images(q query.Images) (found []indexer.RepositoryImages) {
	s.t.Helper()
	err := s.View(s.t.Context(), func(v *View) (err error) {
		found, err = v.Images(s.t.Context(), q)
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return found
}

// An index may list one image 30,000 times; each time 8 KB of labels came along.
func TestImageListedOften(t *testing.T) {
	t.Parallel()
	s, _ := stock(t)
	image := made("evil/x", "linux/amd64", 1, 1, "", indexer.FlatpakRefLabel, "app/a.b.C/x86_64/stable", "long", strings.Repeat("x", 8<<10))
	s.find("evil/x", "latest", listing("evil/x", slices.Repeat([]indexer.Manifest{image}, 30_000)...), image)
	found := s.images(query.Images{{Field: query.FieldLabel, Name: indexer.FlatpakRefLabel, Op: query.OpExists}})
	if len(found) != 1 || len(found[0].Lists) != 1 || len(found[0].Lists[0].Images) != 1 {
		t.Errorf("got %d repositories; want one image, once", len(found))
	}
}

// What one repository has too much of is left out the same way each time, keeps its
// ref, and takes nothing from others.
func TestImagesLeftOut(t *testing.T) {
	t.Parallel()
	s, _ := stock(t)
	var many []indexer.Manifest
	for n := range 200 {
		many = append(many, made("evil/x", "linux/amd64", int64(n), 1, "", indexer.FlatpakRefLabel, "app/a.b.C/x86_64/stable", "long", strings.Repeat("x", 30_000)))
	}
	s.find("evil/x", "latest", append([]indexer.Manifest{listing("evil/x", many...)}, many...)...)
	s.find("evil/y", "latest", made("evil/y", "linux/amd64", 1, 1, "", indexer.FlatpakRefLabel, "app/a.b.D/x86_64/stable", "long", strings.Repeat("x", maxImageBytes)))
	s.find("good/app", "latest", made("good/app", "linux/amd64", 1, 1, "", indexer.FlatpakRefLabel, "app/a.b.E/x86_64/stable"))
	q := query.Images{{Field: query.FieldLabel, Name: indexer.FlatpakRefLabel, Op: query.OpExists}}
	found := s.images(q)
	if diff := cmp.Diff(found, s.images(q)); diff != "" {
		t.Errorf("another answer of the same state:\n%s", diff)
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
		if bytes > maxRepositoryBytes {
			t.Errorf("%s has %d bytes", r.Name, bytes)
		}
		got = append(got, fmt.Sprintf("%s %d of %d", r.Name, out, len(images)))
	}
	if want := "evil/x 62 of 200, evil/y 1 of 1, good/app 0 of 1"; strings.Join(got, ", ") != want {
		t.Errorf("left out: %s, want %s", strings.Join(got, ", "), want)
	}
}

// A large index under many tags: its tags are looked up once for the index, not once
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
		s.find("big/x", fmt.Sprint("t", n), append([]indexer.Manifest{index}, many...)...)
	}
	s.find("big/x", "one", many[0])
	found := s.images(query.Images{{Field: query.FieldRepository, Op: query.OpEquals, Values: []string{"big/x"}}, {Field: query.FieldTag, Op: query.OpMatches, Values: []string{"t1*", "on?"}}})
	if len(found) != 1 || len(found[0].Lists) != 1 || len(found[0].Lists[0].Tags) != 30 || len(found[0].Lists[0].Images) != 60 || len(found[0].Images) != 1 ||
		!slices.Equal(found[0].Images[0].Tags, []string{"one"}) {
		t.Errorf("got %d repositories", len(found))
	}
}

// The first repository in which a flatpak was seen is known after all that a scan can
// rebuild was lost, and found again in another order.
func TestFlatpakRefFirstSeen(t *testing.T) {
	t.Parallel()
	s, _ := stock(t)
	const ref = "app/org.mozilla.Firefox/x86_64/stable"
	since := func() (names []string) {
		found := s.images(query.Images{{Field: query.FieldLabel, Name: indexer.FlatpakRefLabel, Op: query.OpEquals, Values: []string{ref}}})
		slices.SortFunc(found, func(a, b indexer.RepositoryImages) int { return a.Images[0].RefSince.Compare(b.Images[0].RefSince) })
		for _, f := range found {
			if f.Images[0].RefSince.IsZero() {
				t.Errorf("%s: not known since when", f.Name)
			}
			names = append(names, f.Name)
		}
		return names
	}
	fill := func(names ...string) {
		for _, name := range names {
			s.find(name, "latest", made(name, "linux/amd64", 1, 1, "", indexer.FlatpakRefLabel, ref))
		}
	}
	want := []string{"flathub/firefox", "aaa/x"}
	fill(want...)
	if got := since(); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if _, err := s.pool.Exec(t.Context(), "TRUNCATE repository CASCADE"); err != nil {
		t.Fatal(err)
	}
	fill("aaa/x", "flathub/firefox")
	if got := since(); !slices.Equal(got, want) {
		t.Errorf("after a rebuild: got %v, want %v", got, want)
	}
}

// One repository cannot fill the table of flatpaks.
func TestFlatpakRefsAreFew(t *testing.T) {
	t.Parallel()
	s, _ := stock(t)
	_, err := s.pool.Exec(t.Context(), `INSERT INTO flatpak_ref (repository, ref) SELECT 'evil/x', 'app/a.b.C' || n || '/x86_64/stable' FROM generate_series(1, $1) n`, maxRefs)
	if err != nil {
		t.Fatal(err)
	}
	s.find("evil/x", "latest", made("evil/x", "linux/amd64", 1, 1, "", indexer.FlatpakRefLabel, "app/a.b.D/x86_64/stable"))
	s.find("good/x", "latest", made("good/x", "linux/amd64", 1, 1, "", indexer.FlatpakRefLabel, "app/a.b.D/x86_64/stable"))
	s.find("good/y", "latest", made("good/y", "linux/amd64", 1, 1, "", indexer.FlatpakRefLabel, "no ref"))
	got, err := pg.Column[string](t.Context(), s.pool, "SELECT repository FROM flatpak_ref WHERE ref NOT LIKE 'app/a.b.C%' ORDER BY 1")
	if want := []string{"good/x"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}
