package raftfsm

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-median-tracker/dmt/storage"
)

func TestQuorumClock_Skew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		off := time.Duration(0)
		c := newQuorumClock(func() time.Time { return time.Now().Add(off) })
		others := []string{"b", "c"}
		hear := func(id string, skew time.Duration) { c.heard(id, time.Now().Add(skew).UnixMilli(), time.Now()) }
		f := func(what string, wantOff time.Duration, wantID string, wantOK bool) {
			t.Helper()
			if own, id, ok := c.skew(others); own != wantOff || id != wantID || ok != wantOK {
				t.Errorf("%s: %v, %q, %v, want %v, %q, %v", what, own, id, ok, wantOff, wantID, wantOK)
			}
		}
		f("alone of three", 0, "", false)
		hear("b", 5*time.Second)
		f("the lower of two is the median", 0, "", true)
		off = time.Hour
		f("the higher of two is off", time.Hour-5*time.Second, "b", true)
		hear("c", 9*time.Second)
		f("ahead of two", time.Hour-9*time.Second, "c", true)
		off = -time.Hour
		f("behind two", -time.Hour-5*time.Second, "b", true)
		time.Sleep(sampleAge)
		f("old samples do not count", 0, "", false)
	})
}

// A leader whose clock is off raises the alarm, refuses values and hands over;
// the log clock does not move with it.
func TestSkew_LeaderHandsOver(t *testing.T) {
	t.Parallel()
	for _, skew := range []time.Duration{2 * time.Minute, -2 * time.Minute, 10 * 365 * 24 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex // guards off
			off := make(map[string]time.Duration)
			c := newInmemCluster(t, 3, func(o *Options) {
				id := o.ID
				o.Now = func() time.Time {
					mu.Lock()
					defer mu.Unlock()
					return time.Now().Add(off[id])
				}
			})
			c.startAll()
			c.ingest(testBatch(t, 1, 1, "n", 1))
			old := c.leader()
			time.Sleep(2 * heartbeatEvery)
			mu.Lock()
			off[old.id] = skew
			mu.Unlock()
			eventually(t, 10*time.Second, func() string {
				if old.running().IsLeader() {
					return "a leader with a wrong clock leads on"
				}
				return ""
			})
			next := c.leader()
			c.ingest(testBatch(t, 1, 2, "n", 1))
			time.Sleep(time.Minute)
			if c.leader() != next {
				t.Errorf("skew %v: leadership moved again", skew)
			}
			if a := next.running().Status().Alarms; !slices.Contains(a, "clock_skew") {
				t.Errorf("skew %v: alarms at the next leader are %v", skew, a)
			}
			if d := time.Now().UnixMilli() - next.running().ClockMs(); d < 0 || d > 2*tickEvery.Milliseconds() {
				t.Errorf("skew %v: the log clock is %d ms behind", skew, d)
			}
			c.equal(map[string]uint64{"n": 2})
		})
	}
}

func TestSkew_RefusesValues(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, nil)
	c.startAll()
	n := c.members[0].running()
	n.members.setSkewed(true)
	_, err := n.Ingest(context.Background(), []storage.Batch{testBatch(t, 1, 1, "n", 1)})
	if !errors.Is(err, ErrClockSkew) || !errors.Is(err, ErrNoLeader) {
		t.Errorf("Ingest at a leader with a wrong clock = %v, want ErrClockSkew", err)
	}
	if a := n.Status().Alarms; !slices.Contains(a, "clock_skew") {
		t.Errorf("alarms = %v, want clock_skew", a)
	}
}
