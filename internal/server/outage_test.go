package server_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/distributed-median-tracker/dmt/client/clustertest"
	dmtv1 "github.com/distributed-median-tracker/dmt/internal/api/dmt/v1"
)

// All members were down for an hour, so that the log clock is an hour behind
// when they come back. Clients go on sending what is measured now: none of it
// may be refused as coming from the future.
func TestIngest_AfterAnOutageNothingIsTooNew(t *testing.T) {
	clock := newClock()
	cluster := clustertest.Start(t, 3, clock.options())
	for i := range 3 {
		cluster.Kill(i)
	}
	clock.advance(time.Hour)
	for i := range 3 {
		cluster.Restart(i)
	}
	var wg sync.WaitGroup
	for p := byte(1); p <= 20; p++ {
		wg.Go(func() { sendPresent(t, cluster, clock, p) })
	}
	wg.Wait()
}

// sendPresent sends a batch of the present, to one member after the other until
// one answers, again and again until the cluster is surely back to normal.
func sendPresent(t *testing.T, cluster *clustertest.Cluster, clock *clock, p byte) {
	callers := []*caller{dial(t, cluster.Addr(0)), dial(t, cluster.Addr(1)), dial(t, cluster.Addr(2))}
	began := time.Now()
	for seq, try := uint64(1), 0; time.Since(began) < 3*time.Second; try++ {
		b := batchOf(p, seq, entry(t, "m", "a", 1))
		b.SeenMs, b.Entries[0].Start = clock.now().UnixMilli(), clock.now().Unix()/10*10
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		res, err := callers[try%3].tracker().Ingest(ctx, connect.NewRequest(&dmtv1.IngestRequest{Batches: []*dmtv1.Batch{b}}))
		cancel()
		if err != nil {
			continue
		}
		if r := res.Msg.Results[0]; r.RefusedCount > 0 {
			t.Errorf("%v after the restart: %v", time.Since(began), r.Refused)
			return
		}
		seq++
	}
}
