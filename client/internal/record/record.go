// Package record says what a spool keeps of a client's unsent work, and in which
// bytes. It stands between package client, which writes records and reads them
// after a restart, and package client/spool, which keeps them in a file: so
// clients without a spool do not link a database.
//
// Every record carries a checksum over its key and its value, and is validated
// in full when it is read: what Decode returns may be sent as it is.
package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"

	"github.com/distributed-median-tracker/dmt/window"
	"github.com/distributed-median-tracker/dmt/window/sketch"
)

const (
	// MaxEntries bounds the entries of a batch. The cluster takes no more.
	MaxEntries = 10_000

	// MaxBytes bounds the value of a record: MaxEntries of the largest names
	// and sketches would be more, but the client fills a batch up to 1 MiB and
	// one sketch, and the cluster takes 8 MiB.
	MaxBytes = 16 << 20

	maxCluster = 256 // bytes of a cluster id
	version    = 1

	deltaKind = 'd'
	batchKind = 'b'
)

// ErrDamaged is what every error of Decode wraps.
var ErrDamaged = errors.New("record: damaged")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Record is a Delta or a Batch.
type Record interface {
	// Key names the record. Batches sort before deltas, and both by age.
	Key() []byte

	// AppendValue appends the record's bytes to b.
	AppendValue(b []byte) []byte
}

// Entry is the sketch of one metric, node and bucket of time.
type Entry struct {
	Metric, Node string
	Start        int64 // unix seconds
	Sketch       []byte

	// Read from the sketch by Decode, not stored beside it.
	Count     uint64
	Precision int
}

// Delta is a sketch that was not yet put into a batch: nobody but its producer
// has seen it, so it may go out under any number.
type Delta struct {
	ID      uint64 // rising with age
	Created int64  // unix seconds
	Entry
}

// Batch is what was numbered to be sent, and may have been: it may go out under
// its producer and number only, with the same bytes.
type Batch struct {
	Producer  [16]byte
	Seq       uint64
	SeenMs    int64 // log clock that the producer had been told
	ClusterID string
	Created   int64 // unix seconds

	// Void says that the batch was refused, and that one without entries may
	// have gone out under its number to settle it.
	Void bool

	Entries []Entry
}

// Key of a delta:
//
//	0     1                9
//	+-----+----------------+
//	| 'd' | id, u64 BE     |
//	+-----+----------------+
func (d *Delta) Key() []byte { return binary.BigEndian.AppendUint64([]byte{deltaKind}, d.ID) }

// AppendValue appends the value of a delta:
//
//	u8 version (1) | zigzag created | entry | u32 LE CRC-32C of key and all before
//
// where an entry is
//
//	zigzag start | uvarint length, metric | uvarint length, node | uvarint length, sketch
func (d *Delta) AppendValue(b []byte) []byte {
	from := len(b)
	b = append(b, version)
	b = binary.AppendVarint(b, d.Created)
	b = d.Entry.append(b)
	return seal(b, from, d.Key())
}

// Key of a batch:
//
//	0     1                     17               25
//	+-----+---------------------+----------------+
//	| 'b' | producer, 16 bytes  | seq, u64 BE    |
//	+-----+---------------------+----------------+
func (x *Batch) Key() []byte {
	return binary.BigEndian.AppendUint64(append([]byte{batchKind}, x.Producer[:]...), x.Seq)
}

// AppendValue appends the value of a batch:
//
//	u8 version (1) | u8 flags: bit 0 void | zigzag created | zigzag seen, ms |
//	uvarint length, cluster id | uvarint entries | entry ... |
//	u32 LE CRC-32C of key and all before
func (x *Batch) AppendValue(b []byte) []byte {
	from := len(b)
	flags := byte(0)
	if x.Void {
		flags = 1
	}
	b = append(b, version, flags)
	b = binary.AppendVarint(b, x.Created)
	b = binary.AppendVarint(b, x.SeenMs)
	b = appendBytes(b, x.ClusterID)
	b = binary.AppendUvarint(b, uint64(len(x.Entries)))
	for i := range x.Entries {
		b = x.Entries[i].append(b)
	}
	return seal(b, from, x.Key())
}

func (e *Entry) append(b []byte) []byte {
	b = binary.AppendVarint(b, e.Start)
	b = appendBytes(b, e.Metric)
	b = appendBytes(b, e.Node)
	return appendBytes(b, e.Sketch)
}

