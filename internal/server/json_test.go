package server_test

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/distributed-median-tracker/dmt/client/clustertest"
)

// appliedIndex is the one part of an answer that depends on the log.
var appliedIndex = regexp.MustCompile(`"applied_index":"[0-9]+"`)

func TestJSON_AddValuesThenQuery(t *testing.T) {
	t.Parallel()
	c := dial(t, clustertest.Start(t, 1).Addr(0))
	f := func(method, body, want string) {
		t.Helper()
		status, answer := c.post(method, body)
		if answer = appliedIndex.ReplaceAllString(answer, `"applied_index":"N"`); status != 200 || answer != want {
			t.Errorf("POST %s %s\n got %d %s\nwant 200 %s", method, body, status, answer, want)
		}
	}
	f("AddValues", `{"metric":"latency_us","node":"web-1","values":[12,15,900],"at":"2020-01-02T03:04:05Z"}`, `{"count":"3","duplicate":false}`)
	f("AddValues", `{"metric":"latency_us","node":"web-2","values":["9223372036854775807",16],"at":"2020-01-02T03:05Z","request_id":"r1"}`, `{"count":"2","duplicate":false}`)
	f("AddValues", `{"metric":"latency_us","node":"web-2","values":[9223372036854775807,16],"at":"2020-01-02T03:05Z","request_id":"r1"}`, `{"count":"2","duplicate":true}`)
	f("AddValues", `{"metric":"ratio","node":"web-1","values":[-1],"floats":[0.25,-0.0],"at":"1577934245"}`, `{"count":"3","duplicate":false}`)
	f("Query", `{"metric":"latency_us","from":"2020-01-02T03:00:00Z","to":"2020-01-02T04:00:00Z"}`,
		`{"metric":"latency_us","from":"2020-01-02T03:00:00Z","to":"2020-01-02T04:00:00Z","asked_from":"2020-01-02T03:00:00Z","asked_to":"2020-01-02T04:00:00Z",`+
			`"read":"linearizable","applied_index":"N","buckets_merged":2,"results":[{"node":"*","from":"2020-01-02T03:00:00Z","to":"2020-01-02T04:00:00Z",`+
			`"count":"5","min":12,"max":"9223372036854775807","nodes":2,"estimates":[{"q":0.5,"value":16,"lower":16,"upper":16,"max_relative_error":0,"exact":true}]}]}`)
	f("Query", `{"metric":"latency_us","from":"2020-01-02T03:00Z","to":"2020-01-02T04:00Z","by":"node","nodes":["web-1"],"quantiles":[0,1],"step":"1h","read":"leader"}`,
		`{"metric":"latency_us","from":"2020-01-02T03:00:00Z","to":"2020-01-02T04:00:00Z","asked_from":"2020-01-02T03:00:00Z","asked_to":"2020-01-02T04:00:00Z",`+
			`"read":"leader","applied_index":"N","buckets_merged":1,"results":[{"node":"web-1","from":"2020-01-02T03:00:00Z","to":"2020-01-02T04:00:00Z",`+
			`"count":"3","min":12,"max":900,"nodes":1,"estimates":[{"q":0,"value":12,"lower":12,"upper":12,"max_relative_error":0,"exact":true},`+
			`{"q":1,"value":900,"lower":900,"upper":900,"max_relative_error":0,"exact":true}]}]}`)
	f("Query", `{"metric":"ratio","from":"2020-01-02T03:04Z","to":"2020-01-02T03:05Z","quantiles":[0.5]}`,
		`{"metric":"ratio","from":"2020-01-02T03:04:00Z","to":"2020-01-02T03:05:00Z","asked_from":"2020-01-02T03:04:00Z","asked_to":"2020-01-02T03:05:00Z",`+
			`"read":"linearizable","applied_index":"N","buckets_merged":1,"results":[{"node":"*","from":"2020-01-02T03:04:00Z","to":"2020-01-02T03:05:00Z",`+
			`"count":"3","min":-1,"max":0.25,"nodes":1,"estimates":[{"q":0.5,"value":0,"lower":0,"upper":0,"max_relative_error":0,"exact":true}]}]}`)
	f("Metrics", `{}`, `{"metrics":[{"metric":"latency_us","count":"5","nodes":2,"first":"2020-01-02T03:04:00Z","last":"2020-01-02T03:05:10Z","buckets":"2"},`+
		`{"metric":"ratio","count":"3","nodes":1,"first":"2020-01-02T03:04:00Z","last":"2020-01-02T03:04:10Z","buckets":"1"}],"applied_index":"N"}`)
	f("Nodes", `{"metric":"latency_us"}`, `{"nodes":[{"node":"web-1","count":"3","first":"2020-01-02T03:04:00Z","last":"2020-01-02T03:04:10Z","buckets":"1"},`+
		`{"node":"web-2","count":"2","first":"2020-01-02T03:05:00Z","last":"2020-01-02T03:05:10Z","buckets":"1"}],"applied_index":"N"}`)
}

