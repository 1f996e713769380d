package server

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// leaderPoll is how often a member looks whether the leader has changed. It
// bounds what a held request waits beyond the election itself.
const leaderPoll = 5 * time.Millisecond

// leaderView is who leads, as long as that is so.
type leaderView struct {
	id, address string

	// changed ends when another view has taken the place of this one.
	changed context.Context
	expire  context.CancelFunc
}

// leaders tells requests that wait for a leader, or for an answer from one,
// when the leader changes.
type leaders struct {
	current atomic.Pointer[leaderView]
	stop    context.CancelFunc
	done    sync.WaitGroup
}

// watchLeaders starts to follow ask, which says who leads now.
func watchLeaders(ask func() (id, address string)) *leaders {
	ctx, stop := context.WithCancel(context.Background())
	l := &leaders{stop: stop}
	l.set(ask())
	l.done.Go(func() {
		tick := time.NewTicker(leaderPoll)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			id, address := ask()
			if v := l.view(); id != v.id || address != v.address {
				l.set(id, address)
			}
		}
	})
	return l
}

func (l *leaders) view() *leaderView { return l.current.Load() }

func (l *leaders) set(id, address string) {
	v := &leaderView{id: id, address: address}
	v.changed, v.expire = context.WithCancel(context.Background())
	if old := l.current.Swap(v); old != nil {
		old.expire()
	}
}

// close wakes everybody who waits and stops looking.
func (l *leaders) close() {
	l.stop()
	l.done.Wait()
	l.view().expire()
}
