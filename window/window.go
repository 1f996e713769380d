// Package window holds the words that every other package speaks: metrics and
// nodes, buckets of time and the tiers they come in, spans and the cover of a
// span, a question and its answer.
//
// It promises to be pure: no clock, no disk, no network, no goroutine, and no
// shared state. What needs the present time is given it. Everything that reads
// text from outside bounds it first and answers bad input with an *InputError
// that names the field. Values of this package are safe for concurrent use as
// long as nobody writes them.
//
// It leaves storing and merging to package storage, and the bytes on the wire
// to internal/api.
package window

import (
	"errors"
	"fmt"
)

// ErrNoData says that a question was understood and nothing was measured in its
// span.
var ErrNoData = errors.New("window: no data in the span")

// ErrUnknownMetric says that no value of the metric was ever counted.
var ErrUnknownMetric = errors.New("window: unknown metric")

// Reasons of an InputError: short words for machines.
const (
	ReasonEmpty      = "empty"       // nothing where something is needed
	ReasonTooLong    = "too_long"    // more bytes than the limit
	ReasonTooMany    = "too_many"    // more items than the limit
	ReasonBadMetric  = "bad_metric"  // no metric: name{label="value"}
	ReasonBadNode    = "bad_node"    // not printable UTF-8, or a reserved word
	ReasonBadGlob    = "bad_glob"    // a node pattern that does not compile
	ReasonBadTime    = "bad_time"    // no time, duration or age
	ReasonBadTiers   = "bad_tiers"   // tiers that do not nest
	ReasonRange      = "range"       // a number or time outside its range
	ReasonConflict   = "conflict"    // two fields that exclude each other
	ReasonUnknown    = "unknown"     // a word that is none of those listed
	ReasonNotAligned = "not_aligned" // a time between two buckets
	ReasonNotFinite  = "not_finite"  // NaN or an infinity
)

// InputError is bad input. It is always used as a pointer.
type InputError struct {
	// Field names what is wrong as the caller wrote it: "metric", "from",
	// "quantiles[2]".
	Field string
	// Reason is one of the Reason words.
	Reason string
	// Message says what is wrong, for people, without naming the field.
	Message string
	// Limit is what would have been accepted, where that is one value.
	Limit string
}

// Error returns "field: message".
func (e *InputError) Error() string { return e.Field + ": " + e.Message }

// InField returns err with its field renamed when it is an *InputError, and err
// itself otherwise. A parser that does not know where its text came from calls
// it "time" or "duration"; its caller knows better.
func InField(err error, field string) error {
	var in *InputError
	if !errors.As(err, &in) {
		return err
	}
	renamed := *in
	renamed.Field = field
	return &renamed
}

// badInput builds an InputError without a limit.
func badInput(field, reason, format string, args ...any) *InputError {
	return &InputError{Field: field, Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// tooLong builds the InputError of a text or list that is over its limit.
func tooLong(field, reason string, have, limit int, unit string) *InputError {
	return &InputError{
		Field: field, Reason: reason, Limit: fmt.Sprint(limit),
		Message: fmt.Sprintf("%d %s, at most %d are allowed", have, unit, limit),
	}
}
