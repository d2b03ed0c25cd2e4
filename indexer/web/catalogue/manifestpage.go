package catalogue

import (
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/web/answer"
)

const (

	// maxRaw is the most bytes of JSON that are shown indented: 64 KiB. Larger JSON is
	// shown unindented and cut at this size, with a link to all of it.
	maxRaw = 64 << 10
	// maxDepth is the deepest JSON that is indented: 32 levels; manifests have 5. Each
	// level indents each line, so that a few MiB of brackets would become gigabytes.
	maxDepth = 32
	// maxUses and maxMoves are the most other places of a digest, and moves of a tag,
	// on a page: 20, as many as people read. The API lists all.
	maxUses, maxMoves = 20, 20
	// maxOpened is how many referrers are opened: the manifests of the first 10 are
	// read, a millisecond each, so that their files can be downloaded with one click.
	maxOpened = 10
)

// A manifestView is the page of an image, of an artifact, or of an image index and one
// of its images.
type manifestView struct {
	indexer.Manifest // the requested manifest
	Asked            indexer.Reference
	Manages          bool   // whether people can sign in, and so ask for changes
	Space            string // namespace, "" if it has none
	What             string // its kind
	Badges           []badge
	Commands         commands
	ByDigest         commands
	Tags             []string
	Tabs             []choice   // images of the index that can be selected
	Others           []entryRow // other entries of the index
	Shown            imageView  // the image, or the selected one of the index
	Annotations      []pair
	Origin           []origin
	Referrers        []referrerRow
	Usage            *usageView
	Uses             []indexer.Use
	MoreUses         bool
	Moves            []indexer.Move
	MoreMoves        bool
	Raw              string
	RawCut           bool
	RawAddress       string
	RawFile          string // file name for a download
	Storage          holdingView
	Cut              bool // whether a list is not shown completely
	Notices          []notice
	Yanks            []yankLink
}

// An imageView is one image or artifact and its parts.
type imageView struct {
	indexer.Manifest
	Chosen      bool // selected from an image index
	Badges      []badge
	Config      configView
	Labels      []pair
	Annotations []pair
	Layers      []layerRow
	Steps       int // steps of the history that made no layer
	RawConfig   string
	ConfigFile  string // file name for a download
	ConfigCut   bool
}

// A layerRow is a layer, or a build step that made none.
type layerRow struct {
	Layer   *ocispec.Descriptor // nil if the step made none
	Title   string              // if the layer is a file
	File    string              // file name for a download
	Percent int                 // of the size of the largest layer
	Command string
	Created string
}

// An entryRow is an entry of an image index that cannot be shown as an image.
type entryRow struct {
	indexer.Entry
	What string
	Of   digest.Digest // subject of a BuildKit attestation
}

// A referrerRow is a referrer and, if it holds one file, the address of that file.
type referrerRow struct {
	indexer.Referrer
	Name     string
	Download string
	File     string // file name for a download
	Bytes    int64  // of the file, or of the manifest if the file is not known
}

func (s *Catalogue) manifestPage(w http.ResponseWriter, r *http.Request, ref indexer.Reference) error {
	if ref.Digest != "" {
		ref.Tag = "" // the digest takes precedence, as in docker
	}
	platform := r.URL.Query().Get("platform")
	if at := r.URL.Query().Get("at"); at != "" {
		return s.manifestAt(w, r, ref, at)
	}
	return s.html(w, r, "manifest", func(b answer.Book) (page, error) {
		view, err := s.manifestView(r, b, ref, platform)
		if err != nil {
			return page{}, nearby(r, b, ref, err)
		}
		return page{Title: ref.String(), Main: view}, nil
	})
}

func (s *Catalogue) manifestView(r *http.Request, b answer.Book, ref indexer.Reference,
	platform string) (v manifestView, err error) {
	m, err := b.Manifest(r.Context(), ref)
	if err != nil {
		return v, err
	}
	byDigest := indexer.Reference{Repository: ref.Repository, Digest: m.Digest}
	v = manifestView{
		Manifest: m, Asked: ref, Manages: s.manages(), What: kindName(m),
		Space:  indexer.Repository{Name: ref.Repository}.Namespace(),
		Badges: marks(m.Has), Annotations: answer.First(pairs(m.Annotations)),
		Commands: s.site.pullCommands(ref, m), ByDigest: s.site.pullCommands(byDigest, m),
		RawAddress: "/api/v1/repositories/" + ref.Repository + "/-/manifests/" + m.Digest.String() + "/raw",
		RawFile:    answer.FileOf(ref, ".manifest.json"),
	}
	v.Raw, v.RawCut = layOut(m.Body)
	shown, err := v.choose(r, b, platform)
	if err != nil {
		return v, err
	}
	v.Shown = viewImage(shown)
	v.Shown.Chosen = shown.Digest != m.Digest
	v.Shown.name(ref)
	if slices.Equal(v.Shown.Annotations, v.Annotations) {
		v.Shown.Annotations = nil // shown once
	}
	v.Origin = originOf(m.Annotations, shown.Annotations, m.Labels, shown.Labels)
	v.Cut = len(m.Entries) > answer.MaxShown || cutShort(m) || cutShort(shown)
	if v.Usage, err = usageOf(r, b, ref, m.Digest); err != nil {
		return v, err
	}
	return v, v.readAround(r, b)
}