func TestJSON_LastHour(t *testing.T) {
	t.Parallel()
	c := dial(t, clustertest.Start(t, 1).Addr(0))
	if status, answer := c.post("AddValues", `{"metric":"latency_us","node":"web-1","values":[12,15,900]}`); status != 200 {
		t.Fatalf("AddValues: %d %s", status, answer)
	}
	status, answer := c.post("Query", `{"metric":"latency_us","last":"1h"}`)
	if status != 200 || !strings.Contains(answer, `"count":"3","min":12,"max":900,"nodes":1,"estimates":[{"q":0.5,"value":15,`) {
		t.Errorf("Query last 1h: %d %s", status, answer)
	}
	status, answer = c.post("Query", `{"metric":"latency_us","from":"2d","to":"1d"}`)
	if status != 200 || !strings.HasSuffix(answer, `"results":[]}`) {
		t.Errorf("Query of a day without values: %d %s, want no results", status, answer)
	}
}

// A query without side effects may be asked by GET, which caches and browsers
// understand.
func TestJSON_QueryByGet(t *testing.T) {
	t.Parallel()
	c := dial(t, clustertest.Start(t, 1).Addr(0))
	if status, answer := c.post("AddValues", `{"metric":"m","node":"a","values":[1]}`); status != 200 {
		t.Fatalf("AddValues: %d %s", status, answer)
	}
	status, answer := c.get("/dmt.v1.Tracker/Query?connect=v1&encoding=json&message=%7B%22metric%22%3A%22m%22%7D")
	if status != 200 || !strings.Contains(answer, `"count":"1"`) {
		t.Errorf("GET Query: %d %s", status, answer)
	}
}

// A named request is the same request whenever and wherever it is repeated,
// and under its name nothing else is ever counted.
func TestAddValues_RequestIDCountsOnceAtAnyMemberAndTime(t *testing.T) {
	t.Parallel()
	clock := newClock()
	cluster := clustertest.Start(t, 3, clock.options())
	f := func(member int, body, want string) {
		t.Helper()
		status, answer := dial(t, cluster.Addr(member)).post("AddValues", body)
		if status == 200 {
			if answer != want {
				t.Errorf("AddValues %s at %d = %s, want %s", body, member, answer, want)
			}
		} else if got := parseRefusal(t, status, answer).String(); got != want {
			t.Errorf("AddValues %s at %d = %s, want %s", body, member, got, want)
		}
	}
	f(0, `{"metric":"m","node":"a","values":[1,2],"request_id":"r"}`, `{"count":"2","duplicate":false}`)
	clock.advance(45 * time.Second) // another bucket by now
	for i := range cluster.Len() {
		f(i, `{"metric":"m","node":"a","values":[1,2],"request_id":"r"}`, `{"count":"2","duplicate":true}`)
		f(i, `{"metric":"m","node":"a","values":[1,3],"request_id":"r"}`, "already_exists conflict request_id")
	}
	f(1, `{"metric":"m","node":"b","values":[1,3],"request_id":"r"}`, `{"count":"2","duplicate":false}`)
	cluster.WaitEqual()
	if got := counted(t, cluster.Server(2)); got != 4 {
		t.Errorf("%d values counted, want 4", got)
	}
}
