package catalogue

import (
	"net/http"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/web/answer"
)

const (
	// usageDays is the number of days in a chart of pulls: 90.
	usageDays = 90
	// The sizes of a bar in it, in its own units.
	usageBar, usageGap = 4, 1
)

// A usageView shows who pulls something.
type usageView struct {
	indexer.Usage
	Of     string // what: "this repository"
	Tag    string // "" if it is about no tag
	Shown  *indexer.Usage
	Kinds  []kindPulls
	Recent int64 // pulls in the chart
	Chart  usageChart
}

// kindPulls are the pulls in the chart by one kind of client.
type kindPulls struct {
	Kind  string
	Pulls int64
}

// A usageChart shows the pulls of each day up to the last change of the counts, not today, so
// that a page only changes with the catalogue.
type usageChart struct {
	Width, Height int
	Bars          []dayBar
	From, To      time.Time
}

type dayBar struct {
	X, Y, Width, Height int
	Count               int64
	Day                 time.Time
}

// clientNames are the kinds of clients in the words of pages.
var clientNames = map[indexer.ClientKind]string{
	indexer.ByAnonymous: "without a login", indexer.ByPerson: "people", indexer.ByToken: "tokens",
	indexer.ByWorkload: "workloads",
}

// usageOf reads who pulls a repository, or a tag of it, and what that shows.
func usageOf(r *http.Request, b answer.Book, ref indexer.Reference, shown digest.Digest) (*usageView, error) {
	q := indexer.UsageQuery{Repository: ref.Repository, Days: usageDays}
	v := &usageView{Of: "this repository"}
	switch {
	case ref.Tag != "":
		v.Of, v.Tag, q.Tag = "this tag", ref.Tag, ref.Tag
	case ref.Digest != "":
		v.Of, q.Digest = "this manifest", ref.Digest
	}
	var err error
	if v.Usage, err = b.Usage(r.Context(), q); err != nil {
		return nil, err
	}
	if v.Tag != "" {
		of, err := b.Usage(r.Context(), indexer.UsageQuery{Repository: ref.Repository, Digest: shown})
		if err != nil {
			return nil, err
		}
		v.Shown = &of
	}
	v.draw()
	return v, nil
}

// draw fills the chart and the kinds of clients.
func (v *usageView) draw() {
	if v.Until.IsZero() {
		return
	}
	last := v.Until.UTC().Truncate(24 * time.Hour)
	first := last.AddDate(0, 0, 1-usageDays)
	counts, most := make([]int64, usageDays), int64(1)
	by := map[indexer.ClientKind]int64{}
	for _, d := range v.Days {
		if i := int(d.Day.Sub(first) / (24 * time.Hour)); i >= 0 && i < usageDays {
			counts[i] = d.Pulls
			most = max(most, d.Pulls)
			v.Recent += d.Pulls
			for kind, n := range d.By {
				by[kind] += n
			}
		}
	}
	for _, kind := range indexer.ClientKinds {
		if by[kind] > 0 {
			v.Kinds = append(v.Kinds, kindPulls{clientNames[kind], by[kind]})
		}
	}
	v.Chart = usageChart{Width: usageDays * (usageBar + usageGap), Height: chartHeight, From: first, To: last}
	for i, n := range counts {
		h := 1
		if n > 0 {
			h = max(int(float64(n)/float64(most)*chartHeight), 3) // one pull remains visible beside thousands
		}
		v.Chart.Bars = append(v.Chart.Bars, dayBar{
			X: i * (usageBar + usageGap), Y: chartHeight - h, Width: usageBar, Height: h, Count: n, Day: first.AddDate(0, 0, i),
		})
	}
}
