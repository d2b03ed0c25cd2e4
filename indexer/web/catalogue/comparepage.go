package catalogue

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/web/answer"
)

// A compareView shows two references side by side; with fewer than two it is a form to
// enter them.
type compareView struct {
	A, B     string // as they were entered
	Problem  string
	Near     []string
	Left     *compareSide // nil if only the form is shown
	Right    *compareSide
	Tabs     []choice // platforms that both have
	Sections []section
	Layers   []layerPair
	Shared   layerSum
	OnlyA    layerSum
	OnlyB    layerSum
}

// A compareSide is one of the two references.
type compareSide struct {
	Asked indexer.Reference
	Top   indexer.Manifest // the requested manifest
	Shown indexer.Manifest // the image of it that is compared
}

// A section is a table that compares one kind of data of two images.
type section struct {
	Title string
	Rows  []compareRow // rows that differ
	Same  []compareRow
}

type compareRow struct {
	Key, A, B  string
	InA, InB   bool
	Difference string // changed, removed, added, or ""
}

// A layerPair is a layer that one or both images have.
type layerPair struct {
	Layer    ocispec.Descriptor
	InA, InB bool
}

// A layerSum is the number and total size of layers.
type layerSum struct {
	Count int
	Bytes int64
}

// Compare serves the comparison of two references.
func (s *Catalogue) Compare(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	view := compareView{A: strings.TrimSpace(q.Get("a")), B: strings.TrimSpace(q.Get("b"))}
	a, errA := parseOr(view.A)
	b, errB := parseOr(view.B)
	if err := errors.Join(errA, errB); err != nil {
		view.A, view.B = answer.Cut(view.A, answer.MaxValue), answer.Cut(view.B, answer.MaxValue)
		view.Problem = strings.ReplaceAll(err.Error(), "\n", "; ")
		return s.unstored(w, http.StatusBadRequest, "compare", page{Title: "Compare", Main: view})
	}
	err := s.html(w, r, "compare", func(book answer.Book) (page, error) {
		p := page{Title: "Compare", Main: view}
		if view.A == "" || view.B == "" {
			return p, nil
		}
		filled, err := compare(r, book, view, a, b, q.Get("platform"))
		p.Main = filled
		return p, err
	})
	var m *missing
	if errors.As(err, &m) {
		view.Problem, view.Near = m.Error(), m.view.Near
		return s.unstored(w, http.StatusNotFound, "compare", page{Title: "Compare", Main: view})
	}
	return err
}

// parseOr parses a reference. "" returns none and no error; a name alone means latest.
func parseOr(text string) (indexer.Reference, error) {
	if text == "" {
		return indexer.Reference{}, nil
	}
	ref, err := indexer.ParseReference(text)
	if err == nil && ref.Tag == "" && ref.Digest == "" {
		ref.Tag = "latest"
	}
	if ref.Digest != "" {
		ref.Tag = ""
	}
	return ref, err
}

func compare(r *http.Request, book answer.Book, v compareView, a, b indexer.Reference,
	platform string) (compareView, error) {
	left, err := readSide(r, book, a)
	if err != nil {
		return v, err
	}
	right, err := readSide(r, book, b)
	if err != nil {
		return v, err
	}
	v.Left, v.Right = &left, &right
	both := commonPlatforms(left.Top, right.Top)
	if len(both) > 0 && !slices.Contains(both, platform) {
		platform = both[0]
	}
	for _, p := range both {
		address := url.Values{"a": {v.A}, "b": {v.B}, "platform": {p}}
		v.Tabs = append(v.Tabs, choice{Text: p, Address: "/compare?" + address.Encode(), Current: p == platform})
	}
	for _, side := range []*compareSide{&left, &right} {
		if side.Shown, err = imageFor(r, book, side.Top, platform); err != nil {
			return v, err
		}
	}
	v.Sections = compareImages(left, right)
	v.compareLayers(answer.First(left.Shown.Layers), answer.First(right.Shown.Layers))
	return v, nil
}

func readSide(r *http.Request, book answer.Book, ref indexer.Reference) (compareSide, error) {
	m, err := book.Manifest(r.Context(), ref)
	if err != nil {
		err = nearby(r, book, ref, err)
	}
	return compareSide{Asked: ref, Top: m}, err
}

// platformsIn returns the platforms of the images of an index that are in the database,
// or the platform of the image.
func platformsIn(m indexer.Manifest) (list []string) {
	if m.Kind != indexer.KindIndex {
		if m.Platform.IsUnknown() {
			return nil
		}
		return []string{m.Platform.String()}
	}
	for _, e := range answer.First(m.Entries) {
		if e.Present && !e.Platform.IsUnknown() && !slices.Contains(list, e.Platform.String()) {
			list = append(list, e.Platform.String())
		}
	}
	return list
}

