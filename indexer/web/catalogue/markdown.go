package catalogue

import (
	"bytes"
	"html/template"
	"net/url"
	"strings"

	"github.com/microcosm-cc/bluemonday"
	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"

	"github.com/portbook/portbook/indexer/web/answer"
)

// maxMarkdown is the most runes of a description that are rendered: 20,000, a long
// README. In longer texts, brackets and quotes nested deeper than people write them
// would cost the parser too much time.
const maxMarkdown = 20_000

// markdown renders text of strangers as CommonMark with tables and bare addresses.
// goldmark leaves out HTML; bluemonday then allows a few elements and nothing else,
// whatever goldmark has produced.
func markdown(s string) template.HTML {
	var b bytes.Buffer
	if err := markdownParser.Convert([]byte(answer.Cut(s, maxMarkdown)), &b); err != nil {
		return template.HTML(template.HTMLEscapeString(s))
	}
	return template.HTML(markdownPolicy.SanitizeBytes(b.Bytes()))
}

// maxPlain is the most runes of a description in a list: 300, of which the page shows
// two lines.
const maxPlain = 300

// plainMarkdown returns the words of a description without formatting.
func plainMarkdown(s string) template.HTML {
	s = answer.Cut(s, maxPlain)
	if !strings.ContainsAny(s, "#*_`[|<>~=-") { // most are one sentence
		return template.HTML(template.HTMLEscapeString(s))
	}
	return template.HTML(wordsPolicy.Sanitize(string(markdown(s))))
}

// wordsPolicy allows no element.
var wordsPolicy = bluemonday.StrictPolicy()

var markdownParser = goldmark.New(
	goldmark.WithExtensions(extension.Table, extension.Linkify, extension.Strikethrough),
	goldmark.WithParserOptions(parser.WithASTTransformers(util.Prioritized(lowerHeadings{}, 100))),
)

// lowerHeadings moves the headings of a description below the second level of the page,
// and makes none more than one level deeper than the one before it, as users of screen
// readers expect.
type lowerHeadings struct{}

func (lowerHeadings) Transform(doc *ast.Document, _ text.Reader, _ parser.Context) {
	last := 2
	_ = ast.Walk(doc, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if h, is := n.(*ast.Heading); is && entering {
			h.Level = min(h.Level+2, last+1, 6)
			last = h.Level
		}
		return ast.WalkContinue, nil
	})
}

// markdownPolicy allows no images: they would tell another server who reads which page.
var markdownPolicy = func() *bluemonday.Policy {
	p := bluemonday.NewPolicy()
	p.AllowElements("p", "br", "hr", "em", "strong", "del", "code", "pre", "blockquote", "ul", "ol", "li",
		"h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td")
	p.AllowAttrs("href").OnElements("a")
	for _, scheme := range []string{"http", "https"} {
		p.AllowURLSchemeWithCustomPolicy(scheme, func(u *url.URL) bool { return u.Host != "" && u.User == nil })
	}
	p.RequireParseableURLs(true)
	p.RequireNoFollowOnLinks(true)
	p.RequireNoReferrerOnLinks(true)
	return p
}()
