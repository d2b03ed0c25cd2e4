package query_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/query"
)

// aMoment is the time at which these tests parse queries.
var aMoment = time.Date(2026, 11, 21, 12, 30, 59, 1, time.UTC)

func TestParse(t *testing.T) {
	t.Parallel()
	day := func(y int, m time.Month, d int) time.Time { return time.Date(y, m, d, 0, 0, 0, 0, time.UTC) }
	minute := aMoment.Truncate(time.Minute)
	type clauses = []query.Clause
	tests := []struct {
		text string
		want clauses
	}{
		{"", nil},
		{" *** - ", nil},
		{"nginx", clauses{{{Words: []string{"nginx"}, Prefix: true}}}},
		{"a b", clauses{{{Words: []string{"a"}}}, {{Words: []string{"b"}, Prefix: true}}}},
		{"Team/My-App_2", clauses{{{Words: []string{"team", "my", "app", "2"}, Prefix: true}}}},
		{"é* Ünï", clauses{{{Words: []string{"é"}, Prefix: true}}, {{Words: []string{"ünï"}, Prefix: true}}}},
		{"a OR b c", clauses{{{Words: []string{"a"}}, {Words: []string{"b"}}}, {{Words: []string{"c"}, Prefix: true}}}},
		{"a or b", clauses{
			{{Words: []string{"a"}}},
			{{Words: []string{"or"}}},
			{{Words: []string{"b"}, Prefix: true}},
		}},
		{"*** OR a", nil}, // always holds
		{`"reverse proxy"`, clauses{{{Words: []string{"reverse", "proxy"}, Phrase: true}}}},
		{`-"a a" -b`, clauses{
			{{Not: true, Words: []string{"a", "a"}, Phrase: true}},
			{{Not: true, Words: []string{"b"}}},
		}},
		{"repo:Team/* ns:a", clauses{
			{{Field: query.FieldRepository, Value: "team/*"}},
			{{Field: query.FieldNamespace, Value: "a"}},
		}},
		{"tag:V1 OR -arch:ARM64", clauses{
			{{Field: query.FieldTag, Value: "V1"}, {Not: true, Field: query.FieldArchitecture, Value: "arm64"}},
		}},
		{"pulls:>=100 -pulled:<90d", clauses{
			{{Field: query.FieldPulls, Compare: query.AtLeast, Number: 100}},
			{{Not: true, Field: query.FieldPulled, Compare: query.Above, Age: true,
				From: minute.Add(-2160 * time.Hour), To: minute.Add(-2160 * time.Hour)}}}},
		{"pulled:NEVER sort:pulls", clauses{{{Field: query.FieldPulled, Value: query.Never}}}},
		{"platform:linux/arm/v7", clauses{{{Field: query.FieldPlatform, Value: "linux/arm/v7"}}}},
		{"label:a.b=c=d annotation:x", clauses{
			{{Field: query.FieldLabel, Name: "a.b", Value: "c=d", Valued: true}},
			{{Field: query.FieldAnnotation, Name: "x"}}}},
		{`label:"a=b c" label:a="b c"`, clauses{
			{{Field: query.FieldLabel, Name: "a", Value: "b c", Valued: true}},
			{{Field: query.FieldLabel, Name: "a", Value: "b c", Valued: true}}}},
		{`label:"k=v"=odd label:"k=v"="odd =" label:"k=v"=*`, clauses{
			{{Field: query.FieldLabel, Name: "k=v", Value: "odd", Valued: true}},
			{{Field: query.FieldLabel, Name: "k=v", Value: "odd =", Valued: true}},
			{{Field: query.FieldLabel, Name: "k=v", Value: "*", Valued: true}}}},
		{`label:"a key" annotation:"a key"=`, clauses{
			{{Field: query.FieldLabel, Name: "a key"}}, {{Field: query.FieldAnnotation, Name: "a key", Valued: true}}}},
		{"label:a=", clauses{{{Field: query.FieldLabel, Name: "a", Valued: true}}}},
		{"size:>1.5GiB layers:<=5 size:20", clauses{
			{{Field: query.FieldSize, Compare: query.Above, Number: 3 << 29}},
			{{Field: query.FieldLayers, Compare: query.AtMost, Number: 5}},
			{{Field: query.FieldSize, Compare: query.Equal, Number: 20}}}},
		{"created:>2026-01-31 pushed:2026-02", clauses{
			{{Field: query.FieldCreated, Compare: query.Above, From: day(2026, 1, 31), To: day(2026, 2, 1)}},
			{{Field: query.FieldPushed, Compare: query.Equal, From: day(2026, 2, 1), To: day(2026, 3, 1)}}}},
		{"created:<30d pushed:>=1y", clauses{
			{{Field: query.FieldCreated, Compare: query.Above, Age: true,
				From: minute.Add(-720 * time.Hour),
				To:   minute.Add(-720 * time.Hour)}},
			{{Field: query.FieldPushed, Compare: query.AtMost, Age: true,
				From: minute.Add(-8760 * time.Hour),
				To:   minute.Add(-8760 * time.Hour)}}}},
		{"pushed:2026-01-02t03:04:05+01:00", clauses{{{Field: query.FieldPushed, Compare: query.Equal,
			From: time.Date(2026, 1, 2, 2, 4, 5, 0, time.UTC), To: time.Date(2026, 1, 2, 2, 4, 6, 0, time.UTC)}}}},
		{"pushed:>2026-01-02T03:04:05Z pushed:2026-01-02T03:04:05.5Z pushed:<=2026-01-02T03:04Z", clauses{
			{{Field: query.FieldPushed, Compare: query.Above,
				From: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
				To:   time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}},
			{{Field: query.FieldPushed, Compare: query.Equal,
				From: time.Date(2026, 1, 2, 3, 4, 5, 500e6, time.UTC),
				To:   time.Date(2026, 1, 2, 3, 4, 5, 500001e3, time.UTC)}},
			{{Field: query.FieldPushed, Compare: query.AtMost,
				From: time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC),
				To:   time.Date(2026, 1, 2, 3, 5, 0, 0, time.UTC)}}}},
		{"size:1.1kB size:1.4", clauses{
			{{Field: query.FieldSize, Compare: query.Equal, Number: 1100}},
			{{Field: query.FieldSize, Compare: query.Equal, Number: 1}}}},
		{"layers:99999999999", clauses{{{Field: query.FieldLayers, Compare: query.Equal, Number: 99999999999}}}},
		{"has:SBOM is:multiarch", clauses{
			{{Field: query.FieldHas, Value: "sbom"}},
			{{Field: query.FieldIs, Value: "multiarch"}},
		}},
		{"digest:ABCDEF sha256:012345", clauses{
			{{Field: query.FieldDigest, Value: "sha256:abcdef"}},
			{{Field: query.FieldDigest, Value: "sha256:012345"}},
		}},
		// Pasted references of images.
		{"library/nginx:1.25", clauses{{{Words: []string{"library", "nginx"}, Tag: "1.25"}}}},
		{"host:5000/team/app", clauses{{{Words: []string{"host", "5000", "team", "app"}, Prefix: true}}}},
		{"host:5000/team/app:v1", clauses{{{Words: []string{"host", "5000", "team", "app"}, Tag: "v1"}}}},
		{"app:v1@sha256:abcdef", clauses{{{Field: query.FieldDigest, Value: "sha256:abcdef"}}}},
		{`"a:b" https://x`, clauses{
			{{Words: []string{"a", "b"}, Phrase: true}},
			{{Words: []string{"https", "x"}, Prefix: true}},
		}},
	}
	for _, test := range tests {
		q, err := query.Parse(test.text, aMoment)
		if diff := cmp.Diff(test.want, q.Clauses); diff != "" || err != nil {
			t.Errorf("Parse(%q): error %v (-want +got)\n%s", test.text, err, diff)
		}
	}
}

