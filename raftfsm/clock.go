package raftfsm

import (
	"slices"
	"sync"
	"time"
)

// sampleAge is how long a member's wall clock counts after it was asked.
const sampleAge = 5 * heartbeatEvery

// quorumClock is the time that a leader writes into entries: the median of the
// wall clocks of a quorum, never the leader's own alone unless it is the quorum.
// Wall clocks of others come from heartbeats and are carried forward by the
// leader's monotonic clock, so that a jump of the leader's wall clock between
// two heartbeats does not move them.
//
// Without a quorum of clocks, at the start of a term or while heartbeats fail,
// the log clock runs on from where it stood at the rate of the monotonic clock.
type quorumClock struct {
	now func() time.Time // wall clock of this member

	mu      sync.Mutex // guards the four below
	samples map[string]clockSample
	baseMs  int64 // log clock at base
	base    time.Time
	firstMs int64 // first clock of a quorum in this term; 0 before
}

type clockSample struct {
	wallMs int64
	at     time.Time // by time.Now, halfway through the question
}

func newQuorumClock(now func() time.Time) *quorumClock {
	return &quorumClock{now: now, samples: make(map[string]clockSample)}
}

// begin starts a term, at log clock ms. Samples stay, as long as they are fresh:
// the first round of heartbeats may have come before the first entry.
func (c *quorumClock) begin(ms int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.baseMs, c.base, c.firstMs = ms, time.Now(), 0
}

// settled says whether a log clock that stands at logMs has seen a clock of a
// quorum in this term.
func (c *quorumClock) settled(logMs int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.firstMs != 0 && logMs >= c.firstMs
}

// ClockSettled says, on the leader, whether the log clock is that of a quorum.
// Until it is, at the start of a term, it may stand where an outage stopped it,
// and what is measured now looks as if it came from the future.
func (n *Node) ClockSettled() bool {
	_, term := n.db.Applied()
	return term == n.raft.CurrentTerm() && n.clock.settled(n.db.ClockMs())
}

// heard takes the wall clock of another member, asked at asked and answered now.
func (c *quorumClock) heard(id string, wallMs int64, asked time.Time) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.samples[id] = clockSample{wallMs: wallMs, at: asked.Add(now.Sub(asked) / 2)}
}

// nowMs is the clock for an entry. others are the other voters; logMs is the
// log clock, below which the result never is.
func (c *quorumClock) nowMs(others []string, logMs int64) int64 {
	own := c.now().UnixMilli()
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	clocks := []int64{own}
	for _, id := range others {
		if s, ok := c.samples[id]; ok && now.Sub(s.at) < sampleAge {
			clocks = append(clocks, s.wallMs+now.Sub(s.at).Milliseconds())
		}
	}
	ms := c.baseMs + now.Sub(c.base).Milliseconds()
	if quorum := (len(others)+1)/2 + 1; len(clocks) >= quorum {
		// The lower of two middles: one clock that runs ahead moves nothing.
		slices.Sort(clocks)
		ms = clocks[(len(clocks)-1)/2]
		if c.firstMs == 0 {
			c.firstMs = ms
		}
	}
	ms = max(ms, logMs)
	c.baseMs, c.base = ms, now
	return ms
}
