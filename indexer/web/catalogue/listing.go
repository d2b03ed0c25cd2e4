package catalogue

import (
	"cmp"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/query"
	"github.com/portbook/portbook/indexer/web/answer"
)

// A catalogueView is a list of repositories: all, those of a namespace, or the results
// of a search.
type catalogueView struct {
	Heading    string
	Query      string
	Total      int // on all pages; -1 if not known
	AtLeast    bool
	Results    []resultView
	Facets     []facetView
	Counted    int  // repositories that the facets were counted over
	All        bool // whether those are all results
	Floor      bool // whether the count of a facet is a lower bound
	Sorts      []choice
	DidYouMean *choice
	Empty      bool     // whether there are no repositories at all
	FirstPush  commands // if Empty
	Back, More string   // addresses of the previous and next page; "" if there is none
	NoPage     int      // the requested page number, if it is after the last
	Last       choice   // the last page, if NoPage is set
	Deep       bool     // whether there are results after the last page
	After      string   // the name after which the list has no more results
}

// A resultView is a repository in a list.
type resultView struct {
	indexer.Result
	Platforms []string
	Badges    []badge
}

// A choice is a link that changes what a page shows.
type choice struct {
	Text, Address string
	Current       bool
}

// A facetView is a facet whose values are links: each adds a condition to the query or
// removes it.
type facetView struct {
	Title  string
	Values []facetChoice
}

type facetChoice struct {
	choice
	Value   string
	Count   int  // results of the link; 0 if not counted
	AtLeast bool // Count is a lower bound
}

// A listing holds the parameters of a list of repositories.
type listing struct {
	path  string // path of the page
	q     query.Query
	inner string // the part of the query that the path implies
	sort  string // as in the address, "" for the default order
	page  int    // from 1
	asked int    // the page number in the address, without limit

	inQuery query.Sort // the order that the query itself asks for; "": none
}

// listingOf parses the address of a list. text is the whole query.
func listingOf(r *http.Request, path, text, inner string) (l listing, err error) {
	v := r.URL.Query()
	l = listing{path: path, inner: inner, sort: v.Get("sort"), asked: max(answer.Number(v.Get("page"), 1), 1)}
	l.page = min(l.asked, answer.LastPage(pageSize))
	if l.q, err = query.Parse(text, time.Now()); err != nil {
		return l, err
	}
	after := v.Get("after")
	if after != "" {
		if !indexer.IsRepository(after) {
			return l, answer.Invalid("after", "is %q, which is not a repository name", answer.Cut(after, 64))
		}
		l.sort = string(query.SortName) // the only order in which a list can start after a name
	}
	if l.sort != "" && !slices.Contains(answer.Sorts[1:], l.sort) {
		return l, answer.Invalid("sort", "is %.64q: write one of %s", l.sort, strings.Join(answer.Sorts[1:], ", "))
	}
	if l.inQuery = l.q.Sort; l.sort == "" {
		l.sort = string(l.q.Sort)
	}
	l.q.Sort = query.Sort(l.sort)
	if l.q.Sort == query.SortName {
		l.q.After, l.page, l.asked = after, 1, 1
	}
	l.q = l.q.Page(pageSize, (l.page-1)*pageSize)
	return l, nil
}

// address returns the address of the same list with another order, page or start.
func (l listing) address(sort string, page int, after string) string {
	return l.with(l.shownQuery(), sort, page, after)
}

// shownQuery returns the query in the address of the page.
func (l listing) shownQuery() string {
	if l.inner != "" {
		return ""
	}
	return l.q.Text
}

func (l listing) with(query, sort string, page int, after string) string {
	v := url.Values{}
	set := func(name, value string) {
		if value != "" {
			v.Set(name, value)
		}
	}
	set("q", query)
	set("sort", sort)
	set("after", after)
	if page > 1 {
		set("page", strconv.Itoa(page))
	}
	if len(v) == 0 {
		return l.path
	}
	return l.path + "?" + v.Encode()
}

// List serves the repositories that a query finds.
func (s *Catalogue) List(w http.ResponseWriter, r *http.Request) error {
	text := r.URL.Query().Get("q")
	if at := r.URL.Query().Get("at"); at != "" {
		return s.listAt(w, r, text, at)
	}
	l, err := listingOf(r, "/", text, "")
	var wrong *query.Error
	if errors.As(err, &wrong) {
		return s.wrongQuery(w, text, wrong)
	}
	if err != nil {
		return err
	}
	title := "Catalogue"
	if l.q.Text != "" {
		title = "Search"
	}
	return s.htmlAs(w, r, s.pageForm().Of(l.q), "catalogue", func(b answer.Book) (page, error) {
		view, err := s.list(r, b, l)
		view.Heading = title
		return page{Title: title, Query: l.q.Text, Main: view}, err
	})
}

