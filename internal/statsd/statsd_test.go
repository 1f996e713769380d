package statsd

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/distributed-median-tracker/dmt/window"
)

// spell writes down a parsed line, with its metric, or why there is none.
func spell(line string) string {
	var l Line
	err := l.Parse(line)
	var m window.Metric
	if err == nil && l.Kind.Measured() {
		m, err = l.Metric()
	}
	if bad := (*BadLine)(nil); errors.As(err, &bad) {
		return "refused: " + bad.Reason
	}
	if !l.Kind.Measured() {
		return l.Kind.String()
	}
	s := fmt.Sprintf("%s %s %v", l.Kind, m, l.Values)
	if l.Rate != 1 {
		s += fmt.Sprintf(" @%v", l.Rate)
	}
	return s
}

// TestParse_Conforms holds the lines that the protocol's documents give as
// examples, of StatsD (github.com/statsd/statsd) and of DogStatsD 1.0 to 1.3,
// and what clients are known to send besides.
func TestParse_Conforms(t *testing.T) {
	f := func(line, want string) {
		t.Helper()
		if got := spell(line); got != want {
			t.Errorf("%q is %s, want %s", line, got, want)
		}
	}
	// StatsD.
	f("glork:320|ms", "timer glork [320]")
	f("glork:320|ms|@0.1", "timer glork [320] @0.1")
	f("gorets:1|c", "counter")
	f("gorets:1|c|@0.1", "counter")
	f("gaugor:333|g", "gauge")
	f("gaugor:-10|g", "gauge")
	f("gaugor:+4|g", "gauge")
	f("uniques:765|s", "set")
	f("uniques:a:b:c|s", "set")
	f("meter:5|m", "meter")

	// DogStatsD.
	f("page.views:1|c", "counter")
	f("fuel.level:0.5|g", "gauge")
	f("song.length:240|h|@0.5", "histogram song_length [240] @0.5")
	f("users.uniques:1234|s", "set")
	f("users.online:1|c|#country:china", "counter")
	f("users.online:1|c|@0.5|#country:china", "counter")
	f("page.views:1:2:32|d", "distribution page_views [1 2 32]")
	f("song.length:240:234|h|@0.5", "histogram song_length [240 234] @0.5")
	f("page.views:1|g|#env:dev|c:83c0a99c0a54c0c187f461c7980e9b57f3f6a8b0c918c8d93df19a9de6f3fe1d", "gauge")
	f("request:1.5|d|#env:dev|c:ci-83c0a99c0a54", `distribution request{env="dev"} [1.5]`)
	f("request:1.5|d|e:it-false,cn-nginx,pu-75a2b6d5|card:low", "distribution request [1.5]")
	f("page.views:15|c|#env:dev|T1656581400", "counter")
	f("page.views:15|d|T1656581400", "refused: timestamp")
	f("_e{21,36}:An exception occurred|Cannot parse CSV file from 10.0.0.17|t:warning|#err_type:bad_file", "event")
	f("_sc|Redis connection|2|#env:dev|m:Redis connection timed out after 10s", "service_check")

	// Numbers: integers stay integers, decimals are what they say.
	f("a:-3|ms", "timer a [-3]")
	f("a:0|ms", "timer a [0]")
	f("a:9223372036854775807|d", "distribution a [9223372036854775807]")
	f("a:0.25|ms", "timer a [0.25]")
	f("a:12.0|ms", "timer a [12]")
	f("a:1e3|ms", "timer a [1000]")
	f("a:+7|ms", "timer a [7]")

	// Order of sections, and those that say nothing new.
	f("a:1|ms|#b:c|@0.5", `timer a{b="c"} [1] @0.5`)
	f("a:1|ms|@1", "timer a [1]")
	f("a:1|ms|@1.0|#", "timer a [1]")

	// Names and tags become those of this system.
	f("web-1.page load/ms:1|ms", "timer web_1_page_load_ms [1]")
	f("2xx:1|ms", "timer _2xx [1]")
	f("größe:1|ms", "timer gr__e [1]")
	f("a:1|ms|#b,c:", `timer a{b="true",c=""} [1]`)
	f("a:1|ms|#z:1,a:2", `timer a{a="2",z="1"} [1]`)
	f("a:1|ms|#url:http://x:80/y", `timer a{url="http://x:80/y"} [1]`)
	f(`a:1|ms|#b:say "hi" \o/`, `timer a{b="say \"hi\" \\o/"} [1]`)
	f("a:1|ms|#b:c,,b:c,", `timer a{b="c"} [1]`)
	f("a:1|ms|#kube.pod-name:p,1st:x", `timer a{_1st="x",kube_pod_name="p"} [1]`)
	f("a:1|ms|#b:ü", `timer a{b="ü"} [1]`)
}

