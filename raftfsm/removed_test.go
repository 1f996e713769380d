package raftfsm

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fatals keeps what made each member stop.
type fatals struct {
	mu  sync.Mutex // guards err
	err map[string]error
}

func (f *fatals) note(o *Options) {
	id := o.ID
	o.OnFatal = func(err error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.err[id] = err
	}
}

func (f *fatals) of(id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err[id]
}

func (c *testCluster) remove(m *testMember) {
	c.t.Helper()
	eventually(c.t, 20*time.Second, func() string {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		err := c.leader().running().Remove(ctx, m.id)
		if err != nil && !errors.Is(err, ErrUnknownMember) { // an earlier try may have done it
			return err.Error()
		}
		return ""
	})
}

// A removed member stops with ErrRemoved, when it is started again too. Nobody
// else does, and a member that is merely cut off does not.
func TestRemoved_MemberStops(t *testing.T) {
	t.Parallel()
	for _, who := range []string{"follower", "leader"} {
		synctest.Test(t, func(t *testing.T) {
			f := fatals{err: make(map[string]error)}
			c := newInmemCluster(t, 3, f.note)
			c.startAll()
			c.ingest(testBatch(t, 1, 1, "n", 1))
			cutOff := c.followers()[0]
			c.partition(cutOff)
			time.Sleep(2 * time.Minute)
			c.heal()
			for _, m := range c.members {
				if err := f.of(m.id); err != nil {
					t.Fatalf("member %s stops after a partition: %v", m.id, err)
				}
			}
			gone := c.followers()[1]
			if who == "leader" {
				gone = c.leader()
			}
			c.remove(gone)
			stops := func(when string) {
				eventually(t, 30*time.Second, func() string {
					if err := f.of(gone.id); !errors.Is(err, ErrRemoved) {
						return when + ": a removed " + who + " runs on"
					}
					return ""
				})
			}
			stops("after the removal")
			if a := gone.running().Status().Alarms; !slices.Contains(a, "removed") {
				t.Errorf("alarms of the removed member: %v", a)
			}
			gone.kill()
			f.mu.Lock()
			clear(f.err)
			f.mu.Unlock()
			gone.start()
			stops("after a restart")
			c.ingest(testBatch(t, 1, 2, "n", 1))
			for _, m := range c.members {
				if err := f.of(m.id); m != gone && err != nil {
					t.Errorf("member %s stops: %v", m.id, err)
				}
			}
		})
	}
}

// Without a quorum nobody can know, so that the member goes on.
func TestRemoved_NotWithoutAQuorum(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := fatals{err: make(map[string]error)}
		c := newInmemCluster(t, 3, f.note)
		c.startAll()
		gone := c.followers()[0]
		c.remove(gone)
		for _, m := range c.members {
			if m != gone {
				m.kill()
			}
		}
		time.Sleep(time.Minute)
		if err := f.of(gone.id); err != nil {
			t.Errorf("a member that nobody answers stops: %v", err)
		}
	})
}
