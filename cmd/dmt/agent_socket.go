package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"time"
)

const (
	// maxPacket bounds a datagram. UDP carries 65,507 bytes at most; what is
	// longer on a Unix socket is cut, and its last line refused.
	maxPacket = 64 << 10

	// socketBuffer is what the kernel is asked to hold while we do not read; it
	// may give less. More survives longer pauses, at 2 bytes for each.
	socketBuffer = 4 << 20

	// drainFor is how long a socket is still read when the agent stops: what
	// has arrived by then is in the kernel and takes milliseconds to read.
	drainFor = 100 * time.Millisecond
)

// socket is where lines of StatsD arrive.
type socket struct {
	source string // for the log
	place  string // address or path
	path   string // to be removed, if any
	conn   net.Conn
}

// listenUDP opens a UDP socket. Whoever reaches it may add values, so one that
// others than this machine reach needs to be allowed.
func listenUDP(ctx context.Context, address string, insecure bool) (*socket, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, usageError{fmt.Errorf("--statsd: %w", err)}
	}
	ips := []net.IP{net.IPv4zero} // no host: every address of this machine
	if host != "" {
		if ips, err = net.DefaultResolver.LookupIP(ctx, "ip", host); err != nil {
			return nil, usageError{fmt.Errorf("--statsd: %w", err)}
		}
	}
	for _, ip := range ips {
		if !ip.IsLoopback() && !insecure {
			return nil, usagef("--statsd: %s is reached from other machines, and whoever reaches it may add values; listen on 127.0.0.1, or add --insecure", address)
		}
	}
	var config net.ListenConfig
	conn, err := config.ListenPacket(ctx, "udp", net.JoinHostPort(ips[0].String(), port))
	if err != nil {
		return nil, fmt.Errorf("--statsd: %w", err)
	}
	udp, ok := conn.(*net.UDPConn)
	if !ok {
		panic("dmt: a UDP socket that is none")
	}
	_ = udp.SetReadBuffer(socketBuffer) // the kernel's own size does, too
	return &socket{source: "udp", place: udp.LocalAddr().String(), conn: udp}, nil
}

// listenUnix opens a Unix datagram socket. A file that an agent left there
// that was killed is replaced, one that somebody listens on is not.
func listenUnix(path string) (*socket, error) {
	if info, err := os.Lstat(path); err == nil {
		if info.Mode().Type() != fs.ModeSocket {
			return nil, usagef("--statsd-socket: %s exists and is no socket", path)
		}
		if c, err := net.Dial("unixgram", path); err == nil {
			return nil, errors.Join(failuref("--statsd-socket: somebody listens on %s", path), c.Close())
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("--statsd-socket: %w", err)
		}
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("--statsd-socket: %w", err)
	}
	_ = conn.SetReadBuffer(socketBuffer) // see listenUDP
	return &socket{source: "unix", place: path, path: path, conn: conn}, nil
}

// read hands packets to the sink until stop, and returns why it could not go
// on otherwise.
func (s *socket) read(k *sink) error {
	buffer := make([]byte, maxPacket+1) // one more than may be, to see that it is
	for {
		n, err := s.conn.Read(buffer)
		if n > 0 {
			k.packet(s.source, string(buffer[:n]), n > maxPacket)
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		case err != nil:
			return fmt.Errorf("read %s: %w", s.place, err)
		}
	}
}

// stop makes read return once it has read what had arrived.
func (s *socket) stop() error { return s.conn.SetReadDeadline(time.Now().Add(drainFor)) }

func closeSockets(sockets []*socket) error {
	var err error
	for _, s := range sockets {
		err = errors.Join(err, s.conn.Close())
		if s.path != "" {
			err = errors.Join(err, os.Remove(s.path))
		}
	}
	return err
}
