package api

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"connectrpc.com/connect"

	dmtv1 "github.com/distributed-median-tracker/dmt/internal/api/dmt/v1"
	"github.com/distributed-median-tracker/dmt/window"
)

// Reasons of an error, for programs. A word never changes its meaning.
const (
	// Bad input: invalid_argument.
	ReasonEmpty          = window.ReasonEmpty
	ReasonTooLong        = window.ReasonTooLong
	ReasonTooMany        = window.ReasonTooMany
	ReasonBadMetric      = window.ReasonBadMetric
	ReasonBadNode        = window.ReasonBadNode
	ReasonBadTime        = window.ReasonBadTime
	ReasonNotFinite      = window.ReasonNotFinite
	ReasonNotAligned     = window.ReasonNotAligned
	ReasonRange          = window.ReasonRange
	ReasonBadJSON        = "bad_json"        // not JSON, or another type than the field's
	ReasonUnknownField   = "unknown_field"   // a key that the message does not have
	ReasonDuplicate      = "duplicate_field" // a key given twice
	ReasonNull           = "null"            // null where a value is needed
	ReasonCorruptSketch  = "corrupt_sketch"
	ReasonTooManyEntries = "too_many_entries"

	// Out of range: out_of_range.
	ReasonTooOld = "too_old"
	ReasonTooNew = "too_new"

	// The request does not fit the cluster: failed_precondition.
	ReasonPrecision           = "precision"
	ReasonClusterID           = "cluster_id"
	ReasonTooOldToDeduplicate = "too_old_to_deduplicate"
	ReasonWindow              = "window" // sequence number too far ahead

	ReasonUnknownMetric = "unknown_metric" // not_found
	ReasonNoData        = "no_data"        // not_found
	ReasonUnknownMember = "unknown_member" // not_found
	ReasonConflict      = "conflict"       // already_exists: same name, other content

	// Limits and load: resource_exhausted.
	ReasonTooLarge      = "too_large"
	ReasonOverload      = "overload"
	ReasonDiskFull      = "disk_full"
	ReasonTotalOverflow = "total_overflow"

	// The cluster cannot, for now: unavailable, deadline_exceeded.
	ReasonClockSkew    = "clock_skew"
	ReasonNoLeader     = "no_leader"
	ReasonNoQuorum     = "no_quorum"
	ReasonTimeout      = "timeout"
	ReasonShuttingDown = "shutting_down"

	ReasonDamagedRecord = "damaged_record" // data_loss
)

// ErrorDetail is the machine-readable part of an error, as in tracker.proto.
type ErrorDetail struct {
	Reason       string // one of the Reason words
	Field        string // path of the field that is wrong
	Limit        string // what would be accepted
	Leader       string // address of the leader, when the caller should go there
	RetryAfterMs int64  // least time to wait before a retry; 0 says nothing
}

// Error builds an error with its detail attached. The text is made valid UTF-8
// and cut at 1 KiB, since it may quote what somebody sent.
func Error(code connect.Code, detail ErrorDetail, format string, args ...any) *connect.Error {
	e := connect.NewError(code, errors.New(clean(fmt.Sprintf(format, args...), maxMessageBytes)))
	d, err := connect.NewErrorDetail(&dmtv1.ErrorDetail{
		Reason:       clean(detail.Reason, maxMessageBytes),
		Field:        clean(detail.Field, maxMessageBytes),
		Limit:        clean(detail.Limit, maxMessageBytes),
		Leader:       clean(detail.Leader, maxMessageBytes),
		RetryAfterMs: detail.RetryAfterMs,
	})
	if err != nil { // only text that is not UTF-8 fails, and there is none
		panic("api: error detail: " + err.Error())
	}
	e.AddDetail(d)
	if detail.RetryAfterMs > 0 {
		seconds := (detail.RetryAfterMs + 999) / 1000
		e.Meta().Set("Retry-After", strconv.FormatInt(seconds, 10))
	}
	return e
}

// FromError returns the detail of an error that a member sent, or that Error
// built.
func FromError(err error) (detail *dmtv1.ErrorDetail, ok bool) {
	var e *connect.Error
	if !errors.As(err, &e) {
		return nil, false
	}
	for _, d := range e.Details() {
		if v, err := d.Value(); err == nil { // a type this build does not know is not ours
			if detail, ok := v.(*dmtv1.ErrorDetail); ok {
				return detail, true
			}
		}
	}
	return nil, false
}

// InputError turns bad input into an error of the wire: out_of_range for
// too_old and too_new, invalid_argument for everything else.
func InputError(err *window.InputError) *connect.Error {
	code := connect.CodeInvalidArgument
	if err.Reason == ReasonTooOld || err.Reason == ReasonTooNew {
		code = connect.CodeOutOfRange
	}
	detail := ErrorDetail{Reason: err.Reason, Field: err.Field, Limit: err.Limit}
	return Error(code, detail, "%s", err.Error())
}

// clean makes s valid UTF-8 of at most limit bytes, cut between characters.
func clean(s string, limit int) string {
	if s = strings.ToValidUTF8(s, "\uFFFD"); len(s) <= limit {
		return s
	}
	const dots = "..."
	cut := limit - len(dots)
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + dots
}
