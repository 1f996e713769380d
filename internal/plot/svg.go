package plot

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Bounds of an SVG, in pixels. Smaller ones have no room for their labels.
const (
	MinWidth  = 320
	MaxWidth  = 10_000
	MinHeight = 160
	MaxHeight = 10_000
)

// SVGOptions tune an SVG. The zero value is right for a report.
type SVGOptions struct {
	// Width and Height are in pixels and kept within the bounds above. 0 means
	// 900 and 360.
	Width, Height int
	// Scale is that of the values.
	Scale Scale
	// Zone is that of the times. Nil means UTC.
	Zone *time.Location
	// ID begins the ids of the elements, which must differ between the pictures
	// of one page: letters, digits and dashes. Empty means "dmt".
	ID string
}

// style colours a picture, for light and for dark surroundings. A page around
// it can set the variables itself. Programs that know no variables take the
// attributes of the elements, which are the light colours.
const style = `.dmt-plot{--dmt-back:#ffffff;--dmt-text:#1f2328;--dmt-quiet:#59636e;--dmt-grid:#d8dee4;--dmt-gap:#818b98;--dmt-band:#54aeff;--dmt-median:#0550ae;--dmt-tail:#bc4c00}
@media (prefers-color-scheme:dark){.dmt-plot{--dmt-back:#0d1117;--dmt-text:#e6edf3;--dmt-quiet:#9198a1;--dmt-grid:#30363d;--dmt-gap:#9198a1;--dmt-band:#388bfd;--dmt-median:#a5d6ff;--dmt-tail:#ffa657}}
.dmt-back{fill:var(--dmt-back)}.dmt-text{fill:var(--dmt-text)}.dmt-quiet{fill:var(--dmt-quiet)}.dmt-grid{stroke:var(--dmt-grid)}.dmt-gap{stroke:var(--dmt-gap)}
.dmt-band{fill:var(--dmt-band)}.dmt-certain{fill:var(--dmt-median)}.dmt-median{stroke:var(--dmt-median)}.dmt-tail{stroke:var(--dmt-tail)}`

// The looks of the parts, shared by picture and legend. The certified interval
// has an edge, because it is often thinner than a pixel.
const (
	bandLook    = `class="dmt-band" fill="#54aeff" fill-opacity="0.25"`
	certainLook = `class="dmt-certain" fill="#0550ae" fill-opacity="0.35"`
	medianLook  = `class="dmt-median" fill="none" stroke="#0550ae" stroke-width="1.6" stroke-linejoin="round"`
	tailLook    = `class="dmt-tail" fill="none" stroke="#bc4c00" stroke-width="1.2" stroke-linejoin="round" stroke-dasharray="4 2"`
	textLook    = `class="dmt-text" fill="#1f2328"`
	quietLook   = `class="dmt-quiet" fill="#59636e"`
	gridLook    = `class="dmt-grid" stroke="#d8dee4"`
	gapLook     = `class="dmt-gap" stroke="#818b98"`
)

// How wide characters are, about: digits at most, and running text.
const character, narrow = 7.0, 6.2

// SVG returns the picture as a document, or as a part of an HTML page.
func (s Series) SVG(o SVGOptions) []byte {
	if o.Width == 0 {
		o.Width = 900
	}
	if o.Height == 0 {
		o.Height = 360
	}
	if o.Zone == nil {
		o.Zone = time.UTC
	}
	if o.ID == "" {
		o.ID = "dmt"
	}
	o.Width, o.Height = min(max(o.Width, MinWidth), MaxWidth), min(max(o.Height, MinHeight), MaxHeight)
	d := &drawing{Series: s, o: o, axis: newAxis(s.values(), o.Scale, o.Height/50)}
	longest := 0
	for _, t := range d.axis.ticks {
		longest = max(longest, len(t.label))
	}
	d.left, d.right = 18+character*float64(longest), float64(o.Width)-18
	d.top, d.bottom = 56, float64(o.Height)-46
	d.head()
	d.gaps()
	d.grid()
	d.curves()
	d.text(12, 22, textLook+` font-size="15" font-weight="600"`, shortened(clean(s.Metric), (o.Width-24)/9))
	d.legend()
	d.text(12, float64(o.Height)-10, quietLook, d.caption())
	d.WriteString("</svg>\n")
	return d.Bytes()
}

// drawing is an SVG on its way.
type drawing struct {
	bytes.Buffer
	Series
	o                        SVGOptions
	axis                     axis
	left, right, top, bottom float64 // of the part inside the axes
}

// x returns where a time is.
func (d *drawing) x(unix int64) float64 {
	part := float64(unix-d.Span.From) / float64(max(1, d.Span.Seconds()))
	return d.left + float64(part*(d.right-d.left))
}

// y returns where a value is.
func (d *drawing) y(v float64) float64 {
	return d.bottom - float64(d.axis.at(v)*(d.bottom-d.top))
}

// px writes a coordinate: a tenth of a pixel is nothing that anybody sees.
func px(v float64) string { return strconv.FormatFloat(v, 'f', 1, 64) }

func (d *drawing) put(format string, args ...any) { fmt.Fprintf(&d.Buffer, format, args...) }

// escape writes text from outside.
func (d *drawing) escape(s string) {
	// A buffer takes everything.
	_ = xml.EscapeText(&d.Buffer, []byte(s))
}

func (d *drawing) text(x, y float64, look, text string) {
	d.put(`<text x="%s" y="%s" %s>`, px(x), px(y), look)
	d.escape(text)
	d.WriteString("</text>\n")
}

