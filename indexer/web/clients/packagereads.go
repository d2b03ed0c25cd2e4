package clients

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/pesde"
	"github.com/portbook/portbook/indexer/web/answer"
)

const (
	// maxDownloading is how many archives, readmes and pages are read at the same time: 8, 4 for one
	// client. A client of pesde asks for 16 archives at once, of which the others wait.
	maxDownloading, maxDownloadingEach = 8, 4
	// maxPackageTags is the maximum number of tags of an image that is answered as a package.
	maxPackageTags = 10_000
	// maxArchive is the maximum size of an archive that is served: packages.MaxArchive.
	maxArchive = 32 << 20
)

const plainText = "text/plain; charset=utf-8"

// errNoPackage is the answer if there is no such package, version, target or page. Its body is
// empty, as clients of pesde know it.
var errNoPackage = answer.Refuse(http.StatusNotFound, "")

// A pkg is a package, or a repository of images, as an asker sees it.
type pkg struct {
	name       string
	deprecated string
	all        []pesde.Published
	file       pesde.File // of a package; without entries for images
	tags       map[pesde.Version]string
}

// publishedIn returns the entries of a file.
func publishedIn(f pesde.File) (all []pesde.Published) {
	for _, id := range f.IDs() {
		all = append(all, pesde.PublishedOf(id, f.Entries[id]))
	}
	return all
}

// pkgOf returns the package of a name: one of pesde, or else the repository of that name. It
// returns errNoPackage if there is none that the asker may see.
func (s *Clients) pkgOf(ctx context.Context, b answer.Book, n pesde.Name) (p pkg, err error) {
	p.name = n.String()
	files, err := b.PackageFiles(ctx, s.config.Package.Prefix, []string{p.name})
	if err != nil {
		return p, err
	}
	if text := files[p.name]; text != nil {
		if p.file, err = pesde.ParseFile(text); err != nil {
			return p, err
		}
		p.deprecated, p.all = p.file.Deprecated, publishedIn(p.file)
		return p, nil
	}
	return p, p.readImages(ctx, b)
}

// readImages reads the images of a repository as versions of a package: each tag that is a version,
// for each of its platforms.
func (p *pkg) readImages(ctx context.Context, b answer.Book) error {
	r, err := b.Repository(ctx, p.name)
	switch {
	case errors.Is(err, indexer.ErrNotFound):
		return errNoPackage
	case err != nil:
		return err
	case r.Tags > maxPackageTags:
		return answer.Refuse(http.StatusBadRequest,
			"the repository has more than %d tags: read /api/v1/repositories/%s/-/tags", maxPackageTags, p.name)
	}
	tags, err := b.Tags(ctx, p.name, "", maxPackageTags)
	if err != nil {
		return err
	}
	notices, err := b.Notices(ctx, p.name)
	if err != nil {
		return err
	}
	p.tags = map[pesde.Version]string{}
	for _, t := range tags {
		p.addImage(t, r.Description, notices.Yanks)
	}
	for _, y := range notices.Yanks {
		if y.Deprecated {
			p.deprecated = y.Reason
		}
	}
	if len(p.all) == 0 {
		return errNoPackage
	}
	return nil
}

// addImage adds what a tag shows.
func (p *pkg) addImage(t indexer.Tag, description string, yanks []indexer.Yank) {
	v, err := pesde.ParseVersion(strings.TrimPrefix(t.Name, "v"))
	if err != nil || p.tags[v] != "" {
		return
	}
	yanked := slices.ContainsFunc(yanks, func(y indexer.Yank) bool {
		return !y.Deprecated && (y.Tag == t.Name || y.Tag == "" && (y.Digest == "" || y.Digest == t.Digest))
	})
	p.tags[v] = t.Name
	for _, platform := range t.Platforms {
		kind := strings.ReplaceAll(platform.String(), "/", "_")
		p.all = append(p.all, pesde.Published{
			Version: v, Target: pesde.Target(kind), Bin: true, Yanked: yanked, PublishedAt: pesde.Timestamp(t.MovedAt),
			Description: answer.OneLine(description, answer.MaxDescription),
		})
	}
}

