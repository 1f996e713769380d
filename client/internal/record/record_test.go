package record

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/distributed-median-tracker/dmt/window/sketch"
)

func entry(metric, node string, start int64, values ...int64) Entry {
	var s sketch.Sketch
	for _, v := range values {
		s.AddInt(v)
	}
	data, _ := s.MarshalBinary() // the error is always nil
	return Entry{Metric: metric, Node: node, Start: start, Sketch: data, Count: s.Count(), Precision: s.Precision()}
}

func samples() []Record {
	return []Record{
		&Delta{ID: 1, Created: 1_790_000_000, Entry: entry("m", "n", 10, 7)},
		&Delta{ID: 1 << 60, Created: -5, Entry: entry(`latency_us{route="/cart"}`, "rack-1/node ü", -620, 1, 2, 3, 1<<62, -9)},
		&Batch{Producer: [16]byte{1, 2, 3}, Seq: 1, SeenMs: 1_790_000_000_123, ClusterID: "c1", Created: 9},
		&Batch{Producer: [16]byte{15: 9}, Seq: 1 << 40, SeenMs: -1, Void: true,
			Entries: []Entry{entry("m", "n", 10, 7), entry("m", "o", 20, 8, 9)}},
	}
}

func TestDecode_ReadsWhatWasWritten(t *testing.T) {
	for _, r := range samples() {
		got, err := Decode(r.Key(), r.AppendValue(nil))
		if err != nil || !reflect.DeepEqual(got, r) {
			t.Errorf("Decode = %+v, %v, want %+v", got, err, r)
		}
	}
}

func TestRecord_LayoutIsPinned(t *testing.T) {
	f := func(r Record, key, value string) {
		t.Helper()
		if got := hex.EncodeToString(r.Key()); got != key {
			t.Errorf("Key() = %s, want %s", got, key)
		}
		if got := hex.EncodeToString(r.AppendValue(nil)); got != value {
			t.Errorf("AppendValue() = %s, want %s", got, value)
		}
	}
	f(samples()[0], "640000000000000001", "0180ee89ab0d14016d016e090100010e006d19f92c1b4172c4")
	f(samples()[2], "62010203000000000000000000000000000000000000000001", "010012f6b183c59868026331005d915116")
	f(samples()[3], "62000000000000000000000000000000090000010000000000", "01010001000214016d016e090100010e006d19f92c28016d016f0901000210011639a2ff6a31fe62")
}

func TestDecode_RefusesEveryFlippedBit(t *testing.T) {
	for _, r := range samples() {
		key, value := r.Key(), r.AppendValue(nil)
		refused := func(what string, at int) {
			t.Helper()
			if got, err := Decode(key, value); !errors.Is(err, ErrDamaged) {
				t.Errorf("%s %d of %T: Decode = %+v, %v, want ErrDamaged", what, at, r, got, err)
			}
		}
		for i := range 8 * len(value) {
			value[i/8] ^= 1 << (i % 8)
			refused("bit of the value", i)
			value[i/8] ^= 1 << (i % 8)
		}
		for i := range 8 * len(key) {
			key[i/8] ^= 1 << (i % 8)
			refused("bit of the key", i)
			key[i/8] ^= 1 << (i % 8)
		}
		whole := value
		for n := range whole {
			value = whole[:n]
			refused("first bytes", n)
		}
	}
}

// TestDecode_ChecksWhatTheChecksumCannot: a wrong record with a right checksum.
func TestDecode_ChecksWhatTheChecksumCannot(t *testing.T) {
	f := func(what string, r Record) {
		t.Helper()
		if _, err := Decode(r.Key(), r.AppendValue(nil)); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v, want ErrDamaged", what, err)
		}
	}
	good := entry("m", "n", 10, 7)
	with := func(change func(*Entry)) *Delta {
		e := good
		change(&e)
		return &Delta{ID: 1, Entry: e}
	}
	f("metric", with(func(e *Entry) { e.Metric = "no good" }))
	f("metric not canonical", with(func(e *Entry) { e.Metric = `m{b="1",a="2"}` }))
	f("node", with(func(e *Entry) { e.Node = "" }))
	f("start", with(func(e *Entry) { e.Start = 1 << 60 }))
	f("no sketch", with(func(e *Entry) { e.Sketch = nil }))
	f("empty sketch", with(func(e *Entry) { *e = entry("m", "n", 10) }))
	f("cut sketch", with(func(e *Entry) { e.Sketch = e.Sketch[:len(e.Sketch)-1] }))
	f("number 0", &Batch{Seq: 0})
	f("too many entries", &Batch{Seq: 1, Entries: make([]Entry, MaxEntries+1)})
	for _, r := range samples() {
		v := r.AppendValue(nil)
		v = append(v[:len(v)-4], 0)
		if _, err := Decode(r.Key(), seal(v, 0, r.Key())); !errors.Is(err, ErrDamaged) {
			t.Errorf("a byte more: %v, want ErrDamaged", err)
		}
	}
}

func TestOpen_SaysWhatIsMissing(t *testing.T) {
	if _, _, err := Open(t.TempDir()); !errors.Is(err, ErrNoStore) {
		t.Errorf("Open without an implementation = %v, want ErrNoStore", err)
	}
}

// FuzzDecode looks for bytes that panic, allocate without bound, or decode into
// what encodes to other bytes. The checksum is put right, or nothing would get
// past it.
func FuzzDecode(f *testing.F) {
	for _, r := range samples() {
		v := r.AppendValue(nil)
		f.Add(r.Key(), v[:len(v)-4])
	}
	rng := rand.New(rand.NewPCG(1, 1))
	noise := make([]byte, 64)
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	f.Add(samples()[0].Key(), noise)
	f.Fuzz(func(t *testing.T, key, body []byte) {
		value := seal(bytes.Clone(body), 0, key)
		r, err := Decode(key, value)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Fatalf("Decode = %v, want it to wrap ErrDamaged", err)
			}
			return
		}
		if again := r.AppendValue(nil); !bytes.Equal(again, value) || !bytes.Equal(r.Key(), key) {
			t.Fatalf("decoded %x:%x, encodes to %x:%x", key, value, r.Key(), again)
		}
		if _, err := Decode(key, body); err == nil {
			t.Fatal("decoded without a checksum")
		}
	})
}
