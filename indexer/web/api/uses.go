package api

import (
	"net/http"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/query"
	"github.com/portbook/portbook/indexer/web/answer"
)

type usesAnswer struct {
	Digest string `json:"digest"`
	Uses   []use  `json:"uses" doc:"uses in order of repository and digest"`
	Next   string `json:"next,omitempty" doc:"address of the next page; absent on the last page"`
}

type use struct {
	Repository string   `json:"repository"`
	Digest     string   `json:"digest" doc:"digest of the manifest that uses it"`
	As         string   `json:"as" doc:"role of the digest in it: manifest (itself), entry, config, layer or subject"`
	Tags       []string `json:"tags" doc:"tags of that manifest, at most 20"`
}

func (s *API) uses(w http.ResponseWriter, r asked) error {
	d, err := r.digest()
	if err != nil {
		return err
	}
	var after indexer.Reference
	if text := r.values.Get("after"); text != "" {
		if after, err = indexer.ParseReference(text); err != nil || after.Digest == "" || after.Tag != "" {
			return answer.Invalid("after", "is %.64q: write repository@digest", text)
		}
	}
	limit := r.number("limit", defaultList)
	return s.json(w, r, query.Query{}, func(b answer.Book) (any, string, error) {
		uses, err := b.Uses(r.Context(), d, after.Repository, after.Digest, limit+1)
		if err != nil {
			return nil, "", err
		}
		a := usesAnswer{Digest: d.String()}
		if len(uses) > limit {
			uses = uses[:limit]
			last := uses[limit-1]
			a.Next = r.page("after", indexer.Reference{Repository: last.Repository, Digest: last.Digest}.String())
		}
		a.Uses = answer.Map(uses, func(u indexer.Use) use {
			return use{u.Repository, u.Digest.String(), u.As, append([]string{}, u.Tags...)}
		})
		return a, a.Next, nil
	})
}