// describe fills in what the manifest of an image says.
func (p *pkg) describe(ctx context.Context, b answer.Book, shown *pesde.Published) error {
	tag := p.tags[shown.Version]
	if tag == "" {
		return nil
	}
	m, err := b.Manifest(ctx, indexer.Reference{Repository: p.name, Tag: tag})
	if err != nil {
		return err
	}
	said := func(key string) string { return cmp.Or(m.Annotations[key], m.Labels[key]) }
	description := cmp.Or(said(ocispec.AnnotationDescription), shown.Description)
	shown.Description = answer.OneLine(description, answer.MaxDescription)
	shown.License, shown.Repository = said(ocispec.AnnotationLicenses), said(ocispec.AnnotationSource)
	if authors := said(ocispec.AnnotationAuthors); authors != "" {
		shown.Authors = []string{authors}
	}
	if at := said(ocispec.AnnotationCreated); at != "" && !m.CreatedAt.IsZero() {
		shown.PublishedAt = pesde.Timestamp(m.CreatedAt)
	}
	return nil
}

// find returns the targets of a version, and the one that a request names.
func (p *pkg) find(r *http.Request) (of []pesde.Published, shown pesde.Published, err error) {
	version, target := r.PathValue("version"), r.PathValue("target")
	v, ok := pesde.Latest(p.all)
	if !strings.EqualFold(version, "latest") {
		if v, err = pesde.ParseVersion(version); err != nil {
			return nil, shown, notThere(err)
		}
	}
	of = pesde.OfVersion(p.all, v)
	if !ok || len(of) == 0 {
		return nil, shown, errNoPackage
	}
	if strings.EqualFold(target, "any") {
		return of, of[0], nil
	}
	i := slices.IndexFunc(of, func(o pesde.Published) bool { return o.Target == pesde.Target(target) })
	if i < 0 {
		if _, err := pesde.ParseTarget(target); err != nil && len(p.file.Entries) > 0 {
			return nil, shown, notThere(err)
		}
		return nil, shown, errNoPackage
	}
	return of, of[i], nil
}

