package raftfsm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/hashicorp/raft"
)

// separated says whether two addresses lie on different sides of a partition.
func (c *testCluster) separated(a, b string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cut[a] != c.cut[b]
}

func (m *testMember) dial(ctx context.Context, addr string) (net.Conn, error) {
	if m.c.separated(m.addr, addr) {
		return nil, errors.New("partitioned")
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &cutConn{Conn: conn, m: m, to: addr}, nil
}

// cutConn drops what crosses a partition: the connection stays, as it does
// when packets are lost.
type cutConn struct {
	net.Conn
	m  *testMember
	to string
}

func (c *cutConn) Write(p []byte) (int, error) {
	if c.m.c.separated(c.m.addr, c.to) {
		return 0, errors.New("partitioned")
	}
	return c.Conn.Write(p)
}

// partition puts members on the far side; heal brings them back.
func (c *testCluster) partition(far ...*testMember) {
	c.mu.Lock()
	for _, m := range far {
		c.cut[m.addr] = true
	}
	c.mu.Unlock()
	c.connectInmem()
}

func (c *testCluster) heal() {
	c.mu.Lock()
	clear(c.cut)
	c.mu.Unlock()
	c.connectInmem()
}

func (m *testMember) inmemTransport(Identity) (raft.Transport, error) {
	_, trans := raft.NewInmemTransportWithTimeout(raft.ServerAddress(m.addr), 500*time.Millisecond)
	m.mu.Lock()
	m.mem = trans
	m.mu.Unlock()
	m.c.connectInmem()
	return trans, nil
}

func (c *testCluster) connectInmem() {
	mem := func(m *testMember) *raft.InmemTransport {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.mem
	}
	for _, a := range c.members {
		for _, b := range c.members {
			from, to := mem(a), mem(b)
			switch {
			case a == b || from == nil || to == nil:
			case c.separated(a.addr, b.addr):
				from.Disconnect(raft.ServerAddress(b.addr))
			default:
				from.Connect(raft.ServerAddress(b.addr), to)
			}
		}
	}
}

// memPeers asks other members of the test directly.
type memPeers struct{ m *testMember }

func (p memPeers) find(ctx context.Context, addr string) (*Node, error) {
	if p.m.c.separated(p.m.addr, addr) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	p.m.c.mu.Lock()
	to := p.m.c.byAddr[addr]
	p.m.c.mu.Unlock()
	if to == nil {
		return nil, fmt.Errorf("nobody at %s", addr)
	}
	if n := to.running(); n != nil {
		return n, nil
	}
	return nil, fmt.Errorf("%s does not run", to.id)
}

func (p memPeers) Hello(ctx context.Context, addr string, me Hello) (Hello, error) {
	n, err := p.find(ctx, addr)
	if err != nil {
		return Hello{}, err
	}
	return n.HandleHello(me), nil
}

func (p memPeers) Heartbeat(ctx context.Context, addr string) (Heartbeat, error) {
	n, err := p.find(ctx, addr)
	if err != nil {
		return Heartbeat{}, err
	}
	return n.HandleHeartbeat(), nil
}

func (p memPeers) ReadIndex(ctx context.Context, addr string) (ReadIndex, error) {
	n, err := p.find(ctx, addr)
	if err != nil {
		return ReadIndex{}, err
	}
	return n.ReadIndex(ctx)
}

func (p memPeers) Join(ctx context.Context, addr string, j Join) (JoinReply, error) {
	n, err := p.find(ctx, addr)
	if err != nil {
		return JoinReply{}, err
	}
	return n.HandleJoin(ctx, j)
}
