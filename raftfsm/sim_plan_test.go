package raftfsm

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// simFault is one step of a plan. Whom it hits is said by role, which the
// simulation looks up when the time has come.
type simFault struct {
	at, last time.Duration // since the start, and for how long
	kind     simKind
	leader   bool // else one of the others
	pick     int  // which of several
}

func (f simFault) String() string {
	role := "follower"
	if f.leader {
		role = "leader"
	}
	return fmt.Sprintf("%6v %-14v %-8s #%d for %v", f.at.Round(time.Millisecond), f.kind, role, f.pick, f.last.Round(time.Millisecond))
}

// simKind is what goes wrong.
type simKind string

const (
	// of the network; one at a time
	simSplit    simKind = "split"     // nothing in, nothing out
	simMute     simKind = "mute"      // one way: nothing out
	simDeaf     simKind = "deaf"      // one way: nothing in
	simOneLink  simKind = "one link"  // one way to one other
	simSplitAll simKind = "split all" // everybody alone
	simHold     simKind = "hold"      // stopped, and later goes on with what was under way
	simStormy   simKind = "storm"     // 15 % lost, 10 % twice, most of them late
	simAway     simKind = "away"      // cut off until the log it misses is cut

	// of members; one at a time, beside one of the network
	simCrash     simKind = "crash"
	simCrashAll  simKind = "crash all"
	simFlushDie  simKind = "flush, crash"    // the crash comes while the flush runs
	simSnapDie   simKind = "snapshot, crash" // the crash comes at once
	simSnapshot  simKind = "snapshot"
	simTransfer  simKind = "transfer"
	simStop      simKind = "stop" // in good order
	simSlowDisk  simKind = "slow disk"
	simStallDisk simKind = "stalled disk"
)

var (
	simNetKinds = []simKind{simSplit, simSplit, simMute, simDeaf, simOneLink, simSplitAll, simHold, simHold, simStormy, simStormy, simAway, simAway}
	simMemKinds = []simKind{simCrash, simCrash, simCrashAll, simFlushDie, simFlushDie, simSnapDie, simSnapshot, simTransfer, simTransfer, simStop, simSlowDisk, simStallDisk}
)

// simPlan is what a seed does to a cluster, and how the cluster is set up.
type simPlan struct {
	seed uint64

	trailing   uint64        // log entries behind a snapshot
	snapshots  uint64        // entries that trigger one
	flushEvery time.Duration // of the state
	flushTakes time.Duration // at most

	net, members []simFault
}

const simLasts = 45 * time.Second

func newSimPlan(seed uint64) simPlan {
	rnd := rand.New(rand.NewPCG(seed, 1))
	p := simPlan{
		seed:       seed,
		trailing:   1 + rnd.Uint64N(8),
		snapshots:  20 + rnd.Uint64N(200),
		flushEvery: 200*time.Millisecond + time.Duration(rnd.Int64N(int64(2*time.Second))),
		flushTakes: time.Duration(rnd.Int64N(int64(200 * time.Millisecond))),
	}
	p.net = simTrack(rnd, simNetKinds)
	p.members = simTrack(rnd, simMemKinds)
	return p
}

// simTrack fills the time with faults, one after the other.
func simTrack(rnd *rand.Rand, kinds []simKind) (track []simFault) {
	for at := time.Second; ; {
		f := simFault{
			at: at, last: 100*time.Millisecond + time.Duration(rnd.Int64N(int64(3*time.Second))),
			kind: kinds[rnd.IntN(len(kinds))], leader: rnd.IntN(2) == 0, pick: rnd.IntN(3),
		}
		at = f.at + f.last + 100*time.Millisecond + time.Duration(rnd.Int64N(int64(1500*time.Millisecond)))
		if f.at+f.last > simLasts {
			return track
		}
		track = append(track, f)
	}
}

func (p simPlan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d: %d trailing logs, a snapshot every %d entries, a flush every %v that takes up to %v\n",
		p.seed, p.trailing, p.snapshots, p.flushEvery.Round(time.Millisecond), p.flushTakes.Round(time.Millisecond))
	for _, track := range [][]simFault{p.net, p.members} {
		for _, f := range track {
			fmt.Fprintf(&b, "  %v\n", f)
		}
	}
	return b.String()
}

// run carries out one track, and heals what it broke.
func (s *sim) runTrack(track []simFault) {
	for _, f := range track {
		if !s.net.sleep(time.Until(s.began.Add(f.at))) || s.failed() {
			return
		}
		s.faults.Add(1)
		s.fault(f)
	}
}

func (s *sim) fault(f simFault) {
	m := s.role(f)
	addr := m.addr
	others := s.others(m)
	one := others[f.pick%len(others)]
	switch f.kind {
	case simSplit, simAway:
		s.net.cut(s.addrs, func(from, to string) bool { return from == addr || to == addr })
	case simMute:
		s.net.cut(s.addrs, func(from, _ string) bool { return from == addr })
	case simDeaf:
		s.net.cut(s.addrs, func(_, to string) bool { return to == addr })
	case simOneLink:
		s.net.cut(s.addrs, func(from, to string) bool { return from == addr && to == one.addr })
	case simSplitAll:
		s.net.cut(s.addrs, func(string, string) bool { return true })
	case simHold:
		s.net.hold(s.addrs, addr)
	case simStormy:
		s.net.setWeather(simStorm)
	default:
		s.memberFault(f, m)
		return
	}
	s.net.sleep(f.last)
	if f.kind == simAway {
		for _, o := range others {
			s.snapshot(o)
		}
	}
	s.net.heal(s.addrs)
}

func (s *sim) memberFault(f simFault, m *simMember) {
	dead := []*simMember{m}
	switch f.kind {
	case simSnapshot:
		s.snapshot(m)
		return
	case simTransfer:
		if n := m.running(); n != nil {
			ctx, cancel := context.WithTimeout(context.Background(), f.last)
			defer cancel()
			_ = n.Transfer(ctx, "") // a follower refuses, and so may a cluster in trouble
		}
		return
	case simSlowDisk, simStallDisk:
		m.disk.Store(int64(f.last))
		if f.kind == simSlowDisk {
			m.disk.Store(int64(20 * time.Millisecond))
			s.net.sleep(f.last)
		}
		m.disk.Store(0)
		return
	case simSnapDie:
		s.snapshot(m)
	case simFlushDie:
		if n := m.running(); n != nil {
			s.net.calls.start(func() { _ = n.Store().Flush(context.Background()) }) // it may find the store closed
			s.net.sleep(min(f.last, s.plan.flushTakes) / 2)
		}
	case simCrashAll:
		dead = s.members
	case simStop:
		s.end(m, func(n *Node) error {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			return n.Shutdown(ctx)
		})
	}
	for _, d := range dead {
		s.end(d, func(n *Node) error { n.Kill(); return nil })
	}
	s.net.sleep(f.last)
	for _, d := range dead {
		s.start(d)
	}
}

func (s *sim) snapshot(m *simMember) {
	if n := m.running(); n != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		_ = n.Snapshot(ctx) // refused while it restores, or is shut down
	}
}
