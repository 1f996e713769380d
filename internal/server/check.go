package server

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/distributed-median-tracker/dmt/internal/api"
	dmtv1 "github.com/distributed-median-tracker/dmt/internal/api/dmt/v1"
	"github.com/distributed-median-tracker/dmt/raftfsm"
	"github.com/distributed-median-tracker/dmt/storage"
	"github.com/distributed-median-tracker/dmt/window"
	"github.com/distributed-median-tracker/dmt/window/sketch"
)

// checkInParallelFrom is the number of entries from which checking on several
// cores repays its goroutines: a check takes one to six microseconds, a goroutine
// with its wait about one.
const checkInParallelFrom = 64

// bounds is what one batch is checked against, the same for all its entries.
type bounds struct {
	clusterID string
	precision int
	tiers     window.Tiers

	// Accepted bucket starts, by the log clock: oldest <= start <= newest.
	clock          int64 // unix seconds
	oldest, newest int64
	unsettled      bool // the log clock may still stand where an outage stopped it
}

// boundsAt derives the limits from the cluster's settings and the log clock.
func boundsAt(c storage.Cluster, clockMs int64) bounds {
	clock := clockMs / 1000
	return bounds{
		clusterID: c.ID,
		precision: c.Precision,
		tiers:     c.Tiers,
		clock:     clock,
		oldest:    c.Tiers.MaxPast(clock),
		newest:    clock + int64(window.MaxFuture/time.Second),
	}
}

// checkShape refuses what can be refused without knowing the cluster: it is
// what a follower does before it forwards.
func checkShape(req *dmtv1.IngestRequest) error {
	if len(req.Batches) == 0 {
		return api.Error(connect.CodeInvalidArgument, detailOf(api.ReasonEmpty, "batches", ""), "batches: no batch in the request")
	}
	if n := len(req.Batches); n > api.MaxBatchesPerRequest {
		return api.Error(connect.CodeInvalidArgument, detailOf(api.ReasonTooManyEntries, "batches", fmt.Sprint(api.MaxBatchesPerRequest)),
			"batches: %d in one request, at most %d are accepted", n, api.MaxBatchesPerRequest)
	}
	for i, b := range req.Batches {
		field := fmt.Sprintf("batches[%d]", i)
		if n := len(b.GetProducer()); n != api.ProducerBytes {
			return api.Error(connect.CodeInvalidArgument, detailOf(api.ReasonRange, field+".producer", "16"), "%s.producer: %d bytes, want 16", field, n)
		}
		if b.GetSeq() == 0 {
			return api.Error(connect.CodeInvalidArgument, detailOf(api.ReasonRange, field+".seq", "1"), "%s.seq: 0, batches are numbered from 1", field)
		}
		if n := len(b.GetEntries()); n > api.MaxBatchEntries {
			return api.Error(connect.CodeInvalidArgument, detailOf(api.ReasonTooManyEntries, field+".entries", fmt.Sprint(api.MaxBatchEntries)),
				"%s.entries: %d in one batch, at most %d are accepted", field, n, api.MaxBatchEntries)
		}
	}
	return nil
}

// checked is a batch that may enter the log, and what was refused of it.
type checked struct {
	batch    storage.Batch
	refusals []*dmtv1.Refusal // the first MaxRefusalsListed
}

