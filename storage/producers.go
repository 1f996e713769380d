package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"time"
)

const (
	// WindowSize is how many batches of one producer may be in flight: a number
	// more than that above the oldest one missing is refused.
	WindowSize = 64

	// keptRecords is for how many settled numbers at the end of the window hash
	// and refusals are kept, so that a retry gets its outcome back; older ones are
	// refused. More would answer later retries, at 12 bytes per producer and flush
	// each. Our clients number no further ahead than this.
	keptRecords = 8

	// A batch is refused as too old to deduplicate when its producer is unknown
	// and it was numbered more than seenHorizon ago. A producer is forgotten
	// forgetAfter its last batch. Whatever was applied was numbered no later than
	// that, so who could still be answered is still known; the hour between
	// forgives a client that was told the clock late.
	seenHorizon = 7 * 24 * time.Hour
	forgetAfter = seenHorizon + time.Hour
)

// record is what is kept of a settled batch.
type record struct {
	hash    uint64
	refused uint32
}

// aheadRecord is one that is settled above the first missing one.
type aheadRecord struct {
	seq uint64
	record
}

// producer is the window of one producer.
type producer struct {
	low    uint64 // all batches up to this one are settled
	lastMs int64  // log clock of the last batch applied
	recent [keptRecords]record
	ahead  []aheadRecord // above low+1, ascending
}

// kept returns the records of the last numbers up to low, ascending.
func (p *producer) kept() []record { return p.recent[keptRecords-min(keptRecords, p.low):] }

// find returns the record of a settled number. known is false for numbers so
// far below low that only their settling is known.
func (p *producer) find(seq uint64) (r record, settled, known bool) {
	if seq <= p.low {
		back := p.low - seq
		if back >= keptRecords {
			return record{}, true, false
		}
		return p.recent[keptRecords-1-back], true, true
	}
	for _, a := range p.ahead {
		if a.seq == seq {
			return a.record, true, true
		}
	}
	return record{}, false, false
}

// settle records a number that is not settled yet.
func (p *producer) settle(seq uint64, r record) {
	if seq > p.low+1 {
		at, _ := slices.BinarySearchFunc(p.ahead, seq, func(a aheadRecord, seq uint64) int {
			if a.seq < seq {
				return -1
			}
			return 1
		})
		p.ahead = slices.Insert(p.ahead, at, aheadRecord{seq, r})
		return
	}
	p.push(r)
	for len(p.ahead) > 0 && p.ahead[0].seq == p.low+1 {
		p.push(p.ahead[0].record)
		p.ahead = p.ahead[1:]
	}
	if len(p.ahead) == 0 {
		p.ahead = nil // it may hold the memory of a long window
	}
}

func (p *producer) push(r record) {
	copy(p.recent[:], p.recent[1:])
	p.recent[keptRecords-1] = r
	p.low++
}

func (p *producer) state() ProducerState {
	s := ProducerState{Low: p.low, LastMs: p.lastMs}
	for _, a := range p.ahead {
		s.Ahead = append(s.Ahead, a.seq)
	}
	return s
}

// producers is the table that makes batches count once. There are two of them:
// the live one answers Apply; the other follows the flushed head and is what a
// flush stores. Storing the live one would make a replay take the entries above
// the flushed index for duplicates, and lose them.
type producers map[ProducerID]*producer

// forgotten says whether a producer is unknown at a log clock. It is a function
// of the clock alone: dropForgotten only gives memory back.
func (p *producer) forgotten(clockMs int64) bool {
	return p.lastMs <= clockMs-forgetAfter.Milliseconds()
}

// judge says what is to become of a batch at a log clock, and changes nothing.
func (t producers) judge(b *Batch, clockMs int64) (Status, uint32) {
	if b.Seq == 0 { // numbers start at 1: nothing can have been settled under it
		return TooOldToDeduplicate, 0
	}
	p := t[b.Producer]
	if p == nil || p.forgotten(clockMs) {
		if b.SeenMs < clockMs-seenHorizon.Milliseconds() {
			return TooOldToDeduplicate, 0
		}
		p = &producer{}
	}
	r, settled, known := p.find(b.Seq)
	switch {
	case settled && known && r.hash != b.Hash:
		return Conflict, 0
	case settled && !known:
		// What was refused of it, or that it is another batch under an old
		// number, cannot be told any more.
		return TooOldToDeduplicate, 0
	case settled:
		return Duplicate, r.refused
	case b.Seq-p.low > WindowSize:
		return SeqWindow, 0
	}
	return Applied, b.Refused
}

