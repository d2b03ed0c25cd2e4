package api

import (
	"net/http"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/query"
	"github.com/portbook/portbook/indexer/web/answer"
)

type repositoryAnswer struct {
	Name        string           `json:"name"`
	Namespace   string           `json:"namespace" doc:"the part of the name before the first slash"`
	Title       string           `json:"title"`
	Description string           `json:"description"`
	Tags        int              `json:"tags" doc:"number of tags"`
	Manifests   int              `json:"manifests" doc:"number of manifests, with or without a tag"`
	UpdatedAt   answer.Timestamp `json:"updated_at" doc:"when anything in the repository last changed"`
	Leading     string           `json:"leading" doc:"the tag that represents the repository: latest, else the highest version, else the tag that moved last; never a tag that older tools use for referrers; empty if there is none"`
	TagsWith    tagsWith         `json:"tags_with" doc:"number of tags by what is attached to their manifest; an index also counts if every image in it has it"`
}

// tagsWith has counts of tags by what is attached to their manifests.
type tagsWith struct {
	Of          int `json:"of" doc:"number of tags that were counted: all but those that older tools use for referrers"`
	Signature   int `json:"signature" doc:"number of tags with a signature (not verified)"`
	SBOM        int `json:"sbom" doc:"number of tags with an SBOM"`
	Attestation int `json:"attestation" doc:"number of tags with an attestation"`
}

func (s *API) repository(w http.ResponseWriter, r asked) error {
	name, err := r.repository()
	if err != nil {
		return err
	}
	return s.json(w, r, query.Query{}, func(b answer.Book) (any, string, error) {
		found, err := b.Repository(r.Context(), name)
		return repositoryOf(found), "", err
	})
}

func repositoryOf(r indexer.Repository) repositoryAnswer {
	return repositoryAnswer{
		Name: r.Name, Namespace: r.Namespace(), Title: r.Title, Description: r.Description,
		Tags: r.Tags, Manifests: r.Manifests, UpdatedAt: answer.Timestamp{Time: r.UpdatedAt},
		Leading: r.Leading, TagsWith: tagsWith(r.TagsWith),
	}
}
