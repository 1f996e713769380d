package raftfsm

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/distributed-median-tracker/dmt/storage"
	"github.com/distributed-median-tracker/dmt/window"
	"github.com/distributed-median-tracker/dmt/window/sketch"
)

const (
	simProducers = 3
	simLanes     = 2 // batches of one producer under way at once
	simReaders   = 3
	simGap       = 160 * time.Millisecond // mean, between two batches of a lane
	simReadGap   = 120 * time.Millisecond
)

// simName names a batch.
type simName struct {
	producer int
	seq      uint64
}

// rows are what a batch adds one value to. The first is its own, which shows
// whether it is there; the last is shared with others. New nodes come up all the
// time, two in one batch. All rows lie in the hour before the bubble began.
func (b simName) rows() []simRow {
	own, era := simFirst+10*int64(b.seq), b.seq/16
	return []simRow{
		{fmt.Sprintf("own%d-%d", b.producer, era), own},
		{fmt.Sprintf("twin%d-%d", b.producer, era), own},
		{fmt.Sprintf("all%d", b.seq%4), simFirst + 10*int64(b.seq%7)},
	}
}

func (b simName) own() simRow { return b.rows()[0] }

func (b simName) value() int64 { return int64(b.seq)*1000 + int64(b.producer) }

// simFirst is an hour before the clock of a bubble begins.
var simFirst = time.Date(1999, 12, 31, 23, 0, 0, 0, time.UTC).Unix()

type simRow struct {
	node  string
	start int64
}

func (b simName) batch() (storage.Batch, error) {
	batch := storage.Batch{
		Producer: storage.ProducerID{byte(b.producer + 1), 9}, Seq: b.seq, SeenMs: 1 << 50, Hash: uint64(b.producer)<<32 | b.seq,
	}
	for _, row := range b.rows() {
		one := sketch.New(7)
		one.AddInt(b.value())
		bytes, err := one.AppendBinary(nil)
		if err != nil {
			return storage.Batch{}, err
		}
		batch.Deltas = append(batch.Deltas, storage.Delta{Metric: "m", Node: row.node, Start: row.start, Sketch: bytes, Count: 1})
	}
	return batch, nil
}

// startLoad starts writers and readers, which end when the channel is closed.
func (s *sim) startLoad(load *sync.WaitGroup) (stop chan struct{}) {
	stop = make(chan struct{})
	stream := uint64(100)
	for p := range simProducers {
		for range simLanes {
			stream++
			rnd := rand.New(rand.NewPCG(s.plan.seed, stream))
			load.Go(func() { s.write(p, rnd, stop) })
		}
	}
	for range simReaders {
		stream++
		rnd := rand.New(rand.NewPCG(s.plan.seed, stream))
		load.Go(func() { s.read(rnd, stop) })
	}
	return stop
}

// rest waits some time with the given mean, and reports false when it is over.
func (s *sim) rest(rnd *rand.Rand, mean time.Duration, stop <-chan struct{}) bool {
	timer := time.NewTimer(time.Duration(rnd.ExpFloat64() * float64(mean)))
	defer timer.Stop()
	select {
	case <-timer.C:
		return !s.failed()
	case <-stop:
		return false
	}
}

// write sends batches of a producer, each until it is settled.
func (s *sim) write(producer int, rnd *rand.Rand, stop <-chan struct{}) {
	for s.rest(rnd, simGap, stop) {
		name := s.book.invoke(producer)
		applied := false
		for !s.send(name, rnd, &applied) {
			if !s.rest(rnd, 20*time.Millisecond, stop) {
				return // it stays unsettled
			}
		}
	}
}

// send tries once, at any member, and says whether the batch is settled. One
// answer in twenty is lost on the way.
func (s *sim) send(name simName, rnd *rand.Rand, applied *bool) bool {
	b, err := name.batch()
	if err != nil {
		s.fail("%w", err)
		return true
	}
	n := s.members[rnd.IntN(len(s.members))].running()
	within := 100*time.Millisecond + time.Duration(rnd.Int64N(int64(1900*time.Millisecond)))
	lost := rnd.IntN(20) == 0
	if n == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	outs, err := n.Ingest(ctx, []storage.Batch{b})
	switch {
	case err != nil && (errors.Is(err, ErrNoLeader) || errors.Is(err, ErrClosed) || errors.Is(err, ErrIndeterminate) ||
		errors.Is(err, ErrOverloaded) || errors.As(err, new(NotLeaderError))):
		return false
	case err != nil:
		s.fail("batch %v at %s: %w", name, n.ID(), err)
		return true
	case outs[0].Status == storage.Applied && *applied:
		s.fail("batch %v is applied twice, the second time at index %d", name, outs[0].Index)
		return true
	case outs[0].Status != storage.Applied && outs[0].Status != storage.Duplicate:
		s.fail("batch %v at %s is answered %v", name, n.ID(), outs[0].Status)
		return true
	}
	*applied = *applied || outs[0].Status == storage.Applied
	if lost {
		return false
	}
	s.book.ack(name)
	return true
}

// read asks any member for all counts.
func (s *sim) read(rnd *rand.Rand, stop <-chan struct{}) {
	for s.rest(rnd, simReadGap, stop) {
		n := s.members[rnd.IntN(len(s.members))].running()
		level, within := window.Linearizable, 100*time.Millisecond+time.Duration(rnd.Int64N(int64(1900*time.Millisecond)))
		if rnd.IntN(10) == 0 {
			level = window.Stale
		}
		if n == nil {
			continue
		}
		began, begin := time.Now(), s.book.beginRead()
		counts, err := simAskCounts(n, level, within)
		switch {
		case err == nil:
			if err := s.book.endRead(begin, counts, level == window.Linearizable); err != nil {
				s.fail("%v read at %s: %w", level, n.ID(), err)
			}
		case !simMayFail(err):
			s.fail("%v read at %s: %w", level, n.ID(), err)
		}
		if took := time.Since(began); took > within+10*time.Millisecond {
			s.fail("%v read at %s took %v of %v: %v", level, n.ID(), took, within, err)
		}
	}
}

// simMayFail says whether trouble in the cluster explains the error of a read.
func simMayFail(err error) bool {
	for _, ok := range []error{ErrNoLeader, ErrClosed, storage.ErrClosed, storage.ErrNotInitialised, context.DeadlineExceeded} {
		if errors.Is(err, ok) {
			return true
		}
	}
	return false
}

func simAskCounts(n *Node, level window.Read, within time.Duration) (map[string]uint64, error) {
	q, err := window.Query{Metric: "m", Read: level, ByNode: true}.Check(time.Now(), 10)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	a, err := n.Query(ctx, q)
	if errors.Is(err, window.ErrUnknownMetric) {
		return nil, nil // nothing was ever counted
	}
	if err != nil {
		return nil, err
	}
	counts := make(map[string]uint64, len(a.Results))
	for _, r := range a.Results {
		counts[r.Node] = r.Count
	}
	return counts, nil
}
