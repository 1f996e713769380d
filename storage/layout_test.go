package storage

import (
	"encoding/hex"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/distributed-median-tracker/dmt/window"
)

// The bytes below are in files: they may not change without another
// formatVersion.
func TestLayout_IsPinned(t *testing.T) {
	f := func(name string, got []byte, want string) {
		t.Helper()
		if hex.EncodeToString(got) != want {
			t.Errorf("%s = %x, want %s", name, got, want)
		}
	}
	f("node key", nodeKey{1763892000, 3, 258}.append(nil), "80000000"+"6922db20"+"00000003"+"00000102")
	f("node key before 1970", nodeKey{-10, 0, 0}.append(nil), "7ffffffffffffff6"+"00000000"+"00000000")
	f("fleet key", fleetKey{3, 1763892000}.append(nil), "00000003"+"800000006922db20")
	f("series key", seriesKey{3, 258}.append(nil), "00000003"+"00000102")
	f("number key", numberKey(nil, 258), "00000102")

	f("set of one", appendNodeSet(nil, []uint32{300}), "00ac02")
	f("list", appendNodeSet(nil, []uint32{1, 2, 300}), "000100a902")
	f("bitmap", appendNodeSet(nil, []uint32{5, 6, 7, 9, 12, 13}), "01059701")

	s := state{index: 300, term: 2, clockMs: 1000, total: 5, metrics: 1, nodes: 2, sealed: []int64{0, -1}}
	f("state", s.append(nil), "ac02"+"02"+"d00f"+"05"+"01"+"02"+"02"+"00"+"01")
	s.progress, s.kept, s.expiryMs, s.heldMs = []uint32{0, 7}, horizons{[]int64{60, 0}, []int64{0, -600}}, 900, 1000
	f("state with tiers", s.append(nil), "ac02"+"02"+"d00f"+"05"+"01"+"02"+"02"+"00"+"01"+"00"+"78"+"00"+"07"+"00"+"af09"+"880e"+"d00f")
	c := Cluster{ID: "ab", Precision: 7, Tiers: window.Tiers{{Width: 10, KeepNode: 60}, {Width: 60}}}
	f("cluster", c.append(nil), "026162"+"07"+"02"+"0a3c00"+"3c0000")
	conf := configuration{300, []byte("xy")}
	f("configuration", conf.append(nil), "ac02"+"7879")
	count := counters{count: 300, buckets: 2, first: -10, last: 10}
	f("counters", count.append(nil), "ac02"+"02"+"13"+"14")
	m := metricRow{name: "m", nodes: 2, counters: count}
	f("metric", m.append(nil), "016d"+"02"+"ac02021314")
	m.chains = []chain{{true, -10, 10}, {}}
	f("metric with tiers", m.append(nil), "016d"+"02"+"ac02021314"+"02"+"01"+"13"+"14"+"00")
	f("seal", seal("meta", []byte("k"), []byte("v")), "76"+"aba44706")

	row := fleetRow{gap: 300, set: appendNodeSet(nil, []uint32{300}), sketch: []byte{1, 2, 3, 4, 5, 6}}
	f("fleet row", row.append(nil, "fleet/10s", []byte("key")), "ac02"+"03"+"00ac02"+"e8ac5c96"+"010203040506")

	table := producers{}
	for i, seq := range []uint64{1, 2, 4} {
		table.settle(settlement{id: ProducerID{15: 9}, seq: seq, clockMs: 1000, record: record{uint64(i) + 1, 300}})
	}
	f("producers", table.append(nil, 1000), "01"+"00000000000000000000000000000009"+"02"+"d00f"+"01"+
		"0100000000000000ac02"+"0200000000000000ac02"+"01"+"0300000000000000ac02")
}

