package raftfsm

import (
	"fmt"
	"sync"
	"time"
)

// load is producers that send numbered batches all the time, each batch until
// it is settled, and count what was acknowledged.
type load struct {
	c       *testCluster
	buckets int // of a batch, 0 is one
	stop    chan struct{}
	wg      sync.WaitGroup
	seqs    [8]uint64 // of producers, one goroutine each

	mu    sync.Mutex // guards acked
	acked map[string]uint64
}

func (l *load) start(producers int) {
	l.stop = make(chan struct{})
	for p := range producers {
		l.wg.Go(func() { l.produce(p) })
	}
}

func (l *load) produce(p int) {
	node := string(rune('p' + p))
	for {
		select {
		case <-l.stop:
			return
		default:
		}
		l.seqs[p]++
		b := testBatch(l.c.t, byte(p+1), l.seqs[p], node, 2)
		for i := 1; i < l.buckets; i++ {
			d := b.Deltas[0]
			d.Start += 10 * (int64(l.seqs[p])*7 + int64(i)) % 5000
			b.Deltas = append(b.Deltas, d)
		}
		if _, err := l.c.send(b); err != nil {
			l.c.t.Error(err)
			return
		}
		l.mu.Lock()
		if l.acked == nil {
			l.acked = make(map[string]uint64)
		}
		l.acked[node] += 2 * uint64(len(b.Deltas))
		l.mu.Unlock()
	}
}

func (l *load) end() { close(l.stop); l.wg.Wait() }

func (l *load) total() (sum uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range l.acked {
		sum += n
	}
	return sum
}

// more waits until n more values are acknowledged.
func (l *load) more(n uint64) {
	l.c.t.Helper()
	goal := l.total() + n
	eventually(l.c.t, 20*time.Second, func() string {
		if total := l.total(); total < goal {
			return fmt.Sprintf("%d values are acknowledged, want %d", total, goal)
		}
		return ""
	})
}
