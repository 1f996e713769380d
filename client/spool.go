package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/distributed-median-tracker/dmt/client/internal/record"
)

const (
	// spoolIdle is how long a settled batch may stay in the spool when nothing
	// else is to be written. Shorter writes more often; longer repeats more
	// batches after a kill, which the cluster then knows.
	spoolIdle = time.Second

	// spoolRetry bounds the wait before a spool that could not be written is
	// tried again; it begins at spoolRetryFirst and doubles.
	spoolRetryFirst = time.Second
	spoolRetry      = 30 * time.Second
)

// spooler follows what is unsent into the spool.
//
// A delta is in the spool from the moment it is drained until it is settled or
// becomes part of a batch; a batch from before it is first sent until it is
// settled. One commit moves deltas into their batch. So after a kill the spool
// holds every value once: in a delta that nobody has seen, or in a batch that
// goes out again under its name.
//
// Whatever is in the spool is in memory, too. When the file fails, a new one is
// written from there.
type spooler struct {
	dir   string
	store record.Store
	wake  chan struct{}

	writing sync.Mutex // held during a commit

	// Guarded by Client.mu.
	nextID  uint64
	deltas  map[*delta]struct{} // that belong into the file as such
	batches map[*batch]struct{}
	touched map[*delta]struct{} // since the last commit
	changed map[*batch]struct{}
	tried   chan struct{} // closed after each commit
	broken  error         // of the last one
	retry   time.Duration
}

// openSpool makes the client keep what is unsent in dir, and takes over what an
// earlier process has left there.
func (c *Client) openSpool(dir string) error {
	c.opening.Lock()
	defer c.opening.Unlock()
	c.mu.Lock()
	s, closed := c.spool, c.closed
	c.mu.Unlock()
	switch {
	case closed:
		return ErrClosed
	case s != nil && s.dir == dir:
		return nil
	case s != nil:
		return fmt.Errorf("client: spools to %s already: a client has one spool, not %s besides", s.dir, dir)
	}
	store, found, err := record.Open(dir)
	if err != nil {
		return err
	}
	s = &spooler{
		dir: dir, store: store, wake: make(chan struct{}, 1), nextID: 1, tried: make(chan struct{}),
		deltas: make(map[*delta]struct{}), batches: make(map[*batch]struct{}),
		touched: make(map[*delta]struct{}), changed: make(map[*batch]struct{}),
	}
	if len(found.Records) > 0 || len(found.Damage) > 0 {
		c.enrol(&c.inherited)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return errors.Join(ErrClosed, store.Close())
	}
	c.spool = s
	c.inherit(found)
	for d := range c.unnumbered() {
		c.keep(d)
	}
	c.work.Go(c.runSpool)
	c.expire(time.Now())
	c.bound()
	c.pump()
	return nil
}

// unnumbered yields everything that no batch holds. c.mu is held.
func (c *Client) unnumbered() func(yield func(*delta) bool) {
	return func(yield func(*delta) bool) {
		for _, d := range c.queue.ready {
			if !yield(d) {
				return
			}
		}
		for a := range c.accounts {
			for _, d := range a.held {
				if !yield(d) {
					return
				}
			}
		}
	}
}

// keep puts a delta, as it is now, into the spool. c.mu is held.
func (c *Client) keep(d *delta) {
	s := c.spool
	if s == nil {
		return
	}
	if d.id == 0 {
		d.id = s.nextID
		s.nextID++
	}
	s.deltas[d] = struct{}{}
	s.touched[d] = struct{}{}
	s.poke()
}

// forget takes a delta out of the spool. c.mu is held.
func (c *Client) forget(d *delta) {
	if s := c.spool; s != nil {
		delete(s.deltas, d)
		s.touched[d] = struct{}{}
	}
}

// keepBatch puts a batch into the spool in place of its deltas. c.mu is held.
func (c *Client) keepBatch(b *batch) {
	s := c.spool
	if s == nil {
		return
	}
	for _, d := range b.deltas {
		c.forget(d)
	}
	b.saved = false
	s.batches[b] = struct{}{}
	s.changed[b] = struct{}{}
	s.poke()
}

// forgetBatch takes a batch out of the spool. c.mu is held.
func (c *Client) forgetBatch(b *batch) {
	if s := c.spool; s != nil {
		delete(s.batches, b)
		s.changed[b] = struct{}{}
	}
}