func TestParse_RefusesWithAReason(t *testing.T) {
	f := func(line, reason string) {
		t.Helper()
		if got := spell(line); got != "refused: "+reason {
			t.Errorf("%.60q is %s, want it refused: %s", line, got, reason)
		}
	}
	f("", "no_value")
	f("a", "no_value")
	f("a|ms", "no_value")
	f(":1|ms", "no_name")
	f("a:", "no_type")
	f("a:1", "no_type")
	f("a:1|", "bad_type")
	f("a:1|x", "bad_type")
	f("a:1|MS", "bad_type")
	f("a:1|ms ", "bad_type")
	f("a:|ms", "bad_value")
	f("a:x|ms", "bad_value")
	f("a:1:|d", "bad_value")
	f("a:1::2|d", "bad_value")
	f("a:NaN|ms", "bad_value")
	f("a:inf|ms", "bad_value")
	f("a:1e999|ms", "bad_value")
	f("a:0x10|ms", "bad_value")
	f("a:1_000|ms", "bad_value")
	f("a: 1|ms", "bad_value")
	f("a:1,5|ms", "bad_value")
	f("a:1|ms|@", "bad_rate")
	f("a:1|ms|@0", "bad_rate")
	f("a:1|ms|@-1", "bad_rate")
	f("a:1|ms|@1.01", "bad_rate")
	f("a:1|ms|@1e-7", "bad_rate")
	f("a:1|ms|@nan", "bad_rate")
	f("a:1|ms|@0x1p-3", "bad_rate")
	f("a:1|ms|0.5", "bad_section")
	f("a:1|ms|", "bad_section")
	f("a:1|ms|?x:y", "bad_section")
	f("a\x00:1|ms", "bad_name")
	f("a\xff:1|ms", "bad_name")
	f(strings.Repeat("n", window.MaxMetricBytes+1)+":1|ms", "bad_name")
	f("a:1|ms|#:x", "bad_tag")
	f("a:1|ms|#b:\x1b[2J", "bad_tag")
	f("a:1|ms|#b:\xff", "bad_tag")
	f("a:1|ms|#b:1,b:2", "bad_tag")
	f("a:1|ms|#b.c:1,b-c:2", "bad_tag")
	f("a:1|ms|#b:"+strings.Repeat("v", window.MaxLabelValueBytes+1), "bad_tag")
	f("a:1|ms|#a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q", "bad_tag")
}

func TestCarry_WeighsWhatWasSampled(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		rate := minRate + (1-minRate)*random.Float64()
		if random.IntN(2) == 0 {
			rate = max(minRate, rate/1e4)
		}
		var c Carry
		var sum uint64
		n := 1 + random.IntN(500)
		for range n {
			w := c.Weight(rate)
			if w < 1 {
				t.Fatalf("seed %d: weight 0 at rate %v", seed, rate)
			}
			sum += w
		}
		if exact := float64(n) / rate; float64(sum) < exact-0.51 || float64(sum) > exact+0.51 {
			t.Errorf("seed %d: %d values at rate %v weigh %d, want %.2f to within a half", seed, n, rate, sum, exact)
		}
	}
	var c Carry
	if w := c.Weight(1); w != 1 {
		t.Errorf("weight %d without sampling", w)
	}
}

func TestParse_AllocatesNothingOnceWarm(t *testing.T) {
	line := "page.load:320:12|d|@0.1|#env:prod,canary"
	var l Line
	if n := testing.AllocsPerRun(100, func() {
		if err := l.Parse(line); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations for a line", n)
	}
}

func BenchmarkParse(b *testing.B) {
	line := "page.load:320|ms|@0.1|#env:prod,canary"
	var l Line
	b.ReportAllocs()
	for b.Loop() {
		if err := l.Parse(line); err != nil {
			b.Fatal(err)
		}
	}
}
