package harness

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strconv"
	"strings"
)

// A Chart is a picture of lines over two logarithmic axes.
type Chart struct {
	Title, X, Y string // X and Y are what the axes show, with the unit
	Lines       []Line
}

// A Line is one line of a Chart; those of one Name have one colour and one entry in the
// legend.
type Line struct {
	Name   string
	Dashed bool
	Points [][2]float64 // both coordinates above 0
}

// colours of lines. Each has a contrast of at least 3 to the white and to the dark
// paper (WCAG 2.2, 1.4.11).
var colours = []string{"#2f7fd4", "#cf5a2b", "#1b936a", "#a85fc2", "#95791f", "#d14b80"}

const (
	lightPaper, darkPaper = "#ffffff", "#0d1117"

	chartWidth, chartHeight = 780, 420
	// The plot is inside, with room for the labels of the axes and the legend.
	plotLeft, plotTop, plotRight, plotBottom = 70, 50, 500, 360
)

// SVG returns the picture, "" if it has no points.
func (c Chart) SVG() string {
	var xs, ys []float64
	for _, l := range c.Lines {
		for _, p := range l.Points {
			xs, ys = append(xs, p[0]), append(ys, p[1])
		}
	}
	x, ok := axisOf(xs, plotLeft, plotRight)
	y, _ := axisOf(ys, plotBottom, plotTop)
	if !ok {
		return ""
	}
	var b strings.Builder
	head(&b, c.Title, chartHeight)
	for _, v := range x.ticks() {
		at := x.at(v)
		fmt.Fprintf(&b, `<path d="M%.1f %dV%d" stroke="currentColor" stroke-opacity=".2"/>`+"\n", at, plotTop, plotBottom)
		text(&b, at, plotBottom+18, "middle", "", tick(v))
	}
	for _, v := range y.ticks() {
		at := y.at(v)
		fmt.Fprintf(&b, `<path d="M%d %.1fH%d" stroke="currentColor" stroke-opacity=".2"/>`+"\n", plotLeft, at, plotRight)
		text(&b, plotLeft-8, at+4, "end", "", tick(v))
	}
	text(&b, (plotLeft+plotRight)/2, plotBottom+42, "middle", "", c.X)
	middle := float64(plotTop+plotBottom) / 2
	text(&b, 20, middle, "middle", fmt.Sprintf(`transform="rotate(-90 20 %.1f)"`, middle), c.Y)
	c.lines(&b, x, y)
	b.WriteString("</svg>\n")
	return b.String()
}

// head writes the beginning of a picture, with its title. It is readable on a light and
// on a dark page: it has its own paper, and follows the reader's colour scheme.
func head(b *strings.Builder, title string, height int) {
	fmt.Fprintf(b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" aria-label="%s"`+
		` color="#1f2328" font-family="sans-serif" font-size="13">`+"\n", chartWidth, height, html.EscapeString(title))
	// What does not know media queries draws a light picture.
	fmt.Fprintf(b, "<style>@media(prefers-color-scheme:dark){svg{color:#e6edf3}.paper{fill:%s}}</style>\n", darkPaper)
	fmt.Fprintf(b, `<rect class="paper" width="%d" height="%d" fill="%s"/>`+"\n", chartWidth, height, lightPaper)
	text(b, plotLeft, 24, "start", `font-size="16"`, title)
}

// text writes a text; more are further attributes.
func text(b *strings.Builder, x, y float64, anchor, more, s string) {
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="%s" fill="currentColor" %s>%s</text>`+"\n",
		x, y, anchor, more, html.EscapeString(s))
}

// lines draws the lines and the legend.
func (c Chart) lines(b *strings.Builder, x, y axis) {
	colour := map[string]string{}
	for _, l := range c.Lines {
		if colour[l.Name] == "" {
			at := float64(plotTop + 20*len(colour) + 10)
			colour[l.Name] = colours[len(colour)%len(colours)]
			fmt.Fprintf(b, `<path d="M%d %.1fh24" stroke="%s" stroke-width="3"/>`+"\n", plotRight+16, at-4, colour[l.Name])
			text(b, plotRight+48, at, "start", "", l.Name)
		}
		dashes := ""
		if l.Dashed {
			dashes = ` stroke-dasharray="6 4"`
		}
		var path []string
		for _, p := range l.Points {
			path = append(path, fmt.Sprintf("%.1f %.1f", x.at(p[0]), y.at(p[1])))
			fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="3.5" fill="%s"/>`+"\n", x.at(p[0]), y.at(p[1]), colour[l.Name])
		}
		fmt.Fprintf(b, `<path d="M%s" fill="none" stroke="%s" stroke-width="2"%s/>`+"\n",
			strings.Join(path, "L"), colour[l.Name], dashes)
	}
}

// An axis is a logarithmic axis from one power of ten to another.
type axis struct {
	low, high float64 // exponents
	from, to  float64 // where they are drawn
}

// axisOf returns the axis that includes all values; ok is false if there are none.
func axisOf(values []float64, from, to float64) (a axis, ok bool) {
	if len(values) == 0 {
		return axis{}, false
	}
	low, high := math.Floor(math.Log10(slices.Min(values))), math.Ceil(math.Log10(slices.Max(values)))
	return axis{low, max(high, low+1), from, to}, true
}

func (a axis) at(v float64) float64 {
	return a.from + (math.Log10(v)-a.low)/(a.high-a.low)*(a.to-a.from)
}

func (a axis) ticks() (ticks []float64) {
	for e := a.low; e <= a.high; e++ {
		ticks = append(ticks, math.Pow(10, e))
	}
	return ticks
}

// tick formats a power of ten.
func tick(v float64) string {
	if v < 1 {
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	return Number(v)
}