// Namespace serves the repositories of a namespace. Its address is not below /r/, where
// every path is the name of a repository.
func (s *Catalogue) Namespace(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("namespace")
	if !indexer.IsRepository(name) || strings.Contains(name, "/") {
		return answer.Invalid("namespace", "is %.64q: write the part of a repository name before its first slash", name)
	}
	term := "namespace:" + name
	l, err := listingOf(r, "/n/"+name, term, term)
	if err != nil {
		return err
	}
	if l.q.Sort == query.SortName && l.q.After < name+"/" {
		l.q.After = name + "/" // skips the names before those of the namespace
	}
	err = s.html(w, r, "catalogue", func(b answer.Book) (page, error) {
		view, err := s.list(r, b, l)
		if err == nil && len(view.Results) == 0 && view.Back == "" && view.NoPage == 0 {
			return page{}, missingNamespace(r, b, name)
		}
		view.Heading, view.Empty = name, false
		return page{Title: name, Query: term + " ", Main: view}, err
	})
	return s.orMissing(w, err)
}

// list reads a page of a list, its total and its facets.
func (s *Catalogue) list(r *http.Request, b answer.Book, l listing) (v catalogueView, err error) {
	var found indexer.Results
	err = s.answerer.Timed("page", func() (err error) {
		found, err = b.Search(r.Context(), l.q)
		return err
	})
	if err != nil {
		return v, err
	}
	v = catalogueView{
		Query: l.shownQuery(), FirstPush: s.site.firstPush(),
		Results: answer.Map(found.Items, viewResult), Sorts: l.sorts(found),
	}
	if v.Total, err = total(r, b, l.q, found); err != nil {
		return v, err
	}
	v.AtLeast = found.AtLeast && len(l.q.Clauses) > 0 // else all were counted
	if l.behind(&v) {
		return v, nil
	}
	if v.Back, v.More = l.around(found); v.Total == 0 && l.page > 1 {
		v.Back = "" // no page has results
	}
	v.Empty = len(l.q.Clauses) == 0 && len(found.Items) == 0 && v.Back == ""
	if len(found.Items) == 0 {
		if v.Back != "" {
			v.After = l.q.After
		}
		v.DidYouMean, err = didYouMean(r, b, l)
		return v, err
	}
	facets, err := s.facets(r.Context(), b, l.q)
	v.Facets, v.Counted, v.All = l.facets(facets), facets.Counted, facets.All
	for _, f := range v.Facets {
		v.Floor = v.Floor || slices.ContainsFunc(f.Values, func(c facetChoice) bool { return c.AtLeast && c.Count > 0 })
	}
	return v, err
}

// behind reports whether the requested page is after the last one, and sets the fields
// of v for that case.
func (l listing) behind(v *catalogueView) bool {
	pages := (v.Total + pageSize - 1) / pageSize
	last := min(pages, answer.LastPage(pageSize))
	if v.Total <= 0 || l.q.Sort == query.SortName || l.asked <= last {
		return false
	}
	v.NoPage, v.Results, v.Deep = l.asked, nil, pages > last
	v.Last = choice{Text: grouped(int64(last)), Address: l.address(l.sort, last, "")}
	return true
}

// total returns the number of results on all pages, -1 if it was not counted.
func total(r *http.Request, b answer.Book, q query.Query, found indexer.Results) (int, error) {
	switch {
	case len(q.Clauses) == 0:
		return b.CountRepositories(r.Context())
	case q.Sort == query.SortName && q.After != "":
		return -1, nil
	}
	return found.Total, nil
}

// around returns the addresses of the previous and next page. Lists by name continue
// after the last name; others use page numbers, up to the limit of a search.
func (l listing) around(found indexer.Results) (back, more string) {
	n := len(found.Items)
	if l.q.Sort == query.SortName {
		if l.q.After != "" && l.q.After != strings.TrimPrefix(l.path, "/n/")+"/" {
			back = l.address(l.sort, 1, "")
		}
		if n == pageSize && (l.q.After != "" || found.Total > n) {
			more = l.address(l.sort, 1, found.Items[n-1].Name)
		}
		return back, more
	}
	if l.page > 1 {
		back = l.address(l.sort, l.page-1, "")
	}
	if l.page*pageSize < found.Total && l.page < answer.LastPage(pageSize) {
		more = l.address(l.sort, l.page+1, "")
	}
	return back, more
}

