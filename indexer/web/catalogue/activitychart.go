package catalogue

import (
	"time"

	"github.com/portbook/portbook/indexer"
)

const (
	// chartWeeks is the number of weeks in a chart of moves: 26, half a year.
	chartWeeks = 26
	// chartMoves is the most moves that are counted for a chart: 500, a few
	// milliseconds. If there are more, the chart covers less time.
	chartMoves = 500
	// The sizes of a chart, in its own units.
	chartHeight, chartBar, chartGap = 48, 14, 4
)

// A chart shows how many tags moved in each week up to the last move. It ends with the
// last move, not today, so that a page only changes with the catalogue.
type chart struct {
	Width, Height int
	Bars          []weekBar
	From, To      time.Time
	Moves         int  // in the chart
	More          bool // whether these weeks have more moves than were counted
}

type weekBar struct {
	X, Y, Width, Height, Count int
	Week                       time.Time // its first day
}

// newChart draws moves, latest first. It returns nil if there are none.
func newChart(moves []indexer.Move) *chart {
	if len(moves) == 0 {
		return nil
	}
	last := weekOf(moves[0].SeenAt)
	first := last.AddDate(0, 0, -7*(chartWeeks-1))
	counts, most, sum := make([]int, chartWeeks), 1, 0
	for _, m := range moves {
		if i := int(weekOf(m.SeenAt).Sub(first) / (7 * 24 * time.Hour)); i >= 0 && i < chartWeeks {
			counts[i]++
			sum++
			most = max(most, counts[i])
		}
	}
	c := &chart{
		Width: chartWeeks * (chartBar + chartGap), Height: chartHeight, From: first, To: moves[0].SeenAt,
		Moves: sum, More: len(moves) >= chartMoves && sum == len(moves),
	}
	for i, n := range counts {
		h := n * chartHeight / most
		if n > 0 {
			h = max(h, 3) // one move remains visible beside hundreds
		} else {
			h = 1
		}
		c.Bars = append(c.Bars, weekBar{
			X: i * (chartBar + chartGap), Y: chartHeight - h, Width: chartBar, Height: h,
			Count: n, Week: first.AddDate(0, 0, 7*i),
		})
	}
	return c
}

// weekOf returns the Monday of the week of t, in UTC.
func weekOf(t time.Time) time.Time {
	t = t.UTC().Truncate(24 * time.Hour)
	return t.AddDate(0, 0, -(int(t.Weekday())+6)%7)
}
