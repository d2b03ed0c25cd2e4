package indexer_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

// modules are the directories of the code that must follow the house style.
var modules = []string{"../registry", "../schema", ".", "../deploy", "../test"}

// goFiles calls visit for each Go file in a directory and below it, except tests.
func goFiles(t *testing.T, dir string, visit func(fset *token.FileSet, file *ast.File)) {
	t.Helper()
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return err
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, name, nil, parser.ParseComments)
		if err == nil {
			visit(fset, file)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Every exported name must have a doc comment.
func TestDocComments(t *testing.T) {
	t.Parallel()
	for _, module := range modules {
		goFiles(t, module, func(fset *token.FileSet, file *ast.File) {
			for _, d := range file.Decls {
				for _, name := range undocumented(d) {
					t.Errorf("%s: exported %s has no doc comment", fset.Position(name.Pos()), name)
				}
			}
		})
	}
}

// standard has the methods that interfaces of the standard library describe.
var standard = map[string]bool{"Error": true, "Unwrap": true, "ServeHTTP": true, "String": true}

// undocumented returns the exported names of a declaration without a doc comment,
// neither of their own nor of the declaration.
func undocumented(d ast.Decl) (names []*ast.Ident) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Doc == nil && d.Name.IsExported() && exportedReceiver(d) && !(d.Recv != nil && standard[d.Name.Name]) {
			names = append(names, d.Name)
		}
	case *ast.GenDecl:
		typed := false // the values have a type, whose comment describes them
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.TypeSpec:
				if s.Doc == nil && (d.Doc == nil || d.Lparen.IsValid()) && s.Name.IsExported() {
					names = append(names, s.Name)
				}
			case *ast.ValueSpec:
				typed = typed || s.Type != nil
				for _, name := range s.Names {
					if d.Doc == nil && s.Doc == nil && s.Comment == nil && !typed && name.IsExported() {
						names = append(names, name)
					}
				}
			}
		}
	}
	return names
}

// exportedReceiver reports whether a function has no receiver, or one of an exported
// type. Methods of other types implement an interface, which describes them.
func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	of := d.Recv.List[0].Type
	if star, ok := of.(*ast.StarExpr); ok {
		of = star.X
	}
	if generic, ok := of.(*ast.IndexExpr); ok {
		of = generic.X
	}
	name, ok := of.(*ast.Ident)
	return ok && name.IsExported()
}

// maxWidth is the maximum number of characters of a line; a tab counts as one. Two
// files, or a diff of two versions, then fit side by side on a screen.
const maxWidth = 120

// wide is the number of lines that may be wider than maxWidth, by module. It is for old
// code: lower a number when the module has fewer such lines.
var wide = map[string]int{"../registry": 0, "../schema": 0, ".": 40, "../deploy": 0, "../test": 13}

// Lines must not be too wide, since wide lines hide the length of a function. Texts
// between backquotes, most of them SQL, are not counted.
func TestLineWidth(t *testing.T) {
	t.Parallel()
	for _, module := range modules {
		found := 0
		goFiles(t, module, func(fset *token.FileSet, file *ast.File) {
			for _, line := range wideLines(t, fset, file) {
				found++
				if testing.Verbose() {
					t.Logf("%s:%d", fset.Position(file.Pos()).Filename, line)
				}
			}
		})
		if found > wide[module] {
			t.Errorf("%s has %d lines of more than %d characters, want at most %d; go test -v -run TestLineWidth lists them",
				module, found, maxWidth, wide[module])
		}
		if found < wide[module] {
			t.Logf("%s has only %d wide lines: lower its number from %d", module, found, wide[module])
		}
	}
}

// wideLines returns the numbers of the lines of a file that are too wide.
func wideLines(t *testing.T, fset *token.FileSet, file *ast.File) (numbers []int) {
	t.Helper()
	b, err := os.ReadFile(fset.Position(file.Pos()).Filename)
	if err != nil {
		t.Fatal(err)
	}
	raw := map[int]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		if text, ok := n.(*ast.BasicLit); ok && text.Kind == token.STRING && text.Value[0] == '`' {
			for line := fset.Position(text.Pos()).Line; line <= fset.Position(text.End()).Line; line++ {
				raw[line] = true
			}
		}
		return true
	})
	for i, line := range strings.Split(string(b), "\n") {
		if utf8.RuneCountInString(line) > maxWidth && !raw[i+1] {
			numbers = append(numbers, i+1)
		}
	}
	return numbers
}
