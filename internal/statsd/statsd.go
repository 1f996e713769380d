// Package statsd reads lines of StatsD and DogStatsD.
//
//	page.load:320|ms                               a timer
//	page.load:1.5:2.5:0.2|d|@0.1|#env:prod,canary  three values of a distribution
//
// It promises that a line is understood whole or refused with a *BadLine that
// says in one word why; that what it allocates is bounded by the line; and that
// a line of a kind that is no measurement (counter, gauge, set, event, service
// check) is told from a broken one.
//
// Names are mapped to those of package window: what is no letter, digit, _ or :
// becomes _, so that page.load is page_load. Tags become labels, and one without
// a value has the value "true".
//
// It leaves to others where lines come from, how long they may be, and what is
// done with them.
package statsd

import (
	"strconv"
	"strings"

	"github.com/distributed-median-tracker/dmt/window/sketch"
)

// Kind is what a line is about.
type Kind uint8

// The kinds of lines. Values are parsed of the first three only.
const (
	Timer Kind = iota + 1
	Histogram
	Distribution
	Counter
	Gauge
	Set
	Meter
	Event
	ServiceCheck
)

// String returns the word for a kind.
func (k Kind) String() string {
	return [...]string{"none", "timer", "histogram", "distribution", "counter", "gauge", "set", "meter", "event", "service_check"}[k]
}

// Measured says that lines of this kind carry values to take quantiles of.
func (k Kind) Measured() bool { return k >= Timer && k <= Distribution }

// BadLine is why a line is refused.
type BadLine struct {
	Reason  string // one word, for counting
	Message string // for people
}

// Error returns the message.
func (e *BadLine) Error() string { return e.Message }

// Why lines are refused.
var (
	ErrNoName    = &BadLine{"no_name", "no name before the colon"}
	ErrNoValue   = &BadLine{"no_value", "no colon with a value after the name"}
	ErrNoType    = &BadLine{"no_type", "no | with a type after the value"}
	ErrType      = &BadLine{"bad_type", "the type is none of ms, h, d, c, g, s, m"}
	ErrValue     = &BadLine{"bad_value", "a value is not a finite decimal number"}
	ErrRate      = &BadLine{"bad_rate", "the rate is not a number from 0.000001 to 1"}
	ErrSection   = &BadLine{"bad_section", "a section is none of @rate, #tags, c:container, e:external data"}
	ErrTimestamp = &BadLine{"timestamp", "timestamps are for counters and gauges only"}
	ErrName      = &BadLine{"bad_name", "the name has characters that cannot be shown, or is too long"}
	ErrTag       = &BadLine{"bad_tag", "a tag has no name, is given twice, too long, or has characters that cannot be shown"}
)

// minRate bounds the weight of one value: a line from somewhere may not fill a
// sketch.
const minRate = 1e-6

// Line is one parsed line. The zero value is ready, and reuse saves allocations.
// Name and Tags are parts of the line that was parsed, and keep all of it alive.
type Line struct {
	Name   string
	Kind   Kind
	Values []sketch.Number // of a measured kind, at least one
	Rate   float64         // sample rate, minRate to 1
	Tags   string          // raw, without #
}

// Parse reads one line, without its line end. Afterwards l holds the line, or
// nothing of use when an error is returned, which is a *BadLine.
func (l *Line) Parse(s string) error {
	*l = Line{Values: l.Values[:0], Rate: 1}
	switch {
	case strings.HasPrefix(s, "_e{"):
		l.Kind = Event
		return nil
	case strings.HasPrefix(s, "_sc|"):
		l.Kind = ServiceCheck
		return nil
	}
	name, rest, ok := strings.Cut(s, ":")
	switch {
	case !ok:
		return ErrNoValue
	case name == "":
		return ErrNoName
	}
	l.Name = name
	values, rest, ok := strings.Cut(rest, "|")
	if !ok {
		return ErrNoType
	}
	kind, sections, more := strings.Cut(rest, "|")
	if l.Kind = kindOf(kind); l.Kind == 0 {
		return ErrType
	}
	if !l.Kind.Measured() {
		return nil
	}
	if err := l.parseValues(values); err != nil {
		return err
	}
	for more {
		var section string
		section, sections, more = strings.Cut(sections, "|")
		if err := l.parseSection(section); err != nil {
			return err
		}
	}
	return nil
}

func kindOf(text string) Kind {
	switch text {
	case "ms":
		return Timer
	case "h":
		return Histogram
	case "d":
		return Distribution
	case "c":
		return Counter
	case "g":
		return Gauge
	case "s":
		return Set
	case "m":
		return Meter
	}
	return 0
}

func (l *Line) parseValues(s string) error {
	for more := true; more; {
		var text string
		text, s, more = strings.Cut(s, ":")
		v, err := sketch.ParseNumber(text)
		if err != nil {
			return ErrValue
		}
		l.Values = append(l.Values, v)
	}
	return nil
}

// parseSection reads what stands between two bars after the type. Extensions
// of the protocol look like "word:...", say who sent the line, and are skipped;
// anything else that is not known might change what the values mean.
func (l *Line) parseSection(s string) error {
	switch {
	case s == "":
		return ErrSection
	case s[0] == '@':
		rate, ok := parseRate(s[1:])
		if !ok {
			return ErrRate
		}
		l.Rate = rate
	case s[0] == '#':
		l.Tags = s[1:]
	case s[0] == 'T':
		return ErrTimestamp
	default:
		word, _, ok := strings.Cut(s, ":")
		if !ok || word == "" || strings.ContainsFunc(word, func(r rune) bool { return r < 'a' || r > 'z' }) {
			return ErrSection
		}
	}
	return nil
}

func parseRate(s string) (float64, bool) {
	if strings.ContainsAny(s, "xXpP_nN") {
		return 0, false // what ParseFloat also takes for a number
	}
	rate, err := strconv.ParseFloat(s, 64)
	return rate, err == nil && rate >= minRate && rate <= 1
}
