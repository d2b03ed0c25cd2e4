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
	Tags        int              `json:"tags" doc:"how many"`
	Manifests   int              `json:"manifests" doc:"how many, tagged or not"`
	UpdatedAt   answer.Timestamp `json:"updated_at" doc:"when anything under it last changed"`
	Leading     string           `json:"leading" doc:"the tag that speaks for it: latest, else the highest version, else what moved last, never one on which older tools keep referrers; empty if there is none"`
	TagsWith    tagsWith         `json:"tags_with" doc:"the number of tags whose manifest has it attached; an index also counts if every image in it has it"`
}

// tagsWith has counts of tags by what is attached to their manifests.
type tagsWith struct {
	Of          int `json:"of" doc:"tags that are counted: all but those on which older tools keep referrers"`
	Signature   int `json:"signature" doc:"not verified"`
	SBOM        int `json:"sbom"`
	Attestation int `json:"attestation"`
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
		Tags: r.Tags, Manifests: r.Manifests, UpdatedAt: answer.Timestamp{Time: r.UpdatedAt}, Leading: r.Leading, TagsWith: tagsWith(r.TagsWith),
	}
}
