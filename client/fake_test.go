package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/distributed-median-tracker/dmt/internal/api"
	dmtv1 "github.com/distributed-median-tracker/dmt/internal/api/dmt/v1"
	"github.com/distributed-median-tracker/dmt/internal/api/dmt/v1/dmtv1connect"
	"github.com/distributed-median-tracker/dmt/window"
	"github.com/distributed-median-tracker/dmt/window/sketch"
)

// row names one stored sketch.
type row struct {
	metric, node string
	start        int64
}

// fake is a cluster in memory that speaks the real protocol: it counts batches
// by (producer, number), checks the rules that a producer must keep, and fails
// as it is told.
type fake struct {
	dmtv1connect.UnimplementedTrackerHandler

	mu        sync.Mutex // guards what follows
	id        string
	precision int
	rows      map[row]*sketch.Sketch
	batches   map[[16]byte]map[uint64]settledBatch
	low       map[[16]byte]uint64
	statuses  int
	behind    time.Duration // of its clock
	applied   int           // batches
	empties   int
	wrong     []string // rules that were broken

	// admit may refuse a batch as a whole, before anything is counted.
	admit func(*dmtv1.Batch) error
	// admitEntry may refuse one entry, with a reason.
	admitEntry func(*dmtv1.Entry) string
}

type settledBatch struct {
	hash    [32]byte
	refused uint64
}

func newFake() *fake {
	return &fake{
		id: "c1", precision: 7,
		rows:    make(map[row]*sketch.Sketch),
		batches: make(map[[16]byte]map[uint64]settledBatch),
		low:     make(map[[16]byte]uint64),
	}
}

func (f *fake) Status(context.Context, *connect.Request[dmtv1.StatusRequest]) (*connect.Response[dmtv1.StatusResponse], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.statuses++
	return connect.NewResponse(&dmtv1.StatusResponse{
		ClusterId: f.id, Id: "m1", Precision: uint32(f.precision), Clock: timestamppb.Now(),
		Tiers:   []*dmtv1.Tier{{Width: "10s", KeepNode: "6h", KeepFleet: "7d"}},
		Members: []*dmtv1.Member{{Id: "m1", ClockSkewMs: -3}},
	}), nil
}

func (f *fake) Ingest(_ context.Context, r *connect.Request[dmtv1.IngestRequest]) (*connect.Response[dmtv1.IngestResponse], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	res := &dmtv1.IngestResponse{ClockMs: time.Now().Add(-f.behind).UnixMilli(), Precision: uint32(f.precision), ClusterId: f.id}
	for _, b := range r.Msg.GetBatches() {
		one, err := f.ingest(b)
		if err != nil {
			return nil, err
		}
		res.Results = append(res.Results, one)
	}
	return connect.NewResponse(res), nil
}

func (f *fake) broken(format string, args ...any) {
	f.wrong = append(f.wrong, fmt.Sprintf(format, args...))
}

func (f *fake) ingest(b *dmtv1.Batch) (*dmtv1.BatchResult, error) {
	if b.GetClusterId() != "" && b.GetClusterId() != f.id {
		return nil, api.Error(connect.CodeFailedPrecondition, api.ErrorDetail{Reason: api.ReasonClusterID, Field: "cluster_id"}, "another cluster")
	}
	if len(b.GetProducer()) != 16 || b.GetSeq() == 0 {
		f.broken("batch without a name")
	}
	p := [16]byte(b.GetProducer())
	content, err := proto.MarshalOptions{Deterministic: true}.Marshal(b)
	if err != nil {
		return nil, err
	}
	hash := sha256.Sum256(content)
	if old, ok := f.batches[p][b.GetSeq()]; ok {
		if old.hash != hash {
			return nil, api.Error(connect.CodeAlreadyExists, api.ErrorDetail{Reason: api.ReasonConflict}, "other content")
		}
		return &dmtv1.BatchResult{Status: dmtv1.BatchResult_DUPLICATE, RefusedCount: old.refused}, nil
	}
	if b.GetSeq() > f.low[p]+64 {
		f.broken("batch %d is more than 64 ahead of %d", b.GetSeq(), f.low[p])
		return nil, api.Error(connect.CodeFailedPrecondition, api.ErrorDetail{Reason: api.ReasonWindow}, "too far ahead")
	}
	if f.admit != nil && len(b.GetEntries()) > 0 {
		if err := f.admit(b); err != nil {
			return nil, err
		}
	}
	return f.apply(p, b, hash)
}