func appendBytes[B string | []byte](b []byte, v B) []byte {
	return append(binary.AppendUvarint(b, uint64(len(v))), v...)
}

func seal(b []byte, from int, key []byte) []byte {
	return binary.LittleEndian.AppendUint32(b, sum(key, b[from:]))
}

func sum(key, body []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, body)
}

// Decode reads a record back. It returns a *Delta or a *Batch that shares no
// memory with its arguments, or an error that wraps ErrDamaged.
func Decode(key, value []byte) (Record, error) {
	if len(value) > MaxBytes {
		return nil, fmt.Errorf("%w: %d bytes, more than %d", ErrDamaged, len(value), MaxBytes)
	}
	n := len(value) - crc32.Size
	if n < 1 || sum(key, value[:n]) != binary.LittleEndian.Uint32(value[n:]) {
		return nil, fmt.Errorf("%w: checksum", ErrDamaged)
	}
	r := &reader{rest: value[:n]}
	if v := r.byte(); v != version {
		return nil, fmt.Errorf("%w: version %d, this program reads %d", ErrDamaged, v, version)
	}
	var out Record
	switch {
	case len(key) == 9 && key[0] == deltaKind:
		d := &Delta{ID: binary.BigEndian.Uint64(key[1:]), Created: r.varint()}
		d.Entry = r.entry()
		out = d
	case len(key) == 25 && key[0] == batchKind:
		x := &Batch{Producer: [16]byte(key[1:17]), Seq: binary.BigEndian.Uint64(key[17:])}
		r.batch(x)
		out = x
	default:
		return nil, fmt.Errorf("%w: key %x", ErrDamaged, key)
	}
	if r.err == nil && len(r.rest) > 0 {
		r.fail("%d bytes behind the end", len(r.rest))
	}
	if r.err != nil {
		return nil, r.err
	}
	return out, nil
}

// reader takes values off the front of bytes. After the first error it returns
// zeros.
type reader struct {
	rest []byte
	err  error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, args...))
	}
	r.rest = nil
}

func (r *reader) byte() byte {
	if len(r.rest) == 0 {
		r.fail("ends early")
		return 0
	}
	b := r.rest[0]
	r.rest = r.rest[1:]
	return b
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.rest)
	if n <= 0 || n > 1 && r.rest[n-1] == 0 { // the longer of two spellings
		r.fail("bad number")
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 || n > 1 && r.rest[n-1] == 0 {
		r.fail("bad number")
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *reader) bytes(most int) []byte {
	n := r.uvarint()
	if n > uint64(most) || n > uint64(len(r.rest)) {
		r.fail("length %d", n)
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) batch(x *Batch) {
	flags := r.byte()
	x.Void = flags == 1
	x.Created, x.SeenMs = r.varint(), r.varint()
	x.ClusterID = string(r.bytes(maxCluster))
	n := r.uvarint()
	if flags > 1 || x.Seq == 0 || n > MaxEntries {
		r.fail("flags %d, number %d, %d entries", flags, x.Seq, n)
	}
	for r.err == nil && n > 0 { // grown as it is read: n may lie
		x.Entries = append(x.Entries, r.entry())
		n--
	}
}

func (r *reader) entry() Entry {
	e := Entry{
		Start:  r.varint(),
		Metric: string(r.bytes(math.MaxUint16)),
		Node:   string(r.bytes(math.MaxUint16)),
	}
	data := r.bytes(sketch.MaxEncodedSize)
	if r.err != nil {
		return e
	}
	if m, err := window.ParseMetric(e.Metric); err != nil || string(m) != e.Metric {
		r.fail("metric %q", e.Metric)
	}
	if err := window.CheckNode(e.Node); err != nil {
		r.fail("node %q", e.Node)
	}
	if e.Start < window.MinTime || e.Start >= window.MaxTime {
		r.fail("start %d", e.Start)
	}
	header, err := sketch.Check(data)
	if err != nil || header.Count == 0 || header.Count > sketch.MaxCount {
		r.fail("sketch of %d values: %v", header.Count, err)
	}
	e.Sketch = append([]byte(nil), data...)
	e.Count, e.Precision = header.Count, header.Precision
	return e
}
