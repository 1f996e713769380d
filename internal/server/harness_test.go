package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/distributed-median-tracker/dmt/internal/api"
	dmtv1 "github.com/distributed-median-tracker/dmt/internal/api/dmt/v1"
	"github.com/distributed-median-tracker/dmt/internal/api/dmt/v1/dmtv1connect"
	"github.com/distributed-median-tracker/dmt/internal/server"
	"github.com/distributed-median-tracker/dmt/window/sketch"
)

// past is a bucket far enough from the present that no test depends on the
// hour it runs at.
var past = time.Date(2020, 1, 2, 3, 4, 0, 0, time.UTC).Unix()

// caller is one client connection, and counts how often it had to be opened.
type caller struct {
	t       testing.TB
	address string
	http    *http.Client
	dials   *atomic.Int64
}

func dial(t testing.TB, address string) *caller {
	c := &caller{t: t, address: address, dials: new(atomic.Int64)}
	transport := &http.Transport{
		MaxConnsPerHost: 1,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			c.dials.Add(1)
			return (&net.Dialer{}).DialContext(ctx, network, address)
		},
		DisableCompression: true,
	}
	c.http = &http.Client{Transport: transport, Timeout: 30 * time.Second}
	t.Cleanup(transport.CloseIdleConnections)
	return c
}

func (c *caller) tracker() dmtv1connect.TrackerClient {
	return dmtv1connect.NewTrackerClient(c.http, "http://"+c.address)
}

// post does what curl does.
func (c *caller) post(method, body string, headers ...string) (status int, answer string) {
	c.t.Helper()
	req, err := http.NewRequest(http.MethodPost, "http://"+c.address+"/dmt.v1.Tracker/"+method, bytes.NewBufferString(body))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := c.http.Do(req)
	if err != nil {
		c.t.Fatalf("POST %s: %v", method, err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Fatalf("POST %s: read answer: %v", method, err)
	}
	return res.StatusCode, string(b)
}

// get fetches one of the plain pages.
func (c *caller) get(path string) (status int, answer string) {
	c.t.Helper()
	res, err := c.http.Get("http://" + c.address + path)
	if err != nil {
		c.t.Fatalf("GET %s: %v", path, err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Fatalf("GET %s: %v", path, err)
	}
	return res.StatusCode, string(b)
}

// jsonError is an error of Connect as curl sees it.
type jsonError struct {
	Code    string
	Message string
	Details []struct {
		Type  string
		Debug struct{ Reason, Field, Limit, Leader string }
	}
}

// refusal is what an error says to a program.
type refusal struct{ code, reason, field string }

func (r refusal) String() string { return fmt.Sprintf("%s %s %s", r.code, r.reason, r.field) }

// parseRefusal reads the answer to a refused JSON request.
func parseRefusal(t testing.TB, status int, answer string) refusal {
	t.Helper()
	if status == http.StatusOK {
		return refusal{code: "ok"}
	}
	var e jsonError
	if err := json.Unmarshal([]byte(answer), &e); err != nil {
		t.Fatalf("answer %d %q: %v", status, answer, err)
	}
	r := refusal{code: e.Code}
	for _, d := range e.Details {
		if d.Type == "dmt.v1.ErrorDetail" {
			r.reason, r.field = d.Debug.Reason, d.Debug.Field
		}
	}
	return r
}

// refusalOf reads the error of a Connect call.
func refusalOf(err error) refusal {
	if err == nil {
		return refusal{code: "ok"}
	}
	var ce *connect.Error
	if !errors.As(err, &ce) {
		return refusal{code: err.Error()}
	}
	r := refusal{code: ce.Code().String()}
	if d, ok := api.FromError(err); ok {
		r.reason, r.field = d.GetReason(), d.GetField()
	}
	return r
}

// counted adds up all values that a member holds.
func counted(t testing.TB, s *server.Server) uint64 {
	t.Helper()
	infos, _, err := s.Node().Store().Metrics(context.Background())
	if err != nil {
		t.Fatalf("metrics: %v", err)
	}
	var n uint64
	for _, m := range infos {
		n += m.Count
	}
	return n
}

// sketchOf encodes values.
func sketchOf(t testing.TB, precision int, values ...int64) []byte {
	t.Helper()
	s := sketch.New(precision)
	for _, v := range values {
		s.AddInt(v)
	}
	b, err := s.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// entry is a good entry.
func entry(t testing.TB, metric, node string, values ...int64) *dmtv1.Entry {
	return &dmtv1.Entry{Metric: metric, Node: node, Start: past, Sketch: sketchOf(t, sketch.DefaultPrecision, values...)}
}

// batchOf is a good batch of a producer named by one byte.
func batchOf(producer byte, seq uint64, entries ...*dmtv1.Entry) *dmtv1.Batch {
	return &dmtv1.Batch{
		Producer: bytes.Repeat([]byte{producer}, api.ProducerBytes), Seq: seq, SeenMs: time.Now().UnixMilli(), Entries: entries,
	}
}

func ingest(batches ...*dmtv1.Batch) *connect.Request[dmtv1.IngestRequest] {
	return connect.NewRequest(&dmtv1.IngestRequest{Batches: batches})
}