// name sets the file names for downloads of an image. ref is the requested reference.
func (v *imageView) name(ref indexer.Reference) {
	switch {
	case v.Chosen && ref.Tag != "":
		ref.Tag += "-" + v.Platform.String()
	case v.Chosen:
		ref.Digest = v.Digest
	}
	v.ConfigFile = answer.FileOf(ref, ".config.json")
	for i, row := range v.Layers {
		if row.Layer != nil {
			part := indexer.Reference{Repository: ref.Repository, Digest: row.Layer.Digest}
			v.Layers[i].File = answer.BlobFile(row.Layer.Annotations[ocispec.AnnotationTitle], row.Layer.MediaType, part)
		}
	}
}

// cutShort reports whether a list of m is not shown completely.
func cutShort(m indexer.Manifest) bool {
	return max(len(m.Labels), len(m.Annotations), len(m.Layers)) > answer.MaxShown
}

// choose returns the image to show: for an index, the image for the platform or else
// the first image; otherwise m itself.
func (v *manifestView) choose(r *http.Request, b answer.Book, platform string) (indexer.Manifest, error) {
	var chosen *indexer.Entry
	tabs := map[string]bool{}
	for _, e := range answer.First(v.Entries) {
		name := e.Platform.String()
		if !e.Present || e.Platform.IsUnknown() || tabs[name] {
			v.Others = append(v.Others, viewEntry(e))
			continue
		}
		tabs[name] = true
		if chosen == nil || name == platform {
			chosen = &e
		}
		v.Tabs = append(v.Tabs, choice{Text: name, Address: "/r/" + v.Asked.String() + "?platform=" + url.QueryEscape(name)})
	}
	if chosen == nil {
		return v.Manifest, nil
	}
	for i := range v.Tabs {
		v.Tabs[i].Current = v.Tabs[i].Text == chosen.Platform.String()
	}
	return b.Manifest(r.Context(), indexer.Reference{Repository: v.Repository, Digest: chosen.Digest})
}

func viewEntry(e indexer.Entry) entryRow {
	row := entryRow{Entry: e, What: e.Platform.String()}
	if kind := e.Annotations["vnd.docker.reference.type"]; kind != "" {
		row.What = answer.Cut(strings.TrimSuffix(kind, "-manifest"), 60)
	} else if e.Platform.IsUnknown() {
		row.What = ""
	}
	if of, err := indexer.ParseDigest(e.Annotations["vnd.docker.reference.digest"]); err == nil {
		row.Of = of
	}
	return row
}

// readAround reads tags, referrers, uses and moves of the manifest.
func (v *manifestView) readAround(r *http.Request, b answer.Book) error {
	tags, err := b.TagsOf(r.Context(), v.Repository, v.Digest)
	if err != nil {
		return err
	}
	v.Tags, v.Cut = answer.First(tags), v.Cut || len(tags) > answer.MaxShown
	n, err := b.Notices(r.Context(), v.Repository)
	if err != nil {
		return err
	}
	v.Notices, v.Yanks = noticesOfManifest(n, v.Asked.Tag, v.Digest), yankLinks(n, v.Repository, v.Asked.Tag, v.Digest)
	if err := v.readReferrers(r, b); err != nil {
		return err
	}
	uses, err := b.Uses(r.Context(), v.Digest, "", "", maxUses+2)
	if err != nil {
		return err
	}
	uses = slices.DeleteFunc(slices.Clone(uses), func(u indexer.Use) bool {
		return u.Repository == v.Repository && u.Digest == v.Digest
	})
	v.Uses, v.MoreUses = uses[:min(len(uses), maxUses)], len(uses) > maxUses
	if v.Storage, err = readHolding(r, b, v.Asked); err != nil || v.Asked.Tag == "" {
		return err
	}
	moves, err := b.History(r.Context(), v.Repository, v.Asked.Tag, 0, maxMoves+1)
	v.Moves, v.MoreMoves = moves[:min(len(moves), maxMoves)], len(moves) > maxMoves
	return err
}

