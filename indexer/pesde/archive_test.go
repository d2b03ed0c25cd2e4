package pesde_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portbook/portbook/indexer/pesde"
)

// files are the files of an archive by their paths.
type files map[string]string

const manifest = `
name = "acme/foo"
version = "1.0.0"
description = "d"
license = "MIT"
authors = ["A", "B"]
repository = "https://example.com"
includes = ["src"]
[target]
environment = "luau"
lib = "src/init.luau"
[dependencies]
bar = { name = "acme/bar", version = "^1.0.0", index = "https://example.com/index" }
[dev_dependencies]
dev = { path = "../dev" }
`

// base returns the files of a package.
func base() files {
	return files{
		"pesde.toml": manifest, "src/init.luau": "return 1", "README.md": "# Foo", "docs/intro.md": "# Intro\ntext\n",
		"docs/guide/_category_.json": `{"label":"The Guide","position":2,"collapsed":true}`,
		"docs/guide/firstSteps.md":   "---\nsidebar_position: 1\n---\n\ntext", "docs/picture.png": "x",
	}
}

// with returns f with one more file.
func (f files) with(name, content string) files {
	f[name] = content
	return f
}

// replace returns f with another text in its manifest.
func (f files) replace(old, text string) files {
	f["pesde.toml"] = strings.Replace(f["pesde.toml"], old, text, 1)
	return f
}

