package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"

	"github.com/distributed-median-tracker/dmt/internal/api"
)

const (
	// Waits between tries are random, between nothing and a bound that doubles
	// from backoffFirst to backoffMost: a fleet that lost its cluster at one
	// moment comes back spread over time.
	backoffFirst = 100 * time.Millisecond
	backoffMost  = 10 * time.Second

	// backoffAsked bounds the wait of a call that somebody waits for.
	backoffAsked = time.Second

	// hurried bounds a wait that Flush, or a success elsewhere, cuts short.
	hurried = 250 * time.Millisecond
)

// errEnded says that the context ended before the fate was known.
var errEnded = errors.New("client: ended")

// policy says how a call is repeated. The zero value repeats for ever.
type policy struct {
	asked    bool  // somebody waits: short waits, longer tries after a time-out
	stubborn bool  // a refusal is tried again, too
	doubt    *bool // set once a try may have worked that was not answered
}

// attempt calls f, at one member after the other, until it is answered, refused
// for good, or ctx ends. The error then holds errEnded and that of the last try.
func attempt[R any](ctx context.Context, c *Client, p policy, f func(context.Context, *member) (R, error)) (R, error) {
	var zero R
	strange, slow, redirects := 0, 0, 0
	for try := 0; ; try++ {
		if ctx.Err() != nil {
			return zero, fmt.Errorf("%w: %w", errEnded, context.Cause(ctx))
		}
		m := c.members.pick()
		timeout := c.options.Timeout
		if p.asked {
			timeout <<= min(slow, 3)
		}
		within, cancel := context.WithTimeout(ctx, timeout)
		res, err := f(within, m)
		cancel()
		if err == nil {
			c.succeeded()
			return res, nil
		}
		if ctx.Err() != nil {
			c.doubt(p, judge(err))
			return zero, fmt.Errorf("%w: %w; last try: %w", errEnded, context.Cause(ctx), err)
		}

		j := judge(err)
		// One member may be of another cluster, of another version, or hold a
		// damaged record. When all say so, it is the answer.
		ownFault := j.reason == api.ReasonClusterID || p.asked && ofOneMember(err)
		if ownFault {
			strange++
		}
		if (ownFault && strange >= len(c.members.list) || !ownFault && j.fate == refused) && !p.stubborn {
			return zero, err
		}
		c.doubt(p, j)
		c.failed(err)
		if connect.CodeOf(err) == connect.CodeDeadlineExceeded {
			slow++
		}
		if j.leader != "" && c.members.follow(m, j.leader) {
			if redirects++; redirects <= 2 {
				continue // at once: nobody is overloaded or away
			}
			redirects = 0
		} else if connect.CodeOf(err) != connect.CodeResourceExhausted {
			c.members.failed(m)
		}
		c.pause(ctx, p, try, j.wait)
	}
}

// ofOneMember says that another member may well answer better.
func ofOneMember(err error) bool {
	switch connect.CodeOf(err) {
	case connect.CodeUnimplemented, connect.CodeInternal, connect.CodeDataLoss,
		connect.CodeUnauthenticated, connect.CodePermissionDenied:
		return true
	}
	return false
}

func (c *Client) doubt(p policy, j judgement) {
	if p.doubt != nil && j.fate == again {
		*p.doubt = true
	}
}

// pause waits before try+1, at least as long as the cluster asked for.
func (c *Client) pause(ctx context.Context, p policy, try int, least time.Duration) {
	most := backoffMost
	if p.asked {
		most = backoffAsked
	}
	bound := min(most, backoffFirst<<min(try, 20))
	timer := time.NewTimer(least + time.Duration(c.random()*float64(bound)))
	defer timer.Stop()

	c.mu.Lock()
	hurry := c.hurry
	c.mu.Unlock()
	if least > 0 {
		hurry = nil // what the cluster asks for is not cut short
	}
	select {
	case <-timer.C:
		return
	case <-ctx.Done():
		return
	case <-hurry:
	}
	short := time.NewTimer(time.Duration(c.random() * float64(hurried)))
	defer short.Stop()
	select {
	case <-timer.C:
	case <-short.C:
	case <-ctx.Done():
	}
}

// hurryUp cuts the waits between tries short. c.mu is held.
func (c *Client) hurryUp() {
	close(c.hurry)
	c.hurry = make(chan struct{})
}

// failed keeps the error of a try for those who ask why nothing moves.
func (c *Client) failed(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failure == nil {
		c.log.Warn("cluster does not answer, trying again", "error", err)
	}
	c.failure = err
	c.stats.Retries++
}

func (c *Client) succeeded() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failure != nil {
		c.failure = nil
		c.log.Info("cluster answers again")
		c.hurryUp()
	}
}
