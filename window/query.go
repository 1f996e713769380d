package window

import (
	"fmt"
	"math"
	"time"
)

// Limits of a query.
const (
	MaxQuantiles = 1000
	MaxPoints    = 11_000 // steps; as many as Prometheus answers
)

// Read is how fresh an answer must be.
type Read uint8

const (
	// Linearizable answers hold everything acknowledged before the question.
	Linearizable Read = iota
	// Leader asks the leader without checking that it still is one.
	Leader
	// Stale asks the member that is called, whatever it has.
	Stale
)

var readNames = [...]string{"linearizable", "leader", "stale"}

// String returns "linearizable", "leader" or "stale".
func (r Read) String() string { return name(readNames[:], int(r)) }

// ParseRead reads what String writes; the empty text is Linearizable.
func ParseRead(s string) (Read, error) {
	i, err := parseName("read", s, readNames[:])
	return Read(i), err
}

// Align is what happens to spans that begin or end inside a bucket.
type Align uint8

const (
	// Outward widens the span to whole buckets; the answer says so.
	Outward Align = iota
	// Strict refuses the span.
	Strict
)

var alignNames = [...]string{"outward", "strict"}

// String returns "outward" or "strict".
func (a Align) String() string { return name(alignNames[:], int(a)) }

// ParseAlign reads what String writes; the empty text is Outward.
func ParseAlign(s string) (Align, error) {
	i, err := parseName("align", s, alignNames[:])
	return Align(i), err
}

func name(names []string, i int) string {
	if i >= len(names) {
		return fmt.Sprintf("unknown(%d)", i)
	}
	return names[i]
}

func parseName(field, s string, names []string) (int, error) {
	if s == "" {
		return 0, nil
	}
	for i, n := range names {
		if s == n {
			return i, nil
		}
	}
	return 0, badInput(field, ReasonUnknown, "%.40q is none of %q", s, names)
}

// Query is a question. The zero value of every field but Metric is the default.
type Query struct {
	// Metric is what is asked about. Check makes it canonical.
	Metric Metric
	// Span is the window. The zero Span is all time.
	Span Span
	// Quantiles are each in [0, 1]. None means the median.
	Quantiles []float64
	// Nodes are patterns as in CompileNodes. None means every node.
	Nodes []string
	// ByNode asks for one result per node instead of one for all together.
	ByNode bool
	// Step asks for one result per step, a multiple of the base width. Steps
	// start at multiples of Step, in UTC. Zero asks for one over the span.
	Step time.Duration
	// Align says what happens to a span that cuts buckets.
	Align Align
	// Read is how fresh the answer must be.
	Read Read
	// MaxStaleness bounds the age of a Stale answer. Zero accepts any.
	MaxStaleness time.Duration
}

// Check returns the query with its span resolved at now, its metric canonical
// and its defaults filled in, or an *InputError that names metric, from, to,
// last, quantiles, nodes, step, align, read or max_staleness. base is the
// finest width that is stored. The slices of q are not written to.
//
// MaxPoints is checked only for spans with two ends: how many steps all time
// has depends on the data.
func (q Query) Check(now time.Time, base Width) (Query, error) {
	var err error
	if q.Metric, err = ParseMetric(string(q.Metric)); err != nil {
		return Query{}, err
	}
	_, relative := q.Span.Relative()
	if q.Span, err = q.Span.At(now); err != nil {
		return Query{}, err
	}
	if q.Quantiles, err = checkQuantiles(q.Quantiles); err != nil {
		return Query{}, err
	}
	if _, err = CompileNodes(q.Nodes); err != nil {
		return Query{}, err
	}
	if err = q.checkStep(base); err != nil {
		return Query{}, err
	}
	if err = q.checkAlign(base, relative); err != nil {
		return Query{}, err
	}
	if err = q.checkRead(); err != nil {
		return Query{}, err
	}
	return q, nil
}

func checkQuantiles(qs []float64) ([]float64, error) {
	if len(qs) == 0 {
		return []float64{0.5}, nil
	}
	if len(qs) > MaxQuantiles {
		return nil, tooLong("quantiles", ReasonTooMany, len(qs), MaxQuantiles, "quantiles")
	}
	for i, q := range qs {
		field := fmt.Sprintf("quantiles[%d]", i)
		switch {
		case math.IsNaN(q) || math.IsInf(q, 0):
			return nil, badInput(field, ReasonNotFinite, "%v is not a number in [0, 1]", q)
		case q < 0 || q > 1:
			e := badInput(field, ReasonRange, "%v is outside [0, 1]", q)
			e.Limit = "0 to 1"
			return nil, e
		}
	}
	return qs, nil
}

func (q Query) checkStep(base Width) error {
	if q.Step == 0 {
		return nil
	}
	if q.Step < 0 || q.Step%base.Duration() != 0 {
		e := badInput("step", ReasonRange, "%s is not a positive multiple of %s, the finest bucket", FormatDuration(q.Step), base)
		e.Limit = base.String()
		return e
	}
	if q.Span.IsAll() {
		return nil
	}
	covered, step := q.Span.Outward(base), Width(q.Step/time.Second)
	if points := covered.Outward(step).Seconds() / int64(step); points > MaxPoints {
		return &InputError{
			Field: "step", Reason: ReasonTooMany, Limit: fmt.Sprint(MaxPoints),
			Message: fmt.Sprintf("%s makes %d points of %s, at most %d are answered", FormatDuration(q.Step), points, q.Span, MaxPoints),
		}
	}
	return nil
}

func (q Query) checkAlign(base Width, relative bool) error {
	switch {
	case q.Align > Strict:
		return badInput("align", ReasonUnknown, "%v is none of %q", q.Align, alignNames)
	case q.Align == Outward || q.Span.Aligned(base):
		return nil
	case relative:
		return badInput("last", ReasonNotAligned, "the present lies inside a bucket of %s; align strict needs from and to", base)
	}
	field, t := "from", q.Span.From
	if base.Floor(t) == t {
		field, t = "to", q.Span.To
	}
	return badInput(field, ReasonNotAligned, "%s lies inside a bucket of %s", FormatTime(t), base)
}

func (q Query) checkRead() error {
	switch {
	case q.Read > Stale:
		return badInput("read", ReasonUnknown, "%v is none of %q", q.Read, readNames)
	case q.MaxStaleness < 0:
		return badInput("max_staleness", ReasonRange, "%s is negative", FormatDuration(q.MaxStaleness))
	case q.MaxStaleness > 0 && q.Read != Stale:
		return badInput("max_staleness", ReasonConflict, "it needs read stale, this is %s", q.Read)
	}
	return nil
}

// Point returns the step of a checked query that holds time t, clipped to the
// covered span: the span of one result. Without Step that is the whole of it.
func (q Query) Point(t int64, covered Span) Span {
	if q.Step == 0 {
		return covered
	}
	return Width(q.Step / time.Second).Bucket(t).Span().Intersect(covered)
}
