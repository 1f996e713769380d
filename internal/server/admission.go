package server

import (
	"fmt"
	"net/http"
	"sync/atomic"

	"connectrpc.com/connect"

	"github.com/distributed-median-tracker/dmt/internal/api"
)

const (
	// maxInFlight bounds the requests being answered at once. Each holds its
	// decoded body and a few kilobytes of stacks and buffers; more would not
	// be answered sooner, because all of them wait for the same log.
	maxInFlight = 4096

	// maxInFlightBytes bounds the decoded bodies being held at once, as far
	// as they can be foreseen from the headers: a body of known length counts
	// with that, a compressed one or one of unknown length with more.
	maxInFlightBytes = 256 << 20

	// unknownLength is what a body without Content-Length counts. gRPC over
	// HTTP/2 never sends one; most of its batches are smaller than this.
	unknownLength = 256 << 10

	// inflation is how much more than its length a compressed body counts:
	// sketches hardly compress, JSON does by about this.
	inflation = 8

	retryAfterMs = 250
)

// admission refuses work before anything is read or decoded while the member
// is full, so that memory stays bounded however many clients there are.
type admission struct {
	next   http.Handler
	errors *connect.ErrorWriter

	requests atomic.Int64
	bytes    atomic.Int64
}

func (a *admission) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength > api.MaxRequestBytes {
		a.refuse(w, r, api.Error(connect.CodeResourceExhausted, detailOf(api.ReasonTooLarge, "", fmt.Sprint(api.MaxRequestBytes)),
			"request of %d bytes, at most %d are read", r.ContentLength, api.MaxRequestBytes))
		return
	}
	weight := bodyWeight(r)
	defer a.requests.Add(-1)
	defer a.bytes.Add(-weight)
	if requests, bytes := a.requests.Add(1), a.bytes.Add(weight); requests > maxInFlight || bytes > maxInFlightBytes {
		detail := api.ErrorDetail{Reason: api.ReasonOverload, RetryAfterMs: retryAfterMs}
		a.refuse(w, r, api.Error(connect.CodeResourceExhausted, detail, "overloaded: %d requests are being answered; retry later", requests-1))
		return
	}
	a.next.ServeHTTP(w, r)
}

// bodyWeight estimates the decoded size of a body from its headers.
func bodyWeight(r *http.Request) int64 {
	weight := r.ContentLength
	if weight < 0 {
		weight = unknownLength
	}
	compressed := r.Header.Get("Content-Encoding") + r.Header.Get("Grpc-Encoding")
	if compressed != "" && compressed != "identity" {
		weight *= inflation
	}
	return min(weight, api.MaxRequestBytes)
}

// refuse answers in the protocol the caller speaks. The connection stays
// usable where the unread body is small enough for net/http to discard.
func (a *admission) refuse(w http.ResponseWriter, r *http.Request, err *connect.Error) {
	if a.errors.IsSupported(r) {
		_ = a.errors.Write(w, r, err) // the caller has gone: nobody is left to tell
		return
	}
	http.Error(w, err.Message(), http.StatusTooManyRequests)
}
