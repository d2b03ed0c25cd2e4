package pesde_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portbook/portbook/indexer/pesde"
)

func TestNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"acme/foo", "abc/a", "a_1/x_y", "pesde/scripts_rojo", strings.Repeat("a", 32) + "/b"} {
		if n, err := pesde.ParseName(name); err != nil || n.String() != name {
			t.Errorf("%s: %v, %v", name, n, err)
		}
	}
	for name, want := range map[string]string{
		"acme":                            "package name `acme` is not in the format `scope/name`",
		"ab/foo":                          "package scope `ab` is not within 3-32 characters long",
		"acme/":                           "package name `` is not within 1-32 characters long",
		"acme/" + strings.Repeat("a", 33): "package name `aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa` is not within 1-32 characters long",
		"123/foo":                         "package scope `123` contains only digits",
		"acme/_a":                         "package name `_a` starts or ends with an underscore",
		"Acme/foo":                        "package scope `Acme` contains characters outside a-z, 0-9, and _",
		"acme/foo/bar":                    "package name `foo/bar` contains characters outside a-z, 0-9, and _",
	} {
		if _, err := pesde.ParseName(name); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
}

func TestVersions(t *testing.T) {
	t.Parallel()
	sorted := []string{"0.0.1", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-2", "1.0.0-10", "1.0.0",
		"1.0.0+0", "1.0.0+00", "1.0.0+1", "1.0.0+01", "1.0.0+a", "1.0.1", "2.0.0-rc.1", "18446744073709551615.0.0"}
	var all []pesde.Version
	for _, s := range sorted {
		v, err := pesde.ParseVersion(s)
		if err != nil || v.String() != s {
			t.Fatalf("%s: %v, %v", s, v, err)
		}
		all = append(all, v)
	}
	slices.SortFunc(all, pesde.Version.Compare)
	var got []string
	for _, v := range all {
		got = append(got, v.String())
	}
	want := []string{"0.0.1", "1.0.0-2", "1.0.0-10", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0",
		"1.0.0+0", "1.0.0+00", "1.0.0+1", "1.0.0+01", "1.0.0+a", "1.0.1", "2.0.0-rc.1", "18446744073709551615.0.0"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for s, want := range map[string]string{
		"":                         "empty string, expected a semver version",
		"a.0.0":                    "unexpected character 'a' while parsing major version number",
		"1":                        "unexpected end of input while parsing major version number",
		"1.x.0":                    "unexpected character 'x' while parsing minor version number",
		"1.0":                      "unexpected end of input while parsing minor version number",
		"01.0.0":                   "invalid leading zero in major version number",
		"1.0.0.0":                  "unexpected character '.' after patch version number",
		"1.0.0 luau":               "unexpected character ' ' after patch version number",
		"1.0.0-":                   "empty identifier segment in pre-release identifier",
		"1.0.0-01":                 "invalid leading zero in pre-release identifier",
		"1.0.0+":                   "empty identifier segment in build metadata",
		"18446744073709551616.0.0": "value of major version number exceeds u64::MAX",
	} {
		if _, err := pesde.ParseVersion(s); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", s, err, want)
		}
	}
}

func TestTags(t *testing.T) {
	t.Parallel()
	for text, tag := range map[string]string{
		"1.0.0 luau":                   "1.0.0__luau",
		"2.0.26+toolchainlib.1 lune":   "2.0.26_toolchainlib.1__lune",
		"1.0.0-rc.1+b-2 roblox_server": "1.0.0-rc.1_b-2__roblox_server",
	} {
		id, err := pesde.ParseID(text)
		if err != nil || id.Tag() != tag || id.String() != text {
			t.Errorf("%s: %s, %v", text, id.Tag(), err)
		}
		if back, ok := pesde.ParseTag(tag); !ok || back != id {
			t.Errorf("%s: %v, %v", tag, back, ok)
		}
	}
	for _, tag := range []string{"latest", "1.0.0", "1.0.0__", "1.0.0__linux", "v1.0.0__luau", "1.0.0___luau", "__luau"} {
		if id, ok := pesde.ParseTag(tag); ok {
			t.Errorf("%s is %v", tag, id)
		}
	}
}

