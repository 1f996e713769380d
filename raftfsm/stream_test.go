package raftfsm

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

const (
	uuidA = "000102030405060708090a0b0c0d0e0f"
	uuidB = "f00102030405060708090a0b0c0d0e0f"
)

type fixedNames struct {
	cluster string
	id      raft.ServerID
	targets map[string]string
}

func (f fixedNames) clusterID() string            { return f.cluster }
func (f fixedNames) self() raft.ServerID          { return f.id }
func (f fixedNames) target(address string) string { return f.targets[address] }

// serveStream runs a member's upgrade handler behind a real HTTP server.
func serveStream(t *testing.T, n fixedNames) (*streamLayer, string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	layer := newStreamLayer(ln.Addr().String(), n, nil)
	mux := http.NewServeMux()
	mux.Handle("GET "+upgradePath, layer)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Second, ReadTimeout: 2 * time.Second, WriteTimeout: 2 * time.Second}
	done := make(chan error, 1)
	go func() { done <- server.Serve(ln) }()
	t.Cleanup(func() {
		layer.Close()
		server.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve = %v", err)
		}
	})
	return layer, ln.Addr().String()
}

func dialer(t *testing.T, cluster, target, addr string) *streamLayer {
	t.Helper()
	l := newStreamLayer("127.0.0.1:1", fixedNames{cluster, serverID("a", uuidA), map[string]string{addr: target}}, nil)
	t.Cleanup(func() { l.Close() })
	return l
}

func TestStream_CarriesBytesBothWays(t *testing.T) {
	b := serverID("b", uuidB)
	server, addr := serveStream(t, fixedNames{cluster: "c1", id: b})
	out, err := dialer(t, "c1", string(b), addr).Dial(raft.ServerAddress(addr), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	in, err := server.Accept()
	if err != nil {
		t.Fatal(err)
	}
	f := func(from, to net.Conn, text string) {
		t.Helper()
		if _, err := io.WriteString(from, text); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(text))
		if _, err := io.ReadFull(to, got); err != nil || string(got) != text {
			t.Errorf("read %q, %v, want %q", got, err, text)
		}
	}
	f(out, in, "request")
	f(in, out, "answer")
	// The deadlines of the HTTP server must be gone: an idle stream lives on.
	if s, ok := in.(*streamConn); !ok || s.layer != server {
		t.Errorf("accepted a %T", in)
	}
}

// A peer that writes right behind its request must lose nothing, and neither
// must a dialer whose peer writes right behind the 101.
func TestStream_KeepsEarlyBytes(t *testing.T) {
	b := serverID("b", uuidB)
	server, addr := serveStream(t, fixedNames{cluster: "c1", id: b})
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, upgradeText("c1", string(serverID("a", uuidA)), string(b), "0")+"early")
	in, err := server.Accept()
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(in, got); err != nil || string(got) != "early" {
		t.Errorf("server read %q, %v, want the early bytes", got, err)
	}

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
			return
		}
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: dmt-raft/1\r\n\r\nearly")
		io.Copy(io.Discard, c)
	}()
	out, err := dialer(t, "c1", string(b), ln.Addr().String()).Dial(raft.ServerAddress(ln.Addr().String()), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, got); err != nil || string(got) != "early" {
		t.Errorf("dialer read %q, %v, want the early bytes", got, err)
	}
}

func upgradeText(cluster, member, target, group string) string {
	return "GET /raft HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: dmt-raft/1\r\n" +
		"Dmt-Cluster: " + cluster + "\r\nDmt-Member: " + member + "\r\nDmt-Target: " + target + "\r\nDmt-Group: " + group + "\r\n\r\n"
}

