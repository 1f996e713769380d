package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/distributed-median-tracker/dmt/client"
	dmtv1 "github.com/distributed-median-tracker/dmt/internal/api/dmt/v1"
	"github.com/distributed-median-tracker/dmt/internal/api/dmt/v1/dmtv1connect"
)

func TestBench_ChoosesScenarios(t *testing.T) {
	f := func(local bool, asked, want string) {
		t.Helper()
		a := &benchArgs{local: local, scenarios: strings.Fields(asked)}
		list, err := a.chosen()
		var names []string
		for _, sc := range list {
			names = append(names, sc.name)
		}
		got := strings.Join(names, " ")
		if err != nil {
			got = fmt.Sprintf("exit code %d", exitCode(err))
		}
		if got != want {
			t.Errorf("%q with local %v gives %s, want %s", asked, local, got, want)
		}
	}
	f(true, "all", "ingest single paced query disk failover restart catchup")
	f(false, "all", "ingest single paced query disk")
	f(true, "disk ingest disk", "ingest disk")
	f(false, "ingest failover", "exit code 2")
	f(true, "ingest speed", "exit code 2")
}

func TestFigureText_ThreeDigitsThatMeanSomething(t *testing.T) {
	f := func(v float64, want string) {
		t.Helper()
		if got := figureText(v); got != want {
			t.Errorf("%v is shown as %s, want %s", v, got, want)
		}
	}
	f(0, "0.00")
	f(0.126, "0.13")
	f(9.876, "9.88")
	f(12.34, "12.3")
	f(123.5, "124")
	f(1234567.8, "1,234,568")
	f(1e18, "1e+18")
}

// stub is a member that takes batches as told.
type stub struct {
	dmtv1connect.UnimplementedTrackerHandler

	mu   sync.Mutex // guards what follows
	seen []uint64   // numbers of batches, in the order they came
	take func(call int) error
}

func (s *stub) Ingest(_ context.Context, req *connect.Request[dmtv1.IngestRequest]) (*connect.Response[dmtv1.IngestResponse], error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, req.Msg.GetBatches()[0].GetSeq())
	if err := s.take(len(s.seen)); err != nil {
		return nil, err
	}
	return connect.NewResponse(&dmtv1.IngestResponse{Results: []*dmtv1.BatchResult{{}}}), nil
}

// against returns a bench whose only member is the stub.
func against(t *testing.T, s *stub) *bench {
	t.Helper()
	_, handler := dmtv1connect.NewTrackerHandler(s)
	srv := httptest.NewServer(handler)
	t.Cleanup(srv.Close)
	b := &bench{args: &benchArgs{}, transport: &http.Transport{}, metric: "m", samples: make([][]byte, benchSamples)}
	t.Cleanup(b.transport.CloseIdleConnections)
	b.targets = []dmtv1connect.TrackerClient{b.tracker(srv.URL)}
	return b
}

func TestProducer_RepeatsABatchUnderItsNumber(t *testing.T) {
	s := &stub{take: func(call int) error {
		if call == 1 || call == 3 {
			return connect.NewError(connect.CodeUnavailable, errors.New("no leader"))
		}
		return nil
	}}
	b := against(t, s)
	p := b.producer(0)
	for range 2 {
		if _, err := p.send(t.Context(), []*dmtv1.Entry{b.entry(1, 0)}); err != nil {
			t.Fatal(err)
		}
	}
	if got := fmt.Sprint(s.seen); got != "[1 1 2 2]" || b.retries.Load() != 2 {
		t.Errorf("batches came as %s with %d retries, want [1 1 2 2] with 2", got, b.retries.Load())
	}
	s.take = func(int) error { return connect.NewError(connect.CodeInvalidArgument, errors.New("no")) }
	if _, err := p.send(t.Context(), nil); exitCode(err) != exitRefused {
		t.Errorf("a refusal: %v, want exit code 5 at once", err)
	}
	s.take = func(int) error { return nil }
	if err := refusedIn(&dmtv1.IngestResponse{Results: []*dmtv1.BatchResult{{RefusedCount: 1, Refused: []*dmtv1.Refusal{{Reason: "too_old"}}}}}); err == nil {
		t.Error("refused entries go unnoticed")
	}
	var refused *client.RefusedError
	if !errors.As(refusedIn(&dmtv1.IngestResponse{Results: []*dmtv1.BatchResult{{RefusedCount: 3}}}), &refused) || refused.Sketches != 3 {
		t.Errorf("refused entries: %+v", refused)
	}
}

// TestDrive_AStallIsSeenByAllWhoWereDue pins what makes latencies at a rate
// honest: they count from when a call was due, not from when it got its turn.
func TestDrive_AStallIsSeenByAllWhoWereDue(t *testing.T) {
	const stall = 400 * time.Millisecond
	s := &stub{take: func(call int) error {
		if call == 20 {
			time.Sleep(stall) // the stall itself
		}
		return nil
	}}
	got, err := against(t, s).drive(t.Context(), load{duration: time.Second, clients: 2, batch: 1, nodes: 10, rate: 100})
	if err != nil {
		t.Fatal(err)
	}
	if got.calls != 100 {
		t.Errorf("%d calls in a second at 100/s", got.calls)
	}
	// Some 40 calls fell due during the stall, and waited half of it on average.
	if p80 := got.ms(0.8); p80 < 100 {
		t.Errorf("p80 = %.0f ms around a stall of %v: those who were due do not see it", p80, stall)
	}
}

func TestFill_WritesEveryBucketOnceInOrder(t *testing.T) {
	s := &stub{take: func(int) error { return nil }}
	b := against(t, s)
	b.args.batch, b.args.clients, b.args.seed = 4, 3, 1
	b.streams.Err = &lineBuffer{}
	done, perSecond, err := b.fill(t.Context(), 10, 0, 7, time.Minute)
	if err != nil || done != 7 || perSecond <= 0 {
		t.Fatalf("fill = %d, %v, %v, want all 7 buckets", done, perSecond, err)
	}
	if len(s.seen) != 3*7 {
		t.Errorf("%d batches, want 3 of at most 4 nodes in each of 7 buckets", len(s.seen))
	}
}
