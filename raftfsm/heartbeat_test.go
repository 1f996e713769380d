package raftfsm

import (
	"runtime"
	"testing"

	"github.com/hashicorp/raft"
)

func TestHeartbeatGate_ShutWaitsAndRefuses(t *testing.T) {
	var g heartbeatGate
	begun, end := make(chan struct{}), make(chan struct{})
	handled := 0
	beat := g.guard(func(raft.RPC) {
		handled++
		close(begun)
		<-end
	})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		beat(raft.RPC{})
	}()
	<-begun
	shut := make(chan struct{})
	go func() {
		defer close(shut)
		g.shut()
	}()
	// Once shut waits for the lock, nobody else gets it.
	for g.mu.TryRLock() {
		g.mu.RUnlock()
		runtime.Gosched()
	}
	select {
	case <-shut:
		t.Error("shut returns while a heartbeat is under way")
	default:
	}
	close(end)
	<-ended
	<-shut
	beat(raft.RPC{})
	if handled != 1 {
		t.Errorf("%d heartbeats handled, want the one before the gate was shut", handled)
	}
}
