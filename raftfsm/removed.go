package raftfsm

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/raft"
)

// A removed member is told nothing: the leader stops talking to it with the
// entry that removes it. It finds out by itself, from three things together:
// its log, which once had it as a member, ends without it; no leader has talked
// to it for removedAfter; and there is one, with a quorum, that answers it.
const (
	removedAfter = 5 * time.Second
	removedEvery = time.Second
)

// watchRemoval stops a process whose member was removed.
func (n *Node) watchRemoval() {
	ticker := time.NewTicker(removedEvery)
	defer ticker.Stop()
	began := time.Now()
	for {
		select {
		case <-n.ctx.Done():
			return
		case <-ticker.C:
		}
		heard := n.raft.LastContact()
		if heard.Before(began) {
			heard = began
		}
		if time.Since(heard) < removedAfter || n.raft.State() == raft.Leader || n.isMember() || !n.wasMember() {
			continue
		}
		if n.clusterLeads() {
			n.removed.Store(true)
			n.stopProcess(ErrRemoved)
			return
		}
	}
}

// isMember says whether the latest configuration holds this member.
func (n *Node) isMember() bool {
	for _, s := range n.servers() {
		if s.ID == n.server {
			return true
		}
	}
	return false
}

// wasMember says whether any configuration that the member still has held it. One
// that is joining has none yet, although the cluster may have accepted it.
func (n *Node) wasMember() bool {
	holds := func(c raft.Configuration) bool {
		for _, s := range c.Servers {
			if s.ID == n.server {
				return true
			}
		}
		return false
	}
	if state, ok := n.db.FlushedState(); ok && len(state.Configuration) > 0 && holds(raft.DecodeConfiguration(state.Configuration)) {
		return true
	}
	first, err := n.logs.FirstIndex()
	last, lastErr := n.logs.LastIndex()
	if errors.Join(err, lastErr) != nil || first == 0 {
		return false // asked again; a log that cannot be read stops the process elsewhere
	}
	for i := last; i >= first; i-- {
		var entry raft.Log
		if n.logs.GetLog(i, &entry) == nil && entry.Type == raft.LogConfiguration && holds(raft.DecodeConfiguration(entry.Data)) {
			return true
		}
	}
	return false
}

// clusterLeads says whether some leader of this cluster proves that it leads.
func (n *Node) clusterLeads() bool {
	if n.o.Peers == nil {
		return false
	}
	for _, r := range n.helloAll(append(n.o.Join, n.otherAddresses()...)) {
		if r.LeaderAddress == "" || r.LeaderAddress == n.o.Address || r.ClusterID != n.ClusterID() {
			continue
		}
		ctx, cancel := context.WithTimeout(n.ctx, peerTimeout)
		index, err := n.o.Peers.ReadIndex(ctx, r.LeaderAddress)
		cancel()
		if err == nil && index.Term >= n.raft.CurrentTerm() {
			return true
		}
	}
	return false
}
