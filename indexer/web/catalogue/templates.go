package catalogue

import (
	"bytes"
	"html/template"
	"io"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/query"
	"github.com/portbook/portbook/indexer/web/answer"
)

// shared are the template files that all pages may use: the layout, parts of pages,
// icons.
var shared = []string{"layout.html", "parts.html", "icons.html", "usage.html"}

// parsePages parses the templates of all pages: each is the layout with "main" as the
// file of the page defines it.
//
// They are parsed once for all Catalogues of a program, since tests make many.
var parsePages = sync.OnceValue(func() map[string]*template.Template {
	assets := readAssets()
	base := template.New("layout.html").Funcs(template.FuncMap{
		"asset":        func(name string) string { return "/static/" + name + "?v=" + assets[name].hash },
		"at":           func(repository string, d digest.Digest) spot { return spot{repository, d} },
		"clock":        func(t time.Time) string { return t.UTC().Format("15:04") },
		"count":        count,
		"cut":          answer.Cut,
		"date":         date,
		"day":          func(t time.Time) string { return t.UTC().Format("2 January 2006") },
		"effects":      func(repository string, list []indexer.Effected) effects { return effects{repository, list} },
		"exact":        func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
		"happened":     happened,
		"headline":     headline,
		"httpURL":      httpURL,
		"grouped":      grouped,
		"less":         func(n int) int { return n - 1 },
		"number":       func(n int) string { return grouped(int64(n)) },
		"plain":        plainMarkdown,
		"platforms":    platforms,
		"reportedLate": reportedLate,
		"rfc3339":      func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"rfc3339nano":  func(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) },
		"short":        answer.Short,
		"size":         size,
	})
	for _, name := range shared {
		template.Must(base.ParseFS(files, "templates/"+name))
	}
	pages := map[string]*template.Template{}
	for _, e := range must(files.ReadDir("templates")) {
		if slices.Contains(shared, e.Name()) {
			continue
		}
		t := template.Must(base.Clone())
		name := strings.TrimSuffix(e.Name(), path.Ext(e.Name()))
		pages[name] = template.Must(t.ParseFS(files, "templates/"+e.Name()))
	}
	return pages
})

// effects are manifests that an operation changes, for the template that lists them.
type effects struct {
	Repository string
	List       []indexer.Effected
}

// AnyTags reports whether tags show any of the manifests, as far as the operation knows.
func (e effects) AnyTags() bool {
	return slices.ContainsFunc(e.List, func(m indexer.Effected) bool { return len(m.Tags) > 0 })
}

// A spot is a digest in a repository, for the template that shows one.
type spot struct {
	Repository string
	Digest     digest.Digest
}

// render writes a page. html/template escapes the text of strangers, and
// answer.Harmless then processes the whole page, so that no template can forget it.
func (s *Catalogue) render(out io.Writer, name string, p page) error {
	p.Login = s.config.Login != nil && s.config.Login.Accounts != nil
	var b bytes.Buffer
	if err := s.pages[name].Execute(&b, p); err != nil {
		return err
	}
	_, err := out.Write(answer.Harmless(b.Bytes()))
	return err
}

// must returns v. Its callers read what is built into the program, which cannot fail.
func must[T any](v T, errs ...error) T {
	for _, err := range errs {
		if err != nil {
			panic(err)
		}
	}
	return v
}

// size formats bytes in binary units, with at least three digits.
func size(n int64) string { return sizeIn(1024, n) }

// sizeIn formats bytes in units of powers of 1024 or 1000, with at least three digits.
func sizeIn(base, n int64) string {
	if n < base {
		return strconv.FormatInt(n, 10) + " B"
	}
	units := []string{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	if base == 1000 {
		units = []string{"kB", "MB", "GB", "TB", "PB", "EB"}
	}
	f, unit := float64(n), ""
	for _, unit = range units {
		if f /= float64(base); f < 1000 {
			break
		}
	}
	decimals := 0
	if f < 10 {
		decimals = 2
	} else if f < 100 {
		decimals = 1
	}
	return strconv.FormatFloat(f, 'f', decimals, 64) + " " + unit
}

// count returns a number and its noun.
func count(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return grouped(n) + " " + many
}

// grouped formats n with commas between thousands.
func grouped(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// date formats a time in UTC, because a page is the same for all readers. A relative
// time such as "3 days ago" would be wrong in a cached page.
func date(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// headline returns the title of a repository, "" if it only repeats the name.
func headline(r indexer.Repository) string {
	title := query.Words(r.Title)
	if slices.Equal(title, query.Words(path.Base(r.Name))) || slices.Equal(title, query.Words(r.Name)) {
		return ""
	}
	return r.Title
}

// platforms returns at most 20 platforms on one line.
func platforms(list []indexer.Platform) string {
	var names []string
	for _, p := range list[:min(len(list), 20)] {
		if !p.IsUnknown() {
			names = append(names, p.String())
		}
	}
	return strings.Join(names, ", ")
}

// httpURL returns s if it is an HTTP address that is safe to link to, else "".
func httpURL(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.User != nil || u.Scheme != "http" && u.Scheme != "https" {
		return ""
	}
	return u.String()
}
