package catalogue

import (
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/web/answer"
)

// holdingTime is how long a page looks up what else uses a manifest: 300 ms. An index of 60
// images takes about 50 ms.
const holdingTime = 300 * time.Millisecond

// A holdingView is what a tag or a manifest takes, and what deleting it would free.
type holdingView struct {
	indexer.Holding
	Tag     string // if a tag is shown
	Others  []string
	Unknown bool // it is too large to say
}

// readHolding reads what a tag or a manifest takes.
func readHolding(r *http.Request, b answer.Book, ref indexer.Reference) (v holdingView, err error) {
	v.Tag = ref.Tag
	v.Holding, err = b.Holding(r.Context(), indexer.HoldingOf{Reference: ref, Within: holdingTime})
	if errors.Is(err, indexer.ErrTooSlow) && r.Context().Err() == nil || errors.Is(err, indexer.ErrNotFound) {
		v.Unknown = true
		return v, nil
	}
	if err == nil && v.Manifest != nil {
		v.Others = slices.DeleteFunc(slices.Clone(answer.First(v.Manifest.Tags)), func(t string) bool { return t == ref.Tag })
	}
	return v, err
}

// More reports whether deleting it frees more than deleting its manifest alone.
func (v holdingView) More() bool { return v.Frees.Manifests > v.Manifest.Alone.Manifests }
