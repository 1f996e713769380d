package raftfsm

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/distributed-median-tracker/dmt/storage"
	"github.com/distributed-median-tracker/dmt/window"
)

// A log entry is what the leader gives to Raft and every member applies. Its
// bytes are frozen: a log written by this version must be read by every later
// one. A new meaning gets a new kind, a new layout a new version, and a member
// that meets one it does not know stops (it never skips).
//
//	0         1        2
//	+---------+--------+-----------+--------------+-----------------+-----------+
//	| version | kind   | group     | clock        | body            | CRC-32C   |
//	| u8 = 1  | u8     | uvarint   | zigzag, ms   | by kind         | u32 BE    |
//	+---------+--------+-----------+--------------+-----------------+-----------+
//
// uvarint and zigzag are the variable-length integers of encoding/binary. The
// checksum covers every byte before it. The group is 0: there is one Raft group.
//
// kind 1, Tick: no body. It moves the log clock and opens a term.
//
// kind 2, Init: what is fixed for ever.
//
//	+-----------------+-----------+-------------+-------------------------------------+
//	| cluster id      | precision | tiers       | per tier, finest first:             |
//	| uvarint, bytes  | uvarint   | uvarint     |  width, keep node, keep fleet, s    |
//	|                 |           |             |  each uvarint                       |
//	+-----------------+-----------+-------------+-------------------------------------+
//
// kind 3, Batches: uvarint n, then n batches:
//
//	0                16
//	+----------------+---------+-----------+---------+------------------+-------------+
//	| producer       | seq     | seen      | hash    | refused          | deltas      |
//	| 16 bytes       | uvarint | zigzag ms | u64 BE  | see below        | see below   |
//	+----------------+---------+-----------+---------+------------------+-------------+
//
//	refused   uvarint count; uvarint k, the number of indices that follow, 0 or
//	          count; k uvarints: the first index, then each minus the one before
//	deltas    uvarint count, then per delta:
//
//	+------------------+------------------+-----------------+---------+----------------+
//	| metric           | node             | start           | values  | sketch         |
//	| uvarint, bytes   | uvarint, bytes   | zigzag s, minus | uvarint | uvarint, bytes |
//	| 0: as before     | 0: as before     | the one before  |         |                |
//	+------------------+------------------+-----------------+---------+----------------+
//
// kind 4, Retention: how long tiers are kept from here on.
//
//	+-------------+-------------------------------------+
//	| tiers       | per tier, finest first:             |
//	| uvarint     |  width, keep node, keep fleet, s    |
//	|             |  each uvarint                       |
//	+-------------+-------------------------------------+
//
// kind 5, AcceptClock: no body. A jump of the log clock was right; what expires by
// it may go.
//
// "As before" is within the batch; the first start counts from zero. A producer's
// batch has few metrics, or few nodes, and one or two starts: the fields of a
// delta beside its sketch take about 5 bytes and the name that changes.
const entryVersion = 1

// Kinds of entries. Numbers are never reused.
const (
	kindTick    = 1
	kindInit    = 2
	kindBatches = 3

	kindRetention   = 4
	kindAcceptClock = 5
)