// An Error names the wrong part of the query and says what to write instead.
func TestParseErrors(t *testing.T) {
	t.Parallel()
	tests := []struct {
		text, part, problem string
	}{
		{"a OR", "OR", "between two terms"},
		{"OR a", "OR", "between two terms"},
		{"a OR OR b", "OR", "between two terms"},
		{`é "never closed`, `"never closed`, "not closed"},
		{"lable:x", "lable:x", "did you mean label?"},
		{"repo:", "repo:", "write repo:"},
		{"size:big", "size:big", "write size:>100MB"},
		{"layers:1.5", "layers:1.5", "write layers:"},
		{"layers:1k", "layers:1k", "write layers:"},
		{"size:99999TB", "size:99999TB", "write a number up to 9007199254740992"},
		{"layers:>9007199254740993000", "layers:>9007199254740993000", "write a number up to 9007199254740992"},
		{"size:" + strings.Repeat("9", 400), "size:" + strings.Repeat("9", 400), "too large"},
		{"size:-1", "size:-1", "not a number"},
		{"pushed:2026-01-31T10Z", "pushed:2026-01-31T10Z", "not a time"},
		{"label:a=" + strings.Repeat("*a", 9), "label:a=" + strings.Repeat("*a", 9), "may have at most 8 stars"},
		{"label:" + strings.Repeat("*a", 9), "label:" + strings.Repeat("*a", 9), "may have at most 8 stars"},
		{"repo:" + strings.Repeat("*a", 9), "repo:" + strings.Repeat("*a", 9), "may have at most 8 stars"},
		{`label:"a"b=c`, `label:"a"b=c`, "around a whole value"},
		{`label:a"b"=c`, `label:a"b"=c`, "around a whole value"},
		{`tag:""`, `tag:""`, "tag needs a value"},
		{"created:30d", "created:30d", "not a time"},
		{"created:<99999y", "created:<99999y", "not a time"},
		{"created:>2026-02-30", "created:>2026-02-30", "not a time"},
		{"x has:wheels y", "has:wheels", "sbom, signature"},
		{"label:=x", "label:=x", "needs a key"},
		{`label:"a"b"c"`, `label:"a"b"c"`, "around a whole value"},
		{"platform:linux", "platform:linux", "linux/arm64"},
		{"digest:xyz", "digest:xyz", "hexadecimal"},
		{"digest:abc", "digest:abc", "at least 6"},
		{strings.Repeat("a ", query.MaxTerms) + "b", "b", "more than 32 terms"},
		{strings.Repeat("é", 513), "é", "longer than 1024 bytes"},
	}
	for _, test := range tests {
		_, err := query.Parse(test.text, aMoment)
		var wrong *query.Error
		if !errors.As(err, &wrong) || !errors.Is(err, indexer.ErrInvalid) {
			t.Errorf("Parse(%q): error %v, want a *query.Error", test.text, err)
			continue
		}
		got := wrong.Query[wrong.Offset : wrong.Offset+wrong.Length]
		if got != test.part || !strings.Contains(err.Error(), test.problem) {
			t.Errorf("Parse(%q): error %v about %q, want %q about %q", test.text, err, got, test.problem, test.part)
		}
	}
	_, err := query.Parse(`é "x`, aMoment)
	if want := `a quote is not closed: add " at its end, at 3: "\"x"`; fmt.Sprint(err) != want {
		t.Errorf("error %q, want %q", err, want)
	}
}

