package catalogue

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/web/answer"
)

const (
	// storageList is how many namespaces, and how many repositories of each kind, the
	// storage page lists: 20. The API lists all of them.
	storageList = 20
	// noNamespace is used in addresses for repositories whose names have no slash. No
	// namespace has that name.
	noNamespace = "/"
)

// A storageView is the storage of all repositories, or of those of one namespace.
type storageView struct {
	indexer.Storage
	Whole            bar
	InNamespace      bool
	In               indexer.NamespaceStorage // the namespace whose repositories are listed
	Namespaces       []namespaceView
	Largest          []repositoryStorageView
	From, To         int  // positions of the listed repositories by size, from 1
	Short            bool // whether there are more than the pages can show
	Back, More       string
	Oldest, Untagged []indexer.RepositoryStorage
	Look             indexer.StorageLook // of all repositories; its Begin is zero if there is none
}

// Shared returns the bytes that several repositories share.
func (v storageView) Shared() int64 { return max(v.Size-v.Own, 0) }

// Used returns the bytes that only one repository uses, without untagged content.
func (v storageView) Used() int64 { return max(v.Own-v.UntaggedSize, 0) }

type namespaceView struct {
	indexer.NamespaceStorage
	Address string
	Bar     bar
}

type repositoryStorageView struct {
	indexer.RepositoryStorage
	Bar bar
}

// A bar is a stacked bar; its parts are drawn from left to right.
type bar []barPart

// A barPart has its position and width in percent, with two decimals.
type barPart struct{ Class, X, Width string }

// barOf returns a bar in which most is the full width. classes holds one CSS class for
// each of parts, separated by spaces.
func barOf(most int64, classes string, parts ...int64) bar {
	var b bar
	x := 0.0
	for i, class := range strings.Fields(classes) {
		width := 0.0
		if most > 0 {
			width = min(100*float64(parts[i])/float64(most), 100-x)
		}
		b = append(b, barPart{class, hundredths(x), hundredths(width)})
		x += width
	}
	return b
}

func hundredths(f float64) string { return strconv.FormatFloat(f, 'f', 2, 64) }

// Storage serves the page of bytes that repositories use.
func (s *Catalogue) Storage(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	asked := q.Get("namespace")
	switch {
	case asked == "":
		return s.html(w, r, "storage", func(b answer.Book) (page, error) { return storageOfAll(r, b) })
	case asked != noNamespace && (!indexer.IsRepository(asked) || strings.Contains(asked, "/")):
		return answer.Invalid("namespace", "is %.64q: write the part of a repository name before its first slash", asked)
	}
	number := min(max(answer.Number(q.Get("page"), 1), 1), answer.LastPage(pageSize))
	return s.html(w, r, "storage", func(b answer.Book) (page, error) {
		return storageOfNamespace(r, b, strings.TrimSuffix(asked, noNamespace), number)
	})
}

func storageOfAll(r *http.Request, b answer.Book) (page, error) {
	var view storageView
	var err error
	if view.Storage, err = b.Storage(r.Context()); err != nil {
		return page{}, err
	}
	view.Whole = barOf(view.Size, "ledger-own ledger-untagged ledger-shared",
		view.Used(), view.UntaggedSize, view.Shared())
	namespaces, err := b.NamespaceStorage(r.Context(), nil, storageList)
	if err != nil {
		return page{}, err
	}
	for _, n := range namespaces {
		most := namespaces[0].Own + namespaces[0].Shared
		bar := barOf(most, "ledger-own ledger-shared", n.Own, n.Shared)
		view.Namespaces = append(view.Namespaces, namespaceView{n, namespaceAddress(n.Namespace), bar})
	}
	if view.Largest, err = largest(r, b, indexer.StorageQuery{Limit: storageList}); err != nil {
		return page{}, err
	}
	oldest := indexer.StorageQuery{Order: indexer.ByPush, Limit: storageList}
	if view.Oldest, err = b.RepositoryStorage(r.Context(), oldest); err != nil {
		return page{}, err
	}
	untagged := indexer.StorageQuery{Order: indexer.ByUntagged, Limit: storageList}
	if view.Untagged, err = b.RepositoryStorage(r.Context(), untagged); err != nil {
		return page{}, err
	}
	view.Look, err = b.StorageLook(r.Context())
	return page{Title: "Storage", Main: view}, err
}

func namespaceAddress(namespace string) string {
	if namespace == "" {
		namespace = noNamespace
	}
	return "/storage?namespace=" + url.QueryEscape(namespace)
}

// storageOfNamespace lists the repositories of one namespace, the largest first.
// One that is not counted, or is not there, has none.
func storageOfNamespace(r *http.Request, b answer.Book, namespace string, number int) (page, error) {
	view := storageView{InNamespace: true, In: indexer.NamespaceStorage{Namespace: namespace}}
	var err error
	if view.Storage, err = b.Storage(r.Context()); err != nil {
		return page{}, err
	}
	sums, err := b.NamespaceStorage(r.Context(), &namespace, 1)
	if err != nil {
		return page{}, err
	}
	if len(sums) == 1 {
		view.In = sums[0]
	}
	offset := (number - 1) * pageSize
	view.Largest, err = largest(r, b, indexer.StorageQuery{Namespace: &namespace, Offset: offset, Limit: pageSize})
	view.turn(offset, number)
	title := "Storage"
	if namespace != "" {
		title += " of " + namespace
	}
	return page{Title: title, Main: view}, err
}

// turn says which page of a namespace it is, and where those beside it are.
func (v *storageView) turn(offset, number int) {
	v.From, v.To = offset+1, offset+len(v.Largest)
	at := func(number int) string {
		if number == 1 {
			return namespaceAddress(v.In.Namespace)
		}
		return namespaceAddress(v.In.Namespace) + "&page=" + strconv.Itoa(number)
	}
	if number > 1 {
		v.Back = at(min(number-1, max(1, (v.In.Repositories+pageSize-1)/pageSize)))
	}
	if v.To < v.In.Repositories && len(v.Largest) == pageSize {
		if v.Short = number == answer.LastPage(pageSize); !v.Short {
			v.More = at(number + 1)
		}
	}
}

func largest(r *http.Request, b answer.Book, q indexer.StorageQuery) ([]repositoryStorageView, error) {
	q.Order = indexer.ByStorage
	list, err := b.RepositoryStorage(r.Context(), q)
	var views []repositoryStorageView
	for _, x := range list {
		most := list[0].Own + list[0].Shared
		views = append(views, repositoryStorageView{x, barOf(most, "ledger-own ledger-shared", x.Own, x.Shared)})
	}
	return views, err
}