// check validates a batch whole: on an error nothing of it may be counted.
// Entries outside the accepted time are left out and listed as refused.
func (lim *bounds) check(b *dmtv1.Batch, field string) (checked, error) {
	if id := b.GetClusterId(); id != "" && id != lim.clusterID {
		return checked{}, api.Error(connect.CodeFailedPrecondition, detailOf(api.ReasonClusterID, field+".cluster_id", lim.clusterID),
			"%s.cluster_id: batch is for cluster %s, this is cluster %s", field, id, lim.clusterID)
	}
	entries := b.GetEntries()
	deltas := make([]storage.Delta, len(entries))
	refused := make([]*dmtv1.Refusal, len(entries))
	if err := inChunks(len(entries), func(from, to int) error {
		for i := from; i < to; i++ {
			delta, refusal, err := lim.checkEntry(entries[i])
			if err != nil {
				return atEntry(err, field, i)
			}
			deltas[i], refused[i] = delta, refusal
		}
		return nil
	}); err != nil {
		return checked{}, err
	}
	c := checked{batch: storage.Batch{
		Producer: storage.ProducerID(b.GetProducer()),
		Seq:      b.GetSeq(),
		SeenMs:   b.GetSeenMs(),
		Hash:     hashEntries(entries),
		Deltas:   deltas[:0],
	}}
	for i := range entries {
		if refused[i] == nil {
			c.batch.Deltas = append(c.batch.Deltas, deltas[i])
			continue
		}
		c.batch.Refused++
		c.batch.RefusedEntries = append(c.batch.RefusedEntries, uint32(i))
		if len(c.refusals) < api.MaxRefusalsListed {
			refused[i].Entry = uint32(i)
			c.refusals = append(c.refusals, refused[i])
		}
	}
	return c, nil
}

