package raftfsm

import (
	"context"
	"errors"

	"github.com/hashicorp/raft"
)

// stopProcess reports the first fatal error.
func (n *Node) stopProcess(err error) {
	if n.killed.Load() {
		return // by ourselves: the state was closed under the state machine
	}
	n.fatal.Do(func() {
		n.o.Logger.Error("member stops", "member", n.ident.ID, "error", err)
		n.o.OnFatal(err)
	})
}

// Shutdown refuses new work, hands leadership to another voter, settles what is
// under way, flushes and closes. It may be called twice. It goes on closing when
// ctx ends, without waiting for a transfer any longer.
func (n *Node) Shutdown(ctx context.Context) error {
	n.stopped.Do(func() {
		n.closing.Store(true)
		if n.raft.State() == raft.Leader && n.otherVoters() > 0 {
			if err := n.Transfer(ctx, ""); err != nil {
				n.log.Warn("leadership was not handed over", "error", err)
			}
		}
		n.stopErr = n.stop(false)
	})
	return n.stopErr
}

// Kill stops as kill -9 would, for tests within one process: no transfer, no
// flush, writes under way end in ErrIndeterminate.
func (n *Node) Kill() {
	n.stopped.Do(func() {
		n.closing.Store(true)
		n.stopErr = n.stop(true)
	})
}

// stop ends everything that Open started. Futures of Raft are answered only
// while Raft runs, so whoever waits for one is waited for first. That takes as
// long as Raft takes to notice that it has no quorum, 150 ms at the default scale.
func (n *Node) stop(kill bool) error {
	var err error
	if kill {
		// The state first: what is applied from here on is lost to the file, as
		// it is in a crash. A flush that ran beside the shutdown would save it.
		n.killed.Store(true)
		err = errors.Join(n.db.Kill(), closeTransport(n.trans))
	}
	n.cancel()
	n.changed.fire()
	n.loops.Wait()
	err = errors.Join(err, closeTransport(n.trans)) // or calls to members that are gone take seconds
	n.calls.close()
	err = errors.Join(err, n.raft.Shutdown().Error())
	n.beats.shut()
	return errors.Join(err, n.closeFiles())
}

func (n *Node) closeFiles() error {
	var errs []error
	if n.db != nil {
		errs = append(errs, n.db.Close())
	}
	if n.logs != nil {
		errs = append(errs, n.logs.Close())
	}
	return errors.Join(errs...)
}

func closeTransport(t raft.Transport) error {
	if c, ok := t.(raft.WithClose); ok {
		return c.Close()
	}
	return nil
}
