package client

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/distributed-median-tracker/dmt/window"
	"github.com/distributed-median-tracker/dmt/window/sketch"
)

// dropTo is how far the queue is emptied once it is over its bound, so that a
// long outage does not pay for making room with every sketch.
const dropTo = 15.0 / 16

// coarser is how room is made: buckets that ended so long ago are merged into
// wider ones, line after line until it suffices. So what is old gets coarse
// before what is young does; the last lines spare nothing. The widths are those
// of the standard tiers, and nest.
var coarser = [...]struct {
	width window.Width
	ago   int64 // seconds
}{
	{60, 600}, {600, 2 * 3600}, {3600, 24 * 3600}, {86400, 7 * 86400},
	{60, 120}, {600, 3600}, {3600, 6 * 3600}, {86400, 2 * 86400},
	{60, 0}, {600, 0}, {3600, 0}, {86400, 0},
}

// limit is how many bytes of unsettled sketches there may be. c.mu is held.
func (c *Client) limit() int64 {
	if c.spool != nil && c.options.SpoolBytes > 0 {
		return min(c.options.SpoolBytes, c.options.MaxPendingBytes)
	}
	return c.options.MaxPendingBytes
}

// bound keeps what is unsettled under its limit. What waits for its hour is put
// on its way first; then the sketches of one bucket are merged; then the
// oldest buckets into ones of a minute, and when that is not enough of ten
// minutes, an hour, a day; and last the oldest that were never sent are
// dropped. c.mu is held.
func (c *Client) bound() {
	limit := c.limit()
	if c.queue.bytes <= limit {
		return
	}
	for a := range c.accounts {
		a.release()
	}
	c.mergeWithin(bucketSeconds, math.MaxInt64, 0)
	keep := int64(float64(limit) * dropTo)
	for _, step := range coarser {
		if c.queue.bytes <= limit {
			return
		}
		if values := c.mergeWithin(step.width, c.open-step.ago, keep); values > 0 {
			c.stats.Coarsened += values
			c.log.Warn("no room for more unsent sketches, the oldest are merged into coarser buckets",
				"width", step.width, "values", values)
		}
	}
	if c.queue.bytes <= limit {
		return
	}
	n := 0
	for ; n < len(c.queue.ready) && c.queue.bytes > keep; n++ {
		d := c.queue.ready[n]
		c.settle(d)
		c.lose(d.account, RefusedError{Reason: ReasonMemory, Sketches: 1,
			Message: "no room for more unsent sketches", Limit: fmt.Sprint(limit, " bytes")}, d.lost())
	}
	c.queue.ready = append([]*delta(nil), c.queue.ready[n:]...)
}

// mergeWithin merges the waiting deltas that one source has for a metric and
// node in the same cell of time of a width, oldest cells first, up to those that
// begin at a time or as long as more than keep bytes are unsettled. What is merged out of several buckets then
// begins where the cell does: that is a base bucket, too. It returns how many
// values have changed their bucket. c.mu is held.
func (c *Client) mergeWithin(width window.Width, until, keep int64) (moved uint64) {
	type key struct {
		account *account
		metric  window.Metric
		node    string
		cell    int64
	}
	old := slices.Clone(c.queue.ready)
	slices.SortStableFunc(old, func(a, b *delta) int { return cmp.Compare(width.Floor(a.start), width.Floor(b.start)) })
	first := make(map[key]*delta, len(old))
	gone := make(map[*delta]bool)
	for _, d := range old {
		k := key{d.account, d.metric, d.node, width.Floor(d.start)}
		if c.queue.bytes <= keep || k.cell > until {
			break
		}
		f := first[k]
		if f == nil {
			first[k] = d
			continue
		}
		alone := f.count
		if !c.mergeInto(f, d) {
			first[k] = d // full: begin another one
			continue
		}
		gone[d] = true
		if f.start != d.start {
			if f.start != k.cell {
				moved += alone
			}
			f.start = k.cell
		}
		if d.start != k.cell {
			moved += d.count
		}
	}
	c.queue.ready = slices.DeleteFunc(c.queue.ready, func(d *delta) bool { return gone[d] })
	return moved
}

// mergeInto adds d to f, if both are whole and the sum is not too much.
func (c *Client) mergeInto(f, d *delta) bool {
	if f.count+d.count > sketch.MaxCount {
		return false
	}
	var x, y sketch.Sketch
	if x.UnmarshalBinary(f.data) != nil || y.UnmarshalBinary(d.data) != nil {
		return false // cannot be: we encoded both; the cluster will say so
	}
	x.Merge(&y)
	data, _ := x.AppendBinary(nil)
	c.queue.bytes += int64(len(data)) - int64(len(f.data))
	f.data, f.count, f.precision = data, f.count+d.count, uint8(x.Precision())
	f.created = max(f.created, d.created) // or a merged one would be the sooner too old
	f.epoch.values += d.count
	c.keep(f)
	c.settle(d)
	return true
}
