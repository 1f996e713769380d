package plot

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/distributed-median-tracker/dmt/window"
	"github.com/distributed-median-tracker/dmt/window/sketch"
)

func TestSVG_Golden(t *testing.T) {
	golden(t, "day.svg", day(t).SVG(SVGOptions{}))
	golden(t, "decades.svg", decades(t).SVG(SVGOptions{Width: 600, Height: 300, ID: "second"}))
	golden(t, "hostile.svg", hostile(t).SVG(SVGOptions{Width: 320, Height: 160}))
}

// element is what a test looks at of an SVG.
type element struct {
	name       string
	attributes map[string]string
	text       string
}

// parse reads an SVG as XML and refuses what may not be in one.
func parse(t *testing.T, svg []byte) []element {
	t.Helper()
	var list []element
	var open []int
	d := xml.NewDecoder(bytes.NewReader(svg))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("no XML: %v\n%s", err, svg)
		}
		switch token := token.(type) {
		case xml.StartElement:
			e := element{name: token.Name.Local, attributes: map[string]string{}}
			for _, a := range token.Attr {
				e.attributes[a.Name.Local] = a.Value
				if strings.HasPrefix(a.Name.Local, "on") || a.Name.Local == "href" {
					t.Errorf("<%s %s=%q>", e.name, a.Name.Local, a.Value)
				}
			}
			open = append(open, len(list))
			list = append(list, e)
		case xml.EndElement:
			open = open[:len(open)-1]
		case xml.CharData:
			if len(open) > 0 {
				list[open[len(open)-1]].text += string(token)
			}
		case xml.ProcInst, xml.Directive:
			t.Errorf("%T in a picture that may be part of a page", token)
		}
	}
	return list
}

func TestSVG_IsXMLWithoutScriptsWhateverTheNames(t *testing.T) {
	allowed := map[string]bool{"svg": true, "title": true, "desc": true, "style": true, "defs": true, "pattern": true, "rect": true, "path": true, "text": true}
	for _, s := range []Series{day(t), decades(t), hostile(t), one(t)} {
		elements := parse(t, s.SVG(SVGOptions{}))
		var title, desc string
		for _, e := range elements {
			if !allowed[e.name] {
				t.Errorf("%q has an element <%s>", s.Metric, e.name)
			}
			switch e.name {
			case "title":
				title = e.text
			case "desc":
				desc = e.text
			case "style":
				if strings.Contains(e.text, "@import") || strings.Contains(e.text, "url(") {
					t.Errorf("the style fetches something")
				}
				if !strings.Contains(e.text, "prefers-color-scheme:dark") {
					t.Error("no dark mode")
				}
			}
		}
		if title != clean(s.Metric) || !strings.Contains(desc, clean(s.Metric)) || !strings.Contains(desc, "certainly in [") {
			t.Errorf("title %q, description %q of %q", title, desc, s.Metric)
		}
	}
}

func TestSVG_SaysWhereThereIsNoData(t *testing.T) {
	count := func(s Series) (shades, words int) {
		for _, e := range parse(t, s.SVG(SVGOptions{})) {
			if strings.HasPrefix(e.attributes["fill"], "url(#dmt-gap)") {
				shades++
			}
			if e.name == "text" && e.text == "no data" {
				words++
			}
		}
		return shades, words
	}
	if shades, words := count(day(t)); shades != 3 || words != 1 {
		t.Errorf("%d gaps shaded and %d named, want 3 and the wide one", shades, words)
	}
	if shades, _ := count(one(t)); shades != 0 {
		t.Errorf("%d gaps in a series without", shades)
	}
	empty := Series{Metric: "m", Span: window.Span{From: 0, To: 60}, Step: 10}
	if shades, words := count(empty); shades != 1 || words != 1 {
		t.Errorf("nothing at all: %d gaps shaded, %d named", shades, words)
	}
	ends := series(t, "m", "2026-11-23 10:00:00", 10, 30, func(i int) []sketch.Number {
		if i < 10 || i >= 20 {
			return nil
		}
		return []sketch.Number{sketch.Int(1)}
	})
	if shades, words := count(ends); shades != 2 || words != 2 {
		t.Errorf("gaps at both ends: %d shaded, %d named", shades, words)
	}
}

// Every coordinate of every curve lies inside the axes, for any values.
func TestSVG_StaysInsideTheAxes(t *testing.T) {
	for _, values := range [][]float64{
		{0}, {7}, {-7}, {1e300, -1e300}, {math.MaxFloat64, -math.MaxFloat64}, {math.MaxFloat64}, {5e-324}, {-5e-324, 5e-324},
		{1e18, 1e18 + 256}, {1, 1000.001}, {-1, -1e9}, {0, 1e9}, {0.1, 0.3}, {1e-320, 1}, {123456789, 123456790},
	} {
		s := series(t, "m", "2026-11-23 10:00:00", 10, len(values), func(i int) []sketch.Number { return []sketch.Number{float(values[i])} })
		for _, scale := range []Scale{Auto, Linear, Log} {
			o := SVGOptions{Width: 500, Height: 200, Scale: scale}
			for _, e := range parse(t, s.SVG(o)) {
				for _, c := range strings.FieldsFunc(e.attributes["d"], func(r rune) bool { return strings.ContainsRune("MLHVZhv ", r) }) {
					if n, err := strconv.ParseFloat(c, 64); err != nil || n < 0 || n > 500 {
						t.Errorf("values %v, scale %d: path %s", values, scale, e.attributes["d"])
						break
					}
				}
			}
		}
	}
}

func TestSVG_KeepsItsSizeInBounds(t *testing.T) {
	f := func(o SVGOptions, width, height string) {
		t.Helper()
		root := parse(t, one(t).SVG(o))[0]
		if root.attributes["width"] != width || root.attributes["height"] != height {
			t.Errorf("%+v gives %s by %s", o, root.attributes["width"], root.attributes["height"])
		}
	}
	f(SVGOptions{}, "900", "360")
	f(SVGOptions{Width: 1, Height: 1}, "320", "160")
	f(SVGOptions{Width: 1 << 40, Height: 1 << 40}, "10000", "10000")
}
