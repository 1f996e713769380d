package server

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"connectrpc.com/connect"

	"github.com/distributed-median-tracker/dmt/internal/api"
	"github.com/distributed-median-tracker/dmt/internal/api/dmt/v1/dmtv1connect"
)

const (
	// holdFor is how long a request waits for a leader before it is refused.
	// It outlasts an election several times over, and stays well below the
	// export timeouts of the SDKs that would otherwise drop data (10 s).
	holdFor = 5 * time.Second

	// tryFor bounds one attempt at the leader, so that one that has gone
	// silent does not eat a caller's whole deadline.
	tryFor = 4 * time.Second

	backoffFirst = 5 * time.Millisecond
	backoffMost  = 200 * time.Millisecond

	// forwardedHeader marks a request that a member passed on. The receiver
	// answers or refuses; it never passes it on again, so that two members
	// that take each other for the leader cannot play ball.
	forwardedHeader = "Dmt-Forwarded"
)

// atLeader runs a request where the leader is: here by local, or there by
// remote. It holds the request through an election. Every request that goes
// through here may be repeated without harm: batches carry their names, and
// cluster changes are to a stated end.
func atLeader[Req, Res any](
	ctx context.Context, s *Server, req *connect.Request[Req],
	local func(context.Context, *Req) (*Res, error),
	remote func(dmtv1connect.TrackerClient, context.Context, *connect.Request[Req]) (*connect.Response[Res], error),
) (*connect.Response[Res], error) {
	forwarded := req.Header().Get(forwardedHeader) != ""
	return hold(ctx, s, forwarded, func(ctx context.Context, v *leaderView) (*connect.Response[Res], error) {
		if s.node.IsLeader() {
			res, err := local(ctx, req.Msg)
			if err != nil {
				return nil, err
			}
			return connect.NewResponse(res), nil
		}
		if forwarded || v.address == "" || v.address == s.advertise {
			return nil, errNotHere
		}
		onward := connect.NewRequest(req.Msg)
		onward.Header().Set(forwardedHeader, s.node.ID())
		client, err := s.peers.tracker(v.address)
		if err != nil {
			return nil, err
		}
		// An answer cannot come from a leader that was deposed: stop waiting
		// for it the moment another one is known.
		ctx, cancel := context.WithTimeout(ctx, tryFor)
		defer cancel()
		defer context.AfterFunc(v.changed, cancel)()
		res, err := remote(client, ctx, onward)
		if err != nil {
			return nil, asRemote(err)
		}
		return connect.NewResponse(res.Msg), nil
	})
}

// errNotHere is an attempt that found no leader to send to.
var errNotHere = errors.New("this member does not lead and knows nobody who does")

// remoteError is what a leader answered, or what became of the way to it.
type remoteError struct {
	err   *connect.Error
	again bool // another attempt may go better
}

func (e *remoteError) Error() string { return e.err.Error() }
func (e *remoteError) Unwrap() error { return e.err }

// asRemote sorts the error of a forwarded request. What a leader decided goes
// to the caller as it is; a leader that moved, vanished or was too slow is
// asked again.
func asRemote(err error) error {
	var ce *connect.Error
	if !errors.As(err, &ce) {
		ce = connect.NewError(connect.CodeUnavailable, err)
	}
	again := !connect.IsWireError(err)
	if ce.Code() == connect.CodeUnavailable {
		again = true
		if detail, ok := api.FromError(err); ok && detail.GetReason() == api.ReasonDiskFull {
			again = false
		}
	}
	return &remoteError{ce, again}
}

// hold calls try until it succeeds, fails for good, or the time to hold the
// request is over. A forwarded request is tried once: its sender holds it.
func hold[Res any](ctx context.Context, s *Server, forwarded bool, try func(context.Context, *leaderView) (Res, error)) (Res, error) {
	until := time.Now().Add(holdFor)
	if deadline, ok := ctx.Deadline(); ok {
		// Answer while somebody listens: an error that explains is worth
		// more than the caller's own time-out.
		early := deadline.Add(-min(time.Until(deadline)/10, 100*time.Millisecond))
		if early.Before(until) {
			until = early
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, early)
		defer cancel()
	}
	pause := backoffFirst
	for {
		view := s.leaders.view()
		res, err := try(ctx, view)
		if err == nil || forwarded || !tryAgain(err) || !time.Now().Add(pause).Before(until) {
			return res, s.connectError(err)
		}
		// Jitter spreads the requests that an election held up.
		wait := min(pause/2+rand.N(pause), time.Until(until))
		if errors.Is(err, errNotHere) {
			// Little changes before the leader does, and that wakes us.
			wait = min(backoffMost, time.Until(until))
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-view.changed.Done():
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return res, s.connectError(errors.Join(err, ctx.Err()))
		}
		pause = min(2*pause, backoffMost)
	}
}
