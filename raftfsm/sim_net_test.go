package raftfsm

import (
	"context"
	"errors"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// simNet carries every message between the members of a simulation: those of
// Raft (simTransport) and the questions of Peers (simPeers). What happens to the
// n-th message from one member to another is a function of the seed.
type simNet struct {
	seed   uint64
	rpc    time.Duration // until a call is given up
	calls  tracker       // messages under way
	closed chan struct{}

	mu      sync.Mutex // guards what follows
	ends    map[string]*simTransport
	nodes   map[string]func() *Node
	links   map[[2]string]*simLink
	weather simWeather
	sent    uint64
	lost    uint64
	doubled uint64
}

// simWeather is how bad all links are.
type simWeather struct {
	loss, double, slow float64       // probabilities
	delay              time.Duration // most of a slow message
}

var (
	simCalm  = simWeather{loss: 0.005, double: 0.02, slow: 0.1, delay: 20 * time.Millisecond}
	simStorm = simWeather{loss: 0.15, double: 0.1, slow: 0.8, delay: 125 * time.Millisecond}
)

const (
	simPace  = 200 * time.Microsecond // least and half of most of a normal message
	simStale = 3 * time.Second        // by how much a second copy may come later
	simRPC   = 500 * time.Millisecond
)

// simLink is one direction between two members.
type simLink struct {
	rnd  *rand.Rand
	cut  bool
	hold chan struct{} // messages wait until it is closed; nil lets them through
}

// simFate is what happens to one message.
type simFate struct {
	lost  bool
	delay time.Duration
	again time.Duration // when a second copy comes, 0 for none
}

func newSimNet(seed uint64) *simNet {
	return &simNet{
		seed: seed, rpc: simRPC, closed: make(chan struct{}), weather: simCalm,
		ends: make(map[string]*simTransport), nodes: make(map[string]func() *Node), links: make(map[[2]string]*simLink),
	}
}

// close ends all messages that are under way.
func (n *simNet) close() {
	close(n.closed)
	n.calls.close()
}

// link is the direction from one address to another. The caller holds mu.
func (n *simNet) link(from, to string) *simLink {
	key := [2]string{from, to}
	l := n.links[key]
	if l == nil {
		h := fnv.New64a()
		h.Write([]byte(from + ">" + to))
		l = &simLink{rnd: rand.New(rand.NewPCG(n.seed, h.Sum64()))}
		n.links[key] = l
	}
	return l
}

// next draws the fate of the next message of a link. It takes the same number
// of draws for every message, so that the weather does not shift the others.
func (l *simLink) next(w simWeather) simFate {
	lost, slow, double := l.rnd.Float64(), l.rnd.Float64(), l.rnd.Float64()
	long, short, again := l.rnd.Float64(), l.rnd.Float64(), l.rnd.Float64()
	f := simFate{lost: lost < w.loss, delay: simPace + time.Duration(short*float64(simPace))}
	if slow < w.slow {
		f.delay += time.Duration(long * float64(w.delay))
	}
	if double < w.double {
		f.again = time.Millisecond + time.Duration(again*again*float64(simStale))
	}
	return f
}

func (n *simNet) fate(from, to string) simFate {
	n.mu.Lock()
	defer n.mu.Unlock()
	f := n.link(from, to).next(n.weather)
	n.sent++
	if f.lost {
		n.lost++
	}
	if f.again > 0 {
		n.doubled++
	}
	return f
}

// carry brings a message over a link, or reports false when it is lost: by
// chance, or because the link is cut when it is sent or when it would arrive.
func (n *simNet) carry(from, to string, f simFate) bool {
	if f.lost || n.isCut(from, to) || !n.sleep(f.delay) {
		return false
	}
	for {
		n.mu.Lock()
		l := n.link(from, to)
		hold, cut := l.hold, l.cut
		n.mu.Unlock()
		if hold == nil {
			return !cut
		}
		select {
		case <-hold:
		case <-n.closed:
			return false
		}
	}
}

func (n *simNet) isCut(from, to string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.link(from, to).cut
}

// sleep reports false when the simulation ends first.
func (n *simNet) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-n.closed:
		return false
	}
}