// A file as other programs write it: the order, quotes and spaces are theirs.
const foreign = `
["0.2.1 luau"]
published_at = "2025-09-04T13:12:15.002076301Z"
description = "d"
license = "MIT"
authors = ["A <a@example.com>"]
repository = "https://example.com/r"
yanked = true
unknown = { a = 1 }
["0.2.1 luau".target]
environment = "luau"
lib = "src/init.luau"
["0.2.1 luau".target.scripts]
gen = "gen.luau"
["0.2.1 luau".engines]
lune = ">=0.10.2, <0.11.0"
[["0.2.1 luau".docs]]
label = "Guide"
position = 3
collapsed = true
[["0.2.1 luau".docs.items]]
label = "Intro"
name = "guide/intro"
hash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
["0.2.1 luau".dependencies]
a = [{ name = "acme/bar", version = "^1.0.0", index = "https://example.com/index", target = "lune" }, "peer"]
W = [{ wally = "wally#a/b-c", version = "^2.4.1", index = "https://example.com/wally" }, "dev"]
g = [{ repo = "https://example.com/r", rev = "d672eef", path = "p" }, "standard"]

['0.2.0 roblox_server']
published_at = '2025-09-04T13:12:15Z'
target = { environment = 'roblox_server', build_files = ['src'] }
[meta]
deprecated = "use x"
`

func TestFile(t *testing.T) {
	t.Parallel()
	f, err := pesde.ParseFile([]byte(foreign))
	if err != nil {
		t.Fatal(err)
	}
	text, err := f.Encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := pesde.ParseFile(text)
	if diff := cmp.Diff(f, again); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
	id, _ := pesde.ParseID("0.2.1 luau")
	e := f.Entries[id]
	if !e.Yanked || f.Deprecated != "use x" || len(e.Dependencies) != 3 || e.Dependencies["W"].Kind != pesde.Dev ||
		e.Docs[0].Items[0].Name != "guide/intro" || *e.Docs[0].Position != 3 || len(f.Entries) != 2 {
		t.Errorf("%+v", f)
	}
	// Each of these would make the client refuse the whole file.
	for old, bad := range map[string]string{
		`["0.2.1 luau"]`:                        `["0.2.1 linux"]`,
		`environment = "luau"`:                  `environment = "lune"`,
		`lune = ">=0.10.2, <0.11.0"`:            `node = "1"`,
		`"2025-09-04T13:12:15.002076301Z"`:      `2025-09-04T13:12:15Z`,
		`name = "acme/bar", version = "^1.0.0"`: `name = "Acme/bar", version = "^1.0.0"`,
		`version = "^2.4.1"`:                    `version = "^^2"`,
		`"peer"]`:                               `"other"]`,
		`W = [`:                                 `"A" = [`,
		`rev = "d672eef", path = "p"`:           `branch = "main"`,
		`g = [`:                                 `self = [`,
		`[meta]`:                                `[metadata]`,
		`repository = "https://example.com/r"`:  `repository = "example"`,
	} {
		text := strings.Replace(foreign, old, bad, 1)
		if _, err := pesde.ParseFile([]byte(text)); err == nil || text == foreign {
			t.Errorf("%s is read", bad)
		}
	}
}

