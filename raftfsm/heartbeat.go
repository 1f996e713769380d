package raftfsm

import (
	"sync"

	"github.com/hashicorp/raft"
)

// gatedTransport hands Raft heartbeats only until its gate is shut. Raft takes
// a heartbeat on the goroutine of the connection that brought it, and its
// Shutdown does not wait for those: one that carries a new term would store it
// after the log is closed, and Raft panics when it cannot.
type gatedTransport struct {
	*raft.NetworkTransport
	gate *heartbeatGate
}

// SetHeartbeatHandler replaces the method of raft.NetworkTransport.
func (t gatedTransport) SetHeartbeatHandler(handle func(raft.RPC)) {
	if handle == nil {
		t.NetworkTransport.SetHeartbeatHandler(nil)
		return
	}
	t.NetworkTransport.SetHeartbeatHandler(t.gate.guard(handle))
}

// heartbeatGate lets heartbeats through until it is shut.
type heartbeatGate struct {
	mu   sync.RWMutex // held by every heartbeat under way
	done bool
}

func (g *heartbeatGate) guard(handle func(raft.RPC)) func(raft.RPC) {
	return func(rpc raft.RPC) {
		g.mu.RLock()
		defer g.mu.RUnlock()
		if !g.done {
			handle(rpc)
		}
	}
}

// shut waits for the heartbeats under way and lets no more through.
func (g *heartbeatGate) shut() {
	g.mu.Lock()
	g.done = true
	g.mu.Unlock()
}
