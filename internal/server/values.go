package server

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/distributed-median-tracker/dmt/internal/api"
	dmtv1 "github.com/distributed-median-tracker/dmt/internal/api/dmt/v1"
	"github.com/distributed-median-tracker/dmt/internal/api/dmt/v1/dmtv1connect"
	"github.com/distributed-median-tracker/dmt/storage"
	"github.com/distributed-median-tracker/dmt/window"
	"github.com/distributed-median-tracker/dmt/window/sketch"
)

// AddValues counts raw numbers, which are sketched here and never enter the
// log.
//
// With a request_id the request is named by that, the metric and the node:
// a retry at any member within seven days is counted once, whatever bucket it
// would fall into by then. The whole request goes to the leader, because only
// the one that decides knows the content to compare with.
//
// Without one the numbers are counted once per call: a caller who retries
// after an error may count them twice.
func (s *Server) AddValues(ctx context.Context, req *connect.Request[dmtv1.AddValuesRequest]) (*connect.Response[dmtv1.AddValuesResponse], error) {
	v, err := s.checkValues(req.Msg)
	if err != nil {
		return nil, s.connectError(err)
	}
	if req.Msg.GetRequestId() != "" {
		return atLeader(ctx, s, req, s.addNamed, dmtv1connect.TrackerClient.AddValues)
	}
	if err := s.addUnnamed(ctx, v); err != nil {
		return nil, s.connectError(err)
	}
	return connect.NewResponse(&dmtv1.AddValuesResponse{Count: v.count()}), nil
}

// values is a checked AddValuesRequest.
type values struct {
	metric window.Metric
	node   string
	ints   []int64
	floats []float64
	at     int64 // unix seconds
}

func (v *values) count() uint64 { return uint64(len(v.ints) + len(v.floats)) }

// checkValues validates what does not depend on the cluster.
func (s *Server) checkValues(req *dmtv1.AddValuesRequest) (*values, error) {
	metric, err := window.ParseMetric(req.GetMetric())
	if err != nil {
		return nil, err
	}
	if err := window.CheckNode(req.GetNode()); err != nil {
		return nil, err
	}
	v := &values{metric: metric, node: req.GetNode(), ints: req.GetValues(), floats: req.GetFloats()}
	switch n := v.count(); {
	case n == 0:
		return nil, &window.InputError{Field: "values", Reason: api.ReasonEmpty, Message: "neither values nor floats"}
	case n > api.MaxValues:
		return nil, api.Error(connect.CodeInvalidArgument, detailOf(api.ReasonTooManyEntries, "values", fmt.Sprint(api.MaxValues)),
			"values: %d numbers in one request, at most %d are accepted", n, api.MaxValues)
	}
	for i, f := range v.floats {
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return nil, &window.InputError{Field: fmt.Sprintf("floats[%d]", i), Reason: api.ReasonNotFinite, Message: fmt.Sprintf("%v is not a finite number", f)}
		}
	}
	if n := len(req.GetRequestId()); n > api.MaxRequestIDBytes {
		return nil, &window.InputError{Field: "request_id", Reason: api.ReasonTooLong, Message: fmt.Sprintf("%d bytes", n), Limit: fmt.Sprint(api.MaxRequestIDBytes)}
	}
	now := s.node.Now()
	v.at = now.Unix()
	if at := req.GetAt(); at != "" {
		if v.at, err = window.ParseTime(at, now); err != nil {
			return nil, window.InField(err, "at")
		}
	}
	return v, nil
}

// batch sketches the values at the cluster's precision into one batch without
// a name. A time outside what the cluster keeps is an error here, because it
// concerns everything there is.
func (v *values) batch(lim bounds) (storage.Batch, error) {
	start := lim.tiers.Base().Floor(v.at)
	sk := sketch.New(lim.precision)
	for _, i := range v.ints {
		sk.AddInt(i)
	}
	for _, f := range v.floats {
		if err := sk.Add(f); err != nil {
			return storage.Batch{}, &window.InputError{Field: "floats", Reason: api.ReasonNotFinite, Message: err.Error()}
		}
	}
	b, err := sk.AppendBinary(nil)
	if err != nil {
		return storage.Batch{}, fmt.Errorf("encode sketch: %w", err)
	}
	return storage.Batch{Deltas: []storage.Delta{{Metric: string(v.metric), Node: v.node, Start: start, Sketch: b, Count: sk.Count()}}}, nil
}

