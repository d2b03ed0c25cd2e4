package harness

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"
	"testing"
)

func TestChart(t *testing.T) {
	t.Parallel()
	c := Chart{
		Title: "a < b & c", X: "repositories", Y: "milliseconds",
		Lines: []Line{
			{Name: "word", Points: [][2]float64{{10_000, 0.5}, {1_000_000, 5}}},
			{Name: "word", Dashed: true, Points: [][2]float64{{10_000, 2}, {1_000_000, 20}}},
		},
	}
	svg := c.SVG()
	d := xml.NewDecoder(strings.NewReader(svg))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v in %s", err, svg)
		}
		// Nothing is drawn outside of the picture.
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "circle" {
			for _, a := range e.Attr {
				v, err := strconv.ParseFloat(a.Value, 64)
				if a.Name.Local == "cx" && (err != nil || v < plotLeft || v > plotRight) ||
					a.Name.Local == "cy" && (err != nil || v < plotTop || v > plotBottom) {
					t.Errorf("%s is %s, %v", a.Name.Local, a.Value, err)
				}
			}
		}
	}
	for _, want := range []string{
		">0.1<", ">10<", ">100,000<", ">1,000,000<", ">repositories<", ">milliseconds<", "a &lt; b &amp; c",
	} {
		if !strings.Contains(svg, want) {
			t.Errorf("no %s in %s", want, svg)
		}
	}
	if strings.Contains(svg, ">10,000,000<") {
		t.Error("the axis goes beyond the last value")
	}
	if n := strings.Count(svg, ">word<"); n != 1 {
		t.Errorf("%d entries in the legend, want 1", n)
	}
}

func TestBarChart(t *testing.T) {
	t.Parallel()
	c := BarChart{Title: "both", X: "milliseconds", Groups: []Group{
		{"a word", []Bar{{"one", 0.5, 2}, {"two", 50, 200}}},
		{"first page", []Bar{{"one", 1, 3}}},
	}}
	svg := c.SVG()
	if err := xml.Unmarshal([]byte(svg), new(struct{})); err != nil {
		t.Fatalf("%v in %s", err, svg)
	}
	// 0.1 is at barsLeft and 1,000 at barsRight, so 50 is at 67 % of the axis.
	for _, want := range []string{">0.1<", ">1,000<", ">one<", ">two<", ">a word<", "H593.9", ">milliseconds<"} {
		if n := strings.Count(svg, want); n != 1 {
			t.Errorf("%s is there %d times, want 1:\n%s", want, n, svg)
		}
	}
	if (BarChart{}).SVG() != "" || (Chart{}).SVG() != "" {
		t.Error("there is a picture of nothing")
	}
}

// Each colour can be seen on both papers.
func TestColours(t *testing.T) {
	t.Parallel()
	for _, colour := range colours {
		for _, paper := range []string{lightPaper, darkPaper} {
			a, b := luminance(t, colour), luminance(t, paper)
			if contrast := (max(a, b) + 0.05) / (min(a, b) + 0.05); contrast < 3 {
				t.Errorf("%s on %s has a contrast of %.2f", colour, paper, contrast)
			}
		}
	}
}

// luminance is the relative luminance of a colour (WCAG 2.2).
func luminance(t *testing.T, colour string) (l float64) {
	t.Helper()
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		n, err := strconv.ParseUint(colour[1+2*i:3+2*i], 16, 8)
		if err != nil {
			t.Fatal(err)
		}
		c := float64(n) / 255
		if c <= 0.04045 {
			l += weight * c / 12.92
		} else {
			l += weight * math.Pow((c+0.055)/1.055, 2.4)
		}
	}
	return l
}
