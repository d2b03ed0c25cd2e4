package api

import (
	"net/http"
	"strings"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/web/answer"
)

// A holdingAnswer is about a namespace, a repository, a tag or a manifest.
type holdingAnswer struct {
	Namespace  *string          `json:"namespace,omitempty" doc:"if asked about a namespace; empty for that of names without a slash"`
	Repository string           `json:"repository,omitempty"`
	Tag        string           `json:"tag,omitempty"`
	Own        int64            `json:"own" doc:"bytes of configs and layers that nothing else uses; of an image index with those of the images that it lists"`
	Shared     int64            `json:"shared" doc:"bytes of configs and layers that others use too"`
	Frees      freedAnswer      `json:"frees" doc:"what deleting it would free, with what only it needs: of an image index, the manifests that it lists and that no tag and no other index needs"`
	Manifest   *manifestHolding `json:"manifest,omitempty" doc:"if asked about a tag or a manifest"`
}

// A freedAnswer is what deleting some manifests would free.
type freedAnswer struct {
	Bytes        int64 `json:"bytes" doc:"bytes of manifests, configs and layers that nothing else in the registry uses"`
	Blobs        int   `json:"blobs" doc:"number of digests with these bytes"`
	Manifests    int   `json:"manifests" doc:"number of manifests that would be deleted"`
	Shared       int64 `json:"shared" doc:"bytes that stay, because other manifests use them"`
	SharedBlobs  int   `json:"shared_blobs" doc:"number of digests with these bytes"`
	AtMost       bool  `json:"at_most" doc:"whether you see only a part of the registry: less may be freed, because what others use is not told"`
	Unknown      int64 `json:"unknown" doc:"bytes for which it was not found out in time whether others use them; 0 if the answer is whole"`
	UnknownBlobs int   `json:"unknown_blobs" doc:"number of digests with these bytes"`
}

// A manifestHolding has what else happens if a manifest is deleted.
type manifestHolding struct {
	Digest       string       `json:"digest"`
	Tags         []string     `json:"tags" doc:"tags that show it, and that would be deleted with it"`
	UntagFrees   int64        `json:"untag_frees" doc:"what untagging it would free: always 0, because the manifest stays"`
	ListedBy     int          `json:"listed_by" doc:"image indexes that list it, and that could not be pulled whole without it; at most 1,000 are counted"`
	FreesAlone   freedAnswer  `json:"frees_alone" doc:"what deleting only this manifest would free"`
	Attached     int          `json:"attached" doc:"manifests attached to what would be deleted; they stay unless they are deleted too"`
	WithAttached *freedAnswer `json:"frees_with_attached,omitempty" doc:"what deleting these too would free; absent if there are none"`
}

func freedOf(f indexer.Freed) freedAnswer {
	return freedAnswer{
		Bytes: f.Frees, Blobs: f.FreesBlobs, Manifests: f.Manifests, Shared: f.Shared, SharedBlobs: f.SharedBlobs,
		AtMost: f.Part, Unknown: f.Unknown, UnknownBlobs: f.UnknownBlobs,
	}
}

// holdingTime is how long the API looks up what else uses something: 3 s.
const holdingTime = 3 * time.Second

func (s *API) manifestStorage(w http.ResponseWriter, r asked) error {
	ref, err := r.reference()
	if err != nil {
		return err
	}
	return s.holding(w, r, indexer.HoldingOf{Reference: ref})
}

func (s *API) repositoryStorage(w http.ResponseWriter, r asked) error {
	name, err := r.repository()
	if err != nil {
		return err
	}
	return s.holding(w, r, indexer.HoldingOf{Reference: indexer.Reference{Repository: name}})
}

// noNamespace stands for the namespace of names without a slash, in a path. No other
// namespace has that name.
const noNamespace = "-"

func (s *API) namespaceStorage(w http.ResponseWriter, r asked) error {
	name := r.PathValue("namespace")
	if name != noNamespace && (!indexer.IsRepository(name) || strings.Contains(name, "/")) {
		return answer.Invalid("namespace", "is %.64q: write the part of a repository name before its first slash", name)
	}
	name = strings.TrimSuffix(name, noNamespace)
	return s.holding(w, r, indexer.HoldingOf{Namespace: &name})
}

func (s *API) holding(w http.ResponseWriter, r asked, of indexer.HoldingOf) error {
	of.Within = holdingTime
	as := s.jsonForm()
	return s.jsonAs(w, r, &as, func(b answer.Book) (any, string, error) {
		h, err := b.Holding(r.Context(), of)
		if err != nil {
			return nil, "", err
		}
		as.NoStore = !h.Whole() // the next one may know more
		a := holdingAnswer{
			Namespace: of.Namespace, Repository: of.Reference.Repository, Tag: of.Reference.Tag,
			Own: h.Own, Shared: h.Shared, Frees: freedOf(h.Frees),
		}
		if m := h.Manifest; m != nil {
			a.Manifest = &manifestHolding{
				Digest: m.Digest.String(), Tags: append([]string{}, m.Tags...), ListedBy: m.ListedBy,
				FreesAlone: freedOf(m.Alone), Attached: m.Attached,
			}
			if m.Attached > 0 {
				all := freedOf(m.All)
				a.Manifest.WithAttached = &all
			}
		}
		return a, "", nil
	})
}
