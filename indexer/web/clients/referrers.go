package clients

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"

	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/web/answer"
)

// Referrers serves GET /v2/NAME/referrers/DIGEST (distribution-spec 1.1, "Listing
// Referrers") from the database. An unknown digest has an empty list, since the
// specification does not allow 404.
func (s *Clients) Referrers(w http.ResponseWriter, r *http.Request) error {
	q, err := readReferrerQuery(r)
	if err != nil {
		return err
	}
	next := ""
	as := answer.Form{ContentType: ocispec.MediaTypeImageIndex, MaxAge: s.config.MaxAge, Gzip: true}
	as.Headers = func(h http.Header) {
		if len(q.Types) > 0 {
			h.Set("OCI-Filters-Applied", "artifactType")
		}
		if next != "" {
			h.Set("Link", "<"+next+`>; rel="next"`)
		}
	}
	return s.answerer.Answer(w, r, as, func(b answer.Book, out io.Writer) error {
		page, err := b.Referrers(r.Context(), q)
		if err != nil {
			return err
		}
		if next = ""; page.More {
			next = nextReferrers(q, page.Items[len(page.Items)-1])
		}
		e := json.NewEncoder(out)
		e.SetEscapeHTML(false) // it is never HTML
		return e.Encode(ocispec.Index{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex,
			Manifests: answer.Map(page.Items, ociReferrer),
		})
	})
}

// readReferrerQuery parses the request. after is the last referrer of the previous
// page, as answer.AfterReferrer writes it.
func readReferrerQuery(r *http.Request) (q indexer.ReferrerQuery, err error) {
	q = indexer.ReferrerQuery{Repository: r.PathValue("name"), OCI: true, Limit: answer.MaxReferrers}
	if !indexer.IsRepository(q.Repository) {
		return q, indexer.InvalidRepository(q.Repository)
	}
	if q.Subject, err = indexer.ParseDigest(r.PathValue("digest")); err != nil {
		return q, err
	}
	values := r.URL.Query()
	q.Types = slices.DeleteFunc(values["artifactType"], func(t string) bool { return t == "" })
	return q, answer.ReadAfterReferrer(values.Get("after"), &q)
}

// nextReferrers returns the address of the page after a referrer. Neither the name of a
// repository nor a digest needs escaping.
func nextReferrers(q indexer.ReferrerQuery, last indexer.Referrer) string {
	values := url.Values{"after": {answer.AfterReferrer(last)}}
	if len(q.Types) > 0 {
		values["artifactType"] = q.Types
	}
	return "/v2/" + q.Repository + "/referrers/" + q.Subject.String() + "?" + values.Encode()
}

func ociReferrer(f indexer.Referrer) ocispec.Descriptor {
	return ocispec.Descriptor{
		MediaType: f.MediaType, Digest: f.Digest, Size: f.Size,
		ArtifactType: f.ArtifactType, Annotations: f.Annotations,
	}
}