func TestStream_RefusesBeforeAnyByteIsDecoded(t *testing.T) {
	a, b := string(serverID("a", uuidA)), string(serverID("b", uuidB))
	server, addr := serveStream(t, fixedNames{cluster: "c1", id: raft.ServerID(b)})
	_, unjoined := serveStream(t, fixedNames{id: raft.ServerID(b)})
	f := func(addr, text string, want int) {
		t.Helper()
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(5 * time.Second))
		io.WriteString(conn, text)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != want {
			body, _ := io.ReadAll(resp.Body)
			t.Errorf("%q was answered %d %s, want %d", text, resp.StatusCode, body, want)
		}
	}
	f(addr, upgradeText("c2", a, b, "0"), http.StatusConflict)
	f(addr, upgradeText("", a, b, "0"), http.StatusConflict)
	f(addr, upgradeText("c1", a, string(serverID("b", uuidA)), "0"), http.StatusMisdirectedRequest)
	f(addr, upgradeText("c1", "a", b, "0"), http.StatusBadRequest)
	f(addr, upgradeText("c1", a, b, "1"), http.StatusNotFound)
	f(addr, strings.Replace(upgradeText("c1", a, b, "0"), "dmt-raft/1", "h2c", 1), http.StatusUpgradeRequired)
	f(addr, strings.Replace(upgradeText("c1", a, b, "0"), "keep-alive, Upgrade", "close", 1), http.StatusUpgradeRequired)
	f(addr, strings.Replace(upgradeText("c1", a, b, "0"), "Dmt-Group", "Content-Length: 1\r\nDmt-Group", 1)+"x", http.StatusBadRequest)
	f(addr, strings.Replace(upgradeText("c1", a, b, "0"), "GET", "POST", 1), http.StatusMethodNotAllowed)
	f(addr, "\x00\x01\x02\x93 random bytes\r\n\r\n", http.StatusBadRequest)
	f(unjoined, upgradeText("c1", a, b, "0"), http.StatusServiceUnavailable)
	server.mu.Lock()
	defer server.mu.Unlock()
	if len(server.conns) != 0 {
		t.Errorf("%d refused connections were taken over", len(server.conns))
	}
}

func TestStream_DialerReportsTheRefusal(t *testing.T) {
	b := string(serverID("b", uuidB))
	_, addr := serveStream(t, fixedNames{cluster: "c1", id: raft.ServerID(b)})
	_, err := dialer(t, "c2", b, addr).Dial(raft.ServerAddress(addr), time.Second)
	var refused *RefusedError
	if !errors.As(err, &refused) || refused.Status != http.StatusConflict || !strings.Contains(refused.Reason, "c1") {
		t.Errorf("Dial = %v, want the refusal with both cluster ids", err)
	}
	if _, err := dialer(t, "", b, addr).Dial(raft.ServerAddress(addr), time.Second); err == nil {
		t.Error("a member that knows no cluster dialed")
	}
}

func TestStream_SilentPeerEndsTheHandshake(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	addr := ln.Addr().String()
	start := time.Now()
	if _, err := dialer(t, "c1", "b@x", addr).Dial(raft.ServerAddress(addr), 50*time.Millisecond); err == nil {
		t.Error("Dial to a peer that never answers returned no error")
	}
	if d := time.Since(start); d > time.Second {
		t.Errorf("Dial took %v, its timeout is 50 ms", d)
	}
}

func TestStream_CloseEndsHijackedConnections(t *testing.T) {
	b := serverID("b", uuidB)
	server, addr := serveStream(t, fixedNames{cluster: "c1", id: b})
	client := dialer(t, "c1", string(b), addr)
	out, err := client.Dial(raft.ServerAddress(addr), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	in, err := server.Accept()
	if err != nil {
		t.Fatal(err)
	}
	server.Close()
	server.Close()
	if _, err := in.Read(make([]byte, 1)); err == nil {
		t.Error("a closed layer's connection can still be read")
	}
	if _, err := out.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the peer of a closed layer reads %v, want EOF", err)
	}
	if _, err := server.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after Close = %v", err)
	}
	if _, err := client.Dial(raft.ServerAddress(addr), time.Second); err == nil {
		t.Error("Dial to a closed layer returned a connection")
	}
	client.Close()
	if _, err := client.dialOnly(addr); err == nil {
		t.Error("a closed layer dialed")
	}
}

func (l *streamLayer) dialOnly(addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	conn, err := l.dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	return l.track(conn, bufio.NewReader(conn))
}
