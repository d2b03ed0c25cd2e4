package query_test

import (
	"testing"

	"github.com/portbook/portbook/indexer/query"
)

func TestFieldTerm(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		field, value, want string // "": no term
	}{
		{"os", "linux", "os:linux"},
		{"namespace", "team", "namespace:team"},
		{"type", "application/spdx+json", "type:application/spdx+json"},
		{"label", "org.opencontainers.image.title", "label:org.opencontainers.image.title"},
		{"label", "two words", `label:"two words"`},
		{"label", "a=b", `label:"a=b"=*`},
		{"annotation", "a=b c", `annotation:"a=b c"=*`},
		{"os", "Linux", ""}, // stored values are in lower case
		{"label", `a"b`, ""},
		{"label", "a*", ""},
		{"os", "", ""},
		{"nothing", "x", ""},
	} {
		got, ok := query.FieldTerm(test.field, test.value)
		if ok != (test.want != "") || ok && got != test.want {
			t.Errorf("FieldTerm(%s, %q) = %q, %v, want %q", test.field, test.value, got, ok, test.want)
		}
	}
}

// WithoutTerm undoes WithTerm, and changes nothing else.
func TestTerms(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "ngi", `"a b" OR c`, "  x  ", "os:windows"} {
		for _, term := range []string{"os:linux", `label:"a b"`} {
			with := query.WithTerm(text, term)
			if query.HasTerm(text, term) || !query.HasTerm(with, term) {
				t.Errorf("%q with %q is %q, where HasTerm does not find the term", text, term, with)
			}
			if got := query.WithoutTerm(with, term); query.WithTerm(got, "") != query.WithTerm(text, "") {
				t.Errorf("%q without %q is %q, want %q", with, term, got, text)
			}
		}
	}
	for _, test := range []struct{ text, term, want string }{
		{"a os:linux b", "os:linux", "a b"},
		{"a OR os:linux b", "os:linux", "a OR os:linux b"},
		{"os:linux OR a", "os:linux", "os:linux OR a"},
		{`"os:linux" a`, "os:linux", `"os:linux" a`},
		{"-os:linux", "os:linux", "-os:linux"},
		{"os:linux OR a os:linux", "os:linux", "os:linux OR a"},
		{"", "os:linux", ""},
		{"a", "", "a"},
	} {
		if got := query.WithoutTerm(test.text, test.term); got != test.want {
			t.Errorf("%q without %q is %q, want %q", test.text, test.term, got, test.want)
		}
	}
}
