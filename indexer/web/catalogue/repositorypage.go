package catalogue

import (
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/query"
	"github.com/portbook/portbook/indexer/web/answer"
)

// maxSorted is the most tags that are all read, to sort them as versions and to filter
// them: 1,000, some 10 ms. A repository with more shows them in bytewise order, the
// order of the database.
const maxSorted = 1000

type repositoryView struct {
	indexer.Repository
	Space        string // namespace, "" if it is in none
	Found        indexer.Result
	Badges       []badge
	Text         template.HTML // the description
	Commands     commands
	ByDigest     commands
	Origin       []origin
	Chart        *chart
	Usage        *usageView
	TagList      []tagView
	Names        []string // of the tags that can be compared
	From         string   // default tag to compare the first of Names with
	Platforms    []string // that can be selected
	Filter       tagFilter
	Bytewise     bool // too many tags to sort and filter all of them
	Matched      int  // tags that match the filter; -1 if not known
	Back, More   string
	Kept         int                        // tags of signatures and the like from older tools; 0 if not all are read
	HasTags, Any bool                       // whether there are tags at all, and whether any match the filter
	Manages      bool                       // whether people can sign in, and so ask for changes
	Counted      *indexer.RepositoryStorage // nil: not counted yet
	CountedAll   indexer.Storage
	Oversees     bool // whether the one who looks manages its grants
	Notices      []notice
	Yanks        []yankLink
	notices      indexer.Notices
}

// A tagView is a tag in a list, with other tags of the same digest.
type tagView struct {
	indexer.Tag
	Same   []string
	Badges []badge
}

// A tagFilter is the filter of tags in the address of a repository page.
type tagFilter struct{ Tag, Platform, After string }

func tagFilterOf(r *http.Request) (tagFilter, error) {
	v := r.URL.Query()
	f := tagFilter{
		Tag: strings.TrimSpace(v.Get("tag")), Platform: strings.TrimSpace(v.Get("platform")), After: v.Get("after"),
	}
	switch {
	case f.After != "" && !indexer.IsTag(f.After):
		return f, answer.Invalid("after", "is %q, which is not a tag", answer.Cut(f.After, 64))
	case len(f.Tag) > 128:
		return f, answer.Invalid("tag", "has %d bytes: a tag has at most 128", len(f.Tag))
	case len(f.Platform) > 256:
		return f, answer.Invalid("platform", "has %d bytes: a platform has at most 256", len(f.Platform))
	}
	return f, nil
}

// holds reports whether a tag matches f.
func (f tagFilter) holds(t indexer.Tag) bool {
	if !strings.Contains(strings.ToLower(t.Name), strings.ToLower(f.Tag)) {
		return false
	}
	isAsked := func(p indexer.Platform) bool { return p.String() == f.Platform }
	return f.Platform == "" || slices.ContainsFunc(t.Platforms, isAsked)
}

// address returns the address of the page that starts after the tag after.
func (f tagFilter) address(repository, after string) string {
	v := url.Values{}
	for name, value := range map[string]string{"tag": f.Tag, "platform": f.Platform, "after": after} {
		if value != "" {
			v.Set(name, value)
		}
	}
	if len(v) == 0 {
		return "/r/" + repository
	}
	return "/r/" + repository + "?" + v.Encode()
}

func (s *Catalogue) repositoryPage(w http.ResponseWriter, r *http.Request, name string) error {
	filter, err := tagFilterOf(r)
	if err != nil {
		return err
	}
	if at := r.URL.Query().Get("at"); at != "" {
		return s.repositoryAt(w, r, name, filter, at)
	}
	oversees, err := s.oversees(r, name)
	if err != nil {
		return err
	}
	as := s.pageForm()
	if oversees {
		as = as.For("who manages its grants")
	}
	return s.htmlAs(w, r, as, "repository", func(b answer.Book) (page, error) {
		view, err := s.repositoryView(r, b, name, filter)
		view.Oversees, view.Manages = oversees, s.manages()
		return page{Title: name, Main: view}, err
	})
}

// manages reports whether people can sign in, and so ask for changes of what the registry stores.
func (s *Catalogue) manages() bool { return s.config.Login != nil && s.config.Login.Accounts != nil }

// oversees reports whether the person who is signed in manages the grants of a repository.
func (s *Catalogue) oversees(r *http.Request, name string) (bool, error) {
	if s.config.Login == nil || s.config.Login.Accounts == nil {
		return false, nil
	}
	who, err := s.config.Login.Person(r)
	return who.OverseesRepository(name), err
}

func (s *Catalogue) repositoryView(r *http.Request, b answer.Book, name string,
	filter tagFilter) (repositoryView, error) {
	ctx := r.Context()
	repository, err := b.Repository(ctx, name)
	if err != nil {
		return repositoryView{}, nearby(r, b, indexer.Reference{Repository: name}, err)
	}
	v := repositoryView{
		Repository: repository, Space: repository.Namespace(), Text: markdown(repository.Description),
		Filter: filter, Matched: -1,
	}
	if v.notices, err = b.Notices(ctx, name); err != nil {
		return v, err
	}
	v.Notices, v.Yanks = noticesOfRepository(v.notices), yankLinks(v.notices, name, "", "")
	self := query.Query{Clauses: []query.Clause{{{Field: query.FieldRepository, Value: name}}}, Unlisted: true}
	found, err := b.Search(ctx, self.Page(1, 0))
	if err != nil {
		return v, err
	}
	if len(found.Items) == 1 {
		v.Found, v.Badges = found.Items[0], badges(found.Items[0])
	}
	if err := v.readTags(r, b); err != nil {
		return v, err
	}
	moves, err := b.History(ctx, name, "", 0, chartMoves)
	if err != nil {
		return v, err
	}
	v.Chart = newChart(moves)
	if err := v.readStorage(r, b); err != nil {
		return v, err
	}
	if v.Usage, err = usageOf(r, b, indexer.Reference{Repository: name}, ""); err != nil {
		return v, err
	}
	return v, s.lead(r, b, &v)
}

