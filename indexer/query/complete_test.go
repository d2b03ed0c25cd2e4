package query_test

import (
	"strings"
	"testing"
	"time"

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
			t.Errorf("%q: %+v, %v", test.text, got, ok)
		} else if ok {
			if diff := cmp.Diff(*test.want, got); diff != "" {
				t.Errorf("%q (-want +got)\n%s", test.text, diff)
			}
		}
	}
	if got := (query.Completion{Head: "a ", Label: "tag:"}).With("b c"); got != `a tag:"b c"` {
		t.Errorf("a value with a space became %s", got)
	}
}

// What is completed is a query, whatever was typed before it.
func FuzzCutLast(f *testing.F) {
	for _, text := range []string{"ngi", `a "b c" -lab`, `label:a="`, "os:li", "a\x00b", " "} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, ok := query.CutLast(text)
		if whole := c.With(c.Value); ok && !strings.HasSuffix(whole, c.Value) {
			t.Errorf("%q was cut into %+v", text, c)
		}
	})
}

func TestFieldsFrom(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"": nil, "l": nil, "la": {"label", "layers"}, "LAB": {"label"}, "label": {"label"}, "labels": nil, "nginx": nil,
	} {
		if diff := cmp.Diff(want, query.FieldsFrom(text)); diff != "" {
			t.Errorf("%q (-want +got)\n%s", text, diff)
		}
	}
	for _, f := range query.FieldsFrom("re") {
		if _, ok := query.CutLast(f + ":"); !ok {
			t.Errorf("%s is offered and is no field", f)
		}
	}
}

// A word is mended where it is asked for, and nowhere else.
func TestWithWord(t *testing.T) {
	t.Parallel()
	tests := []struct{ text, word, by, want string }{
		{"ngnix", "ngnix", "nginx", "nginx"},
		{"  my-Ngnix  proxy ", "ngnix", "nginx", "my-nginx  proxy"},
		{"ngnix label:ngnix=1 -ngnix tag:ngnix", "ngnix", "nginx", "nginx label:ngnix=1 -ngnix tag:ngnix"},
		{`"a ngnix" OR ngnix*`, "ngnix", "nginx", `"a nginx" OR nginx*`},
		{"ngnixes ngnix", "ngnix", "nginx", "ngnixes nginx"},
		{"library/ngnix:1.25", "ngnix", "nginx", "library/nginx:1.25"},
		{"übre x", "übre", "über", "über x"},
	}
	now := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	for _, test := range tests {
		q, err := query.Parse(test.text, now)
		if err != nil {
			t.Fatal(err)
		}
		got := q.WithWord(test.word, test.by)
		want, err := query.Parse(test.want, now)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got)\n%s", test.text, diff)
		}
	}
}

func TestFreeWords(t *testing.T) {
	t.Parallel()
	q, err := query.Parse(`web "web proxy" -cache team/app:1 os:linux OR fast ng`, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	words, prefix := q.FreeWords()
	if diff := cmp.Diff([]string{"web", "proxy", "team", "app", "fast", "ng"}, words); diff != "" || prefix != "ng" {
		t.Errorf("prefix %q, words (-want +got)\n%s", prefix, diff)
	}
}
