package api

import (
	"net/http"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/query"
	"github.com/portbook/portbook/indexer/web/answer"
)

type storageAnswer struct {
	Size         int64               `json:"size" doc:"bytes of all configs and layers, each once"`
	Own          int64               `json:"own" doc:"bytes of those that one repository alone uses"`
	Untagged     int                 `json:"untagged" doc:"manifests that no tag shows, itself or by an image index, and that are attached to none"`
	UntaggedSize int64               `json:"untagged_size" doc:"bytes of what only such manifests of one repository use"`
	Repositories int                 `json:"repositories" doc:"how many have a manifest"`
	Manifests    int                 `json:"manifests" doc:"how many"`
	CountedAt    *answer.Timestamp   `json:"counted_at,omitempty" doc:"when a count last came to anything else; left out before the first"`
	Items        []repositoryStorage `json:"items" doc:"repositories in order of name"`
	Next         string              `json:"next,omitempty" doc:"address of the next page; left out on the last"`
}

type repositoryStorage struct {
	Repository   string           `json:"repository"`
	Own          int64            `json:"own" doc:"bytes of configs and layers that no other repository uses"`
	Shared       int64            `json:"shared" doc:"bytes of those that others use too"`
	Manifests    int              `json:"manifests"`
	Untagged     int              `json:"untagged"`
	UntaggedSize int64            `json:"untagged_size"`
	PushedAt     answer.Timestamp `json:"pushed_at" doc:"when a new manifest, or a tag that moved, was last seen"`
}

func (s *API) storage(w http.ResponseWriter, r asked) error {
	after, limit := r.values.Get("after"), r.number("limit", defaultList)
	return s.json(w, r, query.Query{}, func(b answer.Book) (any, string, error) {
		total, err := b.Storage(r.Context())
		if err != nil {
			return nil, "", err
		}
		list, err := b.RepositoryStorage(r.Context(), indexer.StorageQuery{After: after, Limit: limit + 1})
		a := storageAnswer{Size: total.Size, Own: total.Own, Untagged: total.Untagged, UntaggedSize: total.UntaggedSize,
			Repositories: total.Repositories, Manifests: total.Manifests}
		if !total.CountedAt.IsZero() {
			a.CountedAt = &answer.Timestamp{Time: total.CountedAt}
		}
		if len(list) > limit {
			list = list[:limit]
			a.Next = r.page("after", list[limit-1].Name)
		}
		a.Items = answer.Map(list, func(x indexer.RepositoryStorage) repositoryStorage {
			return repositoryStorage{x.Name, x.Own, x.Shared, x.Manifests, x.Untagged, x.UntaggedSize, answer.Timestamp{Time: x.PushedAt}}
		})
		return a, a.Next, err
	})
}
