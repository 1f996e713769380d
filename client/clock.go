package client

import (
	"context"
	"fmt"
	"time"

	"github.com/distributed-median-tracker/dmt/window"
)

// enrol opens the books of a source, or returns false when the client is
// closed. The first one starts the clock.
func (c *Client) enrol(a *account) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	now := time.Now()
	if !c.ticking {
		c.ticking = true
		c.open = bucketOf(now)
		c.openNow.Store(c.open)
		c.jitter = c.random()
		c.work.Go(c.tick)
	}
	a.due = c.nextDue(a.every, now)
	c.accounts[a] = struct{}{}
	select {
	case c.kick <- struct{}{}:
	default:
	}
	return true
}

// leave forgets a closed source, as soon as all it has counted is settled.
func (c *Client) leave(a *account) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a.left = true
	c.sweep()
}

// sweep drops the books that are closed. c.mu is held.
func (c *Client) sweep() {
	for a := range c.accounts {
		if a.left && len(a.held) == 0 && len(a.seal()) == 0 {
			delete(c.accounts, a)
		}
	}
}

// listAccounts is called with c.mu held.
func (c *Client) listAccounts() []*account {
	list := make([]*account, 0, len(c.accounts))
	for a := range c.accounts {
		list = append(list, a)
	}
	return list
}

func bucketOf(t time.Time) int64 { return window.Width(bucketSeconds).Floor(t.Unix()) }

// nextDue is the end of the interval that now lies in, and a little more: a
// fleet whose clocks agree would otherwise arrive as one. c.mu is held.
func (c *Client) nextDue(every time.Duration, now time.Time) time.Time {
	into := time.Duration(now.UnixNano() % int64(every))
	if into < 0 {
		into += every
	}
	return now.Add(every - into + time.Duration(c.jitter*jitterShare*float64(every)))
}

// tick is the one goroutine that opens buckets and ships them.
func (c *Client) tick() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		timer.Reset(c.round())
		select {
		case <-c.life.Done():
			return
		case <-timer.C:
		case <-c.kick:
		}
	}
}

// round does what is due and returns how long nothing will be.
func (c *Client) round() time.Duration {
	now := time.Now()
	c.rotate(bucketOf(now))

	c.collect.Lock()
	c.mu.Lock()
	open := c.open
	var due []*account
	for a := range c.accounts {
		if !a.due.After(now) {
			due = append(due, a)
		}
	}
	c.mu.Unlock()
	for _, a := range due {
		if a.every < bucketSeconds*time.Second {
			c.drain(a, open)
		} else if r, ok := a.source.(*Recorder); ok {
			// What Locals have handed over meanwhile joins its bucket, which
			// has waited here for its jitter.
			out := newDeltas(a)
			out.late = true
			r.drainLate(out.emit)
			c.enqueue(out)
		}
	}
	c.collect.Unlock()

	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range due {
		a.release()
		a.due = c.nextDue(a.every, now)
	}
	c.expire(now)
	c.pump()
	c.sweep()
	next := time.Unix(open+bucketSeconds, 0)
	for a := range c.accounts {
		if a.due.Before(next) {
			next = a.due
		}
	}
	return max(0, next.Sub(now))
}

// rotate opens the bucket that starts at start, and collects the one before.
func (c *Client) rotate(start int64) {
	c.collect.Lock()
	defer c.collect.Unlock()
	c.mu.Lock()
	old := c.open
	c.open = start
	c.openNow.Store(start)
	accounts := c.listAccounts()
	if old != start {
		c.jitter = c.random()
	}
	c.mu.Unlock()
	if old == start {
		return
	}
	for _, a := range accounts {
		c.drain(a, old)
	}
}

// drain queues what a source has counted into the bucket that starts at start,
// and into explicit ones. c.collect is held.
func (c *Client) drain(a *account, start int64) {
	out := newDeltas(a)
	a.source.drain(start, out.emit)
	c.enqueue(out)
}

// flush ships what the accounts hold, waits until all of it is settled, and
// reports what was lost since the last flush.
func (c *Client) flush(ctx context.Context, accounts []*account) error {
	unsent := c.settled(ctx, accounts)
	lost := c.takeLosses(accounts)
	if unsent == nil { // a nil *UnsentError is no nil error
		return lost
	}
	return join(unsent, lost)
}

// settled ships what the accounts hold and waits until all of it is settled.
func (c *Client) settled(ctx context.Context, accounts []*account) *UnsentError {
	c.collect.Lock()
	c.mu.Lock()
	open := c.open
	c.mu.Unlock()
	for _, a := range accounts {
		c.drain(a, open)
	}
	c.collect.Unlock()

	c.mu.Lock()
	var waits []*epoch
	for _, a := range accounts {
		a.release()
		waits = append(waits, a.seal()...)
	}
	c.pump()
	if len(waits) > 0 {
		c.hurryUp()
	}
	c.mu.Unlock()

	for _, e := range waits {
		select {
		case <-e.done:
			continue
		default: // what is done counts, also when ctx has ended
		}
		select {
		case <-e.done:
		case <-ctx.Done():
			return c.unsent(accounts, context.Cause(ctx))
		case <-c.life.Done():
			return c.unsent(accounts, ErrClosed)
		}
	}
	return nil
}

// takeLosses returns the accounts' losses since the last call.
func (c *Client) takeLosses(accounts []*account) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all losses
	for _, a := range accounts {
		for _, e := range a.fresh {
			all.add(e)
		}
		a.fresh = nil
	}
	c.sweep()
	return all.err()
}

// unsent sums up what the accounts still wait for.
func (c *Client) unsent(accounts []*account, cause error) *UnsentError {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := &UnsentError{Batches: uint64(c.inFlight), Err: cause}
	for _, a := range accounts {
		for _, p := range a.epochs {
			e.Values += p.values
		}
	}
	if c.failure != nil {
		e.Err = fmt.Errorf("%w; last try: %w", cause, c.failure)
	}
	return e
}
