package raftfsm

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"

	"github.com/distributed-median-tracker/dmt/storage"
	"github.com/distributed-median-tracker/dmt/window"
)

// decodeEntry reads one log entry. The sketches of the result alias data; its
// strings come from names, which a caller keeps over many entries. What is
// allocated is bounded by a multiple of the bytes received. An error is an
// *EntryError without an index.
func decodeEntry(data []byte, names *interner) (storage.Entry, error) {
	var e storage.Entry
	r := reader{b: data, names: names}
	if err := r.entry(&e); err != nil {
		return storage.Entry{}, err
	}
	if len(r.b) != 0 {
		return storage.Entry{}, entryErrorf("%d bytes after its end", len(r.b))
	}
	return e, nil
}

func entryErrorf(format string, args ...any) error {
	return &EntryError{Reason: fmt.Sprintf(format, args...)}
}

// interner gives every occurrence of a name the same string: a million deltas
// of a thousand nodes cost a thousand strings.
type interner struct{ m map[string]string }

const maxInterned = 1 << 16

func (n *interner) intern(b []byte) string {
	if s, ok := n.m[string(b)]; ok {
		return s
	}
	if n.m == nil || len(n.m) >= maxInterned {
		n.m = make(map[string]string)
	}
	s := string(b)
	n.m[s] = s
	return s
}

// reader cuts fields from the front of b. The first error stays.
type reader struct {
	b     []byte
	names *interner
	err   error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = entryErrorf(format, args...)
	}
}

func (r *reader) uvarint(field string, limit uint64) uint64 {
	if r.err != nil {
		return 0
	}
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail("%s: cut off or too long", field)
		return 0
	}
	if v > limit {
		r.fail("%s: %d, at most %d", field, v, limit)
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint(field string) int64 {
	if r.err != nil {
		return 0
	}
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail("%s: cut off or too long", field)
		return 0
	}
	r.b = r.b[n:]
	return v
}

// bytes returns the next n bytes, which alias the entry.
func (r *reader) bytes(field string, n uint64) []byte {
	if r.err != nil {
		return nil
	}
	if n > uint64(len(r.b)) {
		r.fail("%s: %d bytes, %d are left", field, n, len(r.b))
		return nil
	}
	p := r.b[:n:n]
	r.b = r.b[n:]
	return p
}

func (r *reader) entry(e *storage.Entry) error {
	if len(r.b) > MaxEntryBytes {
		return entryErrorf("%d bytes, at most %d", len(r.b), MaxEntryBytes)
	}
	if len(r.b) < 4+crc32.Size {
		return entryErrorf("%d bytes are too few", len(r.b))
	}
	// Before the checksum: a later version may place it elsewhere.
	if v := r.b[0]; v != entryVersion {
		return entryErrorf("version %d, this program reads %d: a newer one wrote it", v, entryVersion)
	}
	end := len(r.b) - crc32.Size
	if got, want := crc32.Checksum(r.b[:end], castagnoli), binary.BigEndian.Uint32(r.b[end:]); got != want {
		return entryErrorf("checksum %08x, want %08x: it is damaged", got, want)
	}
	kind := r.b[1]
	r.b = r.b[2:end]
	r.uvarint("group", 0)
	e.ClockMs = r.varint("clock")
	switch kind {
	case kindTick:
		e.Kind = storage.KindTick
	case kindInit:
		e.Kind, e.Cluster = storage.KindInit, r.cluster()
	case kindBatches:
		e.Kind, e.Batches = storage.KindBatches, r.batches()
	case kindRetention:
		e.Kind, e.Tiers = storage.KindRetention, r.tiers()
	case kindAcceptClock:
		e.Kind = storage.KindAcceptClock
	default:
		r.fail("kind %d is unknown: a newer program wrote it", kind)
	}
	return r.err
}

func (r *reader) cluster() *storage.Cluster {
	c := &storage.Cluster{ID: string(r.bytes("cluster id", r.uvarint("cluster id", maxClusterID)))}
	c.Precision = int(r.uvarint("precision", 255))
	c.Tiers = r.tiers()
	if r.err == nil && c.ID == "" {
		r.fail("cluster id: empty")
	}
	return c
}

func (r *reader) tiers() (tiers window.Tiers) {
	for range r.uvarint("tiers", maxTiers) {
		tiers = append(tiers, window.Tier{
			Width:     window.Width(r.uvarint("width", math.MaxInt64)),
			KeepNode:  int64(r.uvarint("keep node", math.MaxInt64)),
			KeepFleet: int64(r.uvarint("keep fleet", math.MaxInt64)),
		})
	}
	return tiers
}

func (r *reader) batches() []storage.Batch {
	n := r.uvarint("batches", min(maxBatches, uint64(len(r.b)/minBatch)))
	if r.err != nil {
		return nil
	}
	batches := make([]storage.Batch, n)
	for i := range batches {
		r.batch(&batches[i])
		if r.err != nil {
			return nil
		}
	}
	return batches
}

func (r *reader) batch(b *storage.Batch) {
	copy(b.Producer[:], r.bytes("producer", uint64(len(b.Producer))))
	b.Seq = r.uvarint("seq", math.MaxUint64)
	b.SeenMs = r.varint("seen")
	if hash := r.bytes("hash", 8); hash != nil {
		b.Hash = binary.BigEndian.Uint64(hash)
	}
	r.refused(b)
	n := r.uvarint("deltas", min(maxDeltas, uint64(len(r.b)/minDelta)))
	if r.err != nil {
		return
	}
	if b.Seq == 0 {
		r.fail("seq: 0")
		return
	}
	b.Deltas = make([]storage.Delta, n)
	var metric, node string
	var start int64
	for i := range b.Deltas {
		d := &b.Deltas[i]
		metric, node = r.name("metric", metric), r.name("node", node)
		start += r.varint("start")
		d.Metric, d.Node, d.Start = metric, node, start
		d.Count = r.uvarint("values", math.MaxUint64)
		d.Sketch = r.bytes("sketch", r.uvarint("sketch", MaxEntryBytes))
		if r.err != nil {
			return
		}
	}
}

func (r *reader) name(field, before string) string {
	n := r.uvarint(field, maxNameLen)
	if n == 0 {
		if before == "" {
			r.fail("%s: empty", field)
		}
		return before
	}
	if b := r.bytes(field, n); b != nil {
		return r.names.intern(b)
	}
	return ""
}

func (r *reader) refused(b *storage.Batch) {
	b.Refused = uint32(r.uvarint("refused", math.MaxUint32))
	n := r.uvarint("refused entries", min(uint64(b.Refused), uint64(len(r.b))))
	if r.err != nil || n == 0 {
		return
	}
	if n != uint64(b.Refused) {
		r.fail("refused entries: %d of %d", n, b.Refused)
		return
	}
	b.RefusedEntries = make([]uint32, n)
	var index uint64
	for i := range b.RefusedEntries {
		step := r.uvarint("refused entry", math.MaxUint32)
		if index += step; index > math.MaxUint32 || i > 0 && step == 0 {
			r.fail("refused entry: out of order")
		}
		if r.err != nil {
			return
		}
		b.RefusedEntries[i] = uint32(index)
	}
}
