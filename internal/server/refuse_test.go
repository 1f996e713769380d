package server_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"math"
	"runtime"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"github.com/distributed-median-tracker/dmt/client/clustertest"
	"github.com/distributed-median-tracker/dmt/internal/api"
	dmtv1 "github.com/distributed-median-tracker/dmt/internal/api/dmt/v1"
)

// Every refusal is checked for three things: it says what is wrong and where,
// nothing of the request is counted, and the connection stays usable.

func TestRefuse_JSON(t *testing.T) {
	t.Parallel()
	cluster := clustertest.Start(t, 1)
	c := dial(t, cluster.Addr(0))
	f := func(method, body, want string) {
		t.Helper()
		status, answer := c.post(method, body)
		if got := parseRefusal(t, status, answer).String(); got != want {
			t.Errorf("POST %s %.120s\n got %s (%.300s)\nwant %s", method, body, got, answer, want)
		}
		if n := counted(t, cluster.Server(0)); n != 0 {
			t.Fatalf("POST %s %.120s: %d values counted, want none", method, body, n)
		}
	}
	const bad = "invalid_argument "
	// Metric and node.
	f("AddValues", `{"node":"a","values":[1]}`, bad+"empty metric")
	f("AddValues", `{"metric":"1m","node":"a","values":[1]}`, bad+"bad_metric metric")
	f("AddValues", `{"metric":"m{a=\"1\",a=\"2\"}","node":"a","values":[1]}`, bad+"bad_metric metric")
	f("AddValues", `{"metric":"`+strings.Repeat("m", 1025)+`","node":"a","values":[1]}`, bad+"too_long metric")
	f("AddValues", `{"metric":"m","values":[1]}`, bad+"empty node")
	f("AddValues", `{"metric":"m","node":"`+strings.Repeat("n", 257)+`","values":[1]}`, bad+"too_long node")
	f("AddValues", `{"metric":"m","node":"a\u0000b","values":[1]}`, bad+"bad_node node")
	f("AddValues", `{"metric":"m","node":"a\nb","values":[1]}`, bad+"bad_node node")
	f("AddValues", `{"metric":"m","node":"a\u202eb","values":[1]}`, bad+"bad_node node")
	f("AddValues", `{"metric":"m","node":"*","values":[1]}`, bad+"bad_node node")
	// Numbers.
	f("AddValues", `{"metric":"m","node":"a"}`, bad+"empty values")
	f("AddValues", `{"metric":"m","node":"a","values":[]}`, bad+"empty values")
	f("AddValues", `{"metric":"m","node":"a","floats":["NaN"]}`, bad+"not_finite floats[0]")
	f("AddValues", `{"metric":"m","node":"a","values":[1],"floats":[1,"Infinity"]}`, bad+"not_finite floats[1]")
	f("AddValues", `{"metric":"m","node":"a","floats":["-Infinity"]}`, bad+"not_finite floats[0]")
	f("AddValues", `{"metric":"m","node":"a","floats":[1e400]}`, bad+"range floats[0]")
	f("AddValues", `{"metric":"m","node":"a","floats":[NaN]}`, bad+"bad_json floats[0]")
	f("AddValues", `{"metric":"m","node":"a","values":[1.5]}`, bad+"bad_json values[0]")
	f("AddValues", `{"metric":"m","node":"a","values":[9223372036854775808]}`, bad+"range values[0]")
	f("AddValues", `{"metric":"m","node":"a","values":[1`+strings.Repeat(",1", api.MaxValues)+`]}`, bad+"too_many_entries values")
	// Times.
	f("AddValues", `{"metric":"m","node":"a","values":[1],"at":"yesterday"}`, bad+"bad_time at")
	f("AddValues", `{"metric":"m","node":"a","values":[1],"at":"99999999999999"}`, bad+"range at")
	f("AddValues", `{"metric":"m","node":"a","values":[1],"at":"9998-01-01"}`, "out_of_range too_new at")
	f("AddValues", `{"metric":"m","node":"a","values":[1],"request_id":"r","at":"9998-01-01"}`, "out_of_range too_new at")
	f("AddValues", `{"metric":"m","node":"a","values":[1],"request_id":"`+strings.Repeat("r", 257)+`"}`, bad+"too_long request_id")
	// The JSON itself.
	f("AddValues", ``, bad+"empty body")
	f("AddValues", `[]`, bad+"bad_json body")
	f("AddValues", `{"metric":"m","node":"a","values":[1]`, bad+"bad_json body")
	f("AddValues", `{"metric":"m","node":"a","values":[1]}{}`, bad+"bad_json body")
	f("AddValues", `{"metric":"m","node":"a","values":[1],"nodes":"b"}`, bad+"unknown_field nodes")
	f("AddValues", `{"metric":"m","node":"a","values":[1],"requestId":"b"}`, bad+"unknown_field requestId")
	f("AddValues", `{"metric":"m","Node":"a","values":[1]}`, bad+"unknown_field Node")
	f("AddValues", `{"metric":"m","node":"a","node":"b","values":[1]}`, bad+"duplicate_field node")
	f("AddValues", `{"metric":"m","node":null,"values":[1]}`, bad+"null node")
	f("AddValues", `{"metric":"m","node":"a","values":[null]}`, bad+"null values[0]")
	f("AddValues", `{"metric":"m","node":"a","values":null}`, bad+"null values")
	f("AddValues", `{"metric":"m","node":7,"values":[1]}`, bad+"bad_json node")
	f("AddValues", "{\"metric\":\"m\",\"node\":\"a\xff\",\"values\":[1]}", bad+"bad_json body")
	// Questions.
	f("Query", `{"metric":"never_seen"}`, "not_found unknown_metric metric")
	f("Nodes", `{"metric":"never_seen"}`, "not_found unknown_metric metric")
	f("Query", `{"metric":"m","from":"2020-01-02","to":"2020-01-02"}`, bad+"range from")
	f("Query", `{"metric":"m","from":"2020-01-02","to":"2020-01-01"}`, bad+"range from")
	f("Query", `{"metric":"m","last":"1h","from":"2020-01-02"}`, bad+"conflict last")
	f("Query", `{"metric":"m","last":"-1h"}`, bad+"range last")
	f("Query", `{"metric":"m","last":"an hour"}`, bad+"bad_time last")
	f("Query", `{"metric":"m","quantiles":[0.5,1.01]}`, bad+"range quantiles[1]")
	f("Query", `{"metric":"m","quantiles":[-0.1]}`, bad+"range quantiles[0]")
	f("Query", `{"metric":"m","quantiles":["NaN"]}`, bad+"not_finite quantiles[0]")
	f("Query", `{"metric":"m","quantiles":[0`+strings.Repeat(",0", 1000)+`]}`, bad+"too_many quantiles")
	f("Query", `{"metric":"m","nodes":["[a"]}`, bad+"bad_glob nodes[0]")
	f("Query", `{"metric":"m","by":"metric"}`, bad+"unknown by")
	f("Query", `{"metric":"m","step":"7s"}`, bad+"range step")
	f("Query", `{"metric":"m","from":"2020-01-01","to":"2020-03-01","step":"10s"}`, bad+"too_many step")
	f("Query", `{"metric":"m","from":"2020-01-02T00:00:05Z","align":"strict"}`, bad+"not_aligned from")
	f("Query", `{"metric":"m","align":"sideways"}`, bad+"unknown align")
	f("Query", `{"metric":"m","read":"dirty"}`, bad+"unknown read")
	f("Query", `{"metric":"m","max_staleness":"1m"}`, bad+"conflict max_staleness")
	f("Query", `{"metric":"m","groupBy":"node"}`, bad+"unknown_field groupBy")
	f("Metrics", `{"read":"dirty"}`, bad+"unknown read")
	// The cluster.
	f("Remove", `{"id":"nobody"}`, "not_found unknown_member id")
	f("Remove", `{}`, bad+"empty id")
	f("Transfer", `{"id":"nobody"}`, "not_found unknown_member id")
	f("Join", `{"id":"x","address":"127.0.0.1:1","uuid":"00112233445566778899aabbccddeeff","cluster_id":"other"}`, "failed_precondition cluster_id cluster_id")

	if status, answer := c.post("AddValues", `{"metric":"m","node":"a","values":[1]}`); status != 200 {
		t.Errorf("a good request after all that: %d %s", status, answer)
	}
	if n := c.dials.Load(); n != 1 {
		t.Errorf("%d connections were needed, want 1: a refusal closed one", n)
	}
}

