package main

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strconv"

	"github.com/distributed-median-tracker/dmt/client"
)

// agentResult is what became of everything that an agent read. Counts are
// strings in JSON, as everywhere.
type agentResult struct {
	Node    string `json:"node"`
	Packets uint64 `json:"packets,string"`
	Lines   uint64 `json:"lines,string"`

	// Lines that were no measurement, by reason and by kind.
	Bad     counts `json:"bad"`
	Ignored counts `json:"ignored"`

	// Values by weight, of this process and found in the spool; those the
	// cluster has counted; those it refused, by reason; those that wait in the
	// spool; and those that are gone.
	Values    uint64 `json:"values,string"`
	Recovered uint64 `json:"recovered,string"`
	Acked     uint64 `json:"acked,string"`
	Refused   counts `json:"refused"`
	Spooled   uint64 `json:"spooled,string"`
	Unsent    uint64 `json:"unsent,string"`
	Dropped   uint64 `json:"dropped,string"`

	Sketches  uint64 `json:"sketches,string"`
	BytesSent uint64 `json:"bytes_sent,string"`
}

// counts are numbers by reason or kind.
type counts map[string]uint64

// MarshalJSON writes the numbers as strings.
func (c counts) MarshalJSON() ([]byte, error) {
	texts := make(map[string]string, len(c))
	for name, n := range c {
		texts[name] = strconv.FormatUint(n, 10)
	}
	return json.Marshal(texts)
}

func (c counts) total() uint64 {
	var sum uint64
	for _, n := range c {
		sum += n
	}
	return sum
}

func newAgentResult(k *sink, st client.Stats, unsent *client.UnsentError) *agentResult {
	k.mu.Lock()
	defer k.mu.Unlock()
	r := &agentResult{
		Node: k.recorder.Node(), Packets: k.packets, Lines: k.lines, Bad: maps.Clone(k.bad), Ignored: maps.Clone(k.ignored),
		Values: st.Values, Recovered: st.Recovered, Acked: st.AckedValues, Refused: maps.Clone(st.Refused), Dropped: st.Dropped,
		Sketches: st.Sketches, BytesSent: st.BytesSent,
	}
	if unsent != nil {
		r.Spooled, r.Unsent = unsent.Spooled, unsent.Values-min(unsent.Spooled, unsent.Values)
	}
	return r
}

func (r *agentResult) write(s streams, o *output) error {
	if o.format == "json" {
		return json.NewEncoder(s.Out).Encode(r)
	}
	count, amount := strconv.FormatUint, func(n uint64) string { return strconv.FormatUint(n, 10) }
	number := func(n uint64) string { return count(n, 10) }
	if o.format == "table" {
		number = grouped
		amount = func(n uint64) string { return size(int64(n)) }
	}
	t := table{header: []string{"field", "value"}}
	each := func(prefix string, c counts) {
		for _, name := range slices.Sorted(maps.Keys(c)) {
			t.add(prefix+name, number(c[name]))
		}
	}
	t.add("node", r.Node)
	t.add("packets", number(r.Packets))
	t.add("lines", number(r.Lines))
	each("bad ", r.Bad)
	each("ignored ", r.Ignored)
	t.add("values", number(r.Values))
	t.add("recovered", number(r.Recovered))
	t.add("acked", number(r.Acked))
	each("refused ", r.Refused)
	t.add("spooled", number(r.Spooled))
	t.add("unsent", number(r.Unsent))
	t.add("dropped", number(r.Dropped))
	t.add("sketches", number(r.Sketches))
	t.add("bytes_sent", amount(r.BytesSent))
	if o.format == "table" {
		return t.writeFields(s)
	}
	return t.writeCSV(s.Out)
}

// verdict writes what became of everything, and sorts out by the error of the
// client's Close how it ended.
func (a *agentArgs) verdict(s streams, k *sink, st client.Stats, err error) error {
	unsent := (*client.UnsentError)(nil)
	errors.As(err, &unsent)
	r := newAgentResult(k, st, unsent)
	if werr := r.write(s, &a.output); werr != nil {
		return errors.Join(werr, err)
	}
	refused := (*client.RefusedError)(nil)
	if unsent != nil && r.Unsent == 0 && !errors.As(err, &refused) {
		// Nothing is lost, so this was a clean stop.
		say(s.Err, "dmt: %v", unsent)
		err = nil
	}
	if bad := r.Bad.total(); err == nil && a.stdin && bad > 0 {
		return failuref("%d of %d lines left out", bad, r.Lines)
	}
	return a.where(err)
}
