package search

import (
	"fmt"
	"strings"
	"testing"
)

// groupOf returns a group of tagged images of the given sizes.
func groupOf(name string, sizes ...int64) *group {
	g := &group{name: name}
	for n, size := range sizes {
		g.entries = append(g.entries, &grouped{image: &foundImage{Name: name, ID: int64(n)}, size: size})
	}
	return g
}

// An owner who pushes too much loses only images of their own.
func TestBudget(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		groups []*group
		want   string // repository: sizes of the images that are not left out
	}{
		{"room for all", []*group{groupOf("a/x", 300, 200), groupOf("b/x", 100)}, "a/x: 300 200, b/x: 100"},
		{"one image is too large", []*group{groupOf("a/x", 100, 900), groupOf("b/x", 100)}, "a/x: 100, b/x: 100"},
		{"one repository is too large", []*group{groupOf("a/x", 300, 200, 300, 100, 250), groupOf("b/x", 100)}, "a/x: 200 100 250, b/x: 100"},
		{"one namespace is too large", []*group{groupOf("a/w", 300), groupOf("a/x", 300), groupOf("a/y", 300), groupOf("a/z", 100, 200), groupOf("b/x", 300, 290), groupOf("c", 60)},
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