// manyTimes is a sketch of one value n times.

// A million entries of two bytes each are refused for what they would unfold

// to, before they do.

func TestRefuse_AMillionEntriesWithoutTheMemoryForThem(t *testing.T) {
	cluster := clustertest.Start(t, 1)
	c := dial(t, cluster.Addr(0))
	var before, after runtime.MemStats
	body := ingest(&dmtv1.Batch{Seq: 1, Entries: make([]*dmtv1.Entry, 1_000_000)})
	runtime.ReadMemStats(&before)
	_, err := c.tracker().Ingest(context.Background(), body)
	runtime.ReadMemStats(&after)
	if got, want := refusalOf(err).String(), "invalid_argument too_many_entries batches[0].entries"; got != want {
		t.Errorf("a million entries: %s, want %s", got, want)
	}
	// The client's own encoding is part of it.
	if used := after.TotalAlloc - before.TotalAlloc; used > 64<<20 && !raceDetector {
		t.Errorf("a million entries took %d MiB to refuse, want at most 64", used>>20)
	}
	status, answer := c.post("Ingest", `{"batches":[{"entries":[{}`+strings.Repeat(",{}", 1_000_000)+`]}]}`)
	if got, want := parseRefusal(t, status, answer).String(), "invalid_argument too_many_entries batches[0].entries"; got != want {
		t.Errorf("a million entries in JSON: %s, want %s", got, want)
	}
	if n := counted(t, cluster.Server(0)); n != 0 {
		t.Errorf("%d values counted, want none", n)
	}
}

