package query

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portbook/portbook/indexer"
)

// Each name of a field stands in the tables of doc/search.md, and the tables have no
// other names.
func TestFieldsAreDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../doc/search.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Fields\n")
	section, _, _ = strings.Cut(section, "\n### ")
	var documented, known []string
	for line := range strings.Lines(section) {
		if column := strings.Split(line, "|"); len(column) > 1 {
			for _, match := range regexp.MustCompile("`([a-z]+):").FindAllStringSubmatch(column[1], -1) {
				documented = append(documented, match[1])
			}
		}
	}
	for _, s := range fields {
		known = append(known, s.names...)
	}
	slices.Sort(documented)
	slices.Sort(known)
	if diff := cmp.Diff(known, slices.Compact(documented)); diff != "" {
		t.Errorf("doc/search.md, section Fields (-fields +documented)\n%s", diff)
	}
}

// Each fact can be asked for: its kind is the first name of a field, which is offered,
// and has the values that the field takes.
func TestFactsAreFields(t *testing.T) {
	t.Parallel()
	for _, kind := range indexer.FactKinds() {
		if !slices.ContainsFunc(fields, func(s syntax) bool { return s.names[0] == string(kind) }) {
			t.Errorf("%s is no field", kind)
		}
	}
	for _, fact := range []indexer.Fact{indexer.HasSignature, indexer.HasSBOM, indexer.HasAttestation, indexer.IsMultiarch,
		indexer.FactHas.Fact(string(indexer.Provenance)), indexer.FactHas.Fact(string(indexer.AnyReferrer)),
		indexer.FactType.Fact(string(indexer.KindImage)), "platform:linux/arm/v7", "licence:MIT", "label:a=b", "namespace:team",
	} {
		term, ok := FieldTerm(string(fact.Kind()), fact.Value())
		if !ok || fact.Kind() != indexer.FactLabel && term != string(fact) {
			t.Errorf("the term for %s is %q, %v", fact, term, ok)
		}
	}
}

// A mistake of one edit in any name of a field that is long enough is found.
func TestNearestField(t *testing.T) {
	t.Parallel()
	for _, s := range fields {
		for _, name := range s.names {
			want := name
			if len(name) <= 3 {
				want = ""
			}
			if got := nearestField(strings.ToUpper(name) + "x"); got != want {
				t.Errorf("nearestField(%sx) = %q, want %q", name, got, want)
			}
		}
	}
}