// settlement is a batch that was applied, as the table that follows needs it.
type settlement struct {
	id      ProducerID
	seq     uint64
	clockMs int64
	// expiryMs is the clock that the producer was judged by.
	expiryMs int64
	record
}

// settle records a batch that judge said is to be applied.
func (t producers) settle(s settlement) {
	p := t[s.id]
	if p == nil || p.forgotten(s.expiryMs) {
		p = new(producer)
		t[s.id] = p
	}
	p.settle(s.seq, s.record)
	p.lastMs = s.clockMs
}

func (t producers) dropForgotten(clockMs int64) {
	for id, p := range t {
		if p.forgotten(clockMs) {
			delete(t, id)
		}
	}
}

// append writes the table without those that are forgotten at the clock, in the
// order of their ids:
//
//	uvarint producers
//	per producer:
//	  0        16
//	  +--------+-------------+-------------------+----------------+
//	  | id     | uvarint low | zigzag last, ms   | uvarint ahead  |
//	  +--------+-------------+-------------------+----------------+
//	  then for the last min(low, 8) numbers up to low, ascending:
//	    u64 LE hash . uvarint refused
//	  and for each number ahead, ascending:
//	    uvarint (number - low - 1) . u64 LE hash . uvarint refused
func (t producers) append(b []byte, clockMs int64) []byte {
	ids := make([]ProducerID, 0, len(t))
	for id, p := range t {
		if !p.forgotten(clockMs) {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b ProducerID) int { return bytes.Compare(a[:], b[:]) })
	b = binary.AppendUvarint(b, uint64(len(ids)))
	for _, id := range ids {
		p := t[id]
		b = append(b, id[:]...)
		b = binary.AppendUvarint(b, p.low)
		b = binary.AppendVarint(b, p.lastMs)
		b = binary.AppendUvarint(b, uint64(len(p.ahead)))
		for _, r := range p.kept() {
			b = r.append(b)
		}
		for _, a := range p.ahead {
			b = a.append(binary.AppendUvarint(b, a.seq-p.low-1))
		}
	}
	return b
}

func (r record) append(b []byte) []byte {
	return binary.AppendUvarint(binary.LittleEndian.AppendUint64(b, r.hash), uint64(r.refused))
}

func (r *reader) record() record {
	hash := r.take("hash", 8)
	if r.err != nil {
		return record{}
	}
	return record{binary.LittleEndian.Uint64(hash), uint32(r.number("refused", math.MaxUint32))}
}

func parseProducers(b []byte) (producers, error) {
	r := reader{b: b}
	n := r.number("producers", uint64(len(b))/19) // the shortest one has 19 bytes
	t := make(producers, n)
	var before ProducerID
	for i := range n {
		var id ProducerID
		copy(id[:], r.take("id", len(id)))
		p := r.producer()
		if r.err != nil {
			return nil, r.err
		}
		if i > 0 && bytes.Compare(id[:], before[:]) <= 0 {
			return nil, errors.New("ids out of order")
		}
		t[id], before = p, id
	}
	return t, r.done()
}

func (r *reader) producer() *producer {
	p := &producer{low: r.uvarint("low"), lastMs: r.varint("last")}
	ahead := r.number("ahead", WindowSize-1)
	if p.low == 0 && ahead == 0 {
		r.fail("a producer without batches")
	}
	kept := p.kept()
	for i := range kept {
		kept[i] = r.record()
	}
	above := uint64(0)
	for range ahead {
		gap := r.number("number ahead", WindowSize-1)
		if gap <= above {
			r.fail("numbers ahead out of order")
			return p
		}
		above = gap
		p.ahead = append(p.ahead, aheadRecord{p.low + 1 + gap, r.record()})
	}
	return p
}
