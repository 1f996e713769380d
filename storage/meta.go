package storage

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/distributed-median-tracker/dmt/window"
	"github.com/distributed-median-tracker/dmt/window/sketch"
)

// formatVersion is that of everything in the file. A file of another version is
// refused, never guessed at.
const formatVersion = 1

// Keys of table meta. All values are sealed.
const (
	metaFormat        = "format"        // uvarint formatVersion
	metaCluster       = "cluster"       // see Cluster.append; empty before init
	metaState         = "state"         // see state.append
	metaConfiguration = "configuration" // uvarint index, then the bytes; empty before the first
)

// Limits of what is decoded.
const (
	maxClusterID     = 256
	maxTiers         = 64
	maxConfiguration = 1 << 20
)

// state is what the state machine counts, as of one index.
//
//	uvarint index . uvarint term . zigzag clock (ms) . uvarint total
//	uvarint metrics . uvarint nodes              in the catalogue
//	uvarint tiers . per tier: zigzag sealed up to (s)
//	per tier: uvarint progress . zigzag kept from, nodes (s) . same, fleet
//	zigzag expiry clock (ms) . zigzag held at (ms)
//
// What comes behind sealed is missing before init.
type state struct {
	index, term    uint64
	clockMs        int64
	total          uint64 // of all values ever counted, at most MaxTotal
	metrics, nodes uint32
	// sealed says per tier up to when its buckets are in the file. The base tier's
	// is not looked at. Nothing is sealed: window.MinTime. It follows the log clock
	// as fast as flushes can roll up, and no answer depends on it.
	sealed []int64
	// progress says per tier that the bucket which begins at sealed is rolled up
	// too, for metrics below that number.
	progress []uint32
	// kept is from when on the rows of each tier are seen. The slices are
	// replaced, never written to.
	kept horizons
	// expiryMs is the log clock that expiry goes by: it stands still while the
	// log clock is held, since the jump to heldMs. 0: not held.
	expiryMs, heldMs int64
}

// horizons are times per tier, for the sketches of single nodes and for those of
// all together.
type horizons struct{ node, fleet []int64 }

func (h horizons) of(fleet bool) []int64 {
	if fleet {
		return h.fleet
	}
	return h.node
}

// dropped returns from when on the file has the rows of each tier: what the next
// tier has not taken up yet is there, though it may be hidden already.
func (s *state) dropped(fleet bool) []int64 {
	dropped := slices.Clone(s.kept.of(fleet))
	for i := range len(dropped) - 1 {
		dropped[i] = min(dropped[i], s.sealed[i+1])
	}
	return dropped
}

// begin sets the tiers of a state to nothing sealed and everything kept.
func (s *state) begin(tiers int) {
	s.sealed = slices.Repeat([]int64{window.MinTime}, tiers)
	s.progress = make([]uint32, tiers)
	s.kept = horizons{slices.Clone(s.sealed), slices.Clone(s.sealed)}
}

func (s *state) append(b []byte) []byte {
	b = binary.AppendUvarint(b, s.index)
	b = binary.AppendUvarint(b, s.term)
	b = binary.AppendVarint(b, s.clockMs)
	b = binary.AppendUvarint(b, s.total)
	b = binary.AppendUvarint(b, uint64(s.metrics))
	b = binary.AppendUvarint(b, uint64(s.nodes))
	b = binary.AppendUvarint(b, uint64(len(s.sealed)))
	for _, t := range s.sealed {
		b = binary.AppendVarint(b, t)
	}
	if s.kept.node == nil {
		return b
	}
	for i := range s.sealed {
		b = binary.AppendUvarint(b, uint64(s.progress[i]))
		b = binary.AppendVarint(b, s.kept.node[i])
		b = binary.AppendVarint(b, s.kept.fleet[i])
	}
	b = binary.AppendVarint(b, s.expiryMs)
	return binary.AppendVarint(b, s.heldMs)
}

func parseState(b []byte) (state, error) {
	r := reader{b: b}
	s := state{
		index: r.uvarint("index"), term: r.uvarint("term"), clockMs: r.varint("clock"),
		total:   r.number("total", MaxTotal),
		metrics: uint32(r.number("metrics", math.MaxUint32)),
		nodes:   uint32(r.number("nodes", math.MaxUint32)),
	}
	for range r.number("tiers", maxTiers) {
		s.sealed = append(s.sealed, r.varint("sealed"))
	}
	if s.expiryMs = s.clockMs; r.err != nil || len(r.b) == 0 || len(s.sealed) == 0 {
		return s, r.done()
	}
	for range s.sealed {
		s.progress = append(s.progress, uint32(r.number("progress", math.MaxUint32)))
		s.kept.node = append(s.kept.node, r.varint("kept from"))
		s.kept.fleet = append(s.kept.fleet, r.varint("kept from"))
	}
	s.expiryMs, s.heldMs = r.varint("expiry clock"), r.varint("held at")
	return s, r.done()
}

// append writes
//
//	uvarint length . id . uvarint precision
//	uvarint tiers . per tier: uvarint width, uvarint node and fleet retention (s)
func (c *Cluster) append(b []byte) []byte {
	b = appendBytes(b, c.ID)
	b = binary.AppendUvarint(b, uint64(c.Precision))
	b = binary.AppendUvarint(b, uint64(len(c.Tiers)))
	for _, t := range c.Tiers {
		b = binary.AppendUvarint(b, uint64(t.Width))
		b = binary.AppendUvarint(b, uint64(t.KeepNode))
		b = binary.AppendUvarint(b, uint64(t.KeepFleet))
	}
	return b
}

func parseCluster(b []byte) (Cluster, error) {
	r := reader{b: b}
	c := Cluster{ID: string(r.bytes("cluster id", maxClusterID)), Precision: int(r.number("precision", sketch.MaxPrecision))}
	for range r.number("tiers", maxTiers) {
		c.Tiers = append(c.Tiers, window.Tier{
			Width:    window.Width(r.number("width", math.MaxInt64)),
			KeepNode: int64(r.number("node retention", math.MaxInt64)), KeepFleet: int64(r.number("fleet retention", math.MaxInt64)),
		})
	}
	if err := r.done(); err != nil {
		return Cluster{}, err
	}
	return c, c.check()
}

func (c *Cluster) check() error {
	if c.ID == "" || len(c.ID) > maxClusterID {
		return fmt.Errorf("cluster id of %d bytes", len(c.ID))
	}
	if c.Precision < sketch.MinPrecision || c.Precision > sketch.MaxPrecision {
		return fmt.Errorf("precision %d is none of %d to %d", c.Precision, sketch.MinPrecision, sketch.MaxPrecision)
	}
	return c.Tiers.Check()
}

// configuration is that of the consensus above, opaque here.
type configuration struct {
	index uint64
	bytes []byte
}

func (c *configuration) append(b []byte) []byte {
	return append(binary.AppendUvarint(b, c.index), c.bytes...)
}

func parseConfiguration(b []byte) (configuration, error) {
	r := reader{b: b}
	c := configuration{index: r.uvarint("configuration index")}
	c.bytes = r.take("configuration", min(len(r.b), maxConfiguration+1))
	if len(c.bytes) > maxConfiguration {
		r.fail("configuration of more than %d bytes", maxConfiguration)
	}
	return c, r.done()
}
