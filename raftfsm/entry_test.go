package raftfsm

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/distributed-median-tracker/dmt/storage"
	"github.com/distributed-median-tracker/dmt/window"
)

// sampleBatches have every field in use and at its bounds.
func sampleBatches() []storage.Batch {
	return []storage.Batch{
		{
			Producer: storage.ProducerID{0: 1, 15: 16}, Seq: 1, SeenMs: 1_700_000_000_123, Hash: 0x0123456789abcdef,
			Refused: 2, RefusedEntries: []uint32{3, 700},
			Deltas: []storage.Delta{
				{Metric: "lat", Node: "n1", Start: 1_700_000_000, Sketch: []byte{0xaa, 0xbb}, Count: 5},
				{Metric: "lat", Node: "n2", Start: 1_700_000_000, Sketch: []byte{0xcc}, Count: 1},
				{Metric: "up", Node: "n2", Start: 1_699_999_990, Sketch: nil, Count: 0},
			},
		},
		{Producer: storage.ProducerID{7}, Seq: math.MaxUint64, SeenMs: math.MinInt64, Refused: math.MaxUint32},
		{
			Producer: storage.ProducerID{8}, Seq: 9, SeenMs: math.MaxInt64, Hash: math.MaxUint64,
			Deltas: []storage.Delta{
				{Metric: "m", Node: "n", Start: math.MinInt64, Sketch: []byte{1}, Count: math.MaxUint64},
				{Metric: "m", Node: "n", Start: math.MaxInt64, Sketch: []byte{1}, Count: 1},
			},
		},
	}
}

func encodeAll(t testing.TB, clockMs int64, batches []storage.Batch) []byte {
	t.Helper()
	var body []byte
	for i := range batches {
		var err error
		if body, err = appendBatch(body, &batches[i]); err != nil {
			t.Fatalf("appendBatch(%d) = %v", i, err)
		}
	}
	return encodeBatches(clockMs, len(batches), body)
}

func sampleCluster() storage.Cluster {
	return storage.Cluster{ID: "c1", Precision: 7, Tiers: window.Tiers{{Width: 10, KeepNode: 21600, KeepFleet: 0}}}
}

// The bytes of an entry are frozen: a change here breaks every log there is.
func TestEntry_BytesArePinned(t *testing.T) {
	f := func(name string, entry []byte, want string) {
		t.Helper()
		if got := hex.EncodeToString(entry); got != strings.ReplaceAll(want, " ", "") {
			t.Errorf("%s is\n%s, want\n%s", name, got, want)
		}
	}
	f("Tick", encodeTick(1_700_000_000_000), pinnedTick)
	f("Init", encodeInit(-1, sampleCluster()), pinnedInit)
	f("Batches", encodeAll(t, 1, sampleBatches()[:1]), pinnedBatches)
	f("Retention", encodeRetention(-1, sampleCluster().Tiers), pinnedRetention)
	f("AcceptClock", encodeAcceptClock(1_700_000_000_000), pinnedAcceptClock)
}

func TestEntry_DecodesWhatWasEncoded(t *testing.T) {
	var names interner
	tick, err := decodeEntry(encodeTick(-5), &names)
	if want := (storage.Entry{ClockMs: -5, Kind: storage.KindTick}); err != nil || !reflect.DeepEqual(tick, want) {
		t.Errorf("Tick = %+v, %v, want %+v", tick, err, want)
	}
	cluster := sampleCluster()
	init, err := decodeEntry(encodeInit(9, cluster), &names)
	if want := (storage.Entry{ClockMs: 9, Kind: storage.KindInit, Cluster: &cluster}); err != nil || !reflect.DeepEqual(init, want) {
		t.Errorf("Init = %+v, %v, want %+v", init, err, want)
	}
	retention, err := decodeEntry(encodeRetention(9, cluster.Tiers), &names)
	if want := (storage.Entry{ClockMs: 9, Kind: storage.KindRetention, Tiers: cluster.Tiers}); err != nil || !reflect.DeepEqual(retention, want) {
		t.Errorf("Retention = %+v, %v, want %+v", retention, err, want)
	}
	accept, err := decodeEntry(encodeAcceptClock(9), &names)
	if want := (storage.Entry{ClockMs: 9, Kind: storage.KindAcceptClock}); err != nil || !reflect.DeepEqual(accept, want) {
		t.Errorf("AcceptClock = %+v, %v, want %+v", accept, err, want)
	}
	got, err := decodeEntry(encodeAll(t, math.MaxInt64, sampleBatches()), &names)
	if err != nil {
		t.Fatalf("Batches: %v", err)
	}
	want := storage.Entry{ClockMs: math.MaxInt64, Kind: storage.KindBatches, Batches: sampleBatches()}
	want.Batches[0].Deltas[2].Sketch = []byte{}
	want.Batches[1].Deltas = []storage.Delta{}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("Batches =\n%+v, want\n%+v", got, want)
	}
}

