package client

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"connectrpc.com/connect"

	"github.com/distributed-median-tracker/dmt/internal/api"
	dmtv1 "github.com/distributed-median-tracker/dmt/internal/api/dmt/v1"
)

// accepted books a batch that the cluster has counted, and the entries in it
// that were refused one by one.
func (c *Client) accepted(b *batch, res *dmtv1.BatchResult) {
	refusals := make(map[int]*dmtv1.Refusal, len(res.GetRefused()))
	for _, r := range res.GetRefused() {
		if int(r.GetEntry()) < len(b.deltas) {
			refusals[int(r.GetEntry())] = r
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	b.producer.settle(b.seq)
	c.forgetBatch(b)
	c.stats.Batches++
	// Of a batch counted by an earlier try, or with many refusals, the cluster
	// knows only how many there were.
	if hidden := res.GetRefusedCount() - min(res.GetRefusedCount(), uint64(len(refusals))); hidden > 0 {
		c.loseSome(b, hidden)
	}
	for i, d := range b.deltas {
		c.settle(d)
		if r := refusals[i]; r != nil {
			c.lose(d.account, RefusedError{Reason: r.GetReason(), Field: "entry", Message: r.GetMessage(), Sketches: 1}, d.lost())
			continue
		}
		c.stats.Sketches++
		c.stats.SketchBytes += uint64(len(b.entries[i].Sketch))
		c.stats.AckedValues += d.count
	}
}

// loseSome tells every account in a batch that some of its sketches were
// refused, when nobody knows which. c.mu is held.
func (c *Client) loseSome(b *batch, n uint64) {
	told := make(map[*account]bool)
	for _, d := range b.deltas {
		if told[d.account] {
			continue
		}
		told[d.account] = true
		e := RefusedError{Reason: "refused", Field: "entry", Sketches: n,
			Message: fmt.Sprintf("%d of %d sketches of a batch, which ones is not known", n, len(b.deltas))}
		d.account.losses.add(e)
		d.account.fresh.add(e)
	}
	c.stats.RefusedSketches += n
	c.log.Warn("sketches refused by the cluster", "sketches", n, "batch", b.seq)
}

// refusedWhole deals with a batch that can never be accepted as it is. The hole
// that it leaves in the numbers is filled by an empty batch, whose answer also
// tells for certain whether an earlier try was counted after all.
func (c *Client) refusedWhole(b *batch, cause error) {
	j := judge(cause)
	switch j.reason {
	case api.ReasonWindow, api.ReasonTooOldToDeduplicate, api.ReasonClusterID:
		// The cluster does not know this life of ours.
		c.rebirth(b, j, cause)
		return
	case api.ReasonConflict:
		c.giveUp(b, b.deltas, j, cause)
		return
	}
	c.mu.Lock()
	b.void = true
	if c.spool != nil {
		if _, ok := c.spool.batches[b]; ok {
			c.keepBatch(b)
		}
	}
	c.mu.Unlock()
	if !c.onDisk(b) {
		c.back(b)
		return
	}
	c.settleVoid(b, j, cause)
}

// settleVoid sends the empty batch. Without a cause the refusal was an earlier
// process's: what was not counted is sent once more, to hear it again.
func (c *Client) settleVoid(b *batch, j judgement, cause error) {
	_, err := c.send(b, b.empty())
	switch {
	case err == nil && cause == nil:
		c.giveUp(b, nil, j, nil)
	case err == nil:
		c.sortOut(b, j, cause)
	case errors.Is(err, errEnded):
		c.back(b)
	case judge(err).reason == api.ReasonConflict:
		// Counted by a try whose answer was lost.
		c.accepted(b, &dmtv1.BatchResult{Status: dmtv1.BatchResult_DUPLICATE})
	default:
		c.rebirth(b, judge(err), join(cause, err))
	}
}

// rebirth starts a new life. The batch goes with it, unless some try of it may
// have been counted: that would count it twice.
func (c *Client) rebirth(b *batch, j judgement, cause error) {
	if b.doubt || len(b.deltas) > 0 && b.deltas[0].sends >= maxSends {
		c.giveUp(b, b.deltas, j, cause)
	} else {
		c.giveUp(b, nil, j, nil)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.producer == b.producer {
		c.producer = newProducer()
		c.cluster = cluster{}
		c.log.Warn("producer starts anew", "error", cause)
	}
}

// sortOut is called once the number of a refused batch is settled and nothing
// in it was counted: what was not to blame is sent again.
func (c *Client) sortOut(b *batch, j judgement, cause error) {
	guilty := b.deltas
	if len(b.deltas) > 0 && b.deltas[0].sends < maxSends {
		if i, ok := entryIn(j.field); ok && i < len(b.deltas) {
			guilty = b.deltas[i : i+1]
		} else if j.tooMuch(cause) && len(b.deltas) > 1 {
			guilty = nil
			c.mu.Lock()
			c.queue.limit = max(batchBytes/maxSplit, b.bytes()/2)
			c.mu.Unlock()
		}
	}
	c.giveUp(b, guilty, j, cause)
}

// maxSplit is how much smaller batches get where a cluster, or something on
// the way to it, takes less than ours.
const maxSplit = 4096

// tooMuch reports that the batch would have to be smaller.
func (j judgement) tooMuch(err error) bool {
	return j.reason == api.ReasonTooLarge || j.reason == api.ReasonTooManyEntries ||
		j.reason == "" && connect.CodeOf(err) == connect.CodeResourceExhausted
}

func (b *batch) bytes() (n int64) {
	for _, d := range b.deltas {
		n += d.wire()
	}
	return n
}

// entryIn reads the position out of a field such as batches[0].entries[17].sketch.
func entryIn(field string) (int, bool) {
	_, rest, ok := strings.Cut(field, "entries[")
	if !ok {
		return 0, false
	}
	digits, _, ok := strings.Cut(rest, "]")
	i, err := strconv.Atoi(digits)
	return i, ok && err == nil && i >= 0
}

// giveUp books the guilty deltas of a batch as refused for a cause, and queues
// the others again, in front: to be sent under another number.
func (c *Client) giveUp(b *batch, guilty []*delta, j judgement, cause error) {
	message := ""
	if cause != nil {
		message = cause.Error()
	}
	if b.doubt {
		message += "; an earlier try may have been counted"
	}
	bad := make(map[*delta]bool, len(guilty))
	for _, d := range guilty {
		bad[d] = true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	b.producer.settle(b.seq)
	c.forgetBatch(b)
	var again []*delta
	for _, d := range b.deltas {
		if !bad[d] {
			c.keep(d)
			again = append(again, d)
			continue
		}
		c.settle(d)
		c.lose(d.account, RefusedError{Reason: j.reason, Field: j.field, Limit: j.limit, Message: message, Sketches: 1}, d.lost())
	}
	c.queue.ready = append(again, c.queue.ready...)
}

// back puts what a batch holds into the queue again, in front, when the client
// ends: for abandon to count. In the spool it stays a batch.
func (c *Client) back(b *batch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queue.ready = append(b.deltas, c.queue.ready...)
}

// abandon books everything that is left when the client ends, and returns how
// much that was. What is safe in the spool is no loss.
func (c *Client) abandon(safe bool) (values, batches uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for a := range c.accounts {
		a.release()
	}
	batches = c.producer.next - 1 - c.producer.low - uint64(len(c.producer.settled)) + uint64(len(c.queue.replays))
	for _, b := range c.queue.replays {
		c.queue.ready = append(c.queue.ready, b.deltas...)
	}
	c.queue.replays = nil
	for _, d := range c.queue.ready {
		values += d.count
		if safe {
			continue
		}
		c.settle(d)
		message := "not sent before the client was closed"
		if d.sends > 0 {
			message = "not acknowledged before the client was closed: may have been counted"
		}
		c.lose(d.account, RefusedError{Reason: ReasonClosed, Message: message, Sketches: 1}, d.lost())
	}
	c.queue.ready = nil
	return values, batches
}