func (s *spooler) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// onDisk waits until a batch may be sent: until the spool holds it. It returns
// false when the client ends first.
func (c *Client) onDisk(b *batch) bool {
	for {
		c.mu.Lock()
		s := c.spool
		if s == nil || b.saved || s.broken != nil && c.shed(b) {
			c.mu.Unlock()
			return true
		}
		if _, ok := s.batches[b]; !ok { // numbered before there was a spool
			c.mu.Unlock()
			return true
		}
		tried := s.tried
		c.mu.Unlock()
		select {
		case <-tried:
		case <-c.life.Done():
			return false
		}
	}
}

// shed makes a batch fit to be sent although the spool cannot be written: what
// the file may hold as a delta leaves it, since that could not be told after a
// kill. The rest is in memory alone, and is lost by one, but not doubled. A
// batch that is to be voided has to wait. c.mu is held.
func (c *Client) shed(b *batch) bool {
	if b.void {
		return false
	}
	var rest []*delta
	var entries []record.Entry
	var kept []*delta
	for i, d := range b.deltas {
		if d.stored {
			kept = append(kept, d)
			continue
		}
		rest, entries = append(rest, d), append(entries, b.entries[i])
	}
	b.deltas, b.entries = rest, entries
	c.forgetBatch(b)
	for _, d := range kept {
		c.keep(d)
	}
	c.queue.ready = append(kept, c.queue.ready...)
	return true
}

// runSpool is the goroutine that writes.
func (c *Client) runSpool() {
	s := c.spool
	timer := time.NewTimer(spoolIdle)
	defer timer.Stop()
	for {
		wake := s.wake
		wait := spoolIdle
		c.mu.Lock()
		if s.broken != nil {
			wake, wait = nil, s.retry // a new try for every sketch would not help
		}
		c.mu.Unlock()
		timer.Reset(wait)
		select {
		case <-c.life.Done():
			return // Close writes the end
		case <-wake:
		case <-timer.C:
		}
		_ = c.commit() // it logs what goes wrong, and the next round tries again
	}
}

// commit brings the file up to date. One at a time does.
func (c *Client) commit() error {
	s := c.spool
	s.writing.Lock()
	defer s.writing.Unlock()
	c.mu.Lock()
	j := s.begin()
	c.mu.Unlock()
	if j.empty() {
		return nil
	}
	var err error
	swapped := true
	if j.all {
		swapped, err = s.store.Rewrite(j.put)
	} else {
		err = s.store.Commit(j.put, j.remove)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	was := s.broken
	s.finish(j, swapped, err)
	switch {
	case err != nil && was == nil:
		c.log.Error("spool cannot be written, what is new is in memory only", "dir", s.dir, "error", err)
	case err == nil && was != nil:
		c.log.Info("spool is written again", "dir", s.dir)
		c.pump()
	}
	return err
}

// closeSpool writes the end and closes the file. It returns true when all that
// is unsent is in it.
func (c *Client) closeSpool() (safe bool, err error) {
	if c.spool == nil {
		return false, nil
	}
	err = c.commit()
	safe = err == nil
	return safe, join(err, c.spool.store.Close())
}

// spoolError says why the spool cannot be written, nil when it can.
func (c *Client) spoolError() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.spool == nil {
		return nil
	}
	return c.spool.broken
}

// Sync returns nil when everything added before the call will survive the end
// of the process: it is counted by the cluster, or in the spool on disk.
// Without it that holds for each bucket from a moment after its end. Without a
// spool it returns ErrNoSpool.
func (c *Client) Sync(ctx context.Context) error {
	c.mu.Lock()
	s, closed, accounts, open := c.spool, c.closed, c.listAccounts(), c.open
	c.mu.Unlock()
	switch {
	case closed:
		return ErrClosed
	case s == nil:
		return ErrNoSpool
	}
	c.collect.Lock()
	for _, a := range accounts {
		c.drain(a, open)
	}
	c.collect.Unlock()
	done := make(chan error, 1)
	c.mu.Lock()
	if c.life.Err() != nil {
		c.mu.Unlock()
		return ErrClosed
	}
	c.work.Go(func() { done <- c.commit() }) // one that is under way may have begun too early
	c.mu.Unlock()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