// commonPlatforms returns the platforms of both, if at least one of them is an index.
func commonPlatforms(a, b indexer.Manifest) (both []string) {
	if a.Kind != indexer.KindIndex && b.Kind != indexer.KindIndex {
		return nil
	}
	others := platformsIn(b)
	for _, p := range platformsIn(a) {
		if slices.Contains(others, p) {
			both = append(both, p)
		}
	}
	return both
}

// imageFor returns the image of an index for a platform, or its first one; if m is not
// an index, it returns m.
func imageFor(r *http.Request, book answer.Book, m indexer.Manifest, platform string) (indexer.Manifest, error) {
	for _, e := range answer.First(m.Entries) {
		if e.Present && e.Platform.String() == platform {
			return book.Manifest(r.Context(), indexer.Reference{Repository: m.Repository, Digest: e.Digest})
		}
	}
	return firstImage(r, book, m)
}

func compareImages(a, b compareSide) (list []section) {
	configA, configB := configOf(a.Shown), configOf(b.Shown)
	for _, s := range []section{
		compareMaps("Image", summaryOf(a), summaryOf(b)),
		compareMaps("Config", mapOf(configA.Lines), mapOf(configB.Lines)),
		compareMaps("Environment", environment(configA.Env), environment(configB.Env)),
		compareMaps("Labels", a.Shown.Labels, b.Shown.Labels),
		compareMaps("Annotations", a.Top.Annotations, b.Top.Annotations),
	} {
		if len(s.Rows)+len(s.Same) > 0 {
			list = append(list, s)
		}
	}
	return list
}

// configOf returns the config of an image, without the steps of its build.
func configOf(m indexer.Manifest) configView {
	return viewConfig(indexer.ReadImageConfig(m.ConfigBody, nil))
}

func summaryOf(s compareSide) map[string]string {
	m := map[string]string{
		"Digest": s.Top.Digest.String(), "Kind": kindName(s.Top), "Size": size(s.Shown.ContentSize),
		"Layers": strconv.Itoa(len(s.Shown.Layers)), "Platform": s.Shown.Platform.String(),
	}
	if !s.Shown.CreatedAt.IsZero() {
		m["Created"] = date(s.Shown.CreatedAt)
	}
	if s.Top.Kind == indexer.KindIndex {
		m["Platforms"] = strings.Join(platformsIn(s.Top), ", ")
	}
	maps.DeleteFunc(m, func(_, value string) bool { return value == "" })
	return m
}

func mapOf(list []pair) map[string]string {
	m := map[string]string{}
	for _, p := range list {
		m[p.Key] = p.Value
	}
	return m
}

// environment parses KEY=VALUE entries.
func environment(list []string) map[string]string {
	m := map[string]string{}
	for _, e := range list {
		k, v, _ := strings.Cut(e, "=")
		m[k] = v
	}
	return m
}

// compareMaps compares two maps of metadata by key.
func compareMaps(title string, a, b map[string]string) section {
	all := map[string]bool{}
	for _, m := range []map[string]string{a, b} {
		for k := range m {
			all[k] = true
		}
	}
	s := section{Title: title}
	for _, k := range answer.First(slices.Sorted(maps.Keys(all))) {
		row := compareRow{Key: answer.Cut(k, answer.MaxValue)}
		row.A, row.InA = a[k]
		row.B, row.InB = b[k]
		same := row.InA && row.InB && row.A == row.B
		row.A, row.B = answer.Cut(row.A, answer.MaxValue), answer.Cut(row.B, answer.MaxValue)
		switch {
		case same:
			s.Same = append(s.Same, row)
			continue
		case !row.InB:
			row.Difference = "removed"
		case !row.InA:
			row.Difference = "added"
		default:
			row.Difference = "changed"
		}
		s.Rows = append(s.Rows, row)
	}
	return s
}

// compareLayers merges the layers into one list: those of a in order, then those that
// only b has. Layers that both have are stored and pulled once.
func (v *compareView) compareLayers(a, b []ocispec.Descriptor) {
	inA, inB := digestsOf(a), digestsOf(b)
	count := func(sum *layerSum, l ocispec.Descriptor) {
		sum.Count++
		sum.Bytes += l.Size
	}
	for _, l := range a {
		v.Layers = append(v.Layers, layerPair{Layer: l, InA: true, InB: inB[l.Digest]})
		if inB[l.Digest] {
			count(&v.Shared, l)
		} else {
			count(&v.OnlyA, l)
		}
	}
	for _, l := range b {
		if !inA[l.Digest] {
			v.Layers = append(v.Layers, layerPair{Layer: l, InB: true})
			count(&v.OnlyB, l)
		}
	}
}

func digestsOf(layers []ocispec.Descriptor) map[digest.Digest]bool {
	m := map[digest.Digest]bool{}
	for _, l := range layers {
		m[l.Digest] = true
	}
	return m
}

// String returns a text such as "3 layers, 12.0 MiB".
func (s layerSum) String() string {
	if s.Count == 1 {
		return "1 layer, " + size(s.Bytes)
	}
	return fmt.Sprintf("%s layers, %s", grouped(int64(s.Count)), size(s.Bytes))
}
