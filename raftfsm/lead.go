package raftfsm

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/distributed-median-tracker/dmt/storage"
)

// catchUpLag is how many entries a member without a vote may be behind when it
// gets one. Fewer would never be reached under load.
const catchUpLag = 64

// watch turns what Raft observes into changes that others wait for.
func (n *Node) watch() {
	seen := make(chan raft.Observation, 64)
	observer := raft.NewObserver(seen, false, func(o *raft.Observation) bool {
		switch o.Data.(type) {
		case raft.RaftState, raft.LeaderObservation, raft.PeerObservation:
			return true
		}
		return false
	})
	n.raft.RegisterObserver(observer)
	defer n.raft.DeregisterObserver(observer)
	for {
		changed := n.changed.wait()
		n.checkReady()
		select {
		case o := <-seen:
			if l, ok := o.Data.(raft.LeaderObservation); ok && l.LeaderID != "" {
				id, _ := splitServerID(l.LeaderID)
				n.log.Info("leader", "id", id, "address", string(l.LeaderAddr), "term", n.raft.CurrentTerm())
			}
			n.prop.poke()
			n.changed.fire()
		case <-changed:
		case <-n.ctx.Done():
			return
		}
	}
}

// applied is called by the state machine after it applied entries.
func (n *Node) applied(configuration bool) {
	_, term := n.db.Applied()
	initialised := n.isInitialised()
	if term != n.appliedTerm || initialised != n.initialised || configuration {
		n.appliedTerm, n.initialised = term, initialised
		n.changed.fire()
	}
}

// entryClock is the clock of the next entry. Only the proposer calls it.
func (n *Node) entryClock() int64 {
	logMs := n.db.ClockMs()
	if term := n.raft.CurrentTerm(); term != n.clockTerm {
		n.clockTerm = term
		n.clock.begin(logMs)
	}
	var others []string
	for _, s := range n.servers() {
		if s.Suffrage == raft.Voter && s.ID != n.server {
			others = append(others, string(s.ID))
		}
	}
	return n.clock.nowMs(others, logMs)
}

// initialCluster is what a leader without an initialised state commits first:
// the founder of the cluster, alone in it. One that restarted before its entry
// was committed sends another; storage goes by the first in the log.
func (n *Node) initialCluster() *storage.Cluster {
	if n.isInitialised() {
		return nil
	}
	return &storage.Cluster{ID: randomHex(16), Precision: n.o.Precision, Tiers: n.o.Tiers}
}

// lead does, while this member leads, what goes on beside the log: it asks the
// members for their clocks, disks and lag, gives a vote to those that caught up,
// and guards their disks and its own clock.
func (n *Node) lead() {
	var term uint64
	for {
		changed := n.changed.wait()
		wait := heartbeatEvery
		if n.raft.State() == raft.Leader {
			if now := n.raft.CurrentTerm(); now != term {
				term = now
				n.members.reset()
			}
			if n.leadRound() {
				wait = catchUpEvery
			}
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-changed:
			timer.Stop()
		case <-n.ctx.Done():
			timer.Stop()
			return
		}
	}
}

// leadRound says whether a member is still catching up.
func (n *Node) leadRound() (catchingUp bool) {
	servers := n.servers()
	commit := n.raft.CommitIndex()
	n.askMembers(servers)
	if !n.ClockSettled() {
		n.askTick() // with the clocks that were just heard
	}
	n.guardDisks(servers)
	n.guardClock(servers)
	for _, s := range servers {
		h, ok := n.members.get(s.ID)
		switch {
		case s.ID == n.server && string(s.Address) != n.o.Address:
			n.tryChange("address of the leader", func() raft.Future {
				return n.raft.AddVoter(s.ID, raft.ServerAddress(n.o.Address), 0, peerTimeout)
			})
		case s.Suffrage != raft.Nonvoter:
		case ok && h.AppliedIndex+catchUpLag >= commit && h.AppliedIndex > 0:
			n.tryChange("vote", func() raft.Future { return n.raft.AddVoter(s.ID, s.Address, 0, peerTimeout) })
			catchingUp = true
		default:
			catchingUp = true
		}
	}
	return catchingUp
}

// tryChange commits a change of membership; the next round tries again.
func (n *Node) tryChange(what string, start func() raft.Future) {
	ctx, cancel := context.WithTimeout(n.ctx, readDeadline)
	defer cancel()
	if err := n.change(ctx, start); err != nil && n.ctx.Err() == nil {
		n.log.Debug("change of membership is tried again", "what", what, "error", err)
	}
}

// askMembers asks every other member for its heartbeat, all at once, and
// returns who answered.
func (n *Node) askMembers(servers []raft.Server) map[raft.ServerID]Heartbeat {
	answered := make(map[raft.ServerID]Heartbeat)
	if n.o.Peers == nil {
		return answered
	}
	ctx, cancel := context.WithTimeout(n.ctx, peerTimeout)
	defer cancel()
	var wg sync.WaitGroup
	var mu sync.Mutex // guards answered
	for _, s := range servers {
		if s.ID == n.server {
			continue
		}
		wg.Go(func() {
			asked := time.Now()
			h, err := n.o.Peers.Heartbeat(ctx, string(s.Address))
			if id, _ := splitServerID(s.ID); err != nil || h.ID != id {
				n.log.Debug("no heartbeat", "id", id, "answered", h.ID, "error", err)
				return // what it said last fades out
			}
			n.members.set(s.ID, memberHeard{Heartbeat: h, at: time.Now()})
			n.clock.heard(string(s.ID), h.WallMs, asked)
			mu.Lock()
			defer mu.Unlock()
			answered[s.ID] = h
		})
	}
	wg.Wait()
	return answered
}

// guardDisks refuses values while a voter is short of disk: a full disk stops a
// member, and two of three stop the cluster.
func (n *Node) guardDisks(servers []raft.Server) {
	if n.o.MinFreeDisk < 0 {
		return
	}
	full := false
	for _, s := range servers {
		free := int64(-1)
		if s.ID == n.server {
			free = freeDisk(n.dir)
		} else if h, ok := n.members.get(s.ID); ok {
			free = h.FreeDiskBytes
		}
		if s.Suffrage == raft.Voter && free >= 0 && free < n.o.MinFreeDisk {
			full = true
			n.log.Warn("voter is short of disk", "id", string(s.ID), "free_bytes", free, "want_bytes", n.o.MinFreeDisk)
		}
	}
	if n.members.setFull(full) && !full {
		n.log.Info("every voter has disk space again")
	}
}
