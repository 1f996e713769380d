package statsd

import (
	"errors"
	"math"
	"testing"

	"github.com/distributed-median-tracker/dmt/window"
)

// FuzzParse feeds lines from anywhere: each is understood or refused with a
// reason, and what is understood has sound values, a sound rate, and a metric
// that the cluster would take.
func FuzzParse(f *testing.F) {
	for _, line := range []string{
		"", "a:1|ms", "a.b:1:2:3|d|@0.1|#x:y,z|c:id", "_e{1,1}:a|b", "_sc|a|0", "a:1|c|T1",
		"a:1e308|h|@0.000001|#a:\"\\,b", "ü:-0|ms|#ü:ü", "::|ms", "a:1|ms|#a:1,a:1", "a:9223372036854775808|d",
	} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		var l Line
		err := l.Parse(line)
		if err != nil {
			named(t, err)
			return
		}
		if !l.Kind.Measured() {
			return
		}
		if len(l.Values) == 0 || l.Rate < minRate || l.Rate > 1 || l.Name == "" {
			t.Fatalf("%q: %+v", line, l)
		}
		for _, v := range l.Values {
			if x := v.Float64(); math.IsNaN(x) || math.IsInf(x, 0) {
				t.Fatalf("%q: value %v", line, x)
			}
		}
		m, err := l.Metric()
		if err != nil {
			named(t, err)
			return
		}
		if again, err := window.ParseMetric(string(m)); err != nil || again != m {
			t.Fatalf("%q: metric %q is not canonical: %q, %v", line, m, again, err)
		}
	})
}

func named(t *testing.T, err error) {
	t.Helper()
	if bad := (*BadLine)(nil); !errors.As(err, &bad) || bad.Reason == "" || bad.Message == "" {
		t.Fatalf("refused without a reason: %v", err)
	}
}
