package raftfsm

import (
	"context"

	"github.com/hashicorp/raft"

	"github.com/distributed-median-tracker/dmt/window"
)

// SetRetention changes how long the tiers are kept, on every member, and returns
// once the change is applied here. The widths must be those of the cluster: an
// *window.InputError in the field "retention" says what is wrong. A shorter
// retention hides what has expired by it at once; a longer one brings nothing back.
// Only the leader accepts; others return a NotLeaderError. ErrIndeterminate means
// that the change may or may not happen, and may be asked for again.
func (n *Node) SetRetention(ctx context.Context, tiers window.Tiers) error {
	if err := tiers.Check(); err != nil {
		return err
	}
	if c, ok := n.db.Cluster(); ok && !c.Tiers.SameWidths(tiers) {
		return &window.InputError{
			Field: "retention", Reason: window.ReasonBadTiers,
			Message: "the widths of the tiers are fixed when the cluster is formed, those of this one are:\n" + c.Tiers.String(),
		}
	}
	return n.command(ctx, func(clockMs int64) []byte { return encodeRetention(clockMs, tiers) })
}

// AcceptClock says that a jump of the log clock by more than an hour was right:
// what has expired by it, rows and producers, may go. Without a jump it changes
// nothing. Errors are those of SetRetention.
func (n *Node) AcceptClock(ctx context.Context) error { return n.command(ctx, encodeAcceptClock) }

// command commits an entry of its own.
func (n *Node) command(ctx context.Context, encode func(clockMs int64) []byte) error {
	switch {
	case n.closing.Load():
		return ErrClosed
	case n.raft.State() != raft.Leader || !n.isInitialised():
		return n.notLeader()
	}
	_, err := n.prop.ask(ctx, n.ctx.Done(), &request{command: encode, done: make(chan response, 1)})
	return err
}
