package raftfsm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/distributed-median-tracker/dmt/storage"
	"github.com/distributed-median-tracker/dmt/window"
	"github.com/distributed-median-tracker/dmt/window/sketch"
)

// simBook is what the clients of a simulation did and saw.
type simBook struct {
	mu      sync.Mutex // guards what follows
	now     int64      // counts events; fake time stands still between many of them
	seqs    [simProducers]uint64
	open    map[simName]int64 // not acknowledged, and when it was first sent
	settled map[simName]bool
	invoked map[string]uint64 // values per node
	acked   map[string]uint64
	seen    map[string]uint64 // the most that a finished read answered
	reads   int
	ops     []porcupine.Operation
}

func newSimBook() *simBook {
	return &simBook{
		open: make(map[simName]int64), settled: make(map[simName]bool), invoked: make(map[string]uint64),
		acked: make(map[string]uint64), seen: make(map[string]uint64),
	}
}

// shared says whether porcupine gets to see the counter of a node. Those of one
// producer say less.
func shared(node string) bool { return node[0] == 'a' }

func (k *simBook) size() (acked, reads int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.settled), k.reads
}

func (k *simBook) tick() int64 { k.now++; return k.now }

func (k *simBook) invoke(producer int) simName {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.seqs[producer]++
	name := simName{producer, k.seqs[producer]}
	k.open[name] = k.tick()
	for _, row := range name.rows() {
		k.invoked[row.node]++
	}
	return name
}

func (k *simBook) ack(name simName) {
	k.mu.Lock()
	defer k.mu.Unlock()
	call := k.open[name]
	delete(k.open, name)
	k.settled[name] = true
	end := k.tick()
	for _, row := range name.rows() {
		k.acked[row.node]++
		if shared(row.node) {
			k.ops = append(k.ops, porcupine.Operation{ClientId: name.producer, Input: simOp{row.node, true}, Call: call, Return: end})
		}
	}
}

// simBegin is what a read must at least answer.
type simBegin struct {
	call        int64
	acked, seen map[string]uint64
}

func (k *simBook) beginRead() simBegin {
	k.mu.Lock()
	defer k.mu.Unlock()
	return simBegin{k.tick(), maps.Clone(k.acked), maps.Clone(k.seen)}
}

// endRead is the exact rule of a count that only grows: acknowledged before the
// read began ≤ answer ≤ sent before it ended, and never less than what a read
// answered that had ended before.
func (k *simBook) endRead(b simBegin, counts map[string]uint64, linearizable bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.reads++
	end := k.tick()
	for node, most := range k.invoked {
		got := counts[node]
		switch {
		case got > most:
			return fmt.Errorf("%s has %d values, %d were ever sent", node, got, most)
		case !linearizable:
			continue
		case got < b.acked[node]:
			return fmt.Errorf("%s has %d values, %d were acknowledged before the question", node, got, b.acked[node])
		case got < b.seen[node]:
			return fmt.Errorf("%s has %d values, an earlier read saw %d", node, got, b.seen[node])
		}
		k.seen[node] = max(k.seen[node], got)
		if shared(node) {
			k.ops = append(k.ops, porcupine.Operation{
				ClientId: simProducers, Input: simOp{node, false}, Output: got, Call: b.call, Return: end,
			})
		}
	}
	return nil
}

// simOp adds one to the counter of a node, or reads it.
type simOp struct {
	node string
	add  bool
}

var simModel = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		by := make(map[string][]porcupine.Operation)
		for _, op := range history {
			node := op.Input.(simOp).node
			by[node] = append(by[node], op)
		}
		var parts [][]porcupine.Operation
		for _, node := range slices.Sorted(maps.Keys(by)) {
			parts = append(parts, by[node])
		}
		return parts
	},
	Init: func() any { return uint64(0) },
	Step: func(state, input, output any) (bool, any) {
		if input.(simOp).add {
			return true, state.(uint64) + 1
		}
		return output == state, state
	},
}

// linearizable asks porcupine about the counters that batches share. Time ends
// its search, which proves nothing then.
func (k *simBook) linearizable() error {
	if porcupine.CheckOperationsTimeout(simModel, k.ops, 5*time.Second) == porcupine.Illegal {
		return fmt.Errorf("the history of %d operations is not linearizable", len(k.ops))
	}
	return nil
}

// names are the batches that were acknowledged, and the others that were sent.
func (k *simBook) names() (settled, open []simName) {
	k.mu.Lock()
	defer k.mu.Unlock()
	order := func(a, b simName) int {
		return bytes.Compare(fmt.Appendf(nil, "%03d %09d", a.producer, a.seq), fmt.Appendf(nil, "%03d %09d", b.producer, b.seq))
	}
	return slices.SortedFunc(maps.Keys(k.settled), order), slices.SortedFunc(maps.Keys(k.open), order)
}

