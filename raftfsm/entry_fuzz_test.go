package raftfsm

import (
	"encoding/binary"
	"hash/crc32"
	"reflect"
	"testing"

	"github.com/distributed-median-tracker/dmt/storage"
)

// FuzzEntry gives the decoder bodies under a right checksum. It must not panic,
// must allocate in proportion to its input, and what it reads must survive a
// round trip.
func FuzzEntry(f *testing.F) {
	strip := func(b []byte) []byte { return b[:len(b)-crc32.Size] }
	f.Add(strip(encodeTick(1)))
	f.Add(strip(encodeInit(1, sampleCluster())))
	f.Add(strip(encodeAll(f, 2, sampleBatches())))
	f.Add(strip(encodeRetention(1, sampleCluster().Tiers)))
	f.Add(strip(encodeAcceptClock(1)))
	f.Fuzz(func(t *testing.T, body []byte) {
		data := binary.BigEndian.AppendUint32(body, crc32.Checksum(body, castagnoli))
		e, err := decodeEntry(data, &interner{})
		if err != nil {
			return
		}
		again, err := decodeEntry(encodeAgain(t, e), &interner{})
		if err != nil || !reflect.DeepEqual(e, again) {
			t.Errorf("decoded %+v, then %+v, %v", e, again, err)
		}
	})
}

func encodeAgain(t *testing.T, e storage.Entry) []byte {
	switch e.Kind {
	case storage.KindTick:
		return encodeTick(e.ClockMs)
	case storage.KindInit:
		return encodeInit(e.ClockMs, *e.Cluster)
	case storage.KindRetention:
		return encodeRetention(e.ClockMs, e.Tiers)
	case storage.KindAcceptClock:
		return encodeAcceptClock(e.ClockMs)
	default:
		return encodeAll(t, e.ClockMs, e.Batches)
	}
}

// FuzzEntryRaw gives the decoder bytes as they come.
func FuzzEntryRaw(f *testing.F) {
	f.Add(encodeTick(1))
	f.Add(encodeAll(f, 2, sampleBatches()))
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := decodeEntry(data, &interner{}); err == nil && len(data) < 8 {
			t.Errorf("%d bytes were read as an entry", len(data))
		}
	})
}
