package harness

import (
	"fmt"
	"strings"
)

// A BarChart is a picture of groups of bars over a logarithmic axis.
type BarChart struct {
	Title, X string // X is what the axis shows, with the unit
	Groups   []Group
}

// A Group is a group of bars with a common name.
type Group struct {
	Name string
	Bars []Bar
}

// A Bar is a thick bar up to one value and a thin one up to another, which is not less;
// both are above 0. Those of one Name have one colour and one entry in the legend.
type Bar struct {
	Name        string
	Thick, Thin float64
}

const (
	barsLeft, barsRight = 270, 750
	barHeight, groupGap = 16, 12
)

// SVG returns the picture, "" if it has no bars.
func (c BarChart) SVG() string {
	var values []float64
	bottom := plotTop
	for _, g := range c.Groups {
		bottom += groupGap + barHeight*len(g.Bars)
		for _, bar := range g.Bars {
			values = append(values, 0.99*bar.Thick, bar.Thin) // less: a bar must be seen
		}
	}
	x, ok := axisOf(values, barsLeft, barsRight)
	if !ok {
		return ""
	}
	var b strings.Builder
	head(&b, c.Title, bottom+60)
	for _, v := range x.ticks() {
		fmt.Fprintf(&b, `<path d="M%.1f %dV%d" stroke="currentColor" stroke-opacity=".2"/>`+"\n", x.at(v), plotTop, bottom)
		text(&b, x.at(v), float64(bottom+18), "middle", "", tick(v))
	}
	text(&b, barsRight, float64(bottom+42), "end", "", c.X)
	c.bars(&b, x)
	b.WriteString("</svg>\n")
	return b.String()
}

// bars draws the bars and the legend.
func (c BarChart) bars(b *strings.Builder, x axis) {
	colour, y := map[string]string{}, float64(plotTop)
	for _, g := range c.Groups {
		y += groupGap
		text(b, barsLeft-10, y+float64(barHeight*len(g.Bars))/2+4, "end", "", g.Name)
		for _, bar := range g.Bars {
			if colour[bar.Name] == "" {
				colour[bar.Name] = colours[len(colour)%len(colours)]
				at := float64(barsLeft + 120*(len(colour)-1))
				fmt.Fprintf(b, `<path d="M%.1f %dh24" stroke="%s" stroke-width="8"/>`+"\n", at, plotTop-10, colour[bar.Name])
				text(b, at+32, plotTop-6, "start", "", bar.Name)
			}
			middle := y + barHeight/2
			stroke := func(to float64, width int) {
				fmt.Fprintf(b, `<path d="M%.1f %.1fH%.1f" stroke="%s" stroke-width="%d"/>`+"\n",
					x.from, middle, x.at(to), colour[bar.Name], width)
			}
			stroke(bar.Thin, 3)
			stroke(bar.Thick, barHeight-4)
			y += barHeight
		}
	}
}