func (f *fake) apply(p [16]byte, b *dmtv1.Batch, hash [32]byte) (*dmtv1.BatchResult, error) {
	res := &dmtv1.BatchResult{Status: dmtv1.BatchResult_APPLIED}
	for i, e := range b.GetEntries() {
		var s sketch.Sketch
		if err := s.UnmarshalBinary(e.GetSketch()); err != nil || s.Precision() != f.precision {
			return nil, api.Error(connect.CodeInvalidArgument,
				api.ErrorDetail{Reason: api.ReasonCorruptSketch, Field: fmt.Sprintf("batches[0].entries[%d].sketch", i)}, "precision %d: %v", s.Precision(), err)
		}
		if e.GetStart()%10 != 0 {
			f.broken("start %d is not aligned", e.GetStart())
		}
		if f.admitEntry != nil {
			if reason := f.admitEntry(e); reason != "" {
				res.Refused = append(res.Refused, &dmtv1.Refusal{Entry: uint32(i), Reason: reason, Message: "said the test"})
				continue
			}
		}
		k := row{e.GetMetric(), e.GetNode(), e.GetStart()}
		if f.rows[k] == nil {
			f.rows[k] = sketch.New(f.precision)
		}
		f.rows[k].Merge(&s)
		res.Accepted++
	}
	res.RefusedCount = uint64(len(res.Refused))
	if f.batches[p] == nil {
		f.batches[p] = make(map[uint64]settledBatch)
	}
	f.batches[p][b.GetSeq()] = settledBatch{hash, res.RefusedCount}
	for f.batches[p][f.low[p]+1] != (settledBatch{}) {
		f.low[p]++
	}
	f.applied++
	if len(b.GetEntries()) == 0 {
		f.empties++
	}
	return res, nil
}

func (f *fake) Query(_ context.Context, r *connect.Request[dmtv1.QueryRequest]) (*connect.Response[dmtv1.QueryResponse], error) {
	q, err := api.QueryFromProto(r.Msg, time.Now())
	if in := (*window.InputError)(nil); errors.As(err, &in) {
		return nil, api.InputError(in)
	}
	sum, nodes := f.total(string(q.Metric))
	ans := window.Answer{Metric: q.Metric, Span: window.Span{From: 0, To: 10}}
	if sum == nil {
		return nil, api.Error(connect.CodeNotFound, api.ErrorDetail{Reason: api.ReasonUnknownMetric, Field: "metric"}, "no such metric")
	}
	if _, last := q.Span.Relative(); !last { // the fake has nothing recent
		ans.Results = []window.Result{{
			Node: window.AllNodes, Span: ans.Span, Count: sum.Count(), Min: sum.Min(), Max: sum.Max(), Nodes: nodes,
			Estimates: []window.QuantileEstimate{{Q: 0.5, Estimate: sum.Median()}},
		}}
	}
	return connect.NewResponse(api.AnswerToProto(ans)), nil
}

func (f *fake) AddValues(_ context.Context, r *connect.Request[dmtv1.AddValuesRequest]) (*connect.Response[dmtv1.AddValuesResponse], error) {
	n := uint64(len(r.Msg.GetValues()) + len(r.Msg.GetFloats()))
	f.mu.Lock()
	defer f.mu.Unlock()
	p := [16]byte(sha256.New().Sum([]byte(r.Msg.GetRequestId()))[:16])
	if f.batches[p] == nil {
		f.batches[p] = make(map[uint64]settledBatch)
		f.applied++
	}
	return connect.NewResponse(&dmtv1.AddValuesResponse{Count: n}), nil
}

