package raftfsm

import (
	"context"
	"math/rand/v2"
	"reflect"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/distributed-median-tracker/dmt/storage"
)

// crashRound kills all members under load, some right after a snapshot, and
// starts them again.
func crashRound(c *testCluster, l *load, rnd *rand.Rand) {
	c.t.Helper()
	l.start(4)
	l.more((100 + rnd.Uint64N(200)) * uint64(l.buckets))
	for _, m := range c.members {
		if rnd.IntN(2) == 0 {
			snapshot(c.t, m)
		}
	}
	var dying sync.WaitGroup // all at once, all of them under load
	for _, m := range c.members {
		flush := rnd.IntN(2) == 0
		dying.Go(func() {
			if flush { // entries that are applied meanwhile are the ones at stake
				if err := m.running().Store().Flush(context.Background()); err != nil {
					c.t.Error(err)
				}
			}
			m.kill()
		})
	}
	dying.Wait()
	for _, i := range rnd.Perm(len(c.members)) {
		c.members[i].start()
	}
	c.ready()
	l.end()
}

func crashCluster(t *testing.T, tune func(*Options)) (*testCluster, *rand.Rand) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	c := newCluster(t, 3, func(o *Options) {
		o.TrailingLogs = 1
		o.Storage.FlushEvery = 30 * time.Millisecond
		tune(o)
	})
	c.startAll()
	return c, rand.New(rand.NewPCG(seed, 1))
}

// After every restart each member holds every acknowledged batch once. What was
// not acknowledged was sent again under its name, so that it is counted once too.
func TestCrash_AllMembersUnderLoad(t *testing.T) {
	t.Parallel()
	c, rnd := crashCluster(t, func(*Options) {})
	l := &load{c: c, buckets: 60} // rows make a flush take long enough to be overtaken
	for range 10 {
		crashRound(c, l, rnd)
		c.equal(l.acked)
	}
}

// The test above must find the bug that cost data once: a flush that saves the
// producer table as it is, not as it was at the flushed index. After a crash
// the log is replayed from that index, and its batches pass for duplicates.
func TestCrash_FindsTheProducerTableOfTheLiveHead(t *testing.T) {
	t.Parallel()
	c, rnd := crashCluster(t, func(o *Options) {
		o.opened = func(db *storage.DB) {
			field := reflect.ValueOf(db).Elem().FieldByName("saveLive")
			if !field.IsValid() {
				t.Error("storage has no hook that plants the bug any more")
				return
			}
			*(*bool)(unsafe.Pointer(field.UnsafeAddr())) = true
		}
	})
	l := &load{c: c, buckets: 60} // rows make a flush take long enough to be overtaken
	for range 20 {
		crashRound(c, l, rnd)
		if err := until(t.Context(), 2*time.Second, func() string { return c.differs(l.acked) }); err != nil {
			t.Logf("found: %v", err)
			return
		}
	}
	t.Error("20 rounds with the bug planted found nothing")
}