// cut drops everything on the links for which sel is true, and no other.
func (n *simNet) cut(all []string, sel func(from, to string) bool) {
	n.each(all, func(from, to string, l *simLink) { l.cut = sel(from, to) })
}

// hold keeps what is sent to and from a member, until release: for the others
// it is a process that is stopped and goes on later.
func (n *simNet) hold(all []string, addr string) {
	n.holdLinks(all, func(from, to string) bool { return from == addr || to == addr })
}

// holdLinks keeps what is sent on some links until heal, or until release is
// called, after which they are as good as others.
func (n *simNet) holdLinks(all []string, sel func(from, to string) bool) (release func()) {
	gate := make(chan struct{})
	n.each(all, func(from, to string, l *simLink) {
		if l.hold == nil && sel(from, to) {
			l.hold = gate
		}
	})
	return func() {
		n.each(all, func(_, _ string, l *simLink) {
			if l.hold == gate {
				l.hold = nil
			}
		})
		close(gate)
	}
}

// heal ends all cuts, holds and storms.
func (n *simNet) heal(all []string) {
	released := make(map[chan struct{}]bool)
	n.each(all, func(_, _ string, l *simLink) {
		l.cut = false
		if l.hold != nil && !released[l.hold] {
			released[l.hold] = true
			close(l.hold)
		}
		l.hold = nil
	})
	n.setWeather(simCalm)
}

func (n *simNet) setWeather(w simWeather) {
	n.mu.Lock()
	n.weather = w
	n.mu.Unlock()
}

func (n *simNet) each(all []string, f func(from, to string, l *simLink)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, from := range all {
		for _, to := range all {
			if from != to {
				f(from, to, n.link(from, to))
			}
		}
	}
}

// simPeers are the questions that members ask each other beside Raft.
type simPeers struct {
	net  *simNet
	from string
}

var errSimLost = errors.New("lost on the way")

// simAsk carries a question there and its answer back.
func simAsk[T any](ctx context.Context, p simPeers, to string, ask func(*Node) (T, error)) (T, error) {
	type result struct {
		answer T
		err    error
	}
	done := make(chan result, 1)
	there, back := p.net.fate(p.from, to), p.net.fate(to, p.from)
	started := p.net.calls.start(func() {
		if !p.net.carry(p.from, to, there) {
			return
		}
		p.net.mu.Lock()
		node := p.net.nodes[to]
		p.net.mu.Unlock()
		r := result{err: errSimLost}
		if n := node(); n != nil {
			r.answer, r.err = ask(n)
		}
		if p.net.carry(to, p.from, back) {
			done <- r
		}
	})
	if !started {
		return result{}.answer, errSimLost
	}
	select {
	case r := <-done:
		return r.answer, r.err
	case <-ctx.Done():
		return result{}.answer, ctx.Err()
	}
}

func (p simPeers) Hello(ctx context.Context, addr string, me Hello) (Hello, error) {
	me.JoinList = slices.Clone(me.JoinList)
	return simAsk(ctx, p, addr, func(n *Node) (Hello, error) { return n.HandleHello(me), nil })
}

func (p simPeers) Heartbeat(ctx context.Context, addr string) (Heartbeat, error) {
	return simAsk(ctx, p, addr, func(n *Node) (Heartbeat, error) { return n.HandleHeartbeat(), nil })
}

func (p simPeers) ReadIndex(ctx context.Context, addr string) (ReadIndex, error) {
	return simAsk(ctx, p, addr, func(n *Node) (ReadIndex, error) { return n.ReadIndex(ctx) })
}

func (p simPeers) Join(ctx context.Context, addr string, j Join) (JoinReply, error) {
	return simAsk(ctx, p, addr, func(n *Node) (JoinReply, error) { return n.HandleJoin(ctx, j) })
}