// isOld reports whether a request is for the older API, whose answers depend on the Accept field.
func isOld(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/v0/") }

// readPackage answers from the package that a request names.
func (s *Clients) readPackage(w http.ResponseWriter, r *http.Request, f func(answer.Book, *pkg) (any, error)) error {
	n, err := pesde.ParseName(r.PathValue("name"))
	if err != nil {
		return notThere(err)
	}
	as := answer.Form{ContentType: "application/json", MaxAge: s.config.MaxAge, Gzip: true, ByAccept: isOld(r)}
	return s.answerer.Answer(w, r, as, func(b answer.Book, out io.Writer) error {
		p, err := s.pkgOf(r.Context(), b, n)
		if err != nil {
			return err
		}
		value, err := f(b, &p)
		if err != nil {
			return err
		}
		return json.NewEncoder(out).Encode(value)
	})
}

// PackageVersions serves GET /v1/packages/{name}.
func (s *Clients) PackageVersions(w http.ResponseWriter, r *http.Request) error {
	return s.readPackage(w, r, func(_ answer.Book, p *pkg) (any, error) {
		return pesde.VersionsOf(p.name, p.deprecated, p.all), nil
	})
}

// PackageList serves GET /v0/packages/{name}.
func (s *Clients) PackageList(w http.ResponseWriter, r *http.Request) error {
	return s.readPackage(w, r, func(_ answer.Book, p *pkg) (any, error) {
		return pesde.PackagesOf(p.name, p.deprecated, p.all), nil
	})
}

// PackageVersion serves GET /v1/packages/{name}/{version}/{target}.
func (s *Clients) PackageVersion(w http.ResponseWriter, r *http.Request) error {
	return s.readPackage(w, r, func(b answer.Book, p *pkg) (any, error) {
		of, shown, err := p.find(r)
		if err != nil {
			return nil, err
		}
		if err := p.describe(r.Context(), b, &shown); err != nil {
			return nil, err
		}
		return pesde.PackageOf(p.name, p.deprecated, of, shown), nil
	})
}

// OldPackageVersion serves GET /v0/packages/{name}/{version}/{target}: what it answers depends on
// the Accept field, and on the parameter doc.
func (s *Clients) OldPackageVersion(w http.ResponseWriter, r *http.Request) error {
	accept := r.Header.Get("Accept")
	switch {
	case r.URL.Query().Has("doc"):
		return s.PackageDoc(w, r)
	case accept == "text/plain":
		return s.PackageReadme(w, r)
	case accept == "application/octet-stream":
		return s.PackageArchive(w, r)
	}
	return s.PackageVersion(w, r)
}

// PackageArchive serves GET /v1/packages/{name}/{version}/{target}/archive. The client unpacks it
// itself, so it has no Content-Encoding.
func (s *Clients) PackageArchive(w http.ResponseWriter, r *http.Request) error {
	return s.download(w, r, "application/gzip", func(stored pesde.Stored) *ocispec.Descriptor { return &stored.Archive })
}

// PackageReadme serves GET /v1/packages/{name}/{version}/{target}/readme.
func (s *Clients) PackageReadme(w http.ResponseWriter, r *http.Request) error {
	return s.download(w, r, plainText, func(stored pesde.Stored) *ocispec.Descriptor { return stored.Readme })
}

// PackageDoc serves GET /v1/packages/{name}/{version}/{target}/doc: a page of the documentation.
func (s *Clients) PackageDoc(w http.ResponseWriter, r *http.Request) error {
	if !r.URL.Query().Has("doc") {
		return answer.Refuse(http.StatusBadRequest, "Query deserialize error: missing field `doc`")
	}
	name := r.URL.Query().Get("doc")
	return s.download(w, r, plainText, func(stored pesde.Stored) *ocispec.Descriptor {
		if d, ok := stored.Page(name); ok {
			return &d
		}
		return nil
	})
}

// download answers with a blob of a package, which part selects; nil: there is none.
func (s *Clients) download(
	w http.ResponseWriter, r *http.Request, contentType string, part func(pesde.Stored) *ocispec.Descriptor,
) error {
	n, err := pesde.ParseName(r.PathValue("name"))
	if err != nil {
		return notThere(err)
	}
	var digest string
	err = s.answerer.Read(r.Context(), r, func(b answer.Book) error {
		p, err := s.pkgOf(r.Context(), b, n)
		if err != nil {
			return err
		}
		_, shown, err := p.find(r)
		digest = p.file.Entries[pesde.ID{Version: shown.Version, Target: shown.Target}].Digest
		return err
	})
	if err != nil {
		return err
	}
	if digest == "" { // an image
		return errNoPackage
	}
	done, err := s.downloading.Take(r.Context(), "download", answer.ClientOf(r))
	if err != nil {
		return err
	}
	defer done()
	return s.sendPart(w, r, n, digest, contentType, part)
}

// sendPart sends a part of the package whose manifest has a digest.
func (s *Clients) sendPart(
	w http.ResponseWriter, r *http.Request, n pesde.Name, digest, contentType string,
	part func(pesde.Stored) *ocispec.Descriptor,
) error {
	c := s.config.Package
	if c.Blob == nil {
		return answer.Refuse(http.StatusServiceUnavailable, "this indexer does not know the registry: set registry.url")
	}
	repository := c.Prefix + n.String()
	manifest, err := c.Manifest(r.Context(), repository, digest)
	if err != nil {
		return gone(err)
	}
	stored, err := pesde.ParseArtifact(manifest)
	if err != nil {
		return err
	}
	d := part(stored)
	if d == nil {
		return errNoPackage
	}
	h := w.Header()
	h.Set("ETag", strconv.Quote(d.Digest.String()))
	h.Set("Cache-Control", downloadCache(r))
	h.Set("Vary", "Authorization, Cookie")
	if isOld(r) {
		h.Add("Vary", "Accept")
	}
	if r.Header.Get("If-None-Match") == h.Get("ETag") {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	blob, err := c.Blob(r.Context(), repository, d.Digest.String(), maxArchive)
	if err != nil {
		return gone(err)
	}
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(blob)))
	return answer.Write(w, blob)
}

