package client

import (
	"strings"
	"sync"

	"github.com/distributed-median-tracker/dmt/window"
	"github.com/distributed-median-tracker/dmt/window/sketch"
)

const (
	// trackerShards spread nodes over locks. More of them collide less often
	// on many cores and cost 128 bytes each.
	trackerShards = 64

	// forgetAfter is how many seconds a node may say nothing before its place
	// in memory is given up: the next value makes a new one. Longer saves
	// nodes that speak seldom that work; shorter saves memory where nodes come
	// and go.
	forgetAfter = 60
)

// shard holds the nodes whose ids hash to it, under one lock: it is found and
// locked once for the look-up and the adding.
type shard struct {
	mu     sync.Mutex
	refuse *RefusedError // nothing is accepted any more
	nodes  map[string]*series

	// In memory, one count for all nodes will do.
	memory bool
	all    sketch.Recorder

	_ [24]byte // keeps neighbours off the cache line
}

// series counts one node.
type series struct {
	now  sketch.Recorder
	last int64 // start of the last bucket that held a value
	idle bool  // memory was given back
}

// admit finds a node or gives it a place. The lock is held.
func (s *shard) admit(nodeID string) (*series, *RefusedError) {
	if s.refuse != nil {
		return nil, s.refuse
	}
	if r := s.nodes[nodeID]; r != nil {
		return r, nil
	}
	if err := window.CheckNode(nodeID); err != nil {
		return nil, refusal(err, ReasonBadNode)
	}
	r := inMemory
	if !s.memory {
		r = new(series)
	}
	// Cloned: the id may be a piece of something large.
	s.nodes[strings.Clone(nodeID)] = r
	return r, nil
}

// inMemory stands for every node of a tracker that counts all nodes together.
var inMemory = new(series)

// drained is what one node counted.
type drained struct {
	node   string
	sketch *sketch.Sketch
}

func (s *shard) drain(start int64, found []drained) []drained {
	s.mu.Lock()
	defer s.mu.Unlock()
	for node, r := range s.nodes {
		switch {
		case r.now.Count() > 0:
			found = append(found, drained{node, r.now.Drain()})
			r.last, r.idle = start, false
		case start-r.last > forgetAfter:
			delete(s.nodes, node)
		case !r.idle && start > r.last:
			r.now, r.idle = sketch.Recorder{}, true
		}
	}
	return found
}