// total merges everything stored of a metric; nil when it is unknown.
func (f *fake) total(metric string) (*sketch.Sketch, int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var sum *sketch.Sketch
	nodes := make(map[string]bool)
	for k, s := range f.rows {
		if k.metric == metric {
			if sum == nil {
				sum = sketch.New(f.precision)
			}
			sum.Merge(s)
			nodes[k.node] = true
		}
	}
	return sum, len(nodes)
}

// sum returns how many values are stored of a metric.
func (f *fake) sum(metric string) uint64 {
	s, _ := f.total(metric)
	if s == nil {
		return 0
	}
	return s.Count()
}

// check fails the test if the client broke a rule.
func (f *fake) check(t testing.TB) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, w := range f.wrong {
		t.Error("rule broken:", w)
	}
}

// trouble is what the network does to one request.
type trouble int

const (
	none     trouble = iota
	lost             // the request never arrives
	mute             // the answer never arrives
	hang             // nothing arrives, and nobody says so
	slow             // it arrives late
	repeated         // it arrives twice
)

// wire is the network between a client and fake clusters, by host.
type wire struct {
	mu      sync.Mutex
	hosts   map[string]http.Handler
	trouble func(host, procedure string) trouble // nil: none
	calls   []string                             // host and procedure
	sent    uint64                               // bytes of bodies
}

func newWire(f *fake, hosts ...string) *wire {
	w := &wire{hosts: make(map[string]http.Handler)}
	for _, h := range hosts {
		w.serve(h, f)
	}
	return w
}

func (w *wire) serve(host string, h dmtv1connect.TrackerHandler) {
	_, handler := dmtv1connect.NewTrackerHandler(h, connect.WithReadMaxBytes(api.MaxRequestBytes))
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hosts[host] = handler
}

var errWire = errors.New("wire: connection refused")

func (w *wire) Do(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	procedure := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
	w.mu.Lock()
	w.calls = append(w.calls, r.URL.Host+" "+procedure)
	w.sent += uint64(len(body))
	handler := w.hosts[r.URL.Host]
	what := none
	if w.trouble != nil {
		what = w.trouble(r.URL.Host, procedure)
	}
	w.mu.Unlock()
	if handler == nil || what == lost {
		return nil, errWire
	}
	serve := func() *http.Response {
		again := r.Clone(r.Context())
		again.Body = io.NopCloser(bytes.NewReader(body))
		rec := httptest.NewRecorder()
		handler.ServeHTTP(rec, again)
		return rec.Result()
	}
	switch what {
	case hang:
		<-r.Context().Done()
		return nil, r.Context().Err()
	case mute:
		serve()
		return nil, io.ErrUnexpectedEOF
	case slow:
		select {
		case <-time.After(2 * time.Second):
		case <-r.Context().Done():
			serve() // it arrives when nobody waits any more
			return nil, r.Context().Err()
		}
	case repeated:
		serve()
	}
	return serve(), nil
}

// called counts requests by host and procedure; an empty one matches all.
func (w *wire) called(host, procedure string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, c := range w.calls {
		h, p, _ := strings.Cut(c, " ")
		if (host == "" || h == host) && (procedure == "" || p == procedure) {
			n++
		}
	}
	return n
}

func (w *wire) make(trouble func(host, procedure string) trouble) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trouble = trouble
}

// newTest returns a client of a fake cluster of three addresses.
func newTest(t testing.TB, o Options) (*Client, *fake, *wire) {
	t.Helper()
	f := newFake()
	w := newWire(f, "a:1", "b:1", "c:1")
	o.HTTPClient = w
	c, err := New([]string{"a:1", "b:1", "c:1"}, o)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	var mu sync.Mutex
	c.random = func() float64 {
		mu.Lock()
		defer mu.Unlock()
		return rng.Float64()
	}
	t.Cleanup(func() { f.check(t) })
	return c, f, w
}

// closeNow closes without waiting for anything.
func closeNow(t testing.TB, c *Client) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Close(ctx); err != nil && !errors.Is(err, ErrClosed) {
		t.Log("close:", err)
	}
}
