package api

import (
	"net/http"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/query"
	"github.com/portbook/portbook/indexer/web/answer"
)

type storageAnswer struct {
	Size         int64               `json:"size" doc:"bytes of all configs and layers, each counted once"`
	Own          int64               `json:"own" doc:"bytes of those that only one repository uses"`
	Untagged     int                 `json:"untagged" doc:"number of untagged manifests: no tag points to them or to an index that lists them, and they are attached to no manifest"`
	UntaggedSize int64               `json:"untagged_size" doc:"bytes that only untagged manifests of one repository use"`
	Repositories int                 `json:"repositories" doc:"number of repositories that have a manifest"`
	Manifests    int                 `json:"manifests" doc:"number of manifests"`
	CountedAt    *answer.Timestamp   `json:"counted_at,omitempty" doc:"when the result of a count last changed; absent before the first count"`
	Look         *lookAnswer         `json:"look,omitempty" doc:"the last look at the storage of the registry, compared with the book; absent if there is none, and for who does not see every repository"`
	Items        []repositoryStorage `json:"items" doc:"repositories in order of their name"`
	Next         string              `json:"next,omitempty" doc:"address of the next page; absent on the last page"`
}

type repositoryStorage struct {
	Repository   string           `json:"repository"`
	Own          int64            `json:"own" doc:"bytes of configs and layers that no other repository uses"`
	Shared       int64            `json:"shared" doc:"bytes of configs and layers that other repositories use too"`
	Manifests    int              `json:"manifests"`
	Untagged     int              `json:"untagged"`
	UntaggedSize int64            `json:"untagged_size"`
	PushedAt     answer.Timestamp `json:"pushed_at" doc:"when a new manifest or a move of a tag was last seen"`
}

func (s *API) storage(w http.ResponseWriter, r asked) error {
	after, limit := r.values.Get("after"), r.number("limit", defaultList)
	return s.json(w, r, query.Query{}, func(b answer.Book) (any, string, error) {
		total, err := b.Storage(r.Context())
		if err != nil {
			return nil, "", err
		}
		look, err := b.StorageLook(r.Context())
		if err != nil {
			return nil, "", err
		}
		list, err := b.RepositoryStorage(r.Context(), indexer.StorageQuery{After: after, Limit: limit + 1})
		a := storageAnswer{Size: total.Size, Own: total.Own, Untagged: total.Untagged, UntaggedSize: total.UntaggedSize,
			Repositories: total.Repositories, Manifests: total.Manifests, Look: lookOf(look)}
		if !total.CountedAt.IsZero() {
			a.CountedAt = &answer.Timestamp{Time: total.CountedAt}
		}
		if len(list) > limit {
			list = list[:limit]
			a.Next = r.page("after", list[limit-1].Name)
		}
		a.Items = answer.Map(list, func(x indexer.RepositoryStorage) repositoryStorage {
			return repositoryStorage{
				x.Name, x.Own, x.Shared, x.Manifests, x.Untagged, x.UntaggedSize, answer.Timestamp{Time: x.PushedAt},
			}
		})
		return a, a.Next, err
	})
}
