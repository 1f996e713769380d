package main

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/distributed-median-tracker/dmt/client"
	"github.com/distributed-median-tracker/dmt/internal/api"
	dmtv1 "github.com/distributed-median-tracker/dmt/internal/api/dmt/v1"
	"github.com/distributed-median-tracker/dmt/internal/api/dmt/v1/dmtv1connect"
	"github.com/distributed-median-tracker/dmt/window"
	"github.com/distributed-median-tracker/dmt/window/sketch"
)

const (
	benchValues  = 1000 // in each sketch
	benchSamples = 512  // different sketches
	benchSigma   = 1    // of the lognormal values: a decade and a half from 5 to 95 %

	// benchTry bounds one try of a request; benchPause is the wait before the
	// next where the cluster asks for none.
	benchTry   = 5 * time.Second
	benchPause = 2 * time.Millisecond
)

// bench is one scenario that runs.
type bench struct {
	args     *benchArgs
	streams  streams
	scenario string
	figures  *figures
	local    *benchCluster // nil: somebody else's
	client   *client.Client

	metric    string
	transport *http.Transport
	members   []dmtv1connect.TrackerClient
	targets   []dmtv1connect.TrackerClient // of writes
	clusterID string
	ahead     time.Duration // log clock minus the clock here
	samples   [][]byte
	mean      float64 // bytes of a sample
	retries   atomic.Uint64
}

// prepare asks the cluster how it wants its sketches, and makes them.
func (b *bench) prepare(ctx context.Context, addrs []string) error {
	asking, cancel := context.WithTimeout(ctx, b.args.timeout)
	defer cancel()
	st, err := b.client.Status(asking)
	if err != nil {
		return err
	}
	b.clusterID, b.ahead = st.ClusterID, time.Until(st.Clock)
	b.metric = fmt.Sprintf(`bench{run="%08x",scenario=%q}`, rand.Uint32(), b.scenario)
	b.transport = &http.Transport{MaxIdleConnsPerHost: 8192, DisableCompression: true}
	for _, addr := range addrs {
		b.members = append(b.members, b.tracker(addr))
	}
	b.targets = b.members
	if b.args.targetLeader && st.LeaderAddress != "" {
		b.targets = []dmtv1connect.TrackerClient{b.tracker(st.LeaderAddress)}
	}
	random := rand.New(rand.NewPCG(b.args.seed, 1))
	b.samples = make([][]byte, benchSamples)
	for i := range b.samples {
		s := sketch.New(st.Precision)
		mu := 9 + 2*random.Float64() // of this node: 8 to 60 thousand
		for range benchValues {
			s.AddInt(int64(math.Exp(mu + benchSigma*random.NormFloat64())))
		}
		if b.samples[i], err = s.AppendBinary(nil); err != nil {
			return err
		}
		b.mean += float64(len(b.samples[i])) / benchSamples
	}
	return nil
}

// tracker is the wire to one member.
func (b *bench) tracker(addr string) dmtv1connect.TrackerClient {
	if !strings.HasPrefix(addr, "http://") && !strings.HasPrefix(addr, "https://") {
		addr = "http://" + addr
	}
	return dmtv1connect.NewTrackerClient(&http.Client{Transport: b.transport}, addr)
}

func (b *bench) say(format string, args ...any) {
	say(b.streams.Err, b.scenario+": "+format, args...)
}

func (b *bench) report(name string, value float64, unit, note string, args ...any) {
	b.figures.add(figure{Scenario: b.scenario, Figure: name, Value: value, Unit: unit, Note: fmt.Sprintf(note, args...)})
}

// now is the log clock.
func (b *bench) now() time.Time { return time.Now().Add(b.ahead) }

// bucket is the one that is being filled.
func (b *bench) bucket() int64 { return window.TenSeconds.Floor(b.now().Unix()) }

// producer sends batches one after the other, each until it is acknowledged.
type producer struct {
	bench *bench
	id    [api.ProducerBytes]byte
	seq   uint64
	at    int // of bench.targets
}

func (b *bench) producer(i int) *producer {
	p := &producer{bench: b, at: i % len(b.targets)}
	// It never fails: it ends the process where it cannot work.
	_, _ = crand.Read(p.id[:])
	return p
}

// send returns when a batch is counted, with the bytes of one request.
func (p *producer) send(ctx context.Context, entries []*dmtv1.Entry) (int, error) {
	b := p.bench
	p.seq++
	req := &dmtv1.IngestRequest{Batches: []*dmtv1.Batch{{
		Producer: p.id[:], Seq: p.seq, SeenMs: b.now().UnixMilli(), Entries: entries, ClusterId: b.clusterID,
	}}}
	for {
		try, cancel := context.WithTimeout(ctx, benchTry)
		res, err := b.targets[p.at].Ingest(try, connect.NewRequest(req))
		cancel()
		if err == nil {
			return proto.Size(req), refusedIn(res.Msg)
		}
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		wait, err := retryIn(err)
		if err != nil {
			return 0, err
		}
		b.retries.Add(1)
		p.at = (p.at + 1) % len(b.targets)
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(wait):
		}
	}
}

