package pesde_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/portbook/portbook/indexer/pesde"
)

// published returns a version of a package.
func published(t *testing.T, id string, yanked bool) pesde.Published {
	t.Helper()
	i, err := pesde.ParseID(id)
	if err != nil {
		t.Fatal(err)
	}
	e := pesde.Entry{PublishedAt: "2026-01-02T03:04:05Z", Target: pesde.TargetInfo{Environment: i.Target, Lib: "l"}, Description: "d"}
	if i.Target == pesde.Luau {
		e.Target.Scripts = map[string]string{"b": "1", "a": "2"}
		e.Docs = []pesde.Doc{{Label: "Z", Name: "z", Hash: "1"}, {Label: "A", Items: []pesde.Doc{{Label: "B", Name: "b", Hash: "2"}}}}
		e.Dependencies = map[string]pesde.Dependency{"x": {pesde.Specifier{Name: "s/n", Version: "^1"}, pesde.Standard}}
	}
	return pesde.PublishedOf(i, pesde.Listed{Entry: e, Yanked: yanked})
}

func TestLatest(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ latest, highest, all string }{
		{"1.1.0", "2.0.0-rc.1", "1.0.0 luau,1.1.0 luau,2.0.0-rc.1 luau"},
		{"1.0.0", "2.0.0-rc.1", "1.0.0 luau!,2.0.0-rc.1 luau"}, // a yanked release before a pre-release
		{"1.0.0", "1.0.0", "1.0.0 luau,1.1.0 luau!"},
		{"1.1.0", "1.1.0", "1.0.0 luau,1.1.0 luau!,1.1.0 lune"},
		{"2.0.0-rc.2", "2.0.0-rc.2", "2.0.0-rc.1 luau,2.0.0-rc.2 luau"},
		{"1.0.0+b", "1.0.0+b", "1.0.0+b luau,1.0.0+a luau,1.0.0 luau"},
	} {
		var all []pesde.Published
		for id := range strings.SplitSeq(test.all, ",") {
			all = append(all, published(t, strings.TrimSuffix(id, "!"), strings.HasSuffix(id, "!")))
		}
		latest, _ := pesde.Latest(all)
		highest, _ := pesde.Highest(all)
		if latest.String() != test.latest || highest.String() != test.highest {
			t.Errorf("%s: latest %s, highest %s", test.all, latest, highest)
		}
	}
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	all := []pesde.Published{
		published(t, "10.0.0 luau", false), published(t, "9.0.0 luau", false), published(t, "9.0.0 roblox", true),
	}
	of := pesde.OfVersion(all, all[1].Version)
	for _, test := range []struct {
		got  any
		want string
	}{
		{pesde.PackageOf("a/b", "R", of, of[1]), `{"name":"a/b","version":"9.0.0","targets":[{"kind":"roblox","yanked":true,` +
			`"lib":true,"bin":false},{"kind":"luau","lib":true,"bin":false,"scripts":["a","b"]}],"description":"d",` +
			`"deprecated":"R","published_at":"2026-01-02T03:04:05Z","docs":[{"label":"A","items":[{"label":"B","name":"b"}]},` +
			`{"label":"Z","name":"z"}],"dependencies":{"x":[{"name":"s/n","version":"^1"},"standard"]}}`},
		{pesde.VersionsOf("a/b", "", all[1:]), `{"name":"a/b","versions":{"9.0.0":{"description":"d","targets":{` +
			`"roblox":{"target":{"lib":true,"bin":false},"yanked":true,"published_at":"2026-01-02T03:04:05Z"},` +
			`"luau":{"target":{"lib":true,"bin":false,"scripts":["a","b"]},"published_at":"2026-01-02T03:04:05Z",` +
			`"docs":[{"label":"A","items":[{"label":"B","name":"b"}]},{"label":"Z","name":"z"}],` +
			`"dependencies":{"x":[{"name":"s/n","version":"^1"},"standard"]}}}}}}`},
	} {
		text, err := json.Marshal(test.got)
		if err != nil || string(text) != test.want {
			t.Errorf("got  %s\nwant %s\n%v", text, test.want, err)
		}
	}
	text, _ := json.Marshal(pesde.VersionsOf("a/b", "", all))
	if i, j := strings.Index(string(text), `"9.0.0"`), strings.Index(string(text), `"10.0.0"`); i < 0 || i > j {
		t.Errorf("not in order: %s", text)
	}
	if n := len(pesde.PackagesOf("a/b", "", all)); n != 2 {
		t.Errorf("%d packages", n)
	}
}
