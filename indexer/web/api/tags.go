package api

import (
	"net/http"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/query"
	"github.com/portbook/portbook/indexer/web/answer"
)

type tagsAnswer struct {
	Repository string            `json:"repository"`
	Tags       []tag             `json:"tags"`
	At         *answer.Timestamp `json:"at,omitempty" doc:"the requested time, if any"`
	Next       string            `json:"next,omitempty" doc:"address of the next page; absent on the last page"`
}

type tag struct {
	Name      string                 `json:"name"`
	Digest    string                 `json:"digest" doc:"empty if the registry lists the tag but cannot show it"`
	MediaType string                 `json:"media_type"`
	Kind      string                 `json:"kind" doc:"image, index, artifact or unknown"`
	Platforms []string               `json:"platforms" doc:"platforms of the image, or of the first 50 entries of the index: os/architecture[/variant]"`
	Size      int64                  `json:"size" doc:"bytes of config and layers as stored; for an index, the sum of its entries"`
	CreatedAt answer.Timestamp       `json:"created_at,omitzero" doc:"when the image was created, according to the image"`
	MovedAt   answer.Timestamp       `json:"moved_at,omitzero" doc:"when the indexer saw the tag move to this digest"`
	Has       []indexer.ReferrerKind `json:"has" doc:"what is attached to the manifest of the tag: signature (not verified), sbom, attestation, provenance, referrer; an index also has what every image in it has; empty with the parameter at"`
	Pulls     int64                  `json:"pulls" doc:"pulls by this tag that were counted; 0 with the parameter at"`
	PulledAt  answer.Timestamp       `json:"pulled_at,omitzero" doc:"the last pull by this tag or, if that is later, of the manifest that it shows; absent if none was counted"`
	Problem   string                 `json:"problem,omitempty" doc:"why the tag or its manifest could not be read"`
	Yanked    bool                   `json:"yanked,omitempty" doc:"whether searches leave it out: see the notices of the repository"`
	Protected bool                   `json:"protected,omitempty" doc:"whether it must not be moved or deleted"`
}

func (s *API) tags(w http.ResponseWriter, r asked) error {
	name, err := r.repository()
	if err != nil {
		return err
	}
	at, err := r.at()
	if err != nil {
		return err
	}
	after, limit := r.values.Get("after"), r.number("limit", defaultList)
	return s.json(w, r, query.Query{}, func(b answer.Book) (any, string, error) {
		list, err := tagsAt(r, b, name, at, after, limit+1)
		if err != nil {
			return nil, "", err
		}
		a := tagsAnswer{Repository: name}
		if !at.IsZero() {
			a.At = &answer.Timestamp{Time: at}
		}
		if len(list) > limit {
			list = list[:limit]
			a.Next = r.page("after", list[limit-1].Name)
		}
		if !at.IsZero() {
			a.Tags = answer.Map(list, func(t indexer.Tag) tag { return answerTag(t, indexer.LastPulls{}) })
			return a, a.Next, nil
		}
		pulls, err := pullsOfTags(r, b, name, list)
		if err != nil {
			return nil, "", err
		}
		a.Tags = answer.Map(list, func(t indexer.Tag) tag { return answerTag(t, pulls) })
		n, err := b.Notices(r.Context(), name)
		for i, t := range list {
			a.Tags[i].Yanked, a.Tags[i].Protected = n.Of(t.Name, t.Digest) != nil, n.Protects(t.Name)
		}
		return a, a.Next, err
	})
}

// tagsAt returns the tags at a time. If at is zero, it returns the present tags, and
// an error if the repository does not exist.
func tagsAt(r asked, b answer.Book, name string, at time.Time, after string, limit int) ([]indexer.Tag, error) {
	if !at.IsZero() {
		if err := answer.KnownAt(r.Context(), b, at); err != nil {
			return nil, err
		}
		return b.TagsAt(r.Context(), name, at, "", after, limit)
	}
	list, err := b.Tags(r.Context(), name, after, limit)
	if err == nil && len(list) == 0 {
		_, err = b.Repository(r.Context(), name)
	}
	return list, err
}

// pullsOfTags reads the pulls of tags and of what they show.
func pullsOfTags(r asked, b answer.Book, name string, list []indexer.Tag) (indexer.LastPulls, error) {
	var names []string
	var digests []digest.Digest
	for _, t := range list {
		if names = append(names, t.Name); t.Digest != "" {
			digests = append(digests, t.Digest)
		}
	}
	return lastPulls(r, b, name, names, digests)
}

func answerTag(t indexer.Tag, pulls indexer.LastPulls) tag {
	last := pulls.Tags[t.Name]
	if of := pulls.Digests[t.Digest]; of.At.After(last.At) {
		last.At = of.At
	}
	return tag{
		Name: t.Name, Digest: t.Digest.String(), MediaType: t.MediaType, Kind: string(t.Kind),
		Platforms: answer.Map(t.Platforms, indexer.Platform.String), Size: t.Size,
		CreatedAt: answer.Timestamp{Time: t.CreatedAt}, MovedAt: answer.Timestamp{Time: t.MovedAt},
		Has: append([]indexer.ReferrerKind{}, t.Has...), Problem: t.Problem,
		Pulls: last.Pulls, PulledAt: answer.Timestamp{Time: last.At},
	}
}