// downloadCache returns for how long a download may be kept: that of a version and a target never
// changes, but whoever may have it can. What latest and any are changes with the next publish.
func downloadCache(r *http.Request) string {
	who, long := "public", "max-age=3600, immutable"
	if r.Header.Get("Authorization") != "" || r.Header.Get("Cookie") != "" {
		who = "private"
	}
	if strings.EqualFold(r.PathValue("version"), "latest") || strings.EqualFold(r.PathValue("target"), "any") {
		long = "no-cache"
	}
	return who + ", " + long
}

// gone returns the error of a read of the registry: what the registry does not have is not there.
func gone(err error) error {
	if errors.Is(err, indexer.ErrNotFound) {
		return errNoPackage
	}
	return err
}

// WriteErrorPackage writes an error as clients of pesde know it: for most, the status says all.
func WriteErrorPackage(w http.ResponseWriter, code int, text string) {
	switch code {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusConflict:
		text = ""
	}
	if text == "" {
		w.WriteHeader(code)
		return
	}
	w.Header().Set("Content-Type", plainText)
	w.WriteHeader(code)
	_, _ = io.WriteString(w, text)
}

// noPackage answers other paths below /v0/packages/ and /v1/packages/. A slash at the end makes no
// difference.
func noPackage(w http.ResponseWriter, r *http.Request) error {
	path, ok := strings.CutSuffix(r.URL.EscapedPath(), "/")
	if !ok || strings.HasSuffix(path, "/") || strings.HasSuffix(path, "/packages") {
		return errNoPackage
	}
	if r.URL.RawQuery != "" {
		path += "?" + r.URL.RawQuery
	}
	http.Redirect(w, r, path, http.StatusPermanentRedirect)
	return nil
}

// A PackageRoute is a route of the registry of packages.
type PackageRoute struct {
	Pattern string
	Serve   answer.HandlerFunc
	Reads   bool // it reads the book
}

// PackageRoutes returns the routes of the registry of packages; none if there is none.
func (s *Clients) PackageRoutes() []PackageRoute {
	if s.config.Package.Packages == nil {
		return nil
	}
	const one = "/packages/{name}/{version}/{target}"
	return []PackageRoute{
		{"GET /v0/packages/{name}", s.PackageList, true},
		{"GET /v0" + one, s.OldPackageVersion, true},
		{"POST /v0/packages", s.Publish, false},
		{"GET /v1/packages/{name}", s.PackageVersions, true},
		{"GET /v1" + one, s.PackageVersion, true},
		{"GET /v1" + one + "/archive", s.PackageArchive, true},
		{"GET /v1" + one + "/readme", s.PackageReadme, true},
		{"GET /v1" + one + "/doc", s.PackageDoc, true},
		{"POST /v1/packages", s.Publish, false},
		{"PUT /v1" + one + "/yank", s.YankPackage, false},
		{"DELETE /v1" + one + "/yank", s.YankPackage, false},
		{"PUT /v1/packages/{name}/deprecate", s.DeprecatePackage, false},
		{"DELETE /v1/packages/{name}/deprecate", s.DeprecatePackage, false},
		{"GET /v0/packages/", noPackage, false},
		{"GET /v1/packages/", noPackage, false},
		{"GET /index/info/refs", s.PackageIndex, false},
		{"POST /index/git-upload-pack", s.PackageIndex, false},
	}
}
