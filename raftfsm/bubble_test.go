package raftfsm

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-median-tracker/dmt/window"
)

// Three members with production timeouts in a bubble of fake time: elect, cut
// off, heal, crash, and an idle hour. Every goroutine must have ended when the
// bubble does, or the test fails.
func TestBubble_AnHourOfThreeMembers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newInmemCluster(t, 3, func(o *Options) { o.TimeoutScale = 1; o.TrailingLogs = 1 })
		began := time.Now()
		c.startAll()
		c.ingest(testBatch(t, 1, 1, "n", 2))

		old := c.leader()
		c.partition(old)
		time.Sleep(10 * time.Second)
		c.ingest(testBatch(t, 1, 2, "n", 2))
		c.heal()
		time.Sleep(10 * time.Second)
		c.equal(map[string]uint64{"n": 4})

		for _, m := range c.members {
			snapshot(t, m)
		}
		for _, m := range c.members {
			m.kill()
		}
		c.startAll()
		time.Sleep(time.Hour)
		clock := c.leader().running().ClockMs()
		if behind := time.Now().UnixMilli() - clock; behind < 0 || behind > 2*tickEvery.Milliseconds() {
			t.Errorf("after an idle hour the log clock is %d ms behind", behind)
		}
		for _, m := range c.members {
			if got, err := askCount(t, m.running(), window.Linearizable, time.Second); err != nil || got != 4 {
				t.Errorf("member %s answers %d, %v, want 4", m.id, got, err)
			}
		}
		c.equal(map[string]uint64{"n": 4})
		if took := time.Since(began); took < time.Hour {
			t.Errorf("the bubble lasted %v", took)
		}
	})
}
