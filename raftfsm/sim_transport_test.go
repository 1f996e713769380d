package raftfsm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// simTransport is Raft's transport over a simNet. Calls may be lost, late, twice
// and out of order, also long after the caller gave up or died. Within one
// pipeline the order is kept, as on a connection, until it breaks.
type simTransport struct {
	net      *simNet
	addr     string
	consumer chan raft.RPC
	closed   chan struct{}
	once     sync.Once
	beats    tracker // heartbeats being handled

	mu   sync.Mutex // guards beat
	beat func(raft.RPC)
}

var (
	_ raft.Transport   = (*simTransport)(nil)
	_ raft.WithPreVote = (*simTransport)(nil)
	_ raft.WithClose   = (*simTransport)(nil)

	errSimTimeout = errors.New("call timed out")
	errSimClosed  = errors.New("transport closed")
)

// listen makes a transport that gets what is sent to an address from now on.
func (n *simNet) listen(addr string) *simTransport {
	t := &simTransport{net: n, addr: addr, consumer: make(chan raft.RPC), closed: make(chan struct{})}
	n.mu.Lock()
	n.ends[addr] = t
	n.mu.Unlock()
	return t
}

func (n *simNet) end(addr string) *simTransport {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ends[addr]
}

// Close ends the transport and waits for heartbeats that are being handled:
// Raft does not.
func (t *simTransport) Close() error {
	t.once.Do(func() { close(t.closed) })
	t.beats.close()
	return nil
}

func (t *simTransport) Consumer() <-chan raft.RPC     { return t.consumer }
func (t *simTransport) LocalAddr() raft.ServerAddress { return raft.ServerAddress(t.addr) }
func (t *simTransport) EncodePeer(_ raft.ServerID, a raft.ServerAddress) []byte {
	return []byte(a)
}
func (t *simTransport) DecodePeer(b []byte) raft.ServerAddress { return raft.ServerAddress(b) }

func (t *simTransport) SetHeartbeatHandler(f func(raft.RPC)) {
	t.mu.Lock()
	t.beat = f
	t.mu.Unlock()
}

// deliver hands a call to Raft, heartbeats past the queue as
// raft.NetworkTransport does. It reports false when the member is gone.
func (t *simTransport) deliver(rpc raft.RPC) bool {
	t.mu.Lock()
	beat := t.beat
	t.mu.Unlock()
	if req, ok := rpc.Command.(*raft.AppendEntriesRequest); ok && beat != nil &&
		req.PrevLogEntry == 0 && req.PrevLogTerm == 0 && len(req.Entries) == 0 && req.LeaderCommitIndex == 0 {
		return t.beats.start(func() { beat(rpc) })
	}
	select {
	case t.consumer <- rpc:
		return true
	case <-t.closed:
		return false
	}
}

// simCall is one request on its way. Raft goes on using what it handed over, so
// everything in it is a copy.
type simCall struct {
	command func() any
	data    []byte // of a snapshot
	there   simFate
	back    simFate
}

// exchange carries a request there and the answer back.
func (n *simNet) exchange(from, to string, c simCall) (raft.RPCResponse, bool) {
	if !n.carry(from, to, c.there) {
		return raft.RPCResponse{}, false
	}
	end := n.end(to)
	if end == nil {
		return raft.RPCResponse{}, false
	}
	answer := make(chan raft.RPCResponse, 1)
	rpc := raft.RPC{Command: c.command(), RespChan: answer}
	if c.data != nil {
		rpc.Reader = &simReader{net: n, from: from, to: to, r: bytes.NewReader(c.data)}
	}
	if !end.deliver(rpc) {
		return raft.RPCResponse{}, false
	}
	select {
	case r := <-answer:
		return r, n.carry(to, from, c.back)
	case <-end.closed:
	case <-n.closed:
	}
	return raft.RPCResponse{}, false
}

// simReader is a snapshot being streamed. It takes time, and breaks with the link.
type simReader struct {
	net      *simNet
	from, to string
	r        *bytes.Reader
}

func (s *simReader) Read(p []byte) (int, error) {
	if s.net.isCut(s.from, s.to) || !s.net.sleep(simPace) {
		return 0, io.ErrUnexpectedEOF
	}
	return s.r.Read(p[:min(len(p), 32<<10)])
}

// call is a request that waits for its answer. A second copy may follow.
func (t *simTransport) call(to raft.ServerAddress, timeout time.Duration, data []byte, command func() any) (any, error) {
	addr := string(to)
	c := simCall{command: command, data: data, there: t.net.fate(t.addr, addr), back: t.net.fate(addr, t.addr)}
	answer := make(chan raft.RPCResponse, 1)
	t.net.calls.start(func() {
		if r, ok := t.net.exchange(t.addr, addr, c); ok {
			answer <- r
		}
	})
	if c.there.again > 0 {
		t.net.calls.start(func() {
			second := c
			second.there = simFate{delay: c.there.again}
			t.net.exchange(t.addr, addr, second) // nobody waits for its answer
		})
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case r := <-answer:
		return r.Response, r.Error
	case <-timer.C:
		return nil, errSimTimeout
	case <-t.closed:
		return nil, errSimClosed
	}
}

