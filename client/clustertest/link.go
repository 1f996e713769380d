package clustertest

import (
	"context"
	"errors"
	"net"
	"sync"
)

// link is the wire of one member. It holds the port for the whole test, also
// while the member is down, so that nobody else is given it, and it knows
// every connection to and from the member, so that it can cut them.
type link struct {
	listener net.Listener
	accept   sync.WaitGroup

	mu    sync.Mutex // guards what follows
	down  bool       // partitioned
	door  *door      // of the running member, nil while there is none
	conns map[*conn]struct{}
}

// newLink takes a free port on loopback.
func newLink() (*link, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	l := &link{listener: listener, conns: make(map[*conn]struct{})}
	l.accept.Go(l.run)
	return l, nil
}

func (l *link) address() string { return l.listener.Addr().String() }

// run accepts connections and hands them to the member, if there is one that
// can be reached, and resets them otherwise.
func (l *link) run() {
	for {
		nc, err := l.listener.Accept()
		if err != nil {
			return // closed: the only way that a listener on loopback fails
		}
		l.mu.Lock()
		door := l.door
		if l.down || door == nil {
			l.mu.Unlock()
			reset(nc)
			continue
		}
		c := l.track(nc)
		l.mu.Unlock()
		select {
		case door.incoming <- c:
		case <-door.closed:
			_ = c.Close() // the member went while somebody knocked
		}
	}
}

// track counts a connection among those of the member. The caller holds mu.
func (l *link) track(nc net.Conn) *conn {
	c := &conn{Conn: nc, link: l}
	l.conns[c] = struct{}{}
	return c
}

// dial is how the member reaches others.
func (l *link) dial(ctx context.Context, address string) (net.Conn, error) {
	if l.isDown() {
		return nil, errPartitioned
	}
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down {
		reset(nc)
		return nil, errPartitioned
	}
	return l.track(nc), nil
}

var errPartitioned = errors.New("clustertest: member is partitioned")

func (l *link) isDown() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.down
}

// cut resets every connection of the member and lets no other through.
func (l *link) cut() {
	l.mu.Lock()
	l.down = true
	conns := make([]*conn, 0, len(l.conns))
	for c := range l.conns {
		conns = append(conns, c)
	}
	l.mu.Unlock()
	for _, c := range conns {
		reset(c)
	}
}

func (l *link) heal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = false
}

// open makes the listener of a member that starts.
func (l *link) open() net.Listener {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.door = &door{link: l, incoming: make(chan *conn), closed: make(chan struct{})}
	return l.door
}

// close ends the link when its test does.
func (l *link) close() {
	l.cut()
	_ = l.listener.Close() // fails only if it was closed before
	l.accept.Wait()
}

// door is the listener that one life of a member has.
type door struct {
	link     *link
	incoming chan *conn
	closed   chan struct{}
	once     sync.Once
}

func (d *door) Accept() (net.Conn, error) {
	select {
	case c := <-d.incoming:
		return c, nil
	case <-d.closed:
		return nil, net.ErrClosed
	}
}

func (d *door) Close() error {
	d.once.Do(func() {
		d.link.mu.Lock()
		if d.link.door == d {
			d.link.door = nil
		}
		d.link.mu.Unlock()
		close(d.closed)
	})
	return nil
}

func (d *door) Addr() net.Addr { return d.link.listener.Addr() }

// conn is a connection that its link can cut.
type conn struct {
	net.Conn
	link *link
}

func (c *conn) Close() error {
	c.link.mu.Lock()
	delete(c.link.conns, c)
	c.link.mu.Unlock()
	return c.Conn.Close()
}

// reset closes a connection the hard way: the other side sees an error, not an
// end, as it would of a host that is gone.
func reset(nc net.Conn) {
	raw := nc
	if c, ok := nc.(*conn); ok {
		raw = c.Conn
	}
	if tcp, ok := raw.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // without it the close is merely gentler
	}
	_ = nc.Close() // it is cut either way
}