const (
	// MaxEntryBytes bounds one log entry, and so what one call to Ingest may
	// carry. The limits of a request lie well below.
	MaxEntryBytes = 16 << 20

	entryOverhead = 2 + 2*binary.MaxVarintLen64 + binary.MaxVarintLen32 + crc32.Size // header, count, checksum

	maxClusterID = 64
	maxTiers     = 16
	maxBatches   = 1 << 16 // in one entry
	maxDeltas    = 1 << 20 // in one batch
	minBatch     = 16 + 1 + 1 + 8 + 2 + 1
	minDelta     = 5
	maxNameLen   = 1 << 12 // far above the limits of metric and node
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendHeader starts an entry; sealEntry ends it.
func appendHeader(b []byte, kind byte, clockMs int64) []byte {
	b = append(b, entryVersion, kind)
	b = binary.AppendUvarint(b, 0) // group
	return binary.AppendVarint(b, clockMs)
}

func sealEntry(b []byte) []byte {
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func encodeTick(clockMs int64) []byte {
	return sealEntry(appendHeader(nil, kindTick, clockMs))
}

func encodeInit(clockMs int64, c storage.Cluster) []byte {
	b := appendHeader(nil, kindInit, clockMs)
	b = binary.AppendUvarint(b, uint64(len(c.ID)))
	b = append(b, c.ID...)
	b = binary.AppendUvarint(b, uint64(c.Precision))
	return sealEntry(appendTiers(b, c.Tiers))
}

func appendTiers(b []byte, tiers window.Tiers) []byte {
	b = binary.AppendUvarint(b, uint64(len(tiers)))
	for _, t := range tiers {
		b = binary.AppendUvarint(b, uint64(t.Width))
		b = binary.AppendUvarint(b, uint64(t.KeepNode))
		b = binary.AppendUvarint(b, uint64(t.KeepFleet))
	}
	return b
}

func encodeRetention(clockMs int64, tiers window.Tiers) []byte {
	return sealEntry(appendTiers(appendHeader(nil, kindRetention, clockMs), tiers))
}

func encodeAcceptClock(clockMs int64) []byte {
	return sealEntry(appendHeader(nil, kindAcceptClock, clockMs))
}

// encodeBatches joins the encoded batches of several calls into one entry.
func encodeBatches(clockMs int64, count int, bodies ...[]byte) []byte {
	size := entryOverhead
	for _, body := range bodies {
		size += len(body)
	}
	b := appendHeader(make([]byte, 0, size), kindBatches, clockMs)
	b = binary.AppendUvarint(b, uint64(count))
	for _, body := range bodies {
		b = append(b, body...)
	}
	return sealEntry(b)
}

// appendBatch encodes one batch, or says what of it cannot be encoded.
func appendBatch(b []byte, batch *storage.Batch) ([]byte, error) {
	if batch.Seq == 0 {
		return nil, fmt.Errorf("seq: 0, numbers start at 1")
	}
	if len(batch.Deltas) > maxDeltas {
		return nil, fmt.Errorf("deltas: %d, at most %d", len(batch.Deltas), maxDeltas)
	}
	b = append(b, batch.Producer[:]...)
	b = binary.AppendUvarint(b, batch.Seq)
	b = binary.AppendVarint(b, batch.SeenMs)
	b = binary.BigEndian.AppendUint64(b, batch.Hash)
	b, err := appendRefused(b, batch)
	if err != nil {
		return nil, err
	}
	b = binary.AppendUvarint(b, uint64(len(batch.Deltas)))
	var metric, node string
	var start int64
	for i := range batch.Deltas {
		d := &batch.Deltas[i]
		if d.Metric == "" || d.Node == "" || len(d.Metric) > maxNameLen || len(d.Node) > maxNameLen {
			return nil, fmt.Errorf("deltas[%d]: metric or node is empty or too long", i)
		}
		b = appendName(b, d.Metric, metric)
		b = appendName(b, d.Node, node)
		b = binary.AppendVarint(b, d.Start-start)
		b = binary.AppendUvarint(b, d.Count)
		b = binary.AppendUvarint(b, uint64(len(d.Sketch)))
		b = append(b, d.Sketch...)
		metric, node, start = d.Metric, d.Node, d.Start
	}
	return b, nil
}

func appendName(b []byte, name, before string) []byte {
	if name == before {
		return append(b, 0)
	}
	b = binary.AppendUvarint(b, uint64(len(name)))
	return append(b, name...)
}

func appendRefused(b []byte, batch *storage.Batch) ([]byte, error) {
	b = binary.AppendUvarint(b, uint64(batch.Refused))
	list := batch.RefusedEntries
	if len(list) != 0 && uint64(len(list)) != uint64(batch.Refused) {
		return nil, fmt.Errorf("refused: %d, but %d are listed", batch.Refused, len(list))
	}
	b = binary.AppendUvarint(b, uint64(len(list)))
	var before uint32
	for i, index := range list {
		if i > 0 && index <= before {
			return nil, fmt.Errorf("refused entries: %d after %d", index, before)
		}
		b = binary.AppendUvarint(b, uint64(index-before))
		before = index
	}
	return b, nil
}