func TestQueryPage(t *testing.T) {
	t.Parallel()
	if got := (query.Query{}).Page(1000, -1); got.Limit != query.MaxPage || got.Offset != 0 {
		t.Errorf("Page(1000, -1): limit %d, offset %d, want %d and 0", got.Limit, got.Offset, query.MaxPage)
	}
}

// Parse and Plain return queries within the limits and without text that the database
// refuses. The part that an Error names is whole characters of the query.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"nginx 1.27 \xff\x00", `a OR -"b c" label:x="y z" size:>1.5MB`,
		"created:<30d is:multiarch host:5000/a:b@sha256:012345", `""" - -: : OR`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		q, err := query.Parse(text, aMoment)
		var wrong *query.Error
		switch {
		case errors.As(err, &wrong):
			if _ = wrong.Error(); !utf8.ValidString(wrong.Query[wrong.Offset : wrong.Offset+wrong.Length]) {
				t.Errorf("Parse(%q): the wrong part begins or ends inside a character", text)
			}
		case err != nil:
			t.Errorf("Parse(%q): error %v is not a *query.Error", text, err)
		}
		terms := checkQuery(t, text, q) + checkQuery(t, text, query.Plain(text))
		if terms > 2*query.MaxTerms {
			t.Errorf("Parse and Plain of %q return %d terms", text, terms)
		}
	})
}

// checkQuery checks q and returns the number of its terms.
func checkQuery(t *testing.T, text string, q query.Query) (terms int) {
	if len(q.Text) > query.MaxLength || !utf8.ValidString(q.Text) {
		t.Errorf("the query for %q has the text %q", text, q.Text)
	}
	for _, c := range q.Clauses {
		terms += len(c)
		for _, term := range c {
			if term.Field == query.FieldText && len(term.Words) == 0 || term.Number < 0 {
				t.Errorf("the query for %q has the term %+v", text, term)
			}
			for _, w := range term.Words {
				if w == "" || !utf8.ValidString(w) || strings.ContainsAny(w, " '\x00") {
					t.Errorf("the query for %q has the word %q", text, w)
				}
			}
			if strings.ContainsRune(term.Name+term.Value+term.Tag, 0) {
				t.Errorf("the query for %q has a NUL in %+v", text, term)
			}
		}
	}
	return terms
}

// The order is a term of its own, and no condition.
func TestParseSort(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]query.Sort{
		"": "", "sort:pulls": query.SortPulls, "nginx Sort:Name os:linux": query.SortName, "sort:size a OR b": query.SortSize,
	} {
		if q, err := query.Parse(text, aMoment); err != nil || q.Sort != want {
			t.Errorf("%q: %q, %v, want %q", text, q.Sort, err, want)
		}
	}
	for _, text := range []string{"sort:x", "-sort:pulls", "a OR sort:pulls", "sort:pulls OR a", "a sort:pulls OR b", "sort:name sort:size"} {
		if q, err := query.Parse(text, aMoment); err == nil {
			t.Errorf("%q: parsed as %+v, want an error", text, q)
		}
	}
}
