package api

import (
	"net/http"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/query"
	"github.com/portbook/portbook/indexer/web/answer"
)

type referrersAnswer struct {
	Repository string     `json:"repository"`
	Digest     string     `json:"digest" doc:"digest of the manifest that they are attached to"`
	Referrers  []referrer `json:"referrers" doc:"in order of digest"`
	Next       string     `json:"next,omitempty" doc:"address of the next page; absent on the last page"`
}

type referrer struct {
	MediaType    string               `json:"media_type"`
	Digest       string               `json:"digest"`
	Size         int64                `json:"size"`
	ArtifactType string               `json:"artifact_type,omitempty"`
	Annotations  map[string]string    `json:"annotations,omitempty"`
	Kind         indexer.ReferrerKind `json:"kind,omitempty" doc:"signature, sbom or attestation; absent for other kinds"`
	Tag          string               `json:"tag,omitempty" doc:"the tag that attaches it: of an older tool (sha256-….sig), or of the index that lists it (sha256-…); absent if the manifest names its subject itself"`
	Beside       bool                 `json:"beside,omitempty" doc:"true if an image index that lists both attaches it, as for BuildKit's attestations"`
}

func (s *API) referrers(w http.ResponseWriter, r asked) error {
	ref, err := r.reference()
	if err != nil {
		return err
	}
	q := indexer.ReferrerQuery{Repository: ref.Repository, Limit: r.number("limit", answer.MaxReferrers)}
	if err := answer.ReadAfterReferrer(r.values.Get("after"), &q); err != nil {
		return err
	}
	return s.json(w, r, query.Query{}, func(b answer.Book) (any, string, error) {
		m, err := b.Manifest(r.Context(), ref)
		if err != nil {
			return nil, "", err
		}
		q.Subject = m.Digest
		page, err := b.Referrers(r.Context(), q)
		if err != nil {
			return nil, "", err
		}
		list := answer.Map(page.Items, answerReferrer)
		a := referrersAnswer{Repository: ref.Repository, Digest: m.Digest.String(), Referrers: list}
		if page.More {
			a.Next = r.page("after", answer.AfterReferrer(page.Items[len(page.Items)-1]))
		}
		return a, a.Next, nil
	})
}

func answerReferrer(r indexer.Referrer) referrer {
	return referrer{MediaType: r.MediaType, Digest: r.Digest.String(), Size: r.Size, ArtifactType: r.ArtifactType,
		Annotations: r.Annotations, Kind: r.Kind(), Tag: r.Tag, Beside: r.Beside}
}
