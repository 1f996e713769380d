package raftfsm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// What a member says to open a Raft stream to another one. There is no body.
//
//	GET /raft HTTP/1.1
//	Host: b:7171
//	Connection: Upgrade
//	Upgrade: dmt-raft/1
//	Dmt-Cluster: <cluster id>
//	Dmt-Group: 0
//	Dmt-Member: <id@uuid of the sender>
//	Dmt-Target: <id@uuid of the receiver, as the sender's configuration has it>
//
//	HTTP/1.1 101 Switching Protocols
//	Connection: Upgrade
//	Upgrade: dmt-raft/1
//
// After that the connection carries raft.NetworkTransport's bytes. The dialer
// writes none of them before it has read the 101.
const (
	upgradePath     = "/raft"
	upgradeProtocol = "dmt-raft/1"

	headerCluster = "Dmt-Cluster"
	headerGroup   = "Dmt-Group"
	headerMember  = "Dmt-Member"
	headerTarget  = "Dmt-Target"

	dialTimeout = 2 * time.Second
)

// RefusedError says that another member refused a Raft stream.
type RefusedError struct {
	Address string
	Status  int
	Reason  string
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("raftfsm: %s refused a raft stream: %d %s", e.Address, e.Status, e.Reason)
}

// names are what a stream layer needs to know of the cluster, which changes
// while the member joins.
type names interface {
	clusterID() string            // empty before the member knows its cluster
	self() raft.ServerID          //
	target(address string) string // server id at an address, empty when unknown
}

// streamLayer carries Raft over HTTP upgrade. It owns every connection it
// dialed or accepted: Close ends them all, as http.Server does not for
// connections that were hijacked.
type streamLayer struct {
	address string
	names   names
	dial    func(ctx context.Context, addr string) (net.Conn, error)
	accept  chan net.Conn
	done    chan struct{}

	mu     sync.Mutex // guards the two below
	conns  map[*streamConn]struct{}
	closed bool
}

var _ raft.StreamLayer = (*streamLayer)(nil)

func newStreamLayer(address string, n names, dial func(context.Context, string) (net.Conn, error)) *streamLayer {
	if dial == nil {
		var d net.Dialer
		dial = func(ctx context.Context, addr string) (net.Conn, error) { return d.DialContext(ctx, "tcp", addr) }
	}
	return &streamLayer{
		address: address, names: n, dial: dial,
		accept: make(chan net.Conn), done: make(chan struct{}),
		conns: make(map[*streamConn]struct{}),
	}
}

// streamConn reads through the buffered reader that saw the handshake: bytes
// that came right behind it stand there.
type streamConn struct {
	net.Conn
	r     *bufio.Reader
	layer *streamLayer
	once  sync.Once
}

func (c *streamConn) Read(p []byte) (int, error) { return c.r.Read(p) }

func (c *streamConn) Close() error {
	c.once.Do(func() { c.layer.drop(c) })
	return c.Conn.Close()
}

// track registers a connection, or closes it if the layer is closed.
func (l *streamLayer) track(conn net.Conn, r *bufio.Reader) (*streamConn, error) {
	c := &streamConn{Conn: conn, r: r, layer: l}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, errors.Join(net.ErrClosed, conn.Close())
	}
	l.conns[c] = struct{}{}
	return c, nil
}

func (l *streamLayer) drop(c *streamConn) {
	l.mu.Lock()
	delete(l.conns, c)
	l.mu.Unlock()
}

// Accept returns the next stream that another member opened.
func (l *streamLayer) Accept() (net.Conn, error) {
	select {
	case c := <-l.accept:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close ends every stream and every Accept. It may be called twice.
func (l *streamLayer) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	close(l.done)
	conns := l.conns
	l.conns = make(map[*streamConn]struct{})
	l.mu.Unlock()
	for c := range conns {
		_ = c.Conn.Close() // the peer sees the end either way
	}
	return nil
}

// Addr is the address under which other members know this one.
func (l *streamLayer) Addr() net.Addr { return streamAddr(l.address) }

type streamAddr string

func (streamAddr) Network() string  { return "tcp" }
func (a streamAddr) String() string { return string(a) }

// Dial opens a stream to the member at address.
func (l *streamLayer) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	if timeout <= 0 || timeout > dialTimeout {
		timeout = dialTimeout
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	conn, err := l.dial(ctx, string(address))
	if err != nil {
		return nil, err
	}
	// Tracked before the handshake, so that Close ends a handshake too.
	c, err := l.track(conn, bufio.NewReader(conn))
	if err != nil {
		return nil, err
	}
	if err := l.handshake(c, string(address), timeout); err != nil {
		return nil, errors.Join(err, ignoreClosed(c.Close()))
	}
	return c, nil
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func (l *streamLayer) handshake(c *streamConn, address string, timeout time.Duration) error {
	cluster := l.names.clusterID()
	if cluster == "" {
		return errors.New("raftfsm: dial: the cluster id is not known yet")
	}
	if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: %s\r\n", upgradePath, address, upgradeProtocol)
	for _, h := range [][2]string{
		{headerCluster, cluster}, {headerGroup, "0"},
		{headerMember, string(l.names.self())}, {headerTarget, l.names.target(address)},
	} {
		fmt.Fprintf(&b, "%s: %s\r\n", h[0], h[1])
	}
	b.WriteString("\r\n")
	if _, err := io.WriteString(c.Conn, b.String()); err != nil {
		return fmt.Errorf("raftfsm: dial %s: %w", address, err)
	}
	resp, err := http.ReadResponse(c.r, &http.Request{Method: http.MethodGet})
	if err != nil {
		return fmt.Errorf("raftfsm: dial %s: %w", address, err)
	}
	defer func() { _ = resp.Body.Close() }() // empty after a 101; else the connection is closed too
	if resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Upgrade") != upgradeProtocol {
		reason, err := io.ReadAll(io.LimitReader(resp.Body, 512))
		if err != nil {
			reason = []byte("(" + err.Error() + ")")
		}
		return &RefusedError{Address: address, Status: resp.StatusCode, Reason: strings.TrimSpace(string(reason))}
	}
	return c.SetDeadline(time.Time{})
}