func TestEntry_EveryFlippedBitAndTruncationIsRefused(t *testing.T) {
	for _, entry := range [][]byte{encodeTick(77), encodeInit(1, sampleCluster()), encodeAll(t, 5, sampleBatches()), encodeRetention(1, sampleCluster().Tiers), encodeAcceptClock(3)} {
		for i := range len(entry) * 8 {
			bad := bytes.Clone(entry)
			bad[i/8] ^= 1 << (i % 8)
			if e, err := decodeEntry(bad, &interner{}); err == nil {
				t.Errorf("entry %x with bit %d flipped was read as %+v", entry, i, e)
			}
		}
		for n := range entry {
			if e, err := decodeEntry(entry[:n], &interner{}); err == nil {
				t.Errorf("first %d bytes of %x were read as %+v", n, entry, e)
			}
		}
	}
}

// sealed puts a right checksum on wrong bytes.
func sealed(hexBytes string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(hexBytes, " ", ""))
	if err != nil {
		panic(err)
	}
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func TestEntry_RefusesWhatItDoesNotKnow(t *testing.T) {
	producer := strings.Repeat("00", 16)
	f := func(data []byte, want string) {
		t.Helper()
		_, err := decodeEntry(data, &interner{})
		var bad *EntryError
		if !errors.As(err, &bad) || !strings.Contains(bad.Reason, want) {
			t.Errorf("decodeEntry(%x) = %v, want an EntryError with %q", data, err, want)
		}
	}
	f(sealed("02 01 00 00"), "version 2")
	f(sealed("00 01 00 00"), "version 0")
	f(sealed("01 06 00 00"), "kind 6 is unknown")
	f(sealed("01 04 00 00 11"), "tiers: 17, at most 16")
	f(sealed("01 05 00 00 00"), "1 bytes after its end")
	f(sealed("01 01 01 00"), "group: 1")
	f(sealed("01 01 00 00 00"), "1 bytes after its end")
	f(sealed("01 02 00 00 00 07 00"), "cluster id: empty")
	f(sealed("01 03 00 00 ff ff ff ff 0f"), "batches: 4294967295, at most 0")
	f(sealed("01 03 00 00 01"+producer+"00 00 0000000000000000 00 00 00"), "seq: 0")
	f(sealed("01 03 00 00 01"+producer+"01 00 0000000000000000 02 01 05 00"), "refused entries: 1 of 2")
	f(sealed("01 03 00 00 01"+producer+"01 00 0000000000000000 02 02 05 00 00"), "out of order")
	f(sealed("01 03 00 00 01"+producer+"01 00 0000000000000000 00 00 01 00 00 00 00 00"), "metric: empty")
	f(sealed("01 03 00 00 01"+producer+"01 00 0000000000000000 00 00 01 01 6d 01 6e 00 00 05 01"), "sketch: 5 bytes, 1 are left")
	f(make([]byte, MaxEntryBytes+1), "at most")
}

func TestAppendBatch_RefusesWhatCannotBeRead(t *testing.T) {
	f := func(want string, b storage.Batch) {
		t.Helper()
		if _, err := appendBatch(nil, &b); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("appendBatch(%+v) = %v, want %q", b, err, want)
		}
	}
	f("seq", storage.Batch{})
	f("deltas[0]", storage.Batch{Seq: 1, Deltas: []storage.Delta{{Metric: "m"}}})
	f("deltas[0]", storage.Batch{Seq: 1, Deltas: []storage.Delta{{Metric: strings.Repeat("m", maxNameLen+1), Node: "n"}}})
	f("refused", storage.Batch{Seq: 1, Refused: 2, RefusedEntries: []uint32{1}})
	f("refused", storage.Batch{Seq: 1, Refused: 2, RefusedEntries: []uint32{2, 1}})
}

// A name that comes again shares its string with the first.
func TestInterner_IsBounded(t *testing.T) {
	var names interner
	for i := range 3 * maxInterned {
		names.intern(binary.BigEndian.AppendUint32(nil, uint32(i)))
	}
	if len(names.m) > maxInterned {
		t.Errorf("interner holds %d names, at most %d", len(names.m), maxInterned)
	}
}
