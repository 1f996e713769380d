package server

import (
	"context"
	"errors"
	"fmt"

	"connectrpc.com/connect"

	"github.com/distributed-median-tracker/dmt/internal/api"
	"github.com/distributed-median-tracker/dmt/raftfsm"
	"github.com/distributed-median-tracker/dmt/storage"
	"github.com/distributed-median-tracker/dmt/window"
)

// reasonTooStale is a stale read at a member further behind than the caller
// accepts.
const reasonTooStale = "too_stale"

// detailOf is the machine-readable part of an error.
func detailOf(reason, field, limit string) api.ErrorDetail {
	return api.ErrorDetail{Reason: reason, Field: field, Limit: limit}
}

// tryAgain says whether the same request may go better in a moment, here or
// at another member, while it is certain or harmless that this attempt
// counted.
func tryAgain(err error) bool {
	var moved raftfsm.NotLeaderError
	var remote *remoteError
	switch {
	case errors.As(err, &remote):
		return remote.again
	case errors.As(err, &moved):
		return true
	}
	return errors.Is(err, errNotHere) || errors.Is(err, raftfsm.ErrNoLeader) || errors.Is(err, raftfsm.ErrIndeterminate)
}

// connectError turns what the packages below say into a code with a detail
// that a program can act on. It is the one place that does.
func (s *Server) connectError(err error) error {
	var (
		wire    *connect.Error
		remote  *remoteError
		input   *window.InputError
		moved   raftfsm.NotLeaderError
		damaged *storage.DamagedError
	)
	fail := func(code connect.Code, reason string, retryMs int64) error {
		d := detailOf(reason, "", "")
		d.RetryAfterMs = retryMs
		if code == connect.CodeUnavailable {
			_, d.Leader = s.node.Leader()
		}
		return api.Error(code, d, "%v", err)
	}
	switch {
	case err == nil:
		return nil
	case errors.As(err, &remote) && remote.again:
		// The leader was asked and is gone, silent, or on its way out.
		reason := api.ReasonNoLeader
		if d, ok := api.FromError(remote.err); ok && d.GetReason() != "" {
			reason = d.GetReason()
		}
		return fail(connect.CodeUnavailable, reason, retryAfterMs)
	case errors.As(err, &wire):
		return wire
	case errors.As(err, &input):
		return api.InputError(input)
	case errors.Is(err, window.ErrUnknownMetric):
		return api.Error(connect.CodeNotFound, detailOf(api.ReasonUnknownMetric, "metric", ""), "%v", err)
	case errors.As(err, &moved), errors.Is(err, errNotHere), errors.Is(err, raftfsm.ErrNoLeader), errors.Is(err, storage.ErrNotInitialised):
		return fail(connect.CodeUnavailable, api.ReasonNoLeader, retryAfterMs)
	case errors.Is(err, raftfsm.ErrIndeterminate):
		return fail(connect.CodeUnavailable, api.ReasonTimeout, retryAfterMs)
	case errors.Is(err, context.Canceled):
		return fail(connect.CodeCanceled, api.ReasonTimeout, 0)
	case errors.Is(err, context.DeadlineExceeded):
		return fail(connect.CodeDeadlineExceeded, api.ReasonTimeout, 0)
	case errors.Is(err, raftfsm.ErrOverloaded):
		return fail(connect.CodeResourceExhausted, api.ReasonOverload, retryAfterMs)
	case errors.Is(err, raftfsm.ErrDiskFull):
		return fail(connect.CodeResourceExhausted, api.ReasonDiskFull, 10_000)
	case errors.Is(err, raftfsm.ErrClosed), errors.Is(err, storage.ErrClosed), errors.Is(err, storage.ErrFailed):
		return fail(connect.CodeUnavailable, api.ReasonShuttingDown, retryAfterMs)
	case errors.Is(err, raftfsm.ErrTooLarge):
		return api.Error(connect.CodeResourceExhausted, detailOf(api.ReasonTooLarge, "batches", ""), "%v", err)
	case errors.Is(err, raftfsm.ErrTooStale):
		return api.Error(connect.CodeUnavailable, detailOf(reasonTooStale, "max_staleness", ""), "%v", err)
	case errors.As(err, &damaged):
		return api.Error(connect.CodeDataLoss, detailOf(api.ReasonDamagedRecord, damaged.Table+"/"+damaged.Key, ""), "%v", err)
	}
	if err := memberError(err); err != nil {
		return err
	}
	s.log.Error("request failed", "error", err)
	return fail(connect.CodeInternal, "", 0)
}

// memberError is the answer to a refused change of membership.
func memberError(err error) error {
	var (
		cluster   *raftfsm.ClusterIDError
		conflict  *raftfsm.MemberConflictError
		precision *raftfsm.PrecisionError
	)
	switch {
	case errors.As(err, &cluster):
		return api.Error(connect.CodeFailedPrecondition, detailOf(api.ReasonClusterID, "cluster_id", cluster.Ours), "%v", err)
	case errors.As(err, &conflict):
		return api.Error(connect.CodeAlreadyExists, detailOf(api.ReasonConflict, conflict.Field, conflict.ID), "%v", err)
	case errors.As(err, &precision):
		return api.Error(connect.CodeFailedPrecondition, detailOf(api.ReasonPrecision, "precision", fmt.Sprint(precision.Ours)), "%v", err)
	case errors.Is(err, raftfsm.ErrUnknownMember):
		return api.Error(connect.CodeNotFound, detailOf(api.ReasonUnknownMember, "id", ""), "%v", err)
	case errors.Is(err, raftfsm.ErrQuorum):
		return api.Error(connect.CodeFailedPrecondition, detailOf(api.ReasonNoQuorum, "id", ""), "%v", err)
	}
	return nil
}
