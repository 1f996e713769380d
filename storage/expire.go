package storage

import (
	"slices"
	"time"

	"github.com/distributed-median-tracker/dmt/window"
)

const (
	// A log clock that advances by more than maxStep in one entry may be wrong,
	// and what expires by it is gone: it is held until it is accepted, or until it
	// has gone on for proofTime in smaller steps. A larger step forgives longer
	// standstills and believes worse clocks.
	maxStep   = time.Hour
	proofTime = 24 * time.Hour
)

// advanceClock takes the clock of an entry.
func (s *state) advanceClock(ms int64) {
	before := s.clockMs
	s.clockMs = max(before, ms)
	switch {
	case before != 0 && s.clockMs-before > maxStep.Milliseconds(): // 0: there was no clock yet
		s.heldMs = s.clockMs
	case s.clockMs-s.heldMs >= proofTime.Milliseconds():
		s.heldMs = 0
	}
	if s.heldMs == 0 {
		s.expiryMs = s.clockMs
	}
}

// acceptClock lets expiry go on after a jump of the log clock.
func (db *DB) acceptClock() {
	db.live.heldMs, db.live.expiryMs = 0, db.live.clockMs
	db.sweep()
	db.expire()
}

// changeRetention replaces how long tiers are kept.
func (db *DB) changeRetention(tiers window.Tiers) {
	if db.cluster.ID == "" || !db.cluster.Tiers.SameWidths(tiers) {
		return
	}
	db.cluster.Tiers = slices.Clone(tiers)
	db.current.important = true
	db.expire()
}

// expire moves the horizons on to the expiry clock. They never move back: what
// lies before them may be dropped already.
func (db *DB) expire() {
	if db.cluster.ID == "" {
		return
	}
	now := db.live.expiryMs / 1000
	if db.live.expiryMs%1000 < 0 {
		now--
	}
	node, fleet := db.cluster.Tiers.Horizons(now)
	kept := db.live.kept
	for i := range node {
		node[i], fleet[i] = max(node[i], kept.node[i]), max(fleet[i], kept.fleet[i])
	}
	if !slices.Equal(node, kept.node) || !slices.Equal(fleet, kept.fleet) {
		db.live.kept = horizons{node, fleet}
	}
}

// ClockHeld reports whether the log clock has jumped and expiry waits for
// KindAcceptClock, and the clock it stands at meanwhile, in unix milliseconds.
func (db *DB) ClockHeld() (expiryMs int64, held bool) {
	db.mu.RLock()
	defer db.mu.RUnlock()
	return db.live.expiryMs, db.live.heldMs != 0
}
