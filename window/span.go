package window

import (
	"fmt"
	"time"
)

// Times are unix seconds, UTC, and lie in [MinTime, MaxTime).
const (
	MinTime int64 = -62135596800 // 0001-01-01T00:00:00Z
	MaxTime int64 = 253402300800 // 10000-01-01T00:00:00Z, the first second too late
)

// Span is a half-open interval of time, [From, To), in unix seconds. The zero
// Span is all time. A span made by Last is relative, with From and To unset,
// until At resolves it. Spans are comparable with ==.
type Span struct {
	From, To int64

	form spanForm
	last time.Duration
}

type spanForm uint8

const (
	formPlain spanForm = iota
	formLast           // last before now
	formEmpty          // [0, 0) on purpose; the plain one is all time
)

// All returns the span of all time, the zero Span.
func All() Span { return Span{} }

// Last returns the span that ends now, whenever At is asked, and includes the
// present second.
func Last(d time.Duration) Span { return Span{form: formLast, last: d} }

// Between returns the span of whole seconds that holds [from, to).
func Between(from, to time.Time) Span {
	s := Span{From: from.Unix(), To: to.Unix()}
	if to.Nanosecond() > 0 {
		s.To++
	}
	if s == (Span{}) {
		s.form = formEmpty
	}
	return s
}

// IsAll reports whether s is all time, resolved or not.
func (s Span) IsAll() bool {
	return s == Span{} || s == Span{From: MinTime, To: MaxTime}
}

// Relative returns what Last was given, and whether s waits for a present.
func (s Span) Relative() (time.Duration, bool) { return s.last, s.form == formLast }

// At resolves s: a relative span ends at now, all time becomes [MinTime,
// MaxTime). It refuses, as an *InputError, a span that is empty or reaches
// beyond the years 1 to 9999.
func (s Span) At(now time.Time) (Span, error) {
	switch {
	case s.form == formLast:
		if s.last <= 0 {
			return Span{}, badInput("last", ReasonRange, "%s is not a positive duration", FormatDuration(s.last))
		}
		// The closed interval [now-last, now] in whole seconds: what is
		// counted in this very second is part of it.
		s = Span{From: now.Add(-s.last).Unix(), To: now.Unix() + 1}
	case s == Span{}:
		return Span{From: MinTime, To: MaxTime}, nil
	}
	switch {
	case s.From < MinTime || s.From >= MaxTime:
		return Span{}, outsideYears("from", s.From)
	case s.To < MinTime || s.To > MaxTime:
		return Span{}, outsideYears("to", s.To)
	case s.From >= s.To:
		return Span{}, badInput("from", ReasonRange, "%s is not before to %s", FormatTime(s.From), FormatTime(s.To))
	}
	return Span{From: s.From, To: s.To}, nil
}

// Empty reports whether a resolved span holds no second.
func (s Span) Empty() bool { return s.form == formEmpty || s.From >= s.To }

// Contains reports whether the second t lies in a resolved span.
func (s Span) Contains(t int64) bool { return s.From <= t && t < s.To }

// Intersect returns what two resolved spans share. Nothing shared is a span for
// which Empty is true.
func (s Span) Intersect(o Span) Span {
	both := Span{From: max(s.From, o.From), To: min(s.To, o.To)}
	if both.From >= both.To { // never by accident the zero Span, all time
		return Span{form: formEmpty}
	}
	return both
}

// Outward returns the smallest span of whole buckets of width w that holds a
// resolved s.
func (s Span) Outward(w Width) Span {
	return Span{From: w.Floor(s.From), To: w.Ceil(s.To), form: s.form}
}

// Aligned reports whether a resolved span is made of whole buckets of width w.
func (s Span) Aligned(w Width) bool {
	return w.Floor(s.From) == s.From && w.Floor(s.To) == s.To
}

// Seconds returns the length of a resolved span.
func (s Span) Seconds() int64 { return s.To - s.From }

// String returns the span as RFC 3339, "all time", or "last 1h".
func (s Span) String() string {
	switch {
	case s.IsAll():
		return "all time"
	case s.form == formLast:
		return "last " + FormatDuration(s.last)
	}
	return fmt.Sprintf("[%s, %s)", FormatTime(s.From), FormatTime(s.To))
}

// outsideYears hints at the usual cause, a time in milliseconds or finer.
func outsideYears(field string, t int64) *InputError {
	e := badInput(field, ReasonRange, "%d is outside the years 1 to 9999", t)
	e.Limit = "0001-01-01T00:00:00Z to 9999-12-31T23:59:59Z"
	if t >= MaxTime {
		e.Message += "; times are seconds, is this milliseconds?"
	}
	return e
}
