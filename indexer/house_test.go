package indexer_test

import (
	"flag"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite golden files")

const ours = "github.com/portbook/portbook/"

// mayImport lists the packages of ours that each package may import, except in tests.
// It must agree with the drawing in doc/design.md.
var mayImport = map[string][]string{
	"indexer/access/accesstest": nil, // these four are for tests
	"indexer/access/issuertest": nil,
	"indexer/rdsiam/rdsiamtest": nil,

	"indexer/errorreport/errorreporttest": nil,
	"indexer/postgres/postgrestest":       {"indexer", "indexer/postgres", "indexer/query", "schema/schematest"},

	"indexer":              nil,
	"indexer/access":       {"indexer", "indexer/cache"},
	"indexer/deliver":      {"indexer", "indexer/access"},
	"indexer/provider":     {"indexer", "indexer/access"},
	"indexer/redissession": {"indexer", "indexer/access"},
	"indexer/query":        {"indexer"},
	"indexer/pesde":        nil,
	"indexer/imports":      {"indexer"},
	"indexer/collect":      {"indexer", "indexer/postgres"},
	"indexer/cache":        {"indexer"},
	"indexer/config":       {"indexer", "indexer/errorreport"},
	"indexer/errorreport":  {"indexer"},
	"indexer/memory":       {"indexer", "indexer/cache", "indexer/query"},
	"indexer/remote":       {"indexer"},
	"indexer/retention":    {"indexer", "indexer/access"},
	"indexer/plan":         {"indexer", "indexer/access", "indexer/manage", "indexer/postgres", "indexer/retention"},
	"indexer/postgres": {
		"indexer", "indexer/access", "indexer/deliver", "indexer/memory", "indexer/postgres/pg", "indexer/postgres/search",
		"indexer/query", "indexer/retention",
	},
	"indexer/postgres/search": {"indexer", "indexer/memory", "indexer/postgres/pg", "indexer/query"},
	"indexer/postgres/pg":     {"indexer"},
	"indexer/rdsiam":          {"indexer"},
	"indexer/database":        {"indexer/config", "indexer/postgres", "indexer/rdsiam", "schema"},
	"indexer/web": {
		"indexer", "indexer/access", "indexer/deliver", "indexer/errorreport", "indexer/web/answer", "indexer/web/api",
		"indexer/web/catalogue", "indexer/web/clients", "indexer/web/login",
	},
	"indexer/web/login":  {"indexer", "indexer/access", "indexer/retention", "indexer/web/answer"},
	"indexer/web/answer": {"indexer", "indexer/cache", "indexer/query"},
	"indexer/web/api": {
		"indexer", "indexer/access", "indexer/deliver", "indexer/query", "indexer/retention", "indexer/web/answer",
		"indexer/web/login",
	},
	"indexer/web/catalogue": {
		"indexer", "indexer/access", "indexer/cache", "indexer/deliver", "indexer/query", "indexer/retention", "indexer/web/answer",
		"indexer/web/login",
	},
	"indexer/web/clients": {"indexer", "indexer/access", "indexer/pesde", "indexer/query", "indexer/web/answer", "indexer/web/login"},
	"indexer/ingest":      {"indexer", "indexer/postgres", "indexer/remote"},
	"indexer/packages":    {"indexer", "indexer/access", "indexer/pesde", "indexer/postgres", "indexer/remote"},
	"indexer/manage":      {"indexer", "indexer/access", "indexer/postgres", "indexer/remote"},
	"indexer/cmd/portbook": {
		"indexer", "indexer/access", "indexer/collect", "indexer/config", "indexer/database", "indexer/deliver",
		"indexer/errorreport", "indexer/imports", "indexer/ingest", "indexer/manage", "indexer/packages", "indexer/pesde",
		"indexer/plan", "indexer/postgres", "indexer/provider", "indexer/redissession", "indexer/remote", "indexer/retention", "indexer/web",
		"indexer/web/answer", "indexer/web/clients", "indexer/web/login", "schema",
	},
}

// closed are the modules whose packages may import only each other.
var closed = []string{"registry", "schema"}

// A package may import only the packages in mayImport, so that imports go one way.
func TestImports(t *testing.T) {
	t.Parallel()
	for _, module := range append([]string{"indexer"}, closed...) {
		for pkg, imports := range importsOf(t, module) {
			for _, imported := range imports {
				allowed, listed := mayImport[pkg]
				switch {
				case slices.Contains(closed, module) && strings.HasPrefix(imported, module):
				case !listed && module == "indexer":
					t.Errorf("package %s is not in mayImport: say what it may import, here and in doc/design.md", pkg)
				case !slices.Contains(allowed, imported):
					t.Errorf("package %s imports %s", pkg, imported)
				}
			}
		}
	}
}

// importsOf returns the packages of ours that each package of a module imports.
func importsOf(t *testing.T, module string) map[string][]string {
	t.Helper()
	imports := map[string][]string{}
	root := filepath.Join("..", module)
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		dir, err := filepath.Rel("..", filepath.Dir(name))
		if err != nil {
			return err
		}
		pkg := path.Clean(filepath.ToSlash(dir))
		imports[pkg] = append(imports[pkg], nil...)
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if rest, found := strings.CutPrefix(imported, ours); found {
				imports[pkg] = append(imports[pkg], rest)
			}
		}
		return nil
	})
	if err != nil || len(imports) == 0 {
		t.Fatalf("%d packages in %s, %v", len(imports), module, err)
	}
	return imports
}

// The list of modules that the program is linked with must not change by accident: each
// line is code that we ship.
func TestModules(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", "./cmd/portbook")
	cmd.Env = append(os.Environ(), "GOWORK=off")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	modules := strings.Fields(string(out))
	slices.Sort(modules)
	got := strings.Join(slices.Compact(modules), "\n") + "\n"
	const golden = "testdata/modules.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("the modules linked into cmd/portbook differ from %s (-want +got); `make golden` rewrites it:\n%s", golden, diff)
	}
}
