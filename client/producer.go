package client

// sendAhead is how far numbers may run ahead of the lowest batch that is not
// settled. The cluster takes 64, but of settled numbers it keeps the outcome of
// the last 8 only: within that a late retry is told what became of the batch,
// beyond it no more than that it came too late.
const sendAhead = 8

// producer is one life of a client in the books of the cluster: every batch is
// counted once under its (id, number). A client takes a new life when the
// cluster cannot know the old one any more.
type producer struct {
	id      [16]byte
	next    uint64              // number of the next batch
	low     uint64              // all numbers up to here are settled
	settled map[uint64]struct{} // settled ones above low
}

func newProducer() *producer {
	return &producer{id: newIdentity(), next: 1, settled: make(map[uint64]struct{})}
}

// room reports whether another batch may be numbered.
func (p *producer) room() bool { return p.next <= p.low+sendAhead }

// idle reports whether every number given is settled.
func (p *producer) idle() bool { return p.next == p.low+1 }

func (p *producer) number() uint64 {
	p.next++
	return p.next - 1
}

func (p *producer) settle(seq uint64) {
	if seq <= p.low {
		return
	}
	p.settled[seq] = struct{}{}
	for {
		if _, ok := p.settled[p.low+1]; !ok {
			return
		}
		p.low++
		delete(p.settled, p.low)
	}
}
