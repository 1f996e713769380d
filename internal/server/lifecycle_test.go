package server_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"

	"github.com/distributed-median-tracker/dmt/client/clustertest"
	"github.com/distributed-median-tracker/dmt/internal/api"
	dmtv1 "github.com/distributed-median-tracker/dmt/internal/api/dmt/v1"
	"github.com/distributed-median-tracker/dmt/internal/api/dmt/v1/dmtv1connect"
	"github.com/distributed-median-tracker/dmt/internal/server"
	"github.com/distributed-median-tracker/dmt/raftfsm"
)

func TestShutdown_HandsLeadershipOver(t *testing.T) {
	t.Parallel()
	cluster := clustertest.Start(t, 3)
	leader := cluster.Leader()
	other := dial(t, cluster.Addr((leader+1)%3)).tracker()
	term := cluster.Server(leader).Node().Status().Term
	cluster.Stop(leader)
	// The others know their leader without an election having to time out.
	if next := cluster.Leader(); next == leader {
		t.Fatalf("member %d leads and is stopped", leader)
	}
	if _, err := other.Ingest(context.Background(), ingest(batchOf(1, 1, entry(t, "m", "a", 1)))); err != nil {
		t.Errorf("Ingest after the leader was stopped: %v", err)
	}
	if now := cluster.Server(cluster.Leader()).Node().Status().Term; now != term+1 {
		t.Errorf("term %d after a transfer in term %d, want the next", now, term)
	}
	cluster.Restart(leader)
	cluster.WaitReady()
	cluster.WaitEqual()
}

