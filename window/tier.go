package window

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// MaxFuture is how far beyond the log clock a bucket may start. Larger would
// forgive worse clocks and let a wrong unit of time pass for the future.
const MaxFuture = 10 * time.Minute

// Limits of tiers. A keep time of a hundred years is for ever with an end.
const (
	maxTiers     = 16
	maxKeep      = 36500 * int64(Day)
	maxTiersText = 4096
)

// Tier is a bucket width with its retention.
type Tier struct {
	Width Width
	// KeepNode and KeepFleet are how many seconds the sketches of single
	// nodes, and those of all nodes together, are kept; 0 is for ever.
	KeepNode, KeepFleet int64
}

// Tiers are the widths that are stored, finest first. Each width is a multiple
// of the one before, and is kept at least as long.
type Tiers []Tier

// StandardTiers returns the default retention.
func StandardTiers() Tiers {
	const h, d, y = int64(Hour), int64(Day), 365 * int64(Day)
	return Tiers{
		{TenSeconds, 6 * h, 7 * d},
		{Minute, 2 * d, 30 * d},
		{TenMinutes, 14 * d, y},
		{Hour, 90 * d, 5 * y},
		{Day, 2 * y, 0},
	}
}

// ForeverTiers returns the standard widths with nothing ever dropped.
func ForeverTiers() Tiers {
	return Tiers{{Width: TenSeconds}, {Width: Minute}, {Width: TenMinutes}, {Width: Hour}, {Width: Day}}
}

// ParseTiers reads "standard", "forever", or one line per tier, finest first,
// as String writes them:
//
//	# width  sketches of single nodes  of all together
//	10s      node=6h                   fleet=7d
//	1m       node=2d                   fleet=forever
//
// The result has passed Check. Errors are *InputErrors in the field
// "retention".
func ParseTiers(text string) (Tiers, error) {
	switch strings.TrimSpace(text) {
	case "standard":
		return StandardTiers(), nil
	case "forever":
		return ForeverTiers(), nil
	}
	if len(text) > maxTiersText {
		return nil, tooLong("retention", ReasonTooLong, len(text), maxTiersText, "bytes")
	}
	var tiers Tiers
	number := 0
	for line := range strings.Lines(text) {
		number++
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		tier, err := parseTier(words)
		if err != nil {
			return nil, badInput("retention", ReasonBadTiers, "line %d: %v", number, err)
		}
		tiers = append(tiers, tier)
	}
	if err := tiers.Check(); err != nil {
		return nil, err
	}
	return tiers, nil
}

// parseTier reads the words of one line.
func parseTier(words []string) (Tier, error) {
	width, err := parseSeconds(words[0])
	if err != nil {
		return Tier{}, err
	}
	t := Tier{Width: Width(width)}
	seen := make(map[string]bool, 2)
	for _, w := range words[1:] {
		key, text, _ := strings.Cut(w, "=")
		keep := &t.KeepNode
		switch key {
		case "node":
		case "fleet":
			keep = &t.KeepFleet
		default:
			return Tier{}, fmt.Errorf("%q is neither node=AGE nor fleet=AGE", w)
		}
		if seen[key] {
			return Tier{}, fmt.Errorf("%s is given twice", key)
		}
		seen[key] = true
		if *keep, err = parseKeep(text); err != nil {
			return Tier{}, fmt.Errorf("%s: %w", key, err)
		}
	}
	if !seen["node"] || !seen["fleet"] {
		return Tier{}, fmt.Errorf("both node=AGE and fleet=AGE are needed")
	}
	return t, nil
}

func parseKeep(s string) (int64, error) {
	if s == "forever" {
		return 0, nil
	}
	return parseSeconds(s)
}

// parseSeconds reads a positive duration of whole seconds.
func parseSeconds(s string) (int64, error) {
	d, err := ParseDuration(s)
	switch {
	case err != nil:
		return 0, err
	case d <= 0 || d%time.Second != 0:
		return 0, fmt.Errorf("%q is not a positive number of whole seconds", s)
	}
	return int64(d / time.Second), nil
}

// String writes the tiers as ParseTiers reads them, one line each.
func (t Tiers) String() string {
	var b strings.Builder
	for _, tier := range t {
		fmt.Fprintf(&b, "%s node=%s fleet=%s\n", tier.Width, FormatKeep(tier.KeepNode), FormatKeep(tier.KeepFleet))
	}
	return b.String()
}

// FormatKeep writes a retention in seconds as ParseTiers reads it: "6h",
// "730d", "forever".
func FormatKeep(seconds int64) string {
	if seconds == 0 {
		return "forever"
	}
	return FormatDuration(time.Duration(seconds) * time.Second)
}