func TestKeys_SortAsTheyMean(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		times := rapid.Int64Range(window.MinTime, window.MaxTime)
		a := nodeKey{times.Draw(t, "a"), rapid.Uint32().Draw(t, "metric a"), rapid.Uint32().Draw(t, "node a")}
		b := nodeKey{times.Draw(t, "b"), rapid.Uint32().Draw(t, "metric b"), rapid.Uint32().Draw(t, "node b")}
		want := slices.Compare([]int64{a.start, int64(a.metric), int64(a.node)}, []int64{b.start, int64(b.metric), int64(b.node)})
		if got := slices.Compare(a.append(nil), b.append(nil)); got != want {
			t.Fatalf("%v against %v sorts %d, want %d", a, b, got, want)
		}
		x, y := fleetKey{a.metric, a.start}, fleetKey{b.metric, b.start}
		want = slices.Compare([]int64{int64(a.metric), a.start}, []int64{int64(b.metric), b.start})
		if got := slices.Compare(x.append(nil), y.append(nil)); got != want {
			t.Fatalf("%v against %v sorts %d, want %d", x, y, got, want)
		}
		if k, err := parseNodeKey(a.append(nil)); err != nil || k != a {
			t.Fatalf("parse of %v = %v, %v", a, k, err)
		}
		if k, err := parseFleetKey(x.append(nil)); err != nil || k != x {
			t.Fatalf("parse of %v = %v, %v", x, k, err)
		}
	})
}

// genSet draws sets that are thin, dense, and both.
var genSet = rapid.Custom(func(t *rapid.T) []uint32 {
	gap := rapid.OneOf(rapid.Uint32Range(1, 2), rapid.Uint32Range(1, 40), rapid.Uint32Range(1, 100_000))
	n := rapid.OneOf(rapid.Just(uint32(0)), rapid.Uint32Range(0, math.MaxUint32/2)).Draw(t, "least")
	set := []uint32{n}
	for _, g := range rapid.SliceOfN(gap, 0, 300).Draw(t, "gaps") {
		if n += g; n > 1<<31 {
			break
		}
		set = append(set, n)
	}
	return set
})

func TestNodeSet_IsCanonicalUnderUnion(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := genSet.Draw(t, "a"), genSet.Draw(t, "b")
		if rapid.Bool().Draw(t, "near") {
			for i := range b { // so that they overlap
				b[i] %= 4096
			}
			slices.Sort(b)
			b = slices.Compact(b)
			a = []uint32{1, 5, 900}
		}
		limit := max(a[len(a)-1], b[len(b)-1]) + 1
		if limit > 1<<22 {
			// A dense set of so many numbers is memory for nothing.
			checkRoundTrip(t, a)
			return
		}
		var bits nodeBits
		for _, set := range [][]uint32{a, b, a} {
			if err := bits.union(appendNodeSet(nil, set), limit); err != nil {
				t.Fatalf("union: %v", err)
			}
		}
		want := append(slices.Clone(a), b...)
		slices.Sort(want)
		want = slices.Compact(want)
		if got := bits.appendTo(nil); !slices.Equal(got, want) || bits.count != len(want) {
			t.Fatalf("union = %v (%d), want %v", got, bits.count, want)
		}
		checkRoundTrip(t, want)
	})
}

func checkRoundTrip(t *rapid.T, set []uint32) {
	b := appendNodeSet(nil, set)
	got, err := checkNodeSet(b, set[len(set)-1]+1)
	if err != nil || !slices.Equal(got, set) {
		t.Fatalf("decode of %v = %v, %v", set, got, err)
	}
	if _, err := checkNodeSet(b, set[len(set)-1]); err == nil {
		t.Fatalf("%v is accepted below %d", set, set[len(set)-1])
	}
	least := len(b)
	if n := int(set[len(set)-1]-set[0])/8 + 1 + 1 + uvarintSize(set[0]); least > n {
		t.Fatalf("%v takes %d bytes, a bitmap %d", set, least, n)
	}
}