// simInto copies an answer to where the caller wants it.
func simInto[T any](dst *T, answer any, err error) error {
	if err != nil {
		return err
	}
	r, ok := answer.(*T)
	if !ok {
		return fmt.Errorf("answer is a %T", answer)
	}
	*dst = *r
	return nil
}

func copyAppend(args *raft.AppendEntriesRequest) func() any {
	c := *args
	return func() any {
		one := c
		one.Entries = slices.Clone(c.Entries)
		return &one
	}
}

func (t *simTransport) AppendEntries(_ raft.ServerID, to raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	r, err := t.call(to, t.net.rpc, nil, copyAppend(args))
	return simInto(resp, r, err)
}

func (t *simTransport) RequestVote(_ raft.ServerID, to raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	c := *args
	r, err := t.call(to, t.net.rpc, nil, func() any { one := c; return &one })
	return simInto(resp, r, err)
}

func (t *simTransport) RequestPreVote(_ raft.ServerID, to raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	c := *args
	r, err := t.call(to, t.net.rpc, nil, func() any { one := c; return &one })
	return simInto(resp, r, err)
}

func (t *simTransport) TimeoutNow(_ raft.ServerID, to raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	c := *args
	r, err := t.call(to, t.net.rpc, nil, func() any { one := c; return &one })
	return simInto(resp, r, err)
}

func (t *simTransport) InstallSnapshot(_ raft.ServerID, to raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	all, err := io.ReadAll(data)
	if err != nil {
		return err
	}
	c := *args
	r, err := t.call(to, 10*t.net.rpc, all, func() any { one := c; return &one })
	return simInto(resp, r, err)
}

// simPipeline sends appends one after the other without waiting for answers,
// which come in order. The first that is lost breaks it.
type simPipeline struct {
	t       *simTransport
	to      string
	send    chan *simAppend
	flying  chan *simAppend
	done    chan raft.AppendFuture
	stopped chan struct{}
	once    sync.Once
}

type simAppend struct {
	args   *raft.AppendEntriesRequest
	resp   *raft.AppendEntriesResponse
	start  time.Time
	there  simFate
	back   simFate
	answer chan raft.RPCResponse // nil when it was lost
	err    error
	end    chan struct{}
}

func (a *simAppend) Error() error                          { <-a.end; return a.err }
func (a *simAppend) Start() time.Time                      { return a.start }
func (a *simAppend) Request() *raft.AppendEntriesRequest   { return a.args }
func (a *simAppend) Response() *raft.AppendEntriesResponse { return a.resp }

func (t *simTransport) AppendEntriesPipeline(_ raft.ServerID, to raft.ServerAddress) (raft.AppendPipeline, error) {
	p := &simPipeline{
		t: t, to: string(to), send: make(chan *simAppend, 16), flying: make(chan *simAppend, 128),
		done: make(chan raft.AppendFuture, 128), stopped: make(chan struct{}),
	}
	if !t.net.calls.start(p.deliver) || !t.net.calls.start(p.receive) {
		return nil, errSimClosed
	}
	return p, nil
}

func (p *simPipeline) Consumer() <-chan raft.AppendFuture { return p.done }

func (p *simPipeline) Close() error {
	p.once.Do(func() { close(p.stopped) })
	return nil
}

func (p *simPipeline) AppendEntries(args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	a := &simAppend{
		args: args, resp: resp, start: time.Now(), end: make(chan struct{}),
		there: p.t.net.fate(p.t.addr, p.to), back: p.t.net.fate(p.to, p.t.addr),
	}
	select {
	case p.send <- a:
		return a, nil
	case <-p.stopped:
	case <-p.t.closed:
	}
	return nil, raft.ErrPipelineShutdown
}

// deliver brings requests to the other side in order.
func (p *simPipeline) deliver() {
	broken := false
	for {
		var a *simAppend
		select {
		case a = <-p.send:
		case <-p.stopped:
			return
		case <-p.t.closed:
			return
		case <-p.t.net.closed:
			return
		}
		if !broken && p.t.net.carry(p.t.addr, p.to, a.there) {
			answer := make(chan raft.RPCResponse, 1)
			if end := p.t.net.end(p.to); end != nil && end.deliver(raft.RPC{Command: copyAppend(a.args)(), RespChan: answer}) {
				a.answer = answer
			}
		}
		broken = broken || a.answer == nil
		select {
		case p.flying <- a:
		case <-p.stopped:
			return
		case <-p.t.net.closed:
			return
		}
	}
}

// receive brings answers back in order.
func (p *simPipeline) receive() {
	for {
		var a *simAppend
		select {
		case a = <-p.flying:
		case <-p.stopped:
			return
		case <-p.t.closed:
			return
		case <-p.t.net.closed:
			return
		}
		a.err = errSimTimeout
		timer := time.NewTimer(p.t.net.rpc)
		select {
		case r := <-a.answer: // of a lost one it never comes
			if p.t.net.carry(p.to, p.t.addr, a.back) {
				a.err = simInto(a.resp, r.Response, r.Error)
			}
		case <-timer.C:
		case <-p.stopped:
		case <-p.t.net.closed:
		}
		timer.Stop()
		close(a.end)
		select {
		case p.done <- a:
		case <-p.stopped:
			return
		case <-p.t.net.closed:
			return
		}
	}
}