// Check refuses tiers that do not nest or whose retention shrinks. Errors are
// *InputErrors in the field "retention".
func (t Tiers) Check() error {
	switch {
	case len(t) == 0:
		return badInput("retention", ReasonEmpty, "at least one tier is needed")
	case len(t) > maxTiers:
		return tooLong("retention", ReasonTooMany, len(t), maxTiers, "tiers")
	}
	for i, tier := range t {
		if err := tier.check(); err != nil {
			return err
		}
		if i == 0 {
			continue
		}
		finer := t[i-1]
		switch {
		case tier.Width <= finer.Width || tier.Width%finer.Width != 0:
			return badTier(tier, "the width is no multiple of %s before it", finer.Width)
		case shorter(tier.KeepNode, finer.KeepNode):
			return badTier(tier, "node=%s is shorter than that of %s", FormatKeep(tier.KeepNode), finer.Width)
		case shorter(tier.KeepFleet, finer.KeepFleet):
			return badTier(tier, "fleet=%s is shorter than that of %s", FormatKeep(tier.KeepFleet), finer.Width)
		}
	}
	return nil
}

func (t Tier) check() error {
	switch {
	case t.Width <= 0 || int64(t.Width) > maxKeep:
		return badInput("retention", ReasonBadTiers, "a width of %d s is out of range", int64(t.Width))
	case t.KeepNode < 0 || t.KeepNode > maxKeep || t.KeepFleet < 0 || t.KeepFleet > maxKeep:
		return badTier(t, "a retention lies outside 0 to %s", FormatKeep(maxKeep))
	case shorter(t.KeepNode, int64(t.Width)):
		return badTier(t, "node=%s is shorter than one bucket", FormatKeep(t.KeepNode))
	case shorter(t.KeepFleet, t.KeepNode):
		return badTier(t, "fleet=%s is shorter than node=%s", FormatKeep(t.KeepFleet), FormatKeep(t.KeepNode))
	}
	return nil
}

func badTier(t Tier, format string, args ...any) *InputError {
	return badInput("retention", ReasonBadTiers, "tier %s: %s", t.Width, fmt.Sprintf(format, args...))
}

// shorter compares retentions, of which 0 is the longest.
func shorter(a, b int64) bool { return a != 0 && (b == 0 || a < b) }

// Base returns the finest width, in which values arrive.
func (t Tiers) Base() Width { return t[0].Width }

// Horizon returns the first time that the tier keeps for single nodes at now:
// buckets are dropped whole, once they end at or before now - KeepNode. It is
// MinTime when nothing is dropped.
func (t Tier) Horizon(now int64) int64 { return horizon(t.Width, t.KeepNode, now) }

// FleetHorizon is Horizon for the sketches of all nodes together.
func (t Tier) FleetHorizon(now int64) int64 { return horizon(t.Width, t.KeepFleet, now) }

func horizon(w Width, keep, now int64) int64 {
	if keep == 0 {
		return MinTime
	}
	return max(MinTime, w.Floor(now-keep))
}

// SealGrace is how long after its end a bucket is rolled up into the next tier.
// Larger rolls up later and has fewer late values to merge twice.
const SealGrace = 30 * time.Second

// Sealed returns for every tier up to when its buckets are rolled up at now: all
// that end SealGrace before. The base tier's is that of a bucket which takes no
// more values in time.
func (t Tiers) Sealed(now int64) []int64 {
	sealed := make([]int64, len(t))
	for i := range t {
		sealed[i] = max(MinTime, t[i].Width.Floor(now-int64(SealGrace/time.Second)))
	}
	return sealed
}

// Horizons returns for every tier from when on it has the sketches of single
// nodes, and those of all nodes together, at now. A tier drops nothing that the
// next one has not taken up, and only as much at a time as fills a bucket of the
// next one: so every bucket is in a tier whole or not at all, and what lies
// between two horizons is tiled by the coarser of the two tiers.
func (t Tiers) Horizons(now int64) (node, fleet []int64) {
	sealed := t.Sealed(now)
	node, fleet = make([]int64, len(t)), make([]int64, len(t))
	for i := range t {
		node[i], fleet[i] = t[i].Horizon(now), t[i].FleetHorizon(now)
		if i > 0 { // kept for less than the wait to be rolled up
			node[i], fleet[i] = min(node[i], node[i-1]), min(fleet[i], fleet[i-1])
		}
		if i+1 < len(t) {
			next := t[i+1].Width
			node[i] = max(MinTime, next.Floor(min(node[i], sealed[i+1])))
			fleet[i] = max(MinTime, next.Floor(min(fleet[i], sealed[i+1])))
		}
	}
	return node, fleet
}

// SameWidths reports whether two sets of tiers have the same widths.
func (t Tiers) SameWidths(o Tiers) bool {
	return slices.EqualFunc(t, o, func(a, b Tier) bool { return a.Width == b.Width })
}

// Landing returns the finest tier that at now still keeps a node's value
// measured at start. None does when the value is too old.
func (t Tiers) Landing(start, now int64) (Tier, bool) {
	for _, tier := range t {
		if start >= tier.Horizon(now) {
			return tier, true
		}
	}
	return Tier{}, false
}

// MaxPast returns the oldest start that Landing accepts at now: MinTime when
// some tier keeps nodes for ever.
func (t Tiers) MaxPast(now int64) int64 {
	oldest := MaxTime
	for _, tier := range t {
		oldest = min(oldest, tier.Horizon(now))
	}
	return oldest
}
