package pesde

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"path"
	"slices"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"
)

// categoryFile describes the directory in which it is.
const categoryFile = "_category_.json"

// docs collects the pages below docs/.
type docs struct {
	files int
	root  category
	pages []Page
}

// A category is a directory below docs/.
type category struct {
	info  docInfo
	pages []Doc
	below map[string]*category
}

// docInfo is what the front matter of a page, or a categoryFile, says.
type docInfo struct {
	Label     string `json:"label" yaml:"label"`
	Position  *int64 `json:"sidebar_position" yaml:"sidebar_position"`
	Position2 *int64 `json:"position" yaml:"position"` // another name of sidebar_position
	Collapsed bool   `json:"collapsed" yaml:"collapsed"`
}

func (i docInfo) position() *int64 {
	if i.Position != nil {
		return i.Position
	}
	return i.Position2
}

// folder makes the category of a directory.
func (d *docs) folder(name string) error {
	_, err := d.in(name)
	return err
}

// in returns the category of a directory; "." is docs/ itself.
func (d *docs) in(name string) (*category, error) {
	c := &d.root
	if name == "." {
		return c, nil
	}
	parts := strings.Split(name, "/")
	if len(parts) > maxDepth {
		return nil, invalidArchive("docs has more than %d directories in one another", maxDepth)
	}
	for _, part := range parts {
		if c.below[part] == nil {
			if c.below == nil {
				c.below = map[string]*category{}
			}
			c.below[part] = &category{info: docInfo{Label: titleCase(part)}}
		}
		c = c.below[part]
	}
	return c, nil
}

// add adds a page, or the description of a category.
func (d *docs) add(name string, text []byte) error {
	c, err := d.in(path.Dir(name))
	if err != nil {
		return err
	}
	if path.Base(name) == categoryFile {
		return c.describe(text)
	}
	trimmed := strings.TrimSpace(string(text))
	sum := sha256.Sum256([]byte(trimmed))
	page := Page{strings.TrimSuffix(name, ".md"), hex.EncodeToString(sum[:]), []byte(trimmed)}
	info, err := pageInfo(page)
	if err != nil {
		return err
	}
	c.pages = append(c.pages, Doc{Label: info.Label, Position: info.position(), Name: page.Name, Hash: page.Hash})
	if !slices.ContainsFunc(d.pages, func(p Page) bool { return p.Hash == page.Hash }) {
		d.pages = append(d.pages, page)
	}
	return nil
}

func (c *category) describe(text []byte) error {
	label := c.info.Label
	c.info = docInfo{}
	if err := json.Unmarshal(text, &c.info); err != nil {
		return invalidArchive("%s isn't valid JSON", categoryFile)
	}
	c.info.Label = cmp.Or(c.info.Label, label)
	return nil
}

// pageInfo returns what a page says of itself: in its front matter, in its heading, or by its
// name.
func pageInfo(p Page) (info docInfo, err error) {
	name := path.Base(p.Name)
	lines := strings.Split(strings.ReplaceAll(string(p.Text), "\r\n", "\n"), "\n")
	if lines[0] == "---" {
		end := slices.Index(lines[1:], "---") + 1
		if end == 0 {
			end = len(lines)
		}
		if err := yaml.Unmarshal([]byte(strings.Join(lines[1:end], "\n")), &info); err != nil {
			return info, invalidArchive("doc %s's frontmatter isn't valid YAML", shorten(name))
		}
		lines = lines[min(end+2, len(lines)):] // pesde's registry skips the line after it too
	}
	first := slices.IndexFunc(lines, func(line string) bool { return strings.TrimSpace(line) != "" })
	if first >= 0 && info.Label == "" {
		if heading, ok := strings.CutPrefix(lines[first], "# "); ok {
			info.Label = heading
		}
	}
	info.Label = cmp.Or(info.Label, titleCase(name))
	return info, nil
}

// entries returns the documentation as the index has it, and its pages.
func (d *docs) entries() ([]Doc, []Page, error) {
	all := d.root.entries()
	if err := checkDocs(all, 0); err != nil {
		return nil, nil, invalidArchive("%s", err)
	}
	return all, d.pages, nil
}

// entries returns pages and categories in their order: by position, those without one last, then by
// label. Of two with the same of both, the index has one.
func (c *category) entries() []Doc {
	all := slices.Clone(c.pages)
	for _, below := range c.below {
		all = append(all, Doc{
			Label: below.info.Label, Position: below.info.position(), Collapsed: below.info.Collapsed, Items: below.entries(),
		})
	}
	slices.SortFunc(all, func(a, b Doc) int { return cmp.Or(compareDocs(a, b), cmp.Compare(a.Name, b.Name)) })
	return slices.CompactFunc(all, func(a, b Doc) bool { return compareDocs(a, b) == 0 })
}

func compareDocs(a, b Doc) int {
	switch {
	case a.Position == nil && b.Position != nil:
		return 1
	case a.Position != nil && b.Position == nil:
		return -1
	case a.Position != nil && *a.Position != *b.Position:
		return cmp.Compare(*a.Position, *b.Position)
	}
	return cmp.Compare(a.Label, b.Label)
}

// titleCase returns a name as a title: gettingStarted-2 is Getting Started 2.
func titleCase(name string) string {
	var words []string
	var word []rune
	end := func() {
		if len(word) > 0 {
			words = append(words, strings.ToUpper(string(word[:1]))+strings.ToLower(string(word[1:])))
		}
		word = nil
	}
	var last rune
	for _, r := range name {
		switch {
		case r == '-' || r == '_' || unicode.IsSpace(r):
			end()
			last = 0
			continue
		case unicode.IsUpper(r) && unicode.IsLower(last), last != 0 && unicode.IsDigit(r) != unicode.IsDigit(last):
			end()
		}
		word, last = append(word, r), r
	}
	end()
	return strings.Join(words, " ")
}