// sorts returns the orders of a list; the order by pulls only if there are pulls.
func (l listing) sorts(found indexer.Results) (list []choice) {
	standard := "best match"
	if words, _ := l.q.FreeWords(); len(words) == 0 {
		standard = "latest change"
	}
	orders := []choice{
		{Text: standard, Address: ""},
		{Text: "name", Address: string(query.SortName)},
		{Text: "size", Address: string(query.SortSize)},
	}
	if standard == "best match" {
		orders = append(orders, choice{Text: "latest change", Address: string(query.SortUpdated)})
	}
	pulled := l.q.Sort == query.SortPulls
	for _, i := range found.Items {
		pulled = pulled || i.Pulls > 0
	}
	if pulled {
		orders = append(orders, choice{Text: "pulls", Address: string(query.SortPulls)})
	}
	if l.inQuery != "" {
		orders = orders[1:] // the query itself asks for another order
	}
	for _, o := range orders {
		list = append(list, choice{Text: o.Text, Address: l.address(o.Address, 1, ""), Current: o.Address == l.sort})
	}
	return list
}

func didYouMean(r *http.Request, b answer.Book, l listing) (*choice, error) {
	if len(l.q.Clauses) == 0 || l.page > 1 || l.q.After != "" {
		return nil, nil
	}
	text, err := b.Correct(r.Context(), l.q)
	if err != nil || text == "" {
		return nil, err
	}
	return &choice{Text: text, Address: l.with(text, "", 1, "")}, nil
}

// viewResult returns a repository with the facts that a list shows.
func viewResult(r indexer.Result) resultView {
	return resultView{Result: r, Platforms: platformFacts(r.Facts), Badges: badges(r)}
}

// facetTitles are the titles of the facets that are shown.
var facetTitles = map[indexer.FactKind]string{
	indexer.FactNamespace: "Namespace", indexer.FactOS: "Operating system", indexer.FactArchitecture: "Architecture",
	indexer.FactType: "Type", indexer.FactLicence: "Licence", indexer.FactLabel: "Label",
}

// attachedTerms are conditions about the origin of images, which are always offered,
// without a count.
var attachedTerms = []struct {
	fact indexer.Fact
	text string
}{
	{indexer.HasSignature, "signature"}, {indexer.HasSBOM, "SBOM"}, {indexer.HasAttestation, "attestation"},
	{indexer.IsMultiarch, "several platforms"},
}

func (l listing) facets(found indexer.Facets) (list []facetView) {
	has := facetView{Title: "Has"}
	for _, t := range attachedTerms {
		has.Values = append(has.Values, facetChoice{choice: l.toggle(string(t.fact), t.text), Value: string(t.fact)})
	}
	list = append(list, has)
	for _, f := range found.Facets {
		title := facetTitles[f.Name]
		if title == "" || l.inner != "" && f.Name == indexer.FactNamespace {
			continue
		}
		view := facetView{Title: title}
		for _, v := range f.Values {
			view.Values = append(view.Values, l.facetChoice(f.Name, v))
		}
		list = append(list, view)
	}
	return list
}

// facetChoice returns a value as a link. A value that cannot be written as a condition
// has no link.
func (l listing) facetChoice(name indexer.FactKind, v indexer.FacetValue) facetChoice {
	c := facetChoice{choice: choice{Text: answer.Cut(v.Value, 80)}, Value: v.Value, Count: v.Count, AtLeast: v.AtLeast}
	switch name {
	case indexer.FactType:
		c.Text = answer.Cut(artifactName(v.Value), 80)
	case indexer.FactLabel: // most have this prefix, and space is limited
		c.Text = answer.Cut(strings.TrimPrefix(v.Value, "org.opencontainers.image."), 80)
	}
	if term, ok := query.FieldTerm(string(name), v.Value); ok {
		if c.choice = l.toggle(term, c.Text); c.Current {
			c.Count = 0 // the link removes the condition and finds other results
		}
	}
	return c
}

// toggle returns the link that adds a condition to the query or removes it.
func (l listing) toggle(term, text string) choice {
	whole := listing{path: "/"}
	if query.HasTerm(l.q.Text, term) {
		return choice{Text: text, Address: whole.with(query.WithoutTerm(l.q.Text, term), l.sort, 1, ""), Current: true}
	}
	if with := query.WithTerm(l.q.Text, term); len(with) <= query.MaxLength {
		return choice{Text: text, Address: whole.with(with, l.sort, 1, "")}
	}
	return choice{Text: text}
}

// A wrongView is a query with an error, split at the part that is wrong.
type wrongView struct {
	Before, Part, After, Problem string
}

// wrongQuery shows where a query is wrong and keeps it in the search box.
func (s *Catalogue) wrongQuery(w http.ResponseWriter, text string, wrong *query.Error) error {
	end := wrong.Offset + wrong.Length
	return s.unstored(w, http.StatusBadRequest, "wrong", page{Title: "Search", Query: text, Main: wrongView{
		Before: answer.Cut(wrong.Query[:wrong.Offset], answer.MaxValue),
		Part:   cmp.Or(answer.Cut(wrong.Query[wrong.Offset:end], answer.MaxValue), " "),
		After:  answer.Cut(wrong.Query[end:], answer.MaxValue), Problem: wrong.Problem,
	}})
}
