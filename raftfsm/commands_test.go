package raftfsm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distributed-median-tracker/dmt/window"
)

func TestSetRetention_ReachesEveryMember(t *testing.T) {
	c := newInmemCluster(t, 3, nil)
	c.startAll()
	c.ready()
	leader := c.leader().running()
	tiers := slices.Clone(window.StandardTiers())
	tiers[0].KeepNode, tiers[0].KeepFleet = 3600, 7200
	var notLeader NotLeaderError
	if err := c.followers()[0].running().SetRetention(t.Context(), tiers); !errors.As(err, &notLeader) {
		t.Errorf("SetRetention on a follower = %v, want a NotLeaderError", err)
	}
	var bad *window.InputError
	if err := leader.SetRetention(t.Context(), tiers[1:]); !errors.As(err, &bad) || bad.Field != "retention" {
		t.Errorf("SetRetention with other widths = %v, want an InputError in retention", err)
	}
	shrunk := slices.Clone(tiers)
	shrunk[1].KeepNode = 60
	if err := leader.SetRetention(t.Context(), shrunk); !errors.As(err, &bad) {
		t.Errorf("SetRetention that shrinks = %v, want an InputError", err)
	}
	if err := leader.SetRetention(t.Context(), tiers); err != nil {
		t.Fatalf("SetRetention = %v", err)
	}
	if got, _ := leader.Store().Cluster(); !slices.Equal(got.Tiers, tiers) {
		t.Errorf("the leader keeps\n%v, want\n%v", got.Tiers, tiers)
	}
	for _, m := range c.members {
		eventually(t, 10*time.Second, func() string {
			if got, _ := m.running().Store().Cluster(); !slices.Equal(got.Tiers, tiers) {
				return fmt.Sprintf("%s keeps\n%v", m.id, got.Tiers)
			}
			return ""
		})
	}
}

func TestAcceptClock_EndsAHold(t *testing.T) {
	var ahead atomic.Int64
	c := newInmemCluster(t, 1, func(o *Options) {
		o.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	})
	c.startAll()
	c.ready()
	n := c.leader().running()
	before := n.ClockMs()
	ahead.Store(int64(2 * time.Hour))
	c.ingest(testBatch(t, 1, 1, "node", 1))
	if ms, held := n.Store().ClockHeld(); !held || ms > before+time.Hour.Milliseconds() {
		t.Errorf("after a jump of two hours ClockHeld = %d, %v, want it held at about %d", ms, held, before)
	}
	if err := n.AcceptClock(context.Background()); err != nil {
		t.Fatalf("AcceptClock = %v", err)
	}
	if ms, held := n.Store().ClockHeld(); held || ms < before+2*time.Hour.Milliseconds() {
		t.Errorf("after AcceptClock ClockHeld = %d, %v, want the log clock", ms, held)
	}
}
