package web

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portbook/portbook/indexer"
)

// maxListed is the most referrers that are taken from one index of the referrers
// tag schema: 1,000. Each is looked up.
const maxListed = 1000

// referrers answers GET /v2/NAME/referrers/DIGEST (distribution-spec 1.1,
// "Listing Referrers") of what the book knows. What it does not know has none:
// the specification leaves no 404 for it.
func (s *server) referrers(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("name")
	if !indexer.IsRepository(name) {
		return invalid("repository name", "%q", cut(name, 64))
	}
	subject, err := indexer.ParseDigest(r.PathValue("digest"))
	if err != nil {
		return err
	}
	types := slices.DeleteFunc(r.URL.Query()["artifactType"], func(t string) bool { return t == "" })
	as := form{contentType: ocispec.MediaTypeImageIndex, maxAge: s.MaxAgeIndex, gzip: true}
	as.headers = func(h http.Header) {
		if len(types) > 0 {
			h.Set("OCI-Filters-Applied", "artifactType")
		}
	}
	return s.answer(w, r, as, func(b Book, out io.Writer) error {
		list, err := referrersOf(r, b, name, subject)
		if err != nil {
			return err
		}
		if len(types) > 0 {
			list = slices.DeleteFunc(list, func(d ocispec.Descriptor) bool { return !slices.Contains(types, d.ArtifactType) })
		}
		return json.NewEncoder(out).Encode(ocispec.Index{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: append([]ocispec.Descriptor{}, list...),
		})
	})
}

// referrersOf gives those that name the subject themselves, and those that an
// index on the tag sha256-<hex> lists ("Referrers Tag Schema"), in order of
// digest. cosign's tags (.sig, .att) are not of that schema: what they show
// names no subject.
func referrersOf(r *http.Request, b Book, name string, subject digest.Digest) ([]ocispec.Descriptor, error) {
	known, err := b.Referrers(r.Context(), name, subject)
	if err != nil {
		return nil, err
	}
	var list []ocispec.Descriptor
	for _, k := range known {
		if k.Tag == "" {
			list = append(list, ocispec.Descriptor{MediaType: k.MediaType, Digest: k.Digest, Size: k.Size, ArtifactType: k.ArtifactType, Annotations: k.Annotations})
		}
	}
	listed, err := listedReferrers(r, b, name, subject)
	if err != nil {
		return nil, err
	}
	list = append(list, listed...)
	slices.SortStableFunc(list, func(a, b ocispec.Descriptor) int { return strings.Compare(a.Digest.String(), b.Digest.String()) })
	return slices.CompactFunc(list, func(a, b ocispec.Descriptor) bool { return a.Digest == b.Digest }), nil
}

// listedReferrers gives what the index on the subject's tag lists and the book
// holds.
func listedReferrers(r *http.Request, b Book, name string, subject digest.Digest) ([]ocispec.Descriptor, error) {
	ref := indexer.Reference{Repository: name, Tag: strings.Replace(subject.String(), ":", "-", 1)}
	if !indexer.IsTag(ref.Tag) {
		return nil, nil // sha512 is longer than a tag
	}
	index, err := b.Manifest(r.Context(), ref)
	if errors.Is(err, indexer.ErrNotFound) {
		return nil, nil
	}
	if err != nil || index.Kind != indexer.KindIndex {
		return nil, err
	}
	var list []ocispec.Descriptor
	for _, e := range index.Entries[:min(len(index.Entries), maxListed)] {
		m, err := b.Manifest(r.Context(), indexer.Reference{Repository: name, Digest: e.Digest})
		if errors.Is(err, indexer.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, ocispec.Descriptor{MediaType: m.MediaType, Digest: m.Digest, Size: m.Size, ArtifactType: m.ArtifactType, Annotations: m.Annotations})
	}
	return list, nil
}

// tellRegistry tells an error in the shape that a registry's clients read
// (distribution-spec 1.1, "Error Codes").
func tellRegistry(w http.ResponseWriter, code int, text string) {
	kind := map[int]string{http.StatusBadRequest: "DIGEST_INVALID", http.StatusNotFound: "NAME_UNKNOWN"}[code]
	if kind == "" {
		kind = "UNAVAILABLE"
	}
	if code == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	_ = writeJSON(w, code, registryErrors{[]registryError{{Code: kind, Message: text}}})
}

type registryErrors struct {
	Errors []registryError `json:"errors"`
}

type registryError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}
