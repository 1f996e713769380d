package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// places are the addresses of the members, kept in the directory.
type places struct {
	Addresses []string `json:"addresses"`
}

// listen opens the listeners of all members. A directory remembers its
// addresses: members know each other by them.
func (a *localArgs) listen(ctx context.Context) ([]net.Listener, error) {
	wanted, err := a.addresses()
	if err != nil {
		return nil, err
	}
	listeners, err := listenAll(ctx, wanted)
	if err != nil {
		return nil, err
	}
	var p places
	for _, l := range listeners {
		p.Addresses = append(p.Addresses, l.Addr().String())
	}
	if err := a.remember(p); err != nil {
		for _, l := range listeners {
			err = errors.Join(err, l.Close())
		}
		return nil, err
	}
	return listeners, nil
}

// addresses returns where to listen: where the members of the directory expect
// each other, if there are any.
func (a *localArgs) addresses() ([]string, error) {
	// DMT_ADDR may list all members, as clients want it.
	a.addr, _, _ = strings.Cut(a.addr, ",")
	old, err := a.recall()
	if err != nil {
		return nil, err
	}
	if len(old.Addresses) == 0 {
		return a.wanted()
	}
	first := old.Addresses[0]
	switch {
	case a.addrGiven && a.addr != first && !strings.HasSuffix(a.addr, ":0"):
		return nil, usagef("--addr: the cluster in %s listens on %s, not %s", a.dir, first, a.addr)
	case a.membersGiven && a.members != len(old.Addresses):
		return nil, usagef("--members: the cluster in %s has %d members, not %d", a.dir, len(old.Addresses), a.members)
	}
	return old.Addresses, nil
}

// wanted returns the addresses that the flags name.
func (a *localArgs) wanted() ([]string, error) {
	host, portText, err := net.SplitHostPort(a.addr)
	if err != nil {
		return nil, usageError{fmt.Errorf("--addr: %w", err)}
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil || int(port)+a.members-1 > 65535 {
		return nil, usagef("--addr: no %d ports from %q", a.members, portText)
	}
	addrs := make([]string, a.members)
	for i := range addrs {
		addrs[i] = net.JoinHostPort(host, strconv.Itoa(int(port)))
		if port != 0 {
			port++
		}
	}
	return addrs, nil
}

func listenAll(ctx context.Context, addrs []string) ([]net.Listener, error) {
	var config net.ListenConfig
	var listeners []net.Listener
	for i, addr := range addrs {
		l, err := config.Listen(ctx, "tcp", addr)
		if err != nil {
			err = fmt.Errorf("%s: %w", memberName(i), err)
			for _, l := range listeners {
				err = errors.Join(err, l.Close())
			}
			return nil, err
		}
		listeners = append(listeners, l)
	}
	return listeners, nil
}

func (a *localArgs) file() string { return filepath.Join(a.dir, "local.json") }

func (a *localArgs) recall() (places, error) {
	var p places
	b, err := os.ReadFile(a.file())
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return p, err
	}
	if err := json.Unmarshal(b, &p); err != nil {
		return p, fmt.Errorf("%s: %w", a.file(), err)
	}
	return p, nil
}

func (a *localArgs) remember(p places) error {
	if err := os.MkdirAll(a.dir, 0o700); err != nil {
		return err
	}
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return os.WriteFile(a.file(), append(b, '\n'), 0o600)
}