// Requests that were begun are answered, those that come in between are
// answered by somebody.
func TestShutdown_FinishesWhatItHasBegun(t *testing.T) {
	t.Parallel()
	cluster := clustertest.Start(t, 3)
	leader := cluster.Leader()
	tracker := dial(t, cluster.Addr(leader)).tracker()
	ctx, stop := context.WithCancel(context.Background())
	var seq uint64
	done := make(chan error, 1)
	go func() {
		for seq = 1; ; seq++ {
			if _, err := tracker.Ingest(ctx, ingest(batchOf(1, seq, entry(t, "m", "a", 1)))); err != nil {
				done <- err
				return
			}
		}
	}()
	until(ctx, t, "values", func() bool { return counted(t, cluster.Server(leader)) >= 20 })
	cluster.Stop(leader)
	if err := <-done; connect.IsWireError(err) {
		t.Errorf("a request was refused instead of answered: %v", err)
	}
	stop()
	cluster.WaitEqual()
	// The last one may have been counted without an answer getting out.
	if got := counted(t, cluster.Server(cluster.Leader())); got != seq-1 && got != seq {
		t.Errorf("%d values counted, %d acknowledged", got, seq-1)
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	cluster := clustertest.Start(t, 3)
	c := dial(t, cluster.Addr(2))
	f := func(path string, wantStatus int, wantBody string) {
		t.Helper()
		if status, body := c.get(path); status != wantStatus || !strings.Contains(body, wantBody) {
			t.Errorf("GET %s = %d %q, want %d %q", path, status, body, wantStatus, wantBody)
		}
	}
	grpc := func(service string) string {
		t.Helper()
		status, body := postTo(t, c, "/grpc.health.v1.Health/Check", `{"service":"`+service+`"}`)
		if status != 200 {
			return parseRefusal(t, status, body).code
		}
		return body
	}
	f("/healthz", 200, "ok")
	f("/readyz", 200, "ok")
	f("/readyz?noleader", 200, "ok")
	if got := grpc(""); !strings.Contains(got, `"SERVING_STATUS_SERVING"`) {
		t.Errorf("grpc health: %s, want SERVING", got)
	}
	if got := grpc("dmt.v1.Tracker"); !strings.Contains(got, `"SERVING_STATUS_SERVING"`) {
		t.Errorf("grpc health of the Tracker: %s, want SERVING", got)
	}
	if got := grpc("nobody"); got != "not_found" {
		t.Errorf("grpc health of nobody: %s, want not_found", got)
	}
	cluster.Kill(0)
	cluster.Kill(1)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	until(ctx, t, "the loss of the leader to show", func() bool {
		status, _ := c.get("/readyz")
		return status == 503
	})
	f("/healthz", 200, "ok")
	f("/readyz", 503, "no leader")
	f("/readyz?noleader", 200, "ok")
	if got := grpc(""); !strings.Contains(got, `"SERVING_STATUS_NOT_SERVING"`) {
		t.Errorf("grpc health without a leader: %s, want NOT_SERVING", got)
	}
}

var _ grpchealth.Checker = (*server.Server)(nil)

// A member that waits for others says so, and refuses work in time.
func TestHealth_BeforeTheClusterIsFormed(t *testing.T) {
	t.Parallel()
	srv, err := server.Start(context.Background(), server.Options{Listen: "127.0.0.1:0", Raft: raftfsm.Options{
		Dir: t.TempDir(), Join: []string{"127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"}, BootstrapExpect: 3, MinFreeDisk: -1,
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Kill()
	c := dial(t, srv.Addr())
	if status, body := c.get("/healthz"); status != 200 {
		t.Errorf("GET /healthz = %d %q, want 200", status, body)
	}
	for _, path := range []string{"/readyz", "/readyz?noleader"} {
		if status, body := c.get(path); status != 503 || !strings.Contains(body, "not a member") {
			t.Errorf("GET %s = %d %q, want 503 not a member", path, status, body)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, err = c.tracker().AddValues(ctx, connect.NewRequest(&dmtv1.AddValuesRequest{Metric: "m", Node: "a", Values: []int64{1}}))
	if got, want := refusalOf(err).String(), "unavailable no_leader "; got != want {
		t.Errorf("AddValues = %s, want %s", got, want)
	}
	short, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := srv.WaitReady(short); err == nil {
		t.Error("WaitReady = nil without a cluster")
	}
}

// Slow clients are cut off, members are not.
func TestTimes_CutSlowClientsButNotRaft(t *testing.T) {
	const hurry = 250 * time.Millisecond
	server.HurryTimes(t, hurry)
	cluster := clustertest.Start(t, 3)
	leader := cluster.Leader()
	term := cluster.Server(leader).Node().Status().Term
	f := func(what, begin string) {
		t.Helper()
		conn, err := net.Dial("tcp", cluster.Addr(leader))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write([]byte(begin)); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if err := conn.SetDeadline(start.Add(20 * hurry)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: still connected after %v", what, time.Since(start))
		}
	}
	for range 2 { // longer altogether than any time-out
		f("nothing at all", "")
		f("half a header", "POST /dmt.v1.Tracker/Query HTTP/1.1\r\nHost: x\r\nContent-")
		f("half a body", "POST /dmt.v1.Tracker/Query HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
		f("an idle connection", "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
		f("no HTTP at all", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
		f("a stranger at the door of Raft", "GET /raft HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: dmt-raft/1\r\n\r\n")
	}
	if now := cluster.Server(leader).Node().Status(); now.Term != term || !cluster.Server(leader).Node().IsLeader() {
		t.Errorf("term %d after %d: the Raft connections were cut", now.Term, term)
	}
	if _, err := dial(t, cluster.Addr(leader)).tracker().Ingest(context.Background(), ingest(batchOf(1, 1, entry(t, "m", "a", 1)))); err != nil {
		t.Errorf("Ingest: %v", err)
	}
}

// One port speaks all protocols.
func TestProtocols(t *testing.T) {
	t.Parallel()
	cluster := clustertest.Start(t, 1)
	h2 := new(http.Protocols)
	h2.SetUnencryptedHTTP2(true)
	over2 := &http.Client{Transport: &http.Transport{Protocols: h2}}
	over1 := &http.Client{Transport: &http.Transport{}}
	f := func(name string, c *http.Client, options ...connect.ClientOption) {
		t.Helper()
		defer c.CloseIdleConnections()
		tracker := dmtv1connect.NewTrackerClient(c, "http://"+cluster.Addr(0), options...)
		e := entry(t, "m", name, 1)
		if _, err := tracker.Ingest(context.Background(), ingest(batchOf(name[0], 1, e))); err != nil {
			t.Errorf("%s: Ingest: %v", name, err)
		}
		e.Node = ""
		_, err := tracker.Ingest(context.Background(), ingest(batchOf(name[0], 2, e)))
		if got, want := refusalOf(err).String(), "invalid_argument empty batches[0].entries[0].node"; got != want {
			t.Errorf("%s: Ingest = %s, want %s", name, got, want)
		}
	}
	f("a connect over HTTP/1.1", over1)
	f("b connect over HTTP/2", over2)
	f("c gzip", over2, connect.WithSendGzip())
	f("d json", over1, api.JSON())
	f("e grpc", over2, connect.WithGRPC())
	f("f grpc with json", over2, connect.WithGRPC(), api.JSON())
	f("g grpc-web", over1, connect.WithGRPCWeb())
	if got := counted(t, cluster.Server(0)); got != 7 {
		t.Errorf("%d values counted, want 7", got)
	}
}

func TestStart_OneMemberTwice(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	start := func() *server.Server {
		t.Helper()
		srv, err := server.Start(context.Background(), server.Options{Listen: "127.0.0.1:0", Raft: raftfsm.Options{Dir: dir, MinFreeDisk: -1}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := srv.WaitReady(ctx); err != nil {
			t.Fatal(err)
		}
		return srv
	}
	srv := start()
	if _, err := server.Start(context.Background(), server.Options{Listen: "127.0.0.1:0", Raft: raftfsm.Options{Dir: dir, MinFreeDisk: -1}}); err == nil {
		t.Error("a second server started on the same directory")
	}
	if status, answer := dial(t, srv.Addr()).post("AddValues", `{"metric":"m","node":"a","values":[1,2]}`); status != 200 {
		t.Fatalf("AddValues: %d %s", status, answer)
	}
	if err := srv.Shutdown(context.Background()); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if err := srv.Shutdown(context.Background()); err != nil {
		t.Errorf("second Shutdown: %v", err)
	}
	srv.Kill() // nothing is left to kill
	if conn, err := net.Dial("tcp", srv.Addr()); err == nil {
		conn.Close()
		t.Error("the port answers after Shutdown")
	}
	srv = start()
	defer srv.Kill()
	if got := counted(t, srv); got != 2 {
		t.Errorf("%d values after a restart, want 2", got)
	}
}

// postTo is post for services other than the Tracker.
func postTo(t *testing.T, c *caller, path, body string) (int, string) {
	t.Helper()
	return c.post("../.."+path, body)
}
