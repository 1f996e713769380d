package server

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/distributed-median-tracker/dmt/internal/api"
	dmtv1 "github.com/distributed-median-tracker/dmt/internal/api/dmt/v1"
	"github.com/distributed-median-tracker/dmt/internal/api/dmt/v1/dmtv1connect"
	"github.com/distributed-median-tracker/dmt/raftfsm"
)

// peers calls other members over their API. It keeps connections alive: one
// transport for all of them, HTTP/1.1, because an attempt that times out then
// closes its connection, while an HTTP/2 connection into a black hole would
// swallow the attempts that follow too.
type peers struct {
	server *Server
	http   *http.Client
	opened chan struct{} // closed when server.node is set

	mu      sync.Mutex // guards the map
	clients map[string]*peerClients
}

type peerClients struct {
	tracker dmtv1connect.TrackerClient
	peer    dmtv1connect.PeerClient
}

// maxPeerClients bounds the addresses remembered; members that came and went
// under other addresses are forgotten all at once.
const maxPeerClients = 256

func newPeers(s *Server, dial func(ctx context.Context, address string) (net.Conn, error)) *peers {
	dialer := (&net.Dialer{Timeout: 2 * time.Second}).DialContext
	if dial != nil {
		dialer = func(ctx context.Context, _, address string) (net.Conn, error) { return dial(ctx, address) }
	}
	transport := &http.Transport{
		DialContext:           dialer,
		MaxIdleConnsPerHost:   128, // as many forwarded requests at once find a warm connection
		IdleConnTimeout:       time.Minute,
		ResponseHeaderTimeout: 30 * time.Second,
		// Sketches hardly compress, and members are near each other.
		DisableCompression: true,
	}
	return &peers{
		server:  s,
		http:    &http.Client{Transport: transport},
		opened:  make(chan struct{}),
		clients: make(map[string]*peerClients),
	}
}

func (p *peers) close() { p.http.CloseIdleConnections() }

// at returns the clients of a member.
func (p *peers) at(address string) (*peerClients, error) {
	if _, _, err := net.SplitHostPort(address); err != nil {
		return nil, fmt.Errorf("address of member %q: %w", address, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.clients[address]
	if c == nil {
		if len(p.clients) >= maxPeerClients {
			clear(p.clients)
		}
		most := connect.WithReadMaxBytes(api.MaxRequestBytes)
		c = &peerClients{
			tracker: dmtv1connect.NewTrackerClient(p.http, "http://"+address, most),
			peer:    dmtv1connect.NewPeerClient(p.http, "http://"+address, most),
		}
		p.clients[address] = c
	}
	return c, nil
}

func (p *peers) tracker(address string) (dmtv1connect.TrackerClient, error) {
	c, err := p.at(address)
	if err != nil {
		return nil, err
	}
	return c.tracker, nil
}

// node is this member. It begins to ask others while it is being opened.
func (p *peers) node(ctx context.Context) (*raftfsm.Node, error) {
	select {
	case <-p.opened:
		return p.server.node, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Hello implements raftfsm.Peers.
func (p *peers) Hello(ctx context.Context, address string, me raftfsm.Hello) (raftfsm.Hello, error) {
	c, err := p.at(address)
	if err != nil {
		return raftfsm.Hello{}, err
	}
	res, err := c.peer.Hello(ctx, connect.NewRequest(&dmtv1.HelloRequest{
		Id: me.ID, Uuid: me.UUID, Address: me.Address, ClusterId: me.ClusterID, Empty: me.Empty,
		JoinList: me.JoinList, BootstrapExpect: uint32(me.BootstrapExpect), Precision: uint32(me.Precision),
	}))
	if err != nil {
		return raftfsm.Hello{}, fmt.Errorf("hello to %s: %w", address, err)
	}
	m := res.Msg
	return raftfsm.Hello{
		ID: m.GetId(), UUID: m.GetUuid(), Address: m.GetAddress(), ClusterID: m.GetClusterId(), Empty: m.GetEmpty(), LeaderAddress: m.GetLeaderAddress(),
		JoinList: m.GetJoinList(), BootstrapExpect: int(m.GetBootstrapExpect()), Precision: int(m.GetPrecision()),
	}, nil
}

// Heartbeat implements raftfsm.Peers.
func (p *peers) Heartbeat(ctx context.Context, address string) (raftfsm.Heartbeat, error) {
	c, err := p.at(address)
	if err != nil {
		return raftfsm.Heartbeat{}, err
	}
	node, err := p.node(ctx)
	if err != nil {
		return raftfsm.Heartbeat{}, err
	}
	res, err := c.peer.Heartbeat(ctx, connect.NewRequest(&dmtv1.HeartbeatRequest{
		ClusterId: node.ClusterID(), FromId: node.ID(), ClockMs: node.ClockMs(),
	}))
	if err != nil {
		return raftfsm.Heartbeat{}, fmt.Errorf("heartbeat to %s: %w", address, err)
	}
	m := res.Msg
	return raftfsm.Heartbeat{
		ID: m.GetId(), WallMs: m.GetWallMs(), FreeDiskBytes: m.GetFreeDiskBytes(), AppliedIndex: m.GetAppliedIndex(), Version: m.GetVersion(),
	}, nil
}

// ReadIndex implements raftfsm.Peers.
func (p *peers) ReadIndex(ctx context.Context, address string) (raftfsm.ReadIndex, error) {
	c, err := p.at(address)
	if err != nil {
		return raftfsm.ReadIndex{}, err
	}
	node, err := p.node(ctx)
	if err != nil {
		return raftfsm.ReadIndex{}, err
	}
	res, err := c.peer.ReadIndex(ctx, connect.NewRequest(&dmtv1.ReadIndexRequest{ClusterId: node.ClusterID()}))
	if err != nil {
		return raftfsm.ReadIndex{}, fmt.Errorf("read index from %s: %w", address, err)
	}
	m := res.Msg
	return raftfsm.ReadIndex{Index: m.GetIndex(), Term: m.GetTerm(), LeaderID: m.GetLeaderId(), ClockMs: m.GetClockMs()}, nil
}

// Join implements raftfsm.Peers.
func (p *peers) Join(ctx context.Context, address string, j raftfsm.Join) (raftfsm.JoinReply, error) {
	c, err := p.at(address)
	if err != nil {
		return raftfsm.JoinReply{}, err
	}
	res, err := c.tracker.Join(ctx, connect.NewRequest(&dmtv1.JoinRequest{
		Id: j.ID, Uuid: j.UUID, Address: j.Address, ClusterId: j.ClusterID, Precision: uint32(j.Precision), Voter: true,
	}))
	if err != nil {
		return raftfsm.JoinReply{}, fmt.Errorf("join at %s: %w", address, err)
	}
	reply := raftfsm.JoinReply{ClusterID: res.Msg.GetClusterId(), Precision: int(res.Msg.GetPrecision())}
	for _, m := range res.Msg.GetMembers() {
		reply.Members = append(reply.Members, raftfsm.Member{ID: m.GetId(), Address: m.GetAddress(), Voter: m.GetVoter(), Leader: m.GetLeader()})
	}
	return reply, nil
}