// readReferrers reads the referrers of the manifest and of the image that is shown.
func (v *manifestView) readReferrers(r *http.Request, b answer.Book) error {
	q := indexer.ReferrerQuery{Repository: v.Repository, Subject: v.Digest, Limit: answer.MaxShown}
	page, err := b.Referrers(r.Context(), q)
	list := page.Items
	if err == nil && v.Shown.Chosen {
		var more indexer.ReferrerPage
		q.Subject = v.Shown.Digest
		more, err = b.Referrers(r.Context(), q)
		list, page.More = append(list[:len(list):len(list)], more.Items...), page.More || more.More
	}
	if err != nil {
		return err
	}
	v.Cut = v.Cut || page.More || len(list) > answer.MaxShown
	for i, f := range answer.First(list) {
		row := viewReferrer(f)
		if i < maxOpened {
			if err := row.open(r, b, v.Repository); err != nil {
				return err
			}
		}
		v.Referrers = append(v.Referrers, row)
	}
	return nil
}

func viewReferrer(f indexer.Referrer) referrerRow {
	row := referrerRow{Referrer: f, Name: answer.Cut(artifactName(f.Type()), 100), Bytes: f.Size}
	if f.Beside {
		row.Name = artifactName("in-toto")
	}
	return row
}

// open reads the manifest of a referrer. If it holds a single file, the row links to
// that file.
func (row *referrerRow) open(r *http.Request, b answer.Book, repository string) error {
	m, err := b.Manifest(r.Context(), indexer.Reference{Repository: repository, Digest: row.Digest})
	if errors.Is(err, indexer.ErrNotFound) {
		return nil
	}
	if err == nil && len(m.Layers) == 1 && m.Layers[0].Digest.Validate() == nil {
		row.Download = "/v2/" + repository + "/blobs/" + m.Layers[0].Digest.String()
		row.Bytes = m.Layers[0].Size
		row.File = answer.BlobFile(m.Layers[0].Annotations[ocispec.AnnotationTitle], m.Layers[0].MediaType,
			indexer.Reference{Repository: repository, Digest: row.Digest})
	}
	return err
}

// viewImage returns the view of an image or artifact.
func viewImage(m indexer.Manifest) imageView {
	config := indexer.ReadImageConfig(m.ConfigBody, answer.First(m.Layers))
	v := imageView{
		Manifest: m, Badges: marks(m.Has), Config: viewConfig(config),
		Labels: answer.First(pairs(m.Labels)), Annotations: answer.First(pairs(m.Annotations)),
	}
	v.RawConfig, v.ConfigCut = layOut(m.ConfigBody)
	v.Layers, v.Steps = layerRows(answer.First(m.Layers), config.Steps)
	return v
}

// layerRows pairs layers with the steps that made them. If the pairs are not known, it
// returns the layers first and then the steps.
func layerRows(layers []ocispec.Descriptor, steps []indexer.BuildStep) (rows []layerRow, empty int) {
	largest := int64(1)
	for _, l := range layers {
		largest = max(largest, l.Size)
	}
	known := false
	for _, s := range steps {
		known = known || s.Layer != nil
	}
	if !known {
		for i := range layers {
			rows = append(rows, newLayerRow(&layers[i], largest))
		}
	}
	for _, s := range steps {
		row := newLayerRow(s.Layer, largest)
		row.Command, row.Created = answer.Cut(s.Command, answer.MaxValue), answer.Cut(s.Created, 40)
		if s.Layer == nil {
			empty++
		}
		rows = append(rows, row)
	}
	return rows, empty
}

func newLayerRow(l *ocispec.Descriptor, largest int64) layerRow {
	if l == nil {
		return layerRow{}
	}
	return layerRow{
		Layer: l, Title: answer.Cut(l.Annotations[ocispec.AnnotationTitle], 200),
		Percent: int(float64(l.Size) / float64(largest) * 100),
	}
}

// A pair is a key and a value, cut to the length that a page shows.
type pair struct{ Key, Value string }

// pairs returns the entries of m in order of key.
func pairs(m map[string]string) []pair {
	list := make([]pair, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		list = append(list, pair{Key: answer.Cut(k, answer.MaxValue), Value: answer.Cut(m[k], answer.MaxValue)})
	}
	return list
}
