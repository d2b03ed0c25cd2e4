package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/portbook/portbook/indexer/config"
)

// docs is the folder of the manual.
const docs = "../../../doc/"

// A seedRow is a row of a table of doc/seeds.md.
type seedRow struct {
	section, there, here string
}

// seedRows returns the rows of doc/seeds.md.
func seedRows(t *testing.T) (rows []seedRow) {
	t.Helper()
	section := ""
	for line := range strings.Lines(textOf(t, docs+"seeds.md")) {
		line = strings.TrimSpace(line)
		if s, ok := strings.CutPrefix(line, "## "); ok {
			section = s
		}
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		if !strings.HasPrefix(line, "| ") || section == "" || line == "| there | here |" {
			continue
		}
		if len(cells) != 2 {
			t.Errorf("%d columns: %s", len(cells), line)
			continue
		}
		rows = append(rows, seedRow{section, cells[0], cells[1]})
	}
	if len(rows) < 100 {
		t.Fatalf("%d rows", len(rows))
	}
	return rows
}

func textOf(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// quoted returns what stands in backquotes in a text.
func quoted(text string) (all []string) {
	parts := strings.Split(text, "`")
	for i := 1; i < len(parts); i += 2 {
		all = append(all, parts[i])
	}
	return all
}

// Whoever ran one of the five systems must find a row for each of its settings.
func TestSeedsAreWhole(t *testing.T) {
	t.Parallel()
	rows := seedRows(t)
	section, names := "", 0
	for line := range strings.Lines(textOf(t, "testdata/seeds.txt")) {
		line = strings.TrimSpace(line)
		if s, ok := strings.CutPrefix(line, "## "); ok {
			section = s
			continue
		}
		if line == "" || strings.HasPrefix(line, "# ") {
			continue
		}
		names++
		if !slices.ContainsFunc(rows, func(r seedRow) bool {
			return r.section == section && (slices.Contains(quoted(r.there), line) || r.there == "table `"+line+"`")
		}) {
			t.Errorf("doc/seeds.md, %s: no row for %s", section, line)
		}
	}
	if names < 120 {
		t.Errorf("%d names", names)
	}
}

var (
	seedKey      = regexp.MustCompile(`^[a-z][a-z0-9_]*(\.[A-Za-z0-9_]+)+$`)
	seedFile     = regexp.MustCompile(`\.(ya?ml|sql|md|toml|git|app)$`)
	seedVariable = regexp.MustCompile(`^[A-Z][A-Z0-9]*(_[A-Z0-9]+)+$|^(ADDRESS|PORT|PG[A-Z]+)$`)
	seedCommand  = regexp.MustCompile(`^portbook( [a-z][a-z0-9-]*)+`)
	seedRoute    = regexp.MustCompile(`^(?:(?:GET|POST|PUT|DELETE) )?(/[a-z][A-Za-z0-9/_-]*)(\?.*)?$`)
	seedTable    = regexp.MustCompile(`^[a-z_]+$`)
	seedMake     = regexp.MustCompile(`^make ([a-z-]+)$`)
)

// permissions are those of Deploys.app, which look like keys.
var permissions = []string{"registry.pull", "registry.push", "registry.list", "registry.get"}

// What doc/seeds.md says is here must exist.
func TestSeedsAreHere(t *testing.T) {
	t.Parallel()
	keys := config.Keys()
	isKey := func(name string) bool {
		return slices.ContainsFunc(keys, func(k config.Key) bool {
			return k.Name == name || strings.HasPrefix(k.Name, name+".")
		})
	}
	api, makefile := textOf(t, docs+"api.md"), textOf(t, "../../../Makefile")
	schema := textOf(t, "../../../schema/testdata/schema.txt")
	checked := map[string]int{}
	for _, r := range seedRows(t) {
		for _, name := range quoted(r.here) {
			key, _, _ := strings.Cut(name, ": ")
			switch {
			case seedFile.MatchString(key), slices.Contains(permissions, name), name == "storage.middleware":
				continue // the last is a key of the registry
			case seedKey.MatchString(key):
				checked["key"]++
				if !isKey(key) {
					t.Errorf("%s: no key %s", r.there, key)
				}
			case seedVariable.MatchString(name):
				checked["variable"]++
				if !isVariable(t, name) {
					t.Errorf("%s: nothing reads %s", r.there, name)
				}
			case seedCommand.MatchString(name):
				checked["command"]++
				hasCommand(t, seedCommand.FindString(name))
			case seedRoute.MatchString(name):
				checked["route"]++
				if path := seedRoute.FindStringSubmatch(name)[1]; !strings.Contains(api, path) {
					t.Errorf("%s: doc/api.md has no %s", r.there, path)
				}
			case seedMake.MatchString(name):
				checked["target"]++
				if !strings.Contains(makefile, "\n"+seedMake.FindStringSubmatch(name)[1]+":") {
					t.Errorf("%s: the Makefile has no %s", r.there, name)
				}
			}
			if strings.HasPrefix(r.there, "table ") && seedTable.MatchString(name) {
				checked["table"]++
				if !strings.Contains("\n"+schema, "\n"+name+" ") {
					t.Errorf("%s: no table %s", r.there, name)
				}
			}
		}
		seedIsRead(t, r)
	}
	for kind, least := range map[string]int{"key": 40, "variable": 3, "command": 8, "route": 8, "target": 1, "table": 7} {
		if checked[kind] < least {
			t.Errorf("%d of %s were checked, want %d", checked[kind], kind, least)
		}
	}
}

// seedIsRead checks that the keys and variables of another system are read here, or refused by
// their name, if a row says so.
func seedIsRead(t *testing.T, r seedRow) {
	t.Helper()
	if strings.HasPrefix(r.here, "not there") {
		return
	}
	for _, name := range quoted(r.there) {
		key, _, _ := strings.Cut(name, ": ")
		switch {
		case seedFile.MatchString(key), slices.Contains(permissions, key):
		case seedKey.MatchString(key):
			c := config.Source{File: nested(t, key)}
			if _, err := config.Load(c); err != nil && strings.Contains(err.Error(), "unknown key") {
				t.Errorf("%s: %v", name, err)
			}
		case strings.HasPrefix(r.here, "`portbook import"):
			hasVariableInHelp(t, r.here, name)
		case seedVariable.MatchString(name) && !isVariable(t, name):
			t.Errorf("nothing reads %s", name)
		}
	}
}

// nested writes a file that sets one key.
func nested(t *testing.T, key string) string {
	t.Helper()
	text, parts := "", strings.Split(key, ".")
	for i, part := range parts {
		text += strings.Repeat("  ", i) + part + ":"
		if i == len(parts)-1 {
			text += " x"
		}
		text += "\n"
	}
	if key == "database.dynamicAuth" {
		text += "    awsRdsIam: {region: x}\n"
	}
	return file(t, "config.yaml", text)
}

// isVariable reports whether a variable is read: a setting has it as its source, or an error
// names it.
func isVariable(t *testing.T, name string) bool {
	t.Helper()
	if name == "PGPASSFILE" { // its source is shown only if the file has a password
		return strings.Contains(textOf(t, docs+"configuration.md"), name)
	}
	environ := []string{"PORTBOOK_REGISTRY_URL=http://registry:5000", "PGHOST=db", name + "=2"}
	if name == "DB_URL" {
		environ = []string{"PORTBOOK_REGISTRY_URL=http://registry:5000", "DB_URL=postgres://u@h/d"}
	}
	_, lines, err := config.Report(config.Source{Environ: environ})
	if err != nil {
		return strings.Contains(err.Error(), name)
	}
	return slices.ContainsFunc(lines, func(l config.Line) bool { return strings.Contains(l.Origin, name) })
}

// hasCommand checks that the program has a command such as "portbook migrate up".
func hasCommand(t *testing.T, command string) {
	t.Helper()
	if help := helpOf(t, command); !strings.Contains(help, "Usage:\n  "+command) {
		t.Errorf("%s --help: %s", command, help)
	}
}

// hasVariableInHelp checks that the help of the command in a row names a variable.
func hasVariableInHelp(t *testing.T, row, name string) {
	t.Helper()
	command := seedCommand.FindString(quoted(row)[0])
	if seedVariable.MatchString(name) && !strings.Contains(helpOf(t, command), name) {
		t.Errorf("%s --help does not name %s", command, name)
	}
}

// helpOf returns the help of a command.
func helpOf(t *testing.T, command string) string {
	t.Helper()
	args := append(strings.Fields(command)[1:], "--help")
	out, err := exec.CommandContext(t.Context(), build(t), args...).CombinedOutput()
	if err != nil {
		t.Errorf("%s --help: %v", command, err)
	}
	return string(out)
}

var (
	link    = regexp.MustCompile(`\]\(([^)]*)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	noSlug  = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// Every link of the manual to a page or to a heading must lead somewhere.
func TestLinksOfTheManual(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob(docs + "*.md")
	if err != nil || len(pages) < 10 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	for _, page := range append(pages, "../../../README.md") {
		for _, m := range link.FindAllStringSubmatch(textOf(t, page), -1) {
			name, anchor, hasAnchor := strings.Cut(m[1], "#")
			if strings.Contains(name, "://") {
				continue
			}
			target := page
			if name != "" {
				target = filepath.Join(filepath.Dir(page), name)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: a link to %s, which does not exist", page, m[1])
			} else if hasAnchor && !slices.Contains(anchors(textOf(t, target)), anchor) {
				t.Errorf("%s: a link to %s, but no heading of it is called so", page, m[1])
			}
		}
	}
}

// anchors returns the anchors of the headings of a page.
func anchors(text string) (all []string) {
	for _, m := range heading.FindAllStringSubmatch(text, -1) {
		plain := link.ReplaceAllString(strings.ReplaceAll(m[1], "[", ""), "")
		all = append(all, strings.ReplaceAll(noSlug.ReplaceAllString(strings.ToLower(plain), ""), " ", "-"))
	}
	return all
}