func TestRefuse_GzipBomb(t *testing.T) {
	cluster := clustertest.Start(t, 1)
	c := dial(t, cluster.Addr(0))
	// Members of a gzip file may follow each other: 250 times 16 MiB of zeros,
	// half of what is read.
	bomb := strings.Repeat(gzipped(t, 16<<20), 250)
	least := uint64(math.MaxUint64)
	for range 3 { // the least is not disturbed by what else goes on
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		status, answer := c.post("Ingest", bomb, "Content-Encoding", "gzip")
		runtime.ReadMemStats(&after)
		if got := parseRefusal(t, status, answer); got.code != connect.CodeResourceExhausted.String() {
			t.Errorf("%d bytes that unfold to 3.9 GiB: %s, want resource_exhausted", len(bomb), got)
		}
		// Whoever knows the size has unfolded all of it.
		if strings.Contains(answer, fmt.Sprint(250*16<<20)) {
			t.Errorf("the answer names the size: %s", answer)
		}
		least = min(least, after.TotalAlloc-before.TotalAlloc)
	}
	if least > 64<<20 && !raceDetector {
		t.Errorf("%d MiB allocated for %d bytes that unfold to 3.9 GiB, want at most 64", least>>20, len(bomb))
	}
	if status, answer := c.post("AddValues", `{"metric":"m","node":"a","values":[1]}`); status != 200 {
		t.Errorf("a good request after that: %d %s", status, answer)
	}
}

// The largest body is read whole, compressed too.

func TestRefuse_GzipJustLargeEnough(t *testing.T) {
	t.Parallel()
	c := dial(t, clustertest.Start(t, 1).Addr(0))
	good := `{"metric":"m","node":"a","values":[1]}`
	f := func(size int, want string) {
		t.Helper()
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		if _, err := z.Write([]byte(strings.Repeat(" ", size-len(good)) + good)); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		status, answer := c.post("AddValues", b.String(), "Content-Encoding", "gzip")
		if got := parseRefusal(t, status, answer).code; got != want {
			t.Errorf("AddValues of %d bytes: %s (%s), want %s", size, got, answer, want)
		}
	}
	f(len(good), "ok")
	f(api.MaxRequestBytes, "ok")
	f(api.MaxRequestBytes+1, "resource_exhausted")
	f(api.MaxRequestBytes+2, "resource_exhausted")
	f(api.MaxRequestBytes+3, "resource_exhausted")
}

// gzipped is n zeros, compressed.

func gzipped(t *testing.T, n int) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	zeros := make([]byte, 1<<20)
	for range n >> 20 {
		if _, err := z.Write(zeros); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestRefuse_OversizedBodyByItsHeader(t *testing.T) {
	t.Parallel()
	c := dial(t, clustertest.Start(t, 1).Addr(0))
	status, answer := c.post("Ingest", strings.Repeat(" ", api.MaxRequestBytes+1))
	if got, want := parseRefusal(t, status, answer).String(), "resource_exhausted too_large "; got != want {
		t.Errorf("%d bytes: %s, want %s", api.MaxRequestBytes+1, got, want)
	}
}

// A name stands for one content.

// Entries outside the accepted time are refused one by one, the others count,

// and a retry is told the same number whatever the clock says by then.

// A batch that is refused by a follower's leader is refused the same way.
