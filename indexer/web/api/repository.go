package api

import (
	"net/http"
	"time"

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
	Manifests   *int             `json:"manifests,omitempty" doc:"number of manifests, with or without a tag; absent with at"`
	Pulls       int64            `json:"pulls" doc:"pulls that were counted; see usage"`
	PulledAt    answer.Timestamp `json:"pulled_at,omitzero" doc:"the last pull; absent if none was counted"`
	UpdatedAt   answer.Timestamp `json:"updated_at,omitzero" doc:"when anything in the repository last changed; with at, when a tag last moved until then, absent if that is not kept"`
	Leading     string           `json:"leading" doc:"the tag that represents the repository: latest, else the highest version, else the tag that moved last; never a tag that older tools use for referrers; empty if there is none"`
	TagsWith    *tagsWith        `json:"tags_with,omitempty" doc:"number of tags by what is attached to their manifest; an index also counts if every image in it has it; absent with at"`

	At         *answer.Timestamp `json:"at,omitempty" doc:"the requested time, if any"`
	Incomplete bool              `json:"incomplete,omitempty" doc:"with at: whether the book no longer has the manifest of the leading tag, so that title and description of then are unknown"`
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
	at, err := r.at()
	if err != nil {
		return err
	}
	return s.json(w, r, query.Query{}, func(b answer.Book) (any, string, error) {
		if !at.IsZero() {
			a, err := repositoryAt(r, b, name, at)
			return a, "", err
		}
		found, err := b.Repository(r.Context(), name)
		if err != nil {
			return nil, "", err
		}
		usage, err := b.Usage(r.Context(), indexer.UsageQuery{Repository: name})
		return repositoryOf(found, usage), "", err
	})
}

// repositoryAt returns a repository as it was at a time, without what is not known of then.
func repositoryAt(r asked, b answer.Book, name string, at time.Time) (repositoryAnswer, error) {
	if err := answer.KnownAt(r.Context(), b, at); err != nil {
		return repositoryAnswer{}, err
	}
	past, err := b.RepositoryAt(r.Context(), name, at)
	return repositoryAnswer{
		Name: name, Namespace: indexer.Repository{Name: name}.Namespace(), Title: past.Title, Description: past.Description,
		Tags: past.Tags, UpdatedAt: answer.Timestamp{Time: past.MovedAt}, Leading: past.Leading,
		At: &answer.Timestamp{Time: at}, Incomplete: past.Incomplete,
	}, err
}

func repositoryOf(r indexer.Repository, u indexer.Usage) repositoryAnswer {
	with := tagsWith(r.TagsWith)
	return repositoryAnswer{
		Name: r.Name, Namespace: r.Namespace(), Title: r.Title, Description: r.Description,
		Tags: r.Tags, Manifests: &r.Manifests, UpdatedAt: answer.Timestamp{Time: r.UpdatedAt},
		Leading: r.Leading, TagsWith: &with, Pulls: u.Pulls, PulledAt: answer.Timestamp{Time: u.PulledAt},
	}
}