func (f files) archive(t testing.TB, more ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, name := range slices.Sorted(maps.Keys(f)) {
		h := tar.Header{Name: name, Mode: 0o644, Size: int64(len(f[name])), Typeflag: tar.TypeReg}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(f[name])); err != nil {
			t.Fatal(err)
		}
	}
	for _, h := range more {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// flipped returns an archive whose checksum is wrong.
func flipped(archive []byte) []byte {
	archive[len(archive)-8] ^= 1
	return archive
}

// What is empty in a manifest is as if it was not there.
func TestEmpty(t *testing.T) {
	t.Parallel()
	f := base().replace(`authors = ["A", "B"]`, "authors = []\nengines = {}").replace(`"luau"`, "\"roblox\"\nbuild_files = []")
	archive := f.archive(t)
	p, err := pesde.Read(archive, pesde.Config{}, own, pesde.DefaultLimits)
	if err != nil || p.Entry.Authors != nil || p.Entry.Engines != nil || p.Entry.Target.BuildFiles != nil {
		t.Fatalf("%+v, %v", p.Entry, err)
	}
	if _, err := pesde.Make(p, archive, time.Now(), ""); err != nil {
		t.Error(err)
	}
}

// star returns an archive with a file in tar's format of star, whose prefix is of some length.
func star(t *testing.T, prefix int) []byte {
	t.Helper()
	archive := base().archive(t, tar.Header{Name: "marker", Typeflag: tar.TypeReg, Format: tar.FormatUSTAR})
	z, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	start := bytes.Index(plain, []byte("marker"))
	block := plain[start : start+512]
	copy(block[345:], strings.Repeat("p", prefix))
	copy(block[508:], "tar\x00")
	copy(block[148:156], "        ")
	sum := 0
	for _, b := range block {
		sum += int(b)
	}
	copy(block[148:], fmt.Sprintf("%06o\x00 ", sum))
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(plain); err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// The prefix of a path in the format of star is read further by other programs, if it is full.
func TestStar(t *testing.T) {
	t.Parallel()
	if _, err := pesde.Read(star(t, 20), pesde.Config{}, own, pesde.DefaultLimits); err != nil {
		t.Error(err)
	}
	_, err := pesde.Read(star(t, 131), pesde.Config{}, own, pesde.DefaultLimits)
	if err == nil || !strings.Contains(err.Error(), "in an extended header") {
		t.Errorf("a full prefix: %v", err)
	}
}

var own = []string{"https://example.com/index"}

func TestRead(t *testing.T) {
	t.Parallel()
	p, err := pesde.Read(base().archive(t), pesde.Config{}, own, pesde.DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	one, two := int64(1), int64(2)
	want := []pesde.Doc{
		{Label: "The Guide", Position: &two, Collapsed: true, Items: []pesde.Doc{
			{Label: "First Steps", Position: &one, Name: "guide/firstSteps", Hash: p.Pages[0].Hash}}},
		{Label: "Intro", Name: "intro", Hash: p.Pages[1].Hash},
	}
	if diff := cmp.Diff(want, p.Entry.Docs); diff != "" {
		t.Error(diff)
	}
	if p.Name.String() != "acme/foo" || p.ID.String() != "1.0.0 luau" || string(p.Readme) != "# Foo" ||
		p.Entry.Repository != "https://example.com/" || p.Entry.Dependencies["dev"].Kind != pesde.Dev ||
		string(p.Pages[1].Text) != "# Intro\ntext" {
		t.Errorf("%+v", p)
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	limits := pesde.DefaultLimits
	limits.Unpacked, limits.Files, limits.Text, limits.Pages, limits.Entry = 100_000, 50, 10_000, 5, 2000
	many := base()
	for i := range 50 {
		many["src/"+strings.Repeat("x", i+1)] = ""
	}
	for _, test := range []struct {
		name    string
		archive []byte
		want    string
	}{
		{"empty", nil, "corrupt archive"},
		{"no gzip", []byte("hello"), "corrupt archive"},
		{"cut", base().archive(t)[:200], "corrupt archive"},
		{"not UTF-8", base().with("README.md", "\xff").archive(t), "corrupt archive"},
		{".git", base().with(".git/config", "").archive(t), "archive is invalid: archive contains forbidden directory: .git"},
		{"rokit", base().with("rokit.toml", "").archive(t), "archive is invalid: archive contains forbidden file: rokit.toml"},
		{"readmes", base().with("readme.txt", "").archive(t), "archive is invalid: archive contains multiple readme files"},
		{"no manifest", files{"a": ""}.archive(t), "archive is invalid: archive doesn't contain a manifest"},
		{"front matter", base().with("docs/a.md", "---\n[\n---\n").archive(t),
			"archive is invalid: doc a's frontmatter isn't valid YAML"},
		{"alias", base().replace("dev = {", "bar = {").archive(t),
			"archive is invalid: manifest has invalid dependencies: another specifier is already using the alias bar"},
		{"index", base().replace("example.com/index", "o/i").archive(t),
			"archive is invalid: invalid index in pesde dependency acme/bar@^1.0.0"},
		{"wally", base().replace(`name = "acme/bar"`, `wally = "a/b"`).archive(t),
			"archive is invalid: invalid index in wally dependency wally#a/b@^1.0.0"},
		{"git", base().replace(`name = "acme/bar", version = "^1.0.0"`, `repo = "https://a/b", rev = "x"`).archive(t),
			"archive is invalid: git dependencies are not allowed"},
		{"workspace", base().replace(`name = "acme/bar", version`, `workspace = "acme/bar", version`).archive(t),
			"archive is invalid: non-transformed workspace dependency"},
		{"path", base().replace(`name = "acme/bar", version = "^1.0.0", index`, `path = "../x", index`).archive(t),
			"archive is invalid: path dependencies are not allowed"},
		{"hidden git", base().replace(`version = "^1.0.0"`, `repo = "https://a/b", rev = "x"`).archive(t),
			"archive is invalid: git dependencies are not allowed"},
		{"hidden path", base().replace(`version = "^1.0.0"`, `path = "../x"`).archive(t),
			"archive is invalid: path dependencies are not allowed"},
		{"nowhere", base().replace(`, version = "^1.0.0"`, ``).archive(t), "dependency bar: it has neither name and version"},
		{"bad workspace", base().replace(`path = "../dev"`, `workspace = "!"`).archive(t), "dependency dev: package name `!`"},
		{"bad repository", base().replace(`path = "../dev"`, `repo = "https://", rev = "x"`).archive(t),
			"dependency dev: `https://` is not a URL of a repository"},
		{"bad host", base().replace("https://example.com\"", "https://a<b/\"").archive(t),
			"repository: `https://a<b/` is not an absolute URL"},
		{"engine", base().replace("[target]", "engines = { node = '1' }\n[target]").archive(t),
			"archive is invalid: pesde.toml: engines: unknown engine kind node"},
		{"name", base().replace("acme/foo", "acme/foo___bar").archive(t), "three underscores"},
		{"TOML", base().replace("name =", "name").archive(t), "archive is invalid: pesde.toml: "},
		{"target", base().replace(`"luau"`, `"node"`).archive(t), "archive is invalid: pesde.toml: unknown target kind node"},
		{"outside", base().with("../x", "").archive(t), "outside"},
		{"absolute", base().with("/x", "").archive(t), "outside"},
		{"backslash", base().with(`..\x`, "").archive(t), "outside"},
		{"up and down", base().with("a/../x", "").archive(t), "outside"},
		{"drive", base().with("C:x", "").archive(t), "outside"},
		{"extended path", base().archive(t, tar.Header{Name: strings.Repeat("x", 300), Format: tar.FormatPAX}),
			"in an extended header"},
		{"second stream", append(base().archive(t), files{"x": ""}.archive(t)...), "corrupt archive"},
		{"checksum", flipped(base().archive(t)), "corrupt archive"},
		{"link", base().archive(t, tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}),
			"`l`, which is neither a file nor a directory"},
		{"twice", base().archive(t, tar.Header{Name: "./pesde.toml", Typeflag: tar.TypeReg}), "`./pesde.toml` twice"},
		{"many files", many.archive(t), "more than 50 files"},
		{"large text", base().with("README.md", strings.Repeat("x", 10_001)).archive(t), "README.md has more than 10000 bytes"},
		{"large", base().with("src/x", strings.Repeat("x", 100_000)).archive(t), "more than 100000 bytes when it is unpacked"},
		{"pages", base().with("docs/1.md", "").with("docs/2.md", "").with("docs/3.md", "").archive(t), "more than 5 pages"},
		{"deep", base().with("docs/"+strings.Repeat("a/", 9)+"b.md", "").archive(t), "directories in one another"},
		{"metadata", base().replace(`"d"`, `"`+strings.Repeat("d", 2000)+`"`).archive(t), "may have at most 2000"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := pesde.Read(test.archive, pesde.Config{}, own, limits)
			var refused *pesde.Refused
			if !errors.As(err, &refused) || !strings.Contains(refused.Text, test.want) {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}

// A policy of config.toml allows what is refused otherwise.
func TestPolicies(t *testing.T) {
	t.Parallel()
	archive := base().replace(`name = "acme/bar", version = "^1.0.0"`, `repo = "https://a/b.git", rev = "x"`).archive(t)
	for _, allowed := range []pesde.Allowed{{All: true}, {URLs: []string{"https://a/b"}}} {
		if _, err := pesde.Read(archive, pesde.Config{GitAllowed: allowed}, own, pesde.DefaultLimits); err != nil {
			t.Error(err)
		}
	}
	if _, err := pesde.Read(archive, pesde.Config{GitAllowed: pesde.Allowed{URLs: []string{"https://a/c"}}}, own,
		pesde.DefaultLimits); err == nil {
		t.Error("a repository that is not listed is allowed")
	}
}

func TestArtifact(t *testing.T) {
	t.Parallel()
	archive := base().archive(t)
	p, err := pesde.Read(archive, pesde.Config{}, own, pesde.DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 100, time.UTC)
	a, err := pesde.Make(p, archive, at, "alice")
	if err != nil {
		t.Fatal(err)
	}
	s, err := pesde.ParseArtifact(a.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	want := p.Entry
	want.PublishedAt = "2026-01-02T03:04:05.0000001Z"
	if diff := cmp.Diff(want, s.Entry); diff != "" {
		t.Error(diff)
	}
	page, ok := s.Page("guide/firstSteps")
	if s.ID != p.ID || s.Name != p.Name || s.Publisher != "alice" || s.Archive.Size != int64(len(archive)) || s.Readme == nil ||
		!ok || page.Digest.Encoded() != p.Pages[0].Hash || len(a.Blobs) != 5 {
		t.Errorf("%+v", s)
	}
	for old, bad := range map[string]string{
		`"artifactType":"application/vnd.pesde.package.v1"`: `"artifactType":"x/y"`,
		`"data":"`:          `"data":"AAAA`,
		pesde.ArchiveType:   "application/octet-stream",
		`"schemaVersion":2`: `"schemaVersion":`,
	} {
		text := strings.Replace(string(a.Manifest), old, bad, 1)
		if _, err := pesde.ParseArtifact([]byte(text)); err == nil || text == string(a.Manifest) {
			t.Errorf("%s is read", bad)
		}
	}
}

// FuzzRead looks for archives that Read panics at, that take more than their limits, or that make
// artifacts which cannot be read.
func FuzzRead(f *testing.F) {
	f.Add([]byte(manifest), []byte("# Intro"), []byte("{}"))
	f.Add([]byte("name='a'"), []byte("---\nlabel: x\n---\n# y"), []byte(`{"position":-1}`))
	f.Fuzz(func(t *testing.T, manifest, page, category []byte) {
		archive := files{"pesde.toml": string(manifest), "docs/a/b.md": string(page),
			"docs/a/_category_.json": string(category)}.archive(t)
		p, err := pesde.Read(archive, pesde.Config{GitAllowed: pesde.Allowed{All: true}}, own, pesde.DefaultLimits)
		var refused *pesde.Refused
		if err != nil {
			if !errors.As(err, &refused) {
				t.Errorf("not refused: %v", err)
			}
			return
		}
		if _, err := pesde.Make(p, archive, time.Now(), ""); err != nil {
			t.Errorf("%v\n%s", err, manifest)
		}
	})
}