// refusedIn says that entries were refused, which no load should bring about.
func refusedIn(res *dmtv1.IngestResponse) error {
	for _, r := range res.GetResults() {
		if r.GetRefusedCount() > 0 {
			e := &client.RefusedError{Sketches: r.GetRefusedCount(), Message: "entries refused"}
			if len(r.GetRefused()) > 0 {
				e.Reason, e.Message = r.GetRefused()[0].GetReason(), r.GetRefused()[0].GetMessage()
			}
			return e
		}
	}
	return nil
}

// retryIn says when to try again after an error, or that it is no use.
func retryIn(err error) (time.Duration, error) {
	detail, _ := api.FromError(err)
	switch connect.CodeOf(err) {
	case connect.CodeInvalidArgument, connect.CodeOutOfRange, connect.CodeFailedPrecondition, connect.CodeAlreadyExists,
		connect.CodeUnimplemented, connect.CodePermissionDenied, connect.CodeUnauthenticated:
		return 0, &client.RefusedError{Reason: detail.GetReason(), Field: detail.GetField(), Message: err.Error()}
	}
	return max(benchPause, time.Duration(detail.GetRetryAfterMs())*time.Millisecond), nil
}

// load is what to put on a cluster.
type load struct {
	duration time.Duration
	clients  int
	batch    int
	nodes    int     // different ones; each client has its share
	rate     float64 // sketches per second; 0 is as fast as they are acknowledged
}

// loaded is what became of a load.
type loaded struct {
	sketches, calls uint64
	wire            uint64 // bytes of requests
	elapsed         time.Duration
	latency         *sketch.Sketch // nanoseconds
}

func (l *loaded) perSecond() float64 { return float64(l.sketches) / l.elapsed.Seconds() }

func (l *loaded) ms(q float64) float64 { return l.latency.Quantile(q).Float64() / 1e6 }

// drive puts a load on the cluster. At a rate, a call is due at its time
// whether those before it are acknowledged or not, and its latency counts from
// then: a stall is seen by everybody who would have called during it.
func (b *bench) drive(ctx context.Context, l load) (*loaded, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	began := time.Now()
	var due atomic.Int64 // calls handed out, at a rate
	var mu sync.Mutex    // guards total
	total := &loaded{latency: new(sketch.Sketch), elapsed: l.duration}
	var clients sync.WaitGroup
	for i := range l.clients {
		clients.Go(func() {
			mine := &loaded{latency: new(sketch.Sketch)}
			if err := b.oneClient(ctx, l, i, began, &due, mine); err != nil {
				cancel(err)
			}
			mu.Lock()
			defer mu.Unlock()
			total.sketches, total.calls, total.wire = total.sketches+mine.sketches, total.calls+mine.calls, total.wire+mine.wire
			total.latency.Merge(mine.latency)
		})
	}
	clients.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	if total.calls == 0 {
		return nil, failuref("no call was acknowledged in %v", l.duration)
	}
	return total, nil
}

// oneClient is one client of a load: the ith of them, with nodes of its own.
func (b *bench) oneClient(ctx context.Context, l load, i int, began time.Time, due *atomic.Int64, out *loaded) error {
	p := b.producer(i)
	own := max(l.nodes/l.clients, l.batch)
	entries := make([]*dmtv1.Entry, l.batch)
	var latency sketch.Recorder
	defer func() { out.latency = latency.Drain() }()
	end := began.Add(l.duration)
	for next := 0; ; {
		start := time.Now()
		if l.rate > 0 {
			start = began.Add(time.Duration(float64(due.Add(1)-1) * float64(l.batch) / l.rate * 1e9))
		}
		if !start.Before(end) {
			return nil
		}
		if err := sleepUntil(ctx, start); err != nil {
			return nil // somebody else failed
		}
		bucket := b.bucket()
		for j := range entries {
			entries[j] = b.entry(i*own+next, bucket)
			next = (next + 1) % own
		}
		wire, err := p.send(ctx, entries)
		if err != nil {
			return err
		}
		acked := time.Now()
		if l.rate == 0 && acked.After(end) {
			return nil // begun in time, but not done
		}
		latency.AddInt(int64(acked.Sub(start)))
		out.sketches, out.calls, out.wire = out.sketches+uint64(l.batch), out.calls+1, out.wire+uint64(wire)
	}
}

func (b *bench) entry(node int, start int64) *dmtv1.Entry {
	return &dmtv1.Entry{Metric: b.metric, Node: fmt.Sprintf("node-%06d", node), Start: start, Sketch: b.samples[(node*31+int(start/10))%benchSamples]}
}

func sleepUntil(ctx context.Context, t time.Time) error {
	wait := time.Until(t)
	if wait <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// freeAddresses returns addresses on loopback that were free a moment ago.
func freeAddresses(n int) ([]string, error) {
	var addrs []string
	var open []net.Listener
	var errs []error
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			errs = append(errs, err)
			break
		}
		open = append(open, l)
		addrs = append(addrs, l.Addr().String())
	}
	for _, l := range open {
		errs = append(errs, l.Close())
	}
	return addrs, errors.Join(errs...)
}
