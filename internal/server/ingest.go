package server

import (
	"context"
	"fmt"

	"connectrpc.com/connect"

	"github.com/distributed-median-tracker/dmt/internal/api"
	dmtv1 "github.com/distributed-median-tracker/dmt/internal/api/dmt/v1"
	"github.com/distributed-median-tracker/dmt/internal/api/dmt/v1/dmtv1connect"
	"github.com/distributed-median-tracker/dmt/storage"
)

// Ingest counts batches, each exactly once. An error that is no word about
// one batch (unavailable, overload) leaves it open which of them are counted:
// the caller sends the same batches again and each is counted once. An error
// about a batch names it, and says nothing about the others of the request.
func (s *Server) Ingest(ctx context.Context, req *connect.Request[dmtv1.IngestRequest]) (*connect.Response[dmtv1.IngestResponse], error) {
	if err := checkShape(req.Msg); err != nil {
		return nil, err
	}
	return atLeader(ctx, s, req, s.ingest, dmtv1connect.TrackerClient.Ingest)
}

// ingest checks every byte of the batches and proposes them. Leader only.
func (s *Server) ingest(ctx context.Context, req *dmtv1.IngestRequest) (*dmtv1.IngestResponse, error) {
	lim, err := s.bounds()
	if err != nil {
		return nil, err
	}
	batches := make([]storage.Batch, len(req.Batches))
	results := make([]*dmtv1.BatchResult, len(req.Batches))
	for i, b := range req.Batches {
		c, err := lim.check(b, fmt.Sprintf("batches[%d]", i))
		if err != nil {
			return nil, err
		}
		batches[i] = c.batch
		results[i] = &dmtv1.BatchResult{Refused: c.refusals}
	}
	outcomes, err := s.node.Ingest(ctx, batches)
	if err != nil {
		return nil, err
	}
	for i, o := range outcomes {
		if err := outcomeError(o, fmt.Sprintf("batches[%d]", i)); err != nil {
			return nil, err
		}
		results[i].RefusedCount = uint64(o.Refused)
		results[i].Accepted = uint64(len(req.Batches[i].GetEntries())) - uint64(o.Refused)
		results[i].AppliedIndex = o.Index
		results[i].Status = dmtv1.BatchResult_APPLIED
		if o.Status == storage.Duplicate {
			// What was refused is what was refused the first time, when the
			// clock stood elsewhere: only the count is known now.
			results[i].Status = dmtv1.BatchResult_DUPLICATE
			results[i].Refused = nil
		}
	}
	return &dmtv1.IngestResponse{
		Results:   results,
		ClockMs:   s.node.ClockMs(),
		Precision: uint32(lim.precision),
		ClusterId: lim.clusterID,
	}, nil
}

// bounds are the limits for batches that arrive now.
func (s *Server) bounds() (bounds, error) {
	cluster, ok := s.node.Store().Cluster()
	if !ok {
		return bounds{}, errNotHere
	}
	// Asked before the clock is read: once settled it stays so for the term.
	unsettled := !s.node.ClockSettled()
	lim := boundsAt(cluster, s.node.ClockMs())
	lim.unsettled = unsettled
	return lim, nil
}

// outcomeError is the answer about a batch that the state machine did not
// count, and never will count under this name.
func outcomeError(o storage.Outcome, field string) error {
	fail := func(code connect.Code, reason, what string) error {
		return api.Error(code, detailOf(reason, field, ""), "%s: %s", field, what)
	}
	switch o.Status {
	case storage.Applied, storage.Duplicate:
		return nil
	case storage.Conflict:
		return fail(connect.CodeAlreadyExists, api.ReasonConflict, "another batch with other content was counted under this producer and sequence")
	case storage.TooOldToDeduplicate:
		return fail(connect.CodeFailedPrecondition, api.ReasonTooOldToDeduplicate, "numbered so long ago that it may have been counted and forgotten; it is not counted now")
	case storage.SeqWindow:
		return fail(connect.CodeFailedPrecondition, api.ReasonWindow, "more than 63 batches ahead of the oldest one that is not settled; settle that first")
	case storage.TotalOverflow:
		return fail(connect.CodeResourceExhausted, api.ReasonTotalOverflow, "the cluster would hold more than 2^62 values")
	}
	return fail(connect.CodeInternal, "", fmt.Sprintf("unknown outcome %d", o.Status))
}
