package server_test

import (
	"sync/atomic"
	"time"

	"github.com/distributed-median-tracker/dmt/client/clustertest"
	"github.com/distributed-median-tracker/dmt/raftfsm"
)

// clock is a wall clock that a test can put forward.
type clock struct{ ahead atomic.Int64 }

func newClock() *clock { return &clock{} }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) advance(d time.Duration) { c.ahead.Add(int64(d)) }

func (c *clock) options() clustertest.Options {
	return clustertest.Options{Raft: raftfsm.Options{Now: c.now}}
}