// addNamed counts a request under its own name. Leader only.
func (s *Server) addNamed(ctx context.Context, req *dmtv1.AddValuesRequest) (*dmtv1.AddValuesResponse, error) {
	v, err := s.checkValues(req)
	if err != nil {
		return nil, err
	}
	lim, err := s.bounds()
	if err != nil {
		return nil, err
	}
	b, err := v.batch(lim)
	if err != nil {
		return nil, err
	}
	refusal, err := lim.outside(b.Deltas[0].Start)
	if err != nil {
		return nil, err
	}
	if refusal != nil {
		return nil, &window.InputError{Field: "at", Reason: refusal.Reason, Message: refusal.Message}
	}
	b.Producer, b.Seq, b.Hash = requestName(req), 1, hashValues(req)
	b.SeenMs = s.node.ClockMs()
	outcomes, err := s.node.Ingest(ctx, []storage.Batch{b})
	if err != nil {
		return nil, err
	}
	if err := outcomeError(outcomes[0], "request_id"); err != nil {
		return nil, err
	}
	return &dmtv1.AddValuesResponse{Count: v.count(), Duplicate: outcomes[0].Status == storage.Duplicate}, nil
}

// requestName makes a producer of a named request: the first 16 bytes of a
// SHA-256 over request_id, metric and node, each behind its length, so that
// no two different triples give the same bytes.
func requestName(req *dmtv1.AddValuesRequest) storage.ProducerID {
	var b []byte
	for _, s := range []string{req.GetRequestId(), req.GetMetric(), req.GetNode()} {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	sum := sha256.Sum256(b)
	return storage.ProducerID(sum[:])
}

// hashValues names the content of a request as the client wrote it: the
// bucket is left out, because without `at` it follows the time of arrival.
func hashValues(req *dmtv1.AddValuesRequest) uint64 {
	b := make([]byte, 0, 8*(len(req.GetValues())+len(req.GetFloats()))+64)
	b = append(binary.AppendUvarint(b, uint64(len(req.GetAt()))), req.GetAt()...)
	b = binary.AppendUvarint(b, uint64(len(req.GetValues())))
	for _, i := range req.GetValues() {
		b = binary.BigEndian.AppendUint64(b, uint64(i))
	}
	for _, f := range req.GetFloats() {
		b = binary.BigEndian.AppendUint64(b, math.Float64bits(f))
	}
	sum := sha256.Sum256(b)
	return binary.BigEndian.Uint64(sum[:])
}

// addUnnamed counts values under a name of this member's own, so that at
// least its own retries through an election are counted once.
func (s *Server) addUnnamed(ctx context.Context, v *values) error {
	lim, err := s.bounds()
	if err != nil {
		return err
	}
	b, err := v.batch(lim)
	if err != nil {
		return err
	}
	d := b.Deltas[0]
	lane, settled := s.lanes.take(), false
	defer func() { s.lanes.give(lane, settled) }()
	req := &dmtv1.IngestRequest{Batches: []*dmtv1.Batch{{
		Producer: lane.producer[:], Seq: lane.next, SeenMs: s.node.ClockMs(), ClusterId: lim.clusterID,
		Entries: []*dmtv1.Entry{{Metric: d.Metric, Node: d.Node, Start: d.Start, Sketch: d.Sketch}},
	}}}
	res, err := atLeader(ctx, s, connect.NewRequest(req), s.ingest, dmtv1connect.TrackerClient.Ingest)
	if err != nil {
		return err
	}
	settled = true
	if refused := res.Msg.GetResults()[0].GetRefused(); len(refused) > 0 {
		return &window.InputError{Field: "at", Reason: refused[0].GetReason(), Message: refused[0].GetMessage()}
	}
	return nil
}

// lane is a producer of this member's own that one request uses at a time.
type lane struct {
	producer storage.ProducerID
	next     uint64
	used     time.Time
}

// laneLife is how long an unused lane is kept: far below the seven days after
// which the cluster forgets a producer and would refuse its next number.
const laneLife = time.Hour

// lanes keeps the free ones, the last used on top, so that there are only as
// many producers as there were requests at once.
type lanes struct {
	now func() time.Time

	mu   sync.Mutex // guards free
	free []*lane
}

func (l *lanes) take() *lane {
	l.mu.Lock()
	defer l.mu.Unlock()
	for n := len(l.free); n > 0; n = len(l.free) {
		top := l.free[n-1]
		l.free = l.free[:n-1]
		if l.now().Sub(top.used) < laneLife {
			return top
		}
	}
	fresh := &lane{next: 1}
	// Never fails: crypto/rand ends the process if the system has no entropy.
	_, _ = rand.Read(fresh.producer[:])
	return fresh
}

// give returns a lane whose number is settled. One whose fate is unknown is
// never used again: its number may still be counted.
func (l *lanes) give(used *lane, settled bool) {
	if !settled {
		return
	}
	used.next++
	used.used = l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.free = append(l.free, used)
}
