package client

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/distributed-median-tracker/dmt/internal/api"
	"github.com/distributed-median-tracker/dmt/window"
	"github.com/distributed-median-tracker/dmt/window/sketch"
)

var (
	// ErrNoData is the answer to a question that no stored value is in reach
	// of. It is window.ErrNoData.
	ErrNoData = window.ErrNoData

	// ErrUnknownMetric says that nothing was ever counted under the metric. It
	// is window.ErrUnknownMetric.
	ErrUnknownMetric = window.ErrUnknownMetric

	// ErrNotFinite refuses NaN and the infinities. It is sketch.ErrNotFinite.
	ErrNotFinite = sketch.ErrNotFinite

	// ErrUnavailable says that no member could answer in time: none was
	// reached, there is no leader, or no quorum. What was meant to change
	// something may have happened or not.
	ErrUnavailable = errors.New("client: cluster unavailable")

	// ErrClosed says that the client, recorder or tracker is closed.
	ErrClosed = errors.New("client: closed")

	// ErrNoSpool says that a client without a spool was asked to Sync.
	ErrNoSpool = errors.New("client: no spool: set Options.Spool or RecorderOptions.Spool")
)

// Reasons for a loss that the client itself finds. Those of the cluster are
// listed with its API: "too_old", "too_new", "corrupt_sketch" and so on.
const (
	ReasonBadMetric = api.ReasonBadMetric // the name is not a metric
	ReasonBadNode   = api.ReasonBadNode   // the node id is empty, too long or not printable
	ReasonNotFinite = api.ReasonNotFinite // NaN or an infinity
	ReasonRange     = api.ReasonRange     // more than sketch.MaxCount values in one bucket, or a time out of range
	ReasonMemory    = "memory"            // Options.MaxPendingBytes or SpoolBytes was reached
	ReasonClosed    = "closed"            // added after Close, or not sent before its deadline
	ReasonAge       = "age"               // in the spool for longer than Options.SpoolAge
	ReasonDamaged   = "damaged_spool"     // a piece of the spool that could not be read; how many values is not known
)

// RefusedError says that something will never be accepted as it is, and why.
type RefusedError struct {
	Reason  string // one word, for programs
	Field   string // what is wrong: "node", "metric", "batches[0].entries[3].sketch"
	Limit   string // what would be accepted, if that can be said
	Message string // for people

	// Of recorded values: how many sketches, and how many values in them. Both
	// are 0 for a refused question or command, Values also where only the
	// cluster knew and has forgotten.
	Sketches, Values uint64
}

// Error names the field and the reason.
func (e *RefusedError) Error() string {
	var b strings.Builder
	b.WriteString("refused")
	if e.Values > 0 {
		b.WriteString(" " + number(e.Values, "value"))
	} else if e.Sketches > 0 {
		b.WriteString(" " + number(e.Sketches, "sketch"))
	}
	if e.Field != "" && !strings.HasPrefix(e.Message, e.Field+":") {
		b.WriteString(": " + e.Field) // the cluster's messages name it already
	}
	if e.Message != "" {
		b.WriteString(": " + e.Message)
	}
	if e.Reason != "" {
		b.WriteString(" (" + e.Reason + ")")
	}
	return b.String()
}

// UnsentError says what was not acknowledged when the time was up. After Flush
// it is still on its way; after Close it is in the spool, or gone, or may have
// been counted without our knowing: as Spooled and Err say.
type UnsentError struct {
	Values  uint64 // values whose fate is open
	Batches uint64 // batches handed to the network and not acknowledged
	Spooled uint64 // after Close: of Values, those that the next process finds in the spool
	Err     error  // why: the end of the context and the last failure
}

// Error says how much and why.
func (e *UnsentError) Error() string {
	kept := ""
	if e.Spooled > 0 {
		kept = fmt.Sprintf(", %d of them kept in the spool", e.Spooled)
	}
	return fmt.Sprintf("%s not acknowledged (%s on the way)%s: %v", number(e.Values, "value"), number(e.Batches, "batch"), kept, e.Err)
}

// number says how many there are of something.
func number(n uint64, of string) string {
	switch {
	case n == 1:
		return "1 " + of
	case strings.HasSuffix(of, "h"):
		of += "e"
	}
	return fmt.Sprintf("%d %ss", n, of)
}

// Unwrap returns the cause.
func (e *UnsentError) Unwrap() error { return e.Err }

// Dropped describes values that will not be counted.
type Dropped struct {
	Reason string    // one word: a Reason constant, or one of the cluster's
	Metric string    // as far as known
	Node   string    // as far as known
	Start  time.Time // of the bucket; zero where the loss has none
	Values uint64    // how many
	Err    error     // what the cluster or the client said
}

// fate is what an error says about the request that it answers.
type fate int

const (
	again   fate = iota // another try may go better; this one may have worked
	refused             // no try of the same will ever go better; it had no effect
)

// judgement is what to do after a failed try.
type judgement struct {
	fate   fate
	reason string
	field  string
	limit  string
	leader string        // where to go instead
	wait   time.Duration // at least
}

// judge reads an error of a try. Whatever is no refusal leaves everything open:
// the answer may have been lost and not the request, also between the member
// that was asked and the leader.
func judge(err error) judgement {
	var j judgement
	if d, ok := api.FromError(err); ok {
		j.reason, j.field, j.limit, j.leader = d.GetReason(), d.GetField(), d.GetLimit(), d.GetLeader()
		j.wait = min(max(0, time.Duration(d.GetRetryAfterMs())*time.Millisecond), backoffMost)
	}
	switch connect.CodeOf(err) {
	case connect.CodeInvalidArgument, connect.CodeOutOfRange, connect.CodeFailedPrecondition,
		connect.CodeAlreadyExists, connect.CodeNotFound:
		j.fate = refused
	case connect.CodeResourceExhausted:
		// Overload passes, a limit stays.
		switch j.reason {
		case api.ReasonTooLarge, api.ReasonTooManyEntries, api.ReasonTotalOverflow, api.ReasonRange, api.ReasonTooLong:
			j.fate = refused
		}
	}
	return j
}
