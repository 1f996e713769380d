package main

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/distributed-median-tracker/dmt/client"
)

// summary writes what became of the rows.
func (l *loader) summary() error {
	st := l.sent
	if l.args.format == "json" {
		return json.NewEncoder(l.streams.Out).Encode(newLoadResult(l))
	}
	count := func(n uint64) string { return strconv.FormatUint(n, 10) }
	amount := count
	if l.args.format == "table" {
		count = grouped
		amount = func(n uint64) string { return size(int64(n)) }
	}
	t := table{header: []string{"field", "value"}}
	t.add("rows", count(l.rows))
	t.add("values", count(st.AckedValues))
	t.add("broken", count(l.broken))
	for _, reason := range slices.Sorted(maps.Keys(l.refused)) {
		t.add("refused "+reason, count(l.refused[reason]))
	}
	t.add("sketches", count(st.Sketches))
	t.add("batches", count(st.Batches))
	t.add("bytes_sent", amount(st.BytesSent))
	t.add("bytes_raw", amount(st.RawBytes))
	if l.args.format == "table" {
		return t.writeFields(l.streams)
	}
	return t.writeCSV(l.streams.Out)
}

// loadResult is the summary for programs; counts are strings as everywhere.
type loadResult struct {
	Rows      uint64            `json:"rows,string"`
	Values    uint64            `json:"values,string"`
	Broken    uint64            `json:"broken,string"`
	Refused   map[string]string `json:"refused"`
	Sketches  uint64            `json:"sketches,string"`
	Batches   uint64            `json:"batches,string"`
	BytesSent uint64            `json:"bytes_sent,string"`
	BytesRaw  uint64            `json:"bytes_raw,string"`
}

func newLoadResult(l *loader) loadResult {
	st := l.sent
	r := loadResult{
		Rows: l.rows, Values: st.AckedValues, Broken: l.broken, Refused: map[string]string{},
		Sketches: st.Sketches, Batches: st.Batches, BytesSent: st.BytesSent, BytesRaw: st.RawBytes,
	}
	for reason, n := range l.refused {
		r.Refused[reason] = strconv.FormatUint(n, 10)
	}
	return r
}

// verdict says by the exit code whether all rows are counted.
func (l *loader) verdict() error {
	if l.broken > 0 {
		return failuref("%d of %d rows are broken and were left out", l.broken, l.rows)
	}
	var refused uint64
	for _, n := range l.refused {
		refused += n
	}
	if refused > 0 {
		return &client.RefusedError{Reason: strings.Join(slices.Sorted(maps.Keys(l.refused)), ", "), Values: refused, Message: "the rest is loaded"}
	}
	return nil
}