// readStorage reads what the repository took when it was last counted.
func (v *repositoryView) readStorage(r *http.Request, b answer.Book) (err error) {
	list, err := b.RepositoryStorage(r.Context(), indexer.StorageQuery{Name: v.Name, Limit: 1})
	if err != nil || len(list) == 0 {
		return err
	}
	v.Counted = &list[0]
	v.CountedAll, err = b.Storage(r.Context())
	return err
}

// readTags reads the tags of the page.
func (v *repositoryView) readTags(r *http.Request, b answer.Book) error {
	if v.HasTags = v.Tags > 0; v.Tags > maxSorted {
		v.Bytewise = true
		return v.readBytewise(r, b)
	}
	all, err := b.Tags(r.Context(), v.Name, "", maxSorted)
	if err != nil {
		return err
	}
	v.HasTags = len(all) > 0
	for _, t := range all {
		if indexer.IsReferrerTag(t.Name) {
			v.Kept++
		}
	}
	indexer.SortTags(all)
	v.Platforms = platformsOf(all)
	list := slices.DeleteFunc(slices.Clone(all), func(t indexer.Tag) bool { return !v.Filter.holds(t) })
	v.Matched = len(list)
	if after := v.Filter.After; after != "" {
		list = slices.DeleteFunc(list, func(t indexer.Tag) bool { return indexer.CompareTags(t.Name, after) <= 0 })
	}
	v.turn(list, all)
	return nil
}

// readBytewise reads a page of tags if there are too many to sort. Only a filter for a
// prefix of the tag is supported: it uses the order of the database.
func (v *repositoryView) readBytewise(r *http.Request, b answer.Book) error {
	if v.Filter.Platform = ""; v.Filter.Tag != "" && !indexer.IsTag(v.Filter.Tag) {
		return nil // no tag begins with it
	}
	list, err := b.Tags(r.Context(), v.Name, max(v.Filter.After, indexer.TextBefore(v.Filter.Tag)), pageSize+1)
	if err != nil {
		return err
	}
	list = slices.DeleteFunc(list, func(t indexer.Tag) bool { return !strings.HasPrefix(t.Name, v.Filter.Tag) })
	v.turn(list, list)
	return nil
}

// turn takes one page from list. Tags of the same digest are looked for in all.
func (v *repositoryView) turn(list, all []indexer.Tag) {
	if v.Filter.After != "" {
		v.Back = v.Filter.address(v.Name, "")
	}
	if len(list) > pageSize {
		list = list[:pageSize]
		v.More = v.Filter.address(v.Name, list[pageSize-1].Name)
	}
	v.Any = len(list) > 0
	same := map[digest.Digest][]string{}
	for _, t := range all {
		if t.Digest != "" {
			same[t.Digest] = append(same[t.Digest], t.Name)
		}
	}
	var newest digest.Digest
	for _, t := range list {
		others := slices.DeleteFunc(slices.Clone(same[t.Digest]), func(name string) bool { return name == t.Name })
		v.TagList = append(v.TagList, tagView{Tag: t, Same: others[:min(len(others), 4)],
			Badges: append(marks(t.Has), tagBadges(v.notices, t)...)})
		if t.Digest == "" || indexer.IsReferrerTag(t.Name) {
			continue // nobody compares an image with a signature
		}
		if v.From == "" && len(v.Names) > 0 && t.Digest != newest {
			v.From = t.Name
		}
		if len(v.Names) == 0 {
			newest = t.Digest
		}
		v.Names = append(v.Names, t.Name)
	}
}

// platformsOf returns the platforms of all tags, sorted.
func platformsOf(tags []indexer.Tag) (list []string) {
	for _, t := range tags {
		for _, p := range t.Platforms {
			if !p.IsUnknown() && !slices.Contains(list, p.String()) && len(list) < answer.MaxShown {
				list = append(list, p.String())
			}
		}
	}
	slices.Sort(list)
	return list
}

// lead adds what is read from the leading tag: pull commands and origin.
func (s *Catalogue) lead(r *http.Request, b answer.Book, v *repositoryView) error {
	if v.Leading == "" {
		return nil
	}
	ref := indexer.Reference{Repository: v.Name, Tag: v.Leading}
	m, err := b.Manifest(r.Context(), ref)
	if errors.Is(err, indexer.ErrNotFound) {
		return nil // a tag can refer to a manifest that is not in the database
	}
	if err != nil {
		return err
	}
	v.Commands = s.site.pullCommands(ref, m)
	v.ByDigest = s.site.pullCommands(indexer.Reference{Repository: v.Name, Digest: m.Digest}, m)
	shown, err := firstImage(r, b, m)
	v.Origin = originOf(m.Annotations, shown.Annotations, m.Labels, shown.Labels)
	return err
}

// firstImage returns the first image of an index that is in the database, or m itself
// if it is not an index or has none.
func firstImage(r *http.Request, b answer.Book, m indexer.Manifest) (indexer.Manifest, error) {
	for _, e := range answer.First(m.Entries) {
		if e.Present && !e.Platform.IsUnknown() {
			return b.Manifest(r.Context(), indexer.Reference{Repository: m.Repository, Digest: e.Digest})
		}
	}
	return m, nil
}
