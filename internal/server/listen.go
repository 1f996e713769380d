package server

import (
	"context"
	"fmt"
	"net"
)

// listen opens the listener of o and says under which address the member is
// reached. Without TLS whoever reaches the port may write, read and remove
// members, so an address beyond this machine must be asked for by name.
func listen(ctx context.Context, o Options) (net.Listener, string, error) {
	l := o.Listener
	if l == nil {
		if !o.Insecure {
			if err := checkLoopback(ctx, o.Listen); err != nil {
				return nil, "", err
			}
		}
		var err error
		var config net.ListenConfig
		if l, err = config.Listen(ctx, "tcp", o.Listen); err != nil {
			return nil, "", fmt.Errorf("listen on %q: %w", o.Listen, err)
		}
	}
	advertise, err := advertised(l.Addr(), o)
	if err != nil {
		// Only a listener opened here is ours to close.
		if o.Listener == nil {
			_ = l.Close() // nothing was accepted yet; the first error says more
		}
		return nil, "", err
	}
	return l, advertise, nil
}

// advertised returns the address that others dial, and refuses a bound
// address that Options do not permit.
func advertised(bound net.Addr, o Options) (string, error) {
	tcp, ok := bound.(*net.TCPAddr)
	if ok && !tcp.IP.IsLoopback() && !o.Insecure {
		return "", notLoopback(bound.String())
	}
	if o.Advertise == "" {
		if ok && tcp.IP.IsUnspecified() {
			return "", fmt.Errorf("server: listening on every address (%s): the address that others dial must be given (advertise)", bound)
		}
		return bound.String(), nil
	}
	host, port, err := net.SplitHostPort(o.Advertise)
	if err != nil {
		return "", fmt.Errorf("server: advertise %q: %w", o.Advertise, err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		return "", fmt.Errorf("server: advertise %q: names no host that others could dial", o.Advertise)
	}
	if port == "0" || port == "" {
		if !ok {
			return "", fmt.Errorf("server: advertise %q: names no port", o.Advertise)
		}
		port = fmt.Sprint(tcp.Port)
	}
	return net.JoinHostPort(host, port), nil
}

// checkLoopback refuses an address that is, or may be, reached from another
// machine. A name counts as loopback only if all its addresses are.
func checkLoopback(ctx context.Context, address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("server: listen %q: %w", address, err)
	}
	if host == "" {
		return notLoopback(address)
	}
	if ip := net.ParseIP(host); ip != nil {
		if !ip.IsLoopback() {
			return notLoopback(address)
		}
		return nil
	}
	addresses, err := net.DefaultResolver.LookupIPAddr(ctx, host)
	if err != nil {
		return fmt.Errorf("server: listen %q: %w", address, err)
	}
	for _, a := range addresses {
		if !a.IP.IsLoopback() {
			return notLoopback(address)
		}
	}
	return nil
}

func notLoopback(address string) error {
	return fmt.Errorf("server: refusing to listen on %s: it can be reached from other machines and there is neither TLS nor authentication; listen on 127.0.0.1 or ask for it with --insecure", address)
}
