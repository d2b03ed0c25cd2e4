package query_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portbook/portbook/indexer/query"
)

func TestCutLast(t *testing.T) {
	t.Parallel()
	tests := []struct {
		text string
		want *query.Completion // nil: nothing to complete
	}{
		{"", nil},
		{"   ", nil},
		{"nginx ", nil},
		{"-", nil},
		{`"reverse pro`, nil},
		{`label:k="a val`, nil},
		{`"reverse proxy"`, nil},
		{"nginx:1.2", nil},
		{"\x00", nil},
		{strings.Repeat("a", query.MaxLength+1), nil},
		{"ngi", &query.Completion{Value: "ngi"}},
		{" Web ngi", &query.Completion{Head: " Web ", Value: "ngi"}},
		{"a -ngi", &query.Completion{Head: "a -", Value: "ngi"}},
		{`"a b" OR ng`, &query.Completion{Head: `"a b" OR `, Value: "ng"}},
		{"x Arch:ar", &query.Completion{Head: "x ", Label: "Arch:", Field: query.FieldArchitecture, Value: "ar"}},
		{"-has:", &query.Completion{Head: "-", Label: "has:", Field: query.FieldHas}},
		{"ng\xffi", &query.Completion{Value: "ngi"}},
	}
	for _, test := range tests {
		got, ok := query.CutLast(test.text)
		if ok != (test.want != nil) {
			t.Errorf("CutLast(%q) = %+v, %v", test.text, got, ok)
		} else if ok {
			if diff := cmp.Diff(*test.want, got); diff != "" {
				t.Errorf("CutLast(%q) (-want +got)\n%s", test.text, diff)
			}
		}
	}
	if got := (query.Completion{Head: "a ", Label: "tag:"}).With("b c"); got != `a tag:"b c"` {
		t.Errorf("With a value with a space returns %s", got)
	}
}

// CutLast does not panic, and keeps the end of what was typed.
func FuzzCutLast(f *testing.F) {
	for _, text := range []string{"ngi", `a "b c" -lab`, `label:a="`, "os:li", "a\x00b", " "} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, ok := query.CutLast(text)
		if whole := c.With(c.Value); ok && !strings.HasSuffix(whole, c.Value) {
			t.Errorf("CutLast(%q) = %+v, which drops the end of the text", text, c)
		}
	})
}

func TestFieldsFrom(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"": nil, "l": nil, "la": {"label", "layers"}, "LAB": {"label"}, "label": {"label"}, "labels": nil, "nginx": nil,
	} {
		if diff := cmp.Diff(want, query.FieldsFrom(text)); diff != "" {
			t.Errorf("FieldsFrom(%q) (-want +got)\n%s", text, diff)
		}
	}
	for _, f := range query.FieldsFrom("re") {
		if _, ok := query.CutLast(f + ":"); !ok {
			t.Errorf("FieldsFrom returns %s, which is not a field", f)
		}
	}
}
