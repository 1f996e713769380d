package raftfsm

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// maxSkew is how far the wall clock of a leader may be off the median of a
// quorum. The log clock does not follow it in any case; but what else on that
// machine reads its clock is wrong, the judging of ages in the server included.
const maxSkew = time.Minute

// skew returns how far this member's wall clock is off the median of a quorum,
// and whose of the others is closest to it. It is false without a quorum of clocks.
func (c *quorumClock) skew(others []string) (own time.Duration, closest string, ok bool) {
	ownMs := c.now().UnixMilli()
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	type clock struct {
		id string
		ms int64
	}
	clocks := []clock{{ms: ownMs}}
	for _, id := range others {
		if s, ok := c.samples[id]; ok && now.Sub(s.at) < sampleAge {
			clocks = append(clocks, clock{id, s.wallMs + now.Sub(s.at).Milliseconds()})
		}
	}
	if len(clocks) < (len(others)+1)/2+1 {
		return 0, "", false
	}
	slices.SortFunc(clocks, func(a, b clock) int { return cmp.Or(cmp.Compare(a.ms, b.ms), cmp.Compare(a.id, b.id)) })
	// The lower of two middles, as in nowMs: whoever is the median stays leader.
	median := clocks[(len(clocks)-1)/2]
	return time.Duration(ownMs-median.ms) * time.Millisecond, median.id, true
}

// guardClock makes a leader whose clock is off refuse values, and hands
// leadership to the voter whose clock is the median.
func (n *Node) guardClock(servers []raft.Server) {
	var others []string
	for _, s := range servers {
		if s.Suffrage == raft.Voter && s.ID != n.server {
			others = append(others, string(s.ID))
		}
	}
	own, closest, ok := n.clock.skew(others)
	off := ok && own.Abs() > maxSkew
	if n.members.setSkewed(off) {
		n.log.Warn("wall clock of the leader against the median of a quorum", "skew", own, "refuses_values", off)
	}
	if !off || closest == "" {
		return
	}
	ctx, cancel := context.WithTimeout(n.ctx, readDeadline)
	defer cancel()
	id, _ := splitServerID(raft.ServerID(closest))
	if err := n.Transfer(ctx, id); err != nil && n.ctx.Err() == nil {
		n.log.Warn("leadership was not handed over, tried again", "to", id, "error", err)
	}
}

func (t *memberTable) clockSkewed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.skewed
}

func (t *memberTable) setSkewed(skewed bool) (changed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	changed = t.skewed != skewed
	t.skewed = skewed
	return changed
}
