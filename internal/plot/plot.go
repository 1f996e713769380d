// Package plot draws the series of one metric, as SVG and for a terminal: the
// median with the interval certain to hold it, the middle half of the values
// (p25 to p75) and p99.
//
// It promises that a picture shows what was answered and nothing else: no point
// is averaged, interpolated over a gap or left out, and where there is no data
// it says so. The same series and options give the same bytes. Names may be
// hostile: an SVG is valid XML without scripts and without anything that is
// fetched, and a terminal is not steered.
//
// It leaves to others what is asked, and in which steps; Step only proposes one.
package plot

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/distributed-median-tracker/dmt/window"
	"github.com/distributed-median-tracker/dmt/window/sketch"
)

// Quantiles returns what a query must ask for to be drawn.
func Quantiles() []float64 { return []float64{0.25, 0.5, 0.75, 0.99} }

// Series is one metric over time. Points are sorted and do not overlap; a step
// without one has no data.
type Series struct {
	Metric string
	Span   window.Span // of the time axis
	Step   window.Width
	Points []Point
}

// Point is the answer of one step.
type Point struct {
	Span   window.Span
	Count  uint64
	Lower  sketch.Estimate // p25
	Median sketch.Estimate
	Upper  sketch.Estimate // p75
	Tail   sketch.Estimate // p99
}

// FromAnswer returns the series of an answer to a query with a step and
// Quantiles, over all nodes together. Any other answer is refused.
func FromAnswer(a window.Answer, step window.Width) (Series, error) {
	s := Series{Metric: string(a.Metric), Span: a.Span, Step: step}
	if step <= 0 {
		return Series{}, fmt.Errorf("plot %s: a step of %d s", clean(s.Metric), int64(step))
	}
	end := a.Span.From
	for _, r := range a.Results {
		if r.Node != window.AllNodes || r.Span.From < end || r.Span.To > a.Span.To || r.Span.Empty() {
			return Series{}, fmt.Errorf("plot %s: node %q in %v is no next step of one series", clean(s.Metric), r.Node, r.Span)
		}
		end = r.Span.To
		p := Point{Span: r.Span, Count: r.Count}
		for i, e := range []*sketch.Estimate{&p.Lower, &p.Median, &p.Upper, &p.Tail} {
			q := Quantiles()[i]
			found, ok := r.Quantile(q)
			if !ok {
				return Series{}, fmt.Errorf("plot %s: no quantile %v in %v", clean(s.Metric), q, r.Span)
			}
			if found.Empty {
				return Series{}, fmt.Errorf("plot %s: nothing in %v", clean(s.Metric), r.Span)
			}
			*e = found
		}
		s.Points = append(s.Points, p)
	}
	return s, nil
}

// steps returns how many steps the time axis has.
func (s Series) steps() int { return Steps(s.Span, s.Step) }

// runs returns the points in groups that have no gap inside.
func (s Series) runs() [][]Point {
	var runs [][]Point
	for i, p := range s.Points {
		if i == 0 || s.Points[i-1].Span.To != p.Span.From {
			runs = append(runs, nil)
		}
		last := len(runs) - 1
		runs[last] = append(runs[last], p)
	}
	return runs
}

// gaps returns the spans without data, those at the ends of the axis included.
func (s Series) gaps() []window.Span {
	var gaps []window.Span
	end := s.Span.From
	for _, p := range s.Points {
		if p.Span.From > end {
			gaps = append(gaps, window.Span{From: end, To: p.Span.From})
		}
		end = p.Span.To
	}
	if end < s.Span.To {
		gaps = append(gaps, window.Span{From: end, To: s.Span.To})
	}
	return gaps
}

// values returns everything that must find its place on the value axis.
func (s Series) values() []float64 {
	values := make([]float64, 0, 6*len(s.Points))
	for _, p := range s.Points {
		values = append(values, p.Lower.Float64(), p.Median.Float64(), p.Upper.Float64(), p.Tail.Float64(),
			p.Median.Lower.Float64(), p.Median.Upper.Float64())
	}
	return values
}

// summary says in words what the picture shows.
func (s Series) summary(zone *time.Location) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Median, middle half (p25 to p75) and p99 of %s, %s: ", clean(s.Metric), s.caption(zone))
	if len(s.Points) == 0 {
		b.WriteString("no data.")
		return b.String()
	}
	least, most := s.Points[0].Median, s.Points[0].Median
	for _, p := range s.Points {
		if p.Median.Value.Cmp(least.Value) < 0 {
			least = p.Median
		}
		if p.Median.Value.Cmp(most.Value) > 0 {
			most = p.Median
		}
	}
	last := s.Points[len(s.Points)-1].Median
	fmt.Fprintf(&b, "the median moves between %v and %v; at last it is %v, and certainly in [%v, %v].",
		least.Value, most.Value, last.Value, last.Lower, last.Upper)
	return b.String()
}

// caption says what the axes do not: the whole span, the step, how much of it
// there is.
func (s Series) caption(zone *time.Location) string {
	const layout = "2006-01-02 15:04:05 -0700"
	from, to := time.Unix(s.Span.From, 0).In(zone), time.Unix(s.Span.To, 0).In(zone)
	var count uint64
	for _, p := range s.Points {
		count += p.Count
	}
	values := "values"
	if count == 1 {
		values = "value"
	}
	return fmt.Sprintf("%s to %s, %d of %d steps of %v have data, %s %s",
		from.Format(layout), to.Format(layout), len(s.Points), s.steps(), s.Step, grouped(strconv.FormatUint(count, 10)), values)
}

// grouped writes digits in threes.
func grouped(digits string) string {
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// clean returns a name with everything that is not a visible character escaped,
// as Go does: terminals obey control characters, XML has no place for them, and
// marks that turn the direction of text make one name look like another.
func clean(s string) string {
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == unicode.ReplacementChar && !strings.HasPrefix(s[i:], string(unicode.ReplacementChar)):
			fmt.Fprintf(&b, `\x%02x`, s[i]) // a byte that is no UTF-8
		case unicode.IsPrint(r), r == unicode.ReplacementChar:
			b.WriteRune(r)
		default:
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
	}
	return b.String()
}

// shortened cuts a text to so many characters.
func shortened(s string, most int) string {
	runes := []rune(s)
	if len(runes) <= most {
		return s
	}
	return string(runes[:max(0, most-1)]) + "…"
}

// near returns x as a whole number where it is one but for the rounding of a
// logarithm.
func near(x float64) float64 {
	if r := math.Round(x); math.Abs(x-r) < 1e-9 {
		return r
	}
	return x
}