func (d *drawing) head() {
	d.put(`<svg xmlns="http://www.w3.org/2000/svg" class="dmt-plot" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-labelledby="%s-title %s-desc" font-family="system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif" font-size="12">`+"\n",
		d.o.Width, d.o.Height, d.o.Width, d.o.Height, d.o.ID, d.o.ID)
	d.put(`<title id="%s-title">`, d.o.ID)
	d.escape(clean(d.Metric))
	d.put("</title>\n"+`<desc id="%s-desc">`, d.o.ID)
	d.escape(d.summary(d.o.Zone))
	d.put("</desc>\n<style>%s</style>\n", style)
	d.put(`<defs><pattern id="%s-gap" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><path d="M0 0V7" %s stroke-opacity="0.35"/></pattern></defs>`+"\n", d.o.ID, gapLook)
	d.put(`<rect width="%d" height="%d" class="dmt-back" fill="#ffffff"/>`+"\n", d.o.Width, d.o.Height)
}

// caption returns the line at the bottom: as much as fits, all of it is in the
// description.
func (d *drawing) caption() string {
	fits := int(float64(d.o.Width-24) / narrow)
	if all := d.Series.caption(d.o.Zone); len(all) <= fits {
		return all
	}
	const layout = "2006-01-02 15:04"
	from, to := time.Unix(d.Span.From, 0).In(d.o.Zone), time.Unix(d.Span.To, 0).In(d.o.Zone)
	return shortened(from.Format(layout)+" to "+to.Format(layout+" -0700"), fits)
}

// gaps shades where there is no data, and says so where there is room.
func (d *drawing) gaps() {
	for _, gap := range d.Series.gaps() {
		from, to := d.x(gap.From), d.x(gap.To)
		d.put(`<rect x="%s" y="%s" width="%s" height="%s" fill="url(#%s-gap)"/>`+"\n", px(from), px(d.top), px(to-from), px(d.bottom-d.top), d.o.ID)
		if to-from > 60 {
			d.text((from+to)/2, (d.top+d.bottom)/2, quietLook+` text-anchor="middle"`, "no data")
		}
	}
}

// grid draws the axes: a line for each round value and a notch for each round
// time.
func (d *drawing) grid() {
	for _, t := range d.axis.ticks {
		y := d.bottom - float64(t.at*(d.bottom-d.top))
		d.put(`<path d="M%s %sH%s" %s/>`+"\n", px(d.left), px(y), px(d.right), gridLook)
		d.text(d.left-8, y+4, quietLook+` text-anchor="end"`, t.label)
	}
	d.put(`<path d="M%s %sH%s" %s/>`+"\n", px(d.left), px(d.bottom), px(d.right), gapLook)
	for _, t := range timeTicks(d.Span, d.o.Zone, int(d.right-d.left)/80) {
		x := d.x(t.unix)
		d.put(`<path d="M%s %sv5" %s/>`+"\n", px(x), px(d.bottom), gapLook)
		// Labels at the ends stay inside the picture.
		half := character * float64(len(t.label)) / 2
		x = min(max(x, half+4), float64(d.o.Width)-half-4)
		d.text(x, d.bottom+18, quietLook+` text-anchor="middle"`, t.label)
	}
}

// curves draws the points. Each step stands at its middle; the first and the
// last of a run reach to the ends of their steps, so that one alone is seen.
func (d *drawing) curves() {
	for _, run := range d.runs() {
		d.band(run, bandLook, func(p Point) (float64, float64) { return p.Lower.Float64(), p.Upper.Float64() })
		d.band(run, certainLook, func(p Point) (float64, float64) { return p.Median.Lower.Float64(), p.Median.Upper.Float64() })
		d.line(run, tailLook, func(p Point) float64 { return p.Tail.Float64() })
		d.line(run, medianLook, func(p Point) float64 { return p.Median.Float64() })
	}
}

func (d *drawing) line(run []Point, look string, value func(Point) float64) {
	d.put(`<path d="M%s" %s/>`+"\n", strings.Join(d.trace(run, value), "L"), look)
}

func (d *drawing) band(run []Point, look string, values func(Point) (lower, upper float64)) {
	lower := d.trace(run, func(p Point) float64 { lower, _ := values(p); return lower })
	upper := d.trace(run, func(p Point) float64 { _, upper := values(p); return upper })
	slices.Reverse(lower)
	d.put(`<path d="M%sZ" %s/>`+"\n", strings.Join(append(upper, lower...), "L"), look)
}

// trace returns the corners of a curve.
func (d *drawing) trace(run []Point, value func(Point) float64) []string {
	corners := make([]string, 0, len(run)+2)
	corner := func(x float64, p Point) { corners = append(corners, px(x)+" "+px(d.y(value(p)))) }
	last := run[len(run)-1]
	corner(d.x(run[0].Span.From), run[0])
	for _, p := range run {
		corner((d.x(p.Span.From)+d.x(p.Span.To))/2, p)
	}
	corner(d.x(last.Span.To), last)
	return corners
}

// legend names the parts below the title, as many as fit into the width.
func (d *drawing) legend() {
	x := 12.0
	for _, part := range []struct{ name, shape string }{
		{"median", `<path d="M%s 38h20" ` + medianLook + `/>`},
		{"certified interval", `<rect x="%s" y="32" width="20" height="11" ` + certainLook + `/>`},
		{"p25 to p75", `<rect x="%s" y="32" width="20" height="11" ` + bandLook + `/>`},
		{"p99", `<path d="M%s 38h20" ` + tailLook + `/>`},
	} {
		wide := 26 + narrow*float64(len(part.name))
		if x+wide > float64(d.o.Width) {
			return
		}
		d.put(part.shape+"\n", px(x))
		d.text(x+26, 42, quietLook, part.name)
		x += wide + 18
	}
}
