package client

import (
	"errors"
	"slices"
	"strings"
	"time"
)

// source is what an account ships from: a Recorder or a MedianTracker.
type source interface {
	// drain hands every value counted since the last drain to emit, by bucket.
	// start is that of the bucket that values were counted into.
	drain(start int64, emit emitFunc)

	// shut makes every later value a loss.
	shut()

	// count adds the values not yet drained to s.Values.
	count(s *Stats)
}

// account keeps one source's books: what it has counted, what has become of
// it, and when to ship next. All fields are guarded by Client.mu but the first
// three, which never change.
type account struct {
	client *Client
	source source
	every  time.Duration

	due       time.Time // next shipment
	held      []*delta  // drained, waiting for due
	heldBytes int64
	epochs    []*epoch // unsettled ones, oldest first; the last may be open
	losses    losses   // all of them
	fresh     losses   // those that no Flush has returned yet
	left      bool     // the source is closed: forget it once all is settled
}

// epoch is what was drained between two flushes. Deltas settle in any order,
// so a flush waits for the epochs before it, not for the account to be empty,
// which under steady load it may never be.
type epoch struct {
	open   int    // deltas not settled
	values uint64 // in them
	sealed bool   // no more will come
	done   chan struct{}
}

func (e *epoch) check() {
	if e.sealed && e.open == 0 {
		close(e.done)
	}
}

// current returns the epoch that deltas drained now belong to.
func (a *account) current() *epoch {
	if n := len(a.epochs); n > 0 && !a.epochs[n-1].sealed {
		return a.epochs[n-1]
	}
	e := &epoch{done: make(chan struct{})}
	a.epochs = append(a.epochs, e)
	return e
}

// seal ends the current epoch and returns all that are not settled.
func (a *account) seal() []*epoch {
	if n := len(a.epochs); n > 0 && !a.epochs[n-1].sealed {
		a.epochs[n-1].sealed = true
		a.epochs[n-1].check()
	}
	a.epochs = slices.DeleteFunc(a.epochs, func(e *epoch) bool { return e.sealed && e.open == 0 })
	return slices.Clone(a.epochs)
}

// lose books a loss in the client's statistics and in the account's. c.mu is
// held.
func (c *Client) lose(a *account, e RefusedError, d Dropped) {
	d.Reason = e.Reason
	switch e.Reason {
	case ReasonMemory, ReasonClosed, ReasonAge:
		c.stats.Dropped += d.Values
	default:
		c.stats.refuse(e.Reason, d.Values)
		c.stats.RefusedSketches += e.Sketches
	}
	e.Values = d.Values
	d.Err = &e
	c.tellOfDrop(d)
	if a != nil {
		a.losses.add(e)
		a.fresh.add(e)
	}
}

// loseValue books values that never got into a sketch.
func (a *account) loseValue(e RefusedError, metric, node string, n uint64) {
	a.client.mu.Lock()
	defer a.client.mu.Unlock()
	a.client.lose(a, e, Dropped{Metric: metric, Node: node, Values: n})
}

// err returns everything lost so far, nil when nothing was.
func (a *account) err() error {
	a.client.mu.Lock()
	defer a.client.mu.Unlock()
	return a.losses.err()
}

// losses sums up by reason and field; the texts are those of the first loss.
type losses []RefusedError

func (l *losses) add(e RefusedError) {
	i, found := slices.BinarySearchFunc(*l, e, func(x, y RefusedError) int {
		if c := strings.Compare(x.Reason, y.Reason); c != 0 {
			return c
		}
		return strings.Compare(x.Field, y.Field)
	})
	if !found {
		*l = slices.Insert(*l, i, e)
		return
	}
	(*l)[i].Values += e.Values
	(*l)[i].Sketches += e.Sketches
}

func (l losses) err() error {
	errs := make([]error, len(l))
	for i, e := range l {
		errs[i] = &e
	}
	return join(errs...)
}

// join is errors.Join that leaves a lone error as it is.
func join(errs ...error) error {
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	if len(errs) == 1 {
		return errs[0]
	}
	return errors.Join(errs...)
}

// tellOfDrop queues d for the logger and OnDrop. c.mu is held.
func (c *Client) tellOfDrop(d Dropped) {
	if c.reported {
		return // Close is over; the loss is in Stats and Err
	}
	if n := len(c.drops); n > 0 {
		last := &c.drops[n-1]
		same := last.Reason == d.Reason && last.Metric == d.Metric && last.Node == d.Node && last.Start.Equal(d.Start)
		if same || n >= maxDropReports {
			if !same {
				last.Metric, last.Node, last.Start = "", "", time.Time{}
			}
			last.Values += d.Values
			return
		}
	}
	c.drops = append(c.drops, d)
	if !c.dropping && c.life.Err() == nil {
		c.dropping = true
		c.work.Go(c.reportDrops)
	}
}

// maxDropReports bounds the losses that wait for OnDrop; what comes on top is
// told of as a sum.
const maxDropReports = 4096

// reportDrops hands the losses queued to the logger and OnDrop, outside any
// lock.
func (c *Client) reportDrops() {
	for {
		c.mu.Lock()
		drops := c.drops
		c.drops = nil
		if len(drops) == 0 {
			c.dropping = false
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		c.logDrops(drops)
		if c.options.OnDrop == nil {
			continue
		}
		for _, d := range drops {
			c.options.OnDrop(d)
		}
	}
}

// logDrops writes one line for each reason.
func (c *Client) logDrops(drops []Dropped) {
	sums := make(map[string]Dropped)
	for _, d := range drops {
		s, ok := sums[d.Reason]
		if !ok {
			s = d
			s.Values = 0
		}
		s.Values += d.Values
		sums[d.Reason] = s
	}
	for reason, s := range sums {
		c.log.Warn("values lost", "reason", reason, "values", s.Values,
			"first_metric", s.Metric, "first_node", s.Node, "error", s.Err)
	}
}
