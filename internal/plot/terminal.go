package plot

import (
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/guptarohit/asciigraph"
)

// Bounds of a picture for a terminal, in characters.
const (
	MinColumns = 40
	MaxColumns = 2_000
	MinRows    = 5
	MaxRows    = 200
)

// Margin is how many columns the value axis takes as a rule; the others are for
// points.
const Margin = 14

// TerminalOptions tune a picture for a terminal. The zero value is right for
// one of 80 columns.
type TerminalOptions struct {
	// Width and Height are in characters, Height without axis and text, and
	// kept within the bounds above. 0 means 80 and 15. A series with more steps
	// than fit becomes wider: steps are not put together.
	Width, Height int
	// Scale is that of the values.
	Scale Scale
	// Zone is that of the times. Nil means UTC.
	Zone *time.Location
	// Colour lets the lines be told apart by colours too.
	Colour bool
}

// curve is one line of the picture; later ones are drawn over earlier ones.
type curve struct {
	name   string
	colour asciigraph.AnsiColor
	look   asciigraph.CharSet
	value  func(Point) float64
}

func curves() []curve {
	// A line that begins behind a gap must not reach into it, and one that ends
	// before the next must be seen to its end.
	median := asciigraph.CharSet{StartCap: " ", EndCap: "─"}
	dots, cross := asciigraph.CreateCharSet("·"), asciigraph.CreateCharSet("×")
	dots.StartCap, cross.StartCap = " ", " "
	return []curve{
		{"p99", asciigraph.DarkOrange, cross, func(p Point) float64 { return p.Tail.Float64() }},
		{"p25", asciigraph.SteelBlue, dots, func(p Point) float64 { return p.Lower.Float64() }},
		{"p75", asciigraph.SteelBlue, dots, func(p Point) float64 { return p.Upper.Float64() }},
		{"median", asciigraph.DodgerBlue, median, func(p Point) float64 { return p.Median.Float64() }},
	}
}

// Terminal returns the picture as lines of text.
func (s Series) Terminal(o TerminalOptions) string {
	if o.Width == 0 {
		o.Width = 80
	}
	if o.Height == 0 {
		o.Height = 15
	}
	if o.Zone == nil {
		o.Zone = time.UTC
	}
	o.Width, o.Height = min(max(o.Width, MinColumns), MaxColumns), min(max(o.Height, MinRows), MaxRows)
	v := newAxis(s.values(), o.Scale, o.Height/3)
	labels, left := v.labels(o.Height)
	// A step is some columns wide, all of them the same number.
	wide := max(1, (o.Width-left)/max(1, s.steps()))
	var lines [][]float64
	var colours []asciigraph.AnsiColor
	var looks []asciigraph.CharSet
	for _, c := range curves() {
		lines = append(lines, s.columns(wide, func(p Point) float64 { return v.at(c.value(p)) * float64(o.Height) }))
		looks = append(looks, c.look)
		if o.Colour {
			colours = append(colours, c.colour)
		}
	}
	body := asciigraph.PlotMany(lines,
		asciigraph.Height(o.Height), asciigraph.LowerBound(0), asciigraph.UpperBound(float64(o.Height)),
		asciigraph.YAxisValueFormatter(func(row float64) string { return labels[int(math.Round(row))] }),
		asciigraph.SeriesColors(colours...), asciigraph.SeriesChars(looks...))
	var b strings.Builder
	b.WriteString(clean(s.Metric) + "  " + s.legend(o.Colour) + "\n")
	b.WriteString(body + "\n")
	b.WriteString(s.timeAxis(left, wide, o.Zone))
	b.WriteString(s.caption(o.Zone) + "\n")
	return b.String()
}

// labels returns the text for each row, the lowest first, empty where there is
// no round value, and how many columns all of that and the axis take.
func (a axis) labels(rows int) (labels []string, left int) {
	labels = make([]string, rows+1)
	for _, t := range a.ticks {
		labels[int(math.Round(t.at*float64(rows)))] = t.label
		left = max(left, utf8.RuneCountInString(t.label))
	}
	// asciigraph puts narrower labels elsewhere.
	left = max(left, 2)
	for i, l := range labels {
		labels[i] = strings.Repeat(" ", left-utf8.RuneCountInString(l)) + l
	}
	return labels, left + 3
}

// columns returns one height per column, NaN where there is no data. One more
// than there are columns: a line of asciigraph goes from one to the next.
func (s Series) columns(wide int, height func(Point) float64) []float64 {
	list := make([]float64, s.steps()*wide+1)
	for i := range list {
		list[i] = math.NaN()
	}
	for _, p := range s.Points {
		at := s.step(p.Span.From) * wide
		for i := range wide {
			list[at+i] = height(p)
		}
	}
	list[len(list)-1] = list[len(list)-2]
	return list
}

// step returns which step holds time t.
func (s Series) step(t int64) int {
	return int((s.Step.Floor(t) - s.Step.Floor(s.Span.From)) / int64(s.Step))
}

// timeAxis returns the line below the picture, with its labels.
func (s Series) timeAxis(left, wide int, zone *time.Location) string {
	columns := s.steps() * wide
	line := []rune(strings.Repeat(" ", left-1) + "└" + strings.Repeat("─", columns))
	labels := []rune(strings.Repeat(" ", left+columns+8))
	free := 0
	for _, t := range timeTicks(s.Span, zone, columns/10) {
		// The column in which the time begins.
		seconds := t.unix - s.Step.Floor(s.Span.From)
		column := int(seconds * int64(wide) / int64(s.Step))
		if column >= columns {
			continue
		}
		line[left+column] = '┬'
		at := max(0, left+column-len(t.label)/2)
		if at < free || at+len(t.label) > len(labels) {
			continue
		}
		copy(labels[at:], []rune(t.label))
		free = at + len(t.label) + 1
	}
	return string(line) + "\n" + strings.TrimRight(string(labels), " ") + "\n"
}

// legend shows what each line looks like.
func (s Series) legend(colour bool) string {
	paint := func(c asciigraph.AnsiColor, text string) string {
		if !colour {
			return text
		}
		return c.String() + text + asciigraph.Default.String()
	}
	return paint(asciigraph.DodgerBlue, "── median") + "  " + paint(asciigraph.SteelBlue, "·· p25 and p75") + "  " + paint(asciigraph.DarkOrange, "×× p99")
}