// inChunks runs f over [0, n) split among the cores, and returns the error of
// the lowest chunk, so that the same input always names the same entry.
func inChunks(n int, f func(from, to int) error) error {
	workers := min(runtime.GOMAXPROCS(0), n/checkInParallelFrom)
	if workers <= 1 {
		return f(0, n)
	}
	errs := make([]error, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() { errs[w] = f(n*w/workers, n*(w+1)/workers) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// fieldError is what is wrong with one field of an entry.
type fieldError struct {
	code          connect.Code
	reason, field string
	limit         string
	err           error
}

func (e *fieldError) Error() string { return e.err.Error() }
func (e *fieldError) Unwrap() error { return e.err }

// atEntry names the entry an error belongs to.
func atEntry(err error, field string, i int) error {
	path := fmt.Sprintf("%s.entries[%d]", field, i)
	var in *window.InputError
	if errors.As(err, &in) {
		here := *in
		here.Field = path + "." + in.Field
		return api.InputError(&here)
	}
	var fe *fieldError
	if !errors.As(err, &fe) {
		return fmt.Errorf("%s: %w", path, err)
	}
	return api.Error(fe.code, detailOf(fe.reason, path+"."+fe.field, fe.limit), "%s.%s: %v", path, fe.field, fe.err)
}

// checkEntry validates one entry. A refusal comes with a valid entry only:
// bytes that no decoder would take are an error wherever their bucket lies.
func (lim *bounds) checkEntry(e *dmtv1.Entry) (storage.Delta, *dmtv1.Refusal, error) {
	if e == nil {
		return storage.Delta{}, nil, &fieldError{connect.CodeInvalidArgument, api.ReasonEmpty, "metric", "", errors.New("empty entry")}
	}
	metric, err := window.ParseMetric(e.Metric)
	if err != nil {
		return storage.Delta{}, nil, err
	}
	if err := window.CheckNode(e.Node); err != nil {
		return storage.Delta{}, nil, err
	}
	count, err := lim.checkSketch(e.Sketch)
	if err != nil {
		return storage.Delta{}, nil, err
	}
	refusal, err := lim.checkStart(e.Start)
	if err != nil {
		return storage.Delta{}, nil, err
	}
	return storage.Delta{Metric: string(metric), Node: e.Node, Start: e.Start, Sketch: e.Sketch, Count: count}, refusal, nil
}

// checkSketch decodes the sketch whole, the only time before it is merged.
func (lim *bounds) checkSketch(b []byte) (count uint64, err error) {
	fail := func(code connect.Code, reason, limit string, err error) (uint64, error) {
		return 0, &fieldError{code, reason, "sketch", limit, err}
	}
	if len(b) > sketch.MaxEncodedSize {
		return fail(connect.CodeInvalidArgument, api.ReasonTooLarge, fmt.Sprint(sketch.MaxEncodedSize),
			fmt.Errorf("%d bytes, no sketch has more than %d", len(b), sketch.MaxEncodedSize))
	}
	h, err := sketch.Check(b)
	if err != nil {
		return fail(connect.CodeInvalidArgument, api.ReasonCorruptSketch, "", err)
	}
	if h.Precision != lim.precision {
		return fail(connect.CodeFailedPrecondition, api.ReasonPrecision, fmt.Sprint(lim.precision),
			fmt.Errorf("precision %d, this cluster keeps precision %d", h.Precision, lim.precision))
	}
	if h.Count == 0 {
		return fail(connect.CodeInvalidArgument, api.ReasonEmpty, "1", errors.New("holds no value"))
	}
	if h.Count > sketch.MaxCount {
		return fail(connect.CodeInvalidArgument, api.ReasonRange, fmt.Sprint(uint64(sketch.MaxCount)),
			fmt.Errorf("holds %d values, at most %d are accepted in one sketch", h.Count, uint64(sketch.MaxCount)))
	}
	return h.Count, nil
}

// checkStart judges the time of a bucket: an error for what is no bucket at
// all, a refusal for one outside the time that is kept.
func (lim *bounds) checkStart(start int64) (*dmtv1.Refusal, error) {
	base := lim.tiers.Base()
	if start < window.MinTime || start > window.MaxTime {
		return nil, &fieldError{connect.CodeInvalidArgument, api.ReasonRange, "start", "year 1 to 9999",
			fmt.Errorf("%d is no time between the years 1 and 9999 in unix seconds%s", start, unitHint(start, lim.clock))}
	}
	if base.Floor(start) != start {
		return nil, &fieldError{connect.CodeInvalidArgument, api.ReasonRange, "start", base.String(),
			fmt.Errorf("%d is not the start of a %s bucket", start, base)}
	}
	return lim.outside(start)
}

// errUnsettled is retried like the lack of a leader: what seems to come from the
// future may be measured now, after an outage that the clock has yet to learn of.
var errUnsettled = fmt.Errorf("%w whose clock is settled yet", raftfsm.ErrNoLeader)

// outside says why a bucket is refused for its time; nil when it is not.
func (lim *bounds) outside(start int64) (*dmtv1.Refusal, error) {
	at := func(t int64) string { return time.Unix(t, 0).UTC().Format(time.RFC3339) }
	switch {
	case start > lim.newest && lim.unsettled:
		return nil, errUnsettled
	case start > lim.newest:
		return &dmtv1.Refusal{Reason: api.ReasonTooNew, Message: fmt.Sprintf("bucket starts at %s, the cluster's clock is %s and accepts up to %s ahead%s",
			at(start), at(lim.clock), window.MaxFuture, unitHint(start, lim.clock))}, nil
	case start < lim.oldest:
		return &dmtv1.Refusal{Reason: api.ReasonTooOld, Message: fmt.Sprintf("bucket starts at %s, the oldest kept starts at %s", at(start), at(lim.oldest))}, nil
	}
	return nil, nil
}

// unitHint recognises a present time in milli-, micro- or nanoseconds.
func unitHint(start, clock int64) string {
	const year = 366 * 24 * 3600
	for _, unit := range []struct {
		per  int64
		name string
	}{{1e3, "milliseconds"}, {1e6, "microseconds"}, {1e9, "nanoseconds"}} {
		if d := start/unit.per - clock; d > -10*year && d < 10*year {
			return "; it looks like " + unit.name
		}
	}
	return ""
}

// hashEntries names the content of a batch: 64 bits of a SHA-256 over what
// the client sent, before any of it is refused, so that a retry is recognised
// whatever the clock says by then, and however the request was encoded.
//
//	| len | metric | len | node | start | len | sketch | …   each len a uvarint, start i64 BE
func hashEntries(entries []*dmtv1.Entry) uint64 {
	h := sha256.New()
	var scratch []byte
	for _, e := range entries {
		scratch = scratch[:0]
		scratch = append(binary.AppendUvarint(scratch, uint64(len(e.GetMetric()))), e.GetMetric()...)
		scratch = append(binary.AppendUvarint(scratch, uint64(len(e.GetNode()))), e.GetNode()...)
		scratch = binary.BigEndian.AppendUint64(scratch, uint64(e.GetStart()))
		scratch = binary.AppendUvarint(scratch, uint64(len(e.GetSketch())))
		h.Write(scratch) // never fails, see hash.Hash
		h.Write(e.GetSketch())
	}
	return binary.BigEndian.Uint64(h.Sum(scratch[:0]))
}