func FuzzNodeSet(f *testing.F) {
	f.Add(appendNodeSet(nil, []uint32{1, 2, 300}))
	f.Add(appendNodeSet(nil, []uint32{5, 6, 7, 9, 12, 13}))
	f.Fuzz(func(t *testing.T, b []byte) {
		const limit = 1 << 20
		set, err := checkNodeSet(b, limit)
		var bits nodeBits
		unionErr := bits.union(b, limit)
		if err != nil {
			return
		}
		if string(appendNodeSet(nil, set)) != string(b) || unionErr != nil || !slices.Equal(bits.appendTo(nil), set) {
			t.Errorf("%x is accepted as %v, union %v (%v)", b, set, bits.appendTo(nil), unionErr)
		}
	})
}

func FuzzProducers(f *testing.F) {
	table := producers{}
	for seq := range uint64(12) {
		table.settle(settlement{id: ProducerID{1}, seq: seq*seq + 1, clockMs: 1000, record: record{seq, 1}})
	}
	f.Add(table.append(nil, 1000))
	f.Fuzz(func(t *testing.T, b []byte) {
		table, err := parseProducers(b)
		if err != nil {
			return
		}
		for _, p := range table {
			if p.forgotten(math.MinInt64 / 2) {
				return // so far back that no clock knows it
			}
		}
		if again := table.append(nil, math.MinInt64/2); string(again) != string(b) {
			t.Errorf("%x is accepted and encodes to %x", b, again)
		}
	})
}

func FuzzMeta(f *testing.F) {
	s := state{index: 300, sealed: []int64{window.MinTime}}
	f.Add(s.append(nil))
	f.Add(testCluster().append(nil))
	count := counters{count: 300, buckets: 2, first: -10, last: 10}
	f.Add(count.append(nil))
	m := metricRow{name: "m", nodes: 2, counters: count}
	f.Add(m.append(nil))
	s.begin(1)
	f.Add(s.append(nil))
	m.chains = []chain{{true, -10, 10}, {}}
	f.Add(m.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		same := func(name string, again []byte, err error) {
			if err == nil && string(again) != string(b) {
				t.Errorf("%x is accepted as a %s and encodes to %x", b, name, again)
			}
		}
		s, err := parseState(b)
		same("state", s.append(nil), err)
		c, err := parseCluster(b)
		same("cluster", c.append(nil), err)
		conf, err := parseConfiguration(b)
		same("configuration", conf.append(nil), err)
		count, err := parseCounters(b)
		same("counters", count.append(nil), err)
		m, err := parseMetricRow(b)
		same("metric", m.append(nil), err)
		id, err := parseNodeRow(b)
		same("node", []byte(id), err)
	})
}

func FuzzRows(f *testing.F) {
	key := fleetKey{1, 10}.append(nil)
	row := fleetRow{1, appendNodeSet(nil, []uint32{1, 2}), encode(1, 2, 3)}
	f.Add(key, row.append(nil, "fleet/10s", key))
	f.Add(seriesKey{1, 2}.append(nil), seal(tableSeries, seriesKey{1, 2}.append(nil), (&counters{1, 1, 0, 0}).append(nil)))
	f.Fuzz(func(t *testing.T, key, value []byte) {
		if k, err := parseNodeKey(key); err == nil && string(k.append(nil)) != string(key) {
			t.Errorf("node key %x is accepted as %v", key, k)
		}
		if k, err := parseFleetKey(key); err == nil && string(k.append(nil)) != string(key) {
			t.Errorf("fleet key %x is accepted as %v", key, k)
		}
		if row, err := parseFleetRow("fleet/10s", key, value); err == nil && string(row.append(nil, "fleet/10s", key)) != string(value) {
			t.Errorf("fleet row %x is accepted as %v", value, row)
		}
		if k, c, err := parseSeries(key, value, 10); err == nil {
			if again := seal(tableSeries, k.append(nil), c.append(nil)); string(again) != string(value) {
				t.Errorf("series %x: %x is accepted as %v", key, value, c)
			}
		}
	})
}