// checkEnd judges what the members hold after all faults are healed: every
// acknowledged batch once, every other one at most once; then, after those were
// sent again under their names, all of them once.
func (s *sim) checkEnd() {
	settled, open := s.book.names()
	if !s.converge() {
		return
	}
	for _, m := range s.members {
		if err := simContent(m.running().Store(), settled, open); err != nil {
			s.fail("member %s after the faults: %w", m.id, err)
			return
		}
	}
	rnd := rand.New(rand.NewPCG(s.plan.seed, 99))
	deadline := time.Now().Add(time.Minute)
	for _, name := range open {
		for applied := false; !s.send(name, rnd, &applied); {
			if time.Now().After(deadline) || !s.net.sleep(20*time.Millisecond) {
				s.fail("batch %v cannot be settled", name)
				return
			}
		}
	}
	settled, _ = s.book.names()
	if s.failed() || !s.converge() {
		return
	}
	for _, m := range s.members {
		if err := simContent(m.running().Store(), settled, nil); err != nil {
			s.fail("member %s at the end: %w", m.id, err)
		}
		if counts, err := simAskCounts(m.running(), window.Linearizable, 5*time.Second); err != nil || !maps.Equal(counts, s.book.acked) {
			s.fail("member %s answers %v, %v at the end, want %v", m.id, counts, err, s.book.acked)
		}
	}
}

// converge waits until all members have applied the same index, and compares
// their content by hash.
func (s *sim) converge() bool {
	for deadline := time.Now().Add(30 * time.Second); ; {
		var hashes [][32]byte
		var indexes []uint64
		for _, m := range s.members {
			h, index, err := m.running().Store().Hash(context.Background())
			if err != nil {
				s.fail("hash of %s: %w", m.id, err)
				return false
			}
			hashes, indexes = append(hashes, h), append(indexes, index)
		}
		same := true
		for i := range indexes {
			same = same && indexes[i] == indexes[0]
			for j := range i {
				if indexes[i] == indexes[j] && hashes[i] != hashes[j] {
					s.fail("members %s and %s differ at index %d", s.members[j].id, s.members[i].id, indexes[i])
					return false
				}
			}
		}
		if same {
			return true
		}
		if time.Now().After(deadline) || !s.net.sleep(50*time.Millisecond) {
			s.fail("the members are at %v, long after the faults", indexes)
			return false
		}
	}
}

// simContent compares every stored row with what the batches amount to: those
// that must be there, and those of the others whose own row is.
func simContent(db *storage.DB, must, may []simName) error {
	rows := make(map[simRow][]byte)
	_, err := db.Walk(context.Background(), func(r storage.Row) error {
		if r.Bucket.Width == 10 {
			rows[simRow{r.Node, r.Bucket.Start}] = bytes.Clone(r.Sketch)
		}
		return nil
	})
	if err != nil {
		return err
	}
	want := make(map[simRow]*sketch.Sketch)
	counts := make(map[string]uint64)
	add := func(name simName) {
		for _, row := range name.rows() {
			counts[row.node]++
			for _, r := range []simRow{row, {window.AllNodes, row.start}} {
				if want[r] == nil {
					want[r] = sketch.New(7)
				}
				want[r].AddInt(name.value())
			}
		}
	}
	for _, name := range must {
		if rows[name.own()] == nil {
			return fmt.Errorf("the acknowledged batch %v is lost", name)
		}
		add(name)
	}
	for _, name := range may {
		if rows[name.own()] != nil {
			add(name)
		}
	}
	if err := simRowsEqual(rows, want); err != nil {
		return err
	}
	return simCountersEqual(db, counts)
}

func simRowsEqual(rows map[simRow][]byte, want map[simRow]*sketch.Sketch) error {
	for row, got := range rows {
		s := want[row]
		if s == nil {
			return fmt.Errorf("row %v was never sent", row)
		}
		b, err := s.AppendBinary(nil)
		if err != nil {
			return err
		}
		if !bytes.Equal(b, got) {
			h, err := sketch.Check(got)
			return errors.Join(err, fmt.Errorf("row %v holds %d values, want %d, or others", row, h.Count, s.Count()))
		}
	}
	if len(rows) != len(want) {
		return fmt.Errorf("%d rows, want %d", len(rows), len(want))
	}
	return nil
}

// simCountersEqual compares the counters beside the rows.
func simCountersEqual(db *storage.DB, want map[string]uint64) error {
	nodes, _, err := db.Nodes(context.Background(), "m")
	if err != nil {
		return err
	}
	got := make(map[string]uint64)
	for _, n := range nodes {
		got[n.Node] = n.Count
	}
	if !maps.Equal(got, want) {
		return fmt.Errorf("nodes count %v, want %v", got, want)
	}
	return nil
}