// What is empty is written as if it was not there, so files of others can be written again.
func TestEmptyInFile(t *testing.T) {
	t.Parallel()
	f, err := pesde.ParseFile([]byte(`["1.0.0 roblox"]
published_at = "2025-09-04T13:12:15Z"
authors = []
docs = [{ label = "a", items = [] }]
engines = {}
dependencies = {}
target = { environment = "roblox", build_files = [] }`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Encode(); err != nil {
		t.Error(err)
	}
}

// Readers of URLs differ: one that the client refuses would make it refuse the whole file.
func TestURLs(t *testing.T) {
	t.Parallel()
	read := func(u string) error {
		_, err := pesde.ParseFile([]byte(strings.Replace(foreign, "https://example.com/r", u, 1)))
		return err
	}
	for _, good := range []string{"https://h", "http://127.0.0.1:65535/a", "http://[::1]:80/", "https://a_b.c-d./x?y#z",
		"https://u:p@h/r", "https://xn--mnchen-3ya.de/r", "https://1a.2b/r"} {
		if err := read(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{"h", "https://", "https://a<b/", "https://h:65536/", "https://1.2.3.4.5/", "https://1.2.3.256/",
		"https://a.0x1/", "https://[::1%25eth0]/", "https://xn--a/", "https://a..b/", "https://a%41/", "mailto:a@b"} {
		if read(bad) == nil {
			t.Errorf("%s is read", bad)
		}
	}
}

func TestRequirements(t *testing.T) {
	t.Parallel()
	read := func(version string) error {
		_, err := pesde.ParseFile([]byte(strings.Replace(foreign, "^1.0.0", version, 1)))
		return err
	}
	for _, good := range []string{"*", "1", "1.*", "1.2.x", "^1.2", "~1.2.3", "=1.0.0-rc.1", ">=1, <3", ">= 1.0.0", "1.0.0+b", " * ",
		"^1.0.0-0.1a.rc", ">=1.0.0-a+01"} {
		if err := read(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{"", "latest", "1..0", "^", ">>1", "1.*.0", "01.0", "1, *", "99999999999999999999", "1,", "*\\n",
		"^1.0.0-01", "1.0.0-"} {
		if read(bad) == nil {
			t.Errorf("%q is read", bad)
		}
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	c, err := pesde.ParseConfig([]byte(`
api = "https://registry.example.com/base/"
github_oauth_client_id = "a1d648966fdfbdcd9295"
git_allowed = true
other_registries_allowed = ["https://Git.example.com/index.git"]
scripts_packages = ["pesde/scripts_rojo"]
future = "ignored"
`))
	if err != nil || c.API != "https://registry.example.com/base" || c.MaxArchiveSize != 4194304 || !c.GitAllowed.All {
		t.Fatalf("%+v, %v", c, err)
	}
	if text, err := c.Encode(); err != nil {
		t.Errorf("%s %v", text, err)
	}
	for u, want := range map[string]bool{
		"https://git.example.com/index": true, "https://git.example.com/index/": true, "https://git.example.com/index.git": true,
		"https://git.example.com/index2": false, "http://git.example.com/index": false, "": false,
	} {
		if c.OtherRegistriesAllowed.Allows(u) != want {
			t.Errorf("%q: want %v", u, want)
		}
	}
	if c.WallyAllowed.Allows("https://example.com/wally") || !c.GitAllowed.Allows("git@example.com:a/b.git") {
		t.Error("wally is allowed, or git is not")
	}
	for bad, want := range map[string]string{
		`x = 1`:                                  "config.toml: api is ``",
		"api = 'https://a'\ngit_allowed = 'yes'": "git_allowed is neither true, false, nor a list of URLs",
		"api = 'https://a'\nwally_allowed = ['x y']":  "which is not a URL",
		"api = 'https://a'\nmax_archive_size = 0":     "max_archive_size is 0",
		"api = 'https://a'\nscripts_packages = ['x']": "scripts_packages: package name `x`",
	} {
		if _, err := pesde.ParseConfig([]byte(bad)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	s, err := pesde.ParseScope([]byte("owners = [2, 1]"))
	if text, _ := s.Encode(); err != nil || string(text) != "owners = [1, 2]\n" {
		t.Errorf("%q, %v", text, err)
	}
	if _, err := pesde.ParseScope([]byte("x = 1")); err == nil {
		t.Error("a scope.toml without owners is read")
	}
}
