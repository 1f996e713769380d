package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
)

// figure is one measured number.
type figure struct {
	Scenario string  `json:"scenario"`
	Figure   string  `json:"figure"`
	Value    float64 `json:"value"`
	Unit     string  `json:"unit"`
	Note     string  `json:"note,omitempty"`
}

// figures shows numbers as they are measured; as JSON all of them at the end.
type figures struct {
	streams streams
	output  *output
	list    []figure
	err     error // of the first write that went wrong
}

const figureLine = "%-9s  %-28s %12s  %-10s  %s\n"

func newFigures(s streams, o *output) *figures { return &figures{streams: s, output: o} }

func (r *figures) add(f figure) {
	first := len(r.list) == 0
	r.list = append(r.list, f)
	var err error
	switch r.output.format {
	case "table":
		if first {
			_, err = fmt.Fprintf(r.streams.Out, figureLine, "SCENARIO", "FIGURE", "VALUE", "UNIT", "NOTE")
		}
		_, werr := fmt.Fprintf(r.streams.Out, figureLine, f.Scenario, f.Figure, figureText(f.Value), f.Unit, cell(f.Note))
		err = errors.Join(err, werr)
	case "csv":
		t := table{rows: [][]string{{f.Scenario, f.Figure, strconv.FormatFloat(f.Value, 'g', -1, 64), f.Unit, f.Note}}}
		if t.header = []string{"scenario", "figure", "value", "unit", "note"}; !first {
			t.header, t.rows = t.rows[0], nil
		}
		err = t.writeCSV(r.streams.Out)
	}
	if r.err == nil {
		r.err = err
	}
}

// finish writes what is written at the end, and returns what went wrong.
func (r *figures) finish(seed uint64) error {
	if r.output.format != "json" {
		return r.err
	}
	return json.NewEncoder(r.streams.Out).Encode(struct {
		Seed    uint64   `json:"seed,string"`
		Version string   `json:"version"`
		Figures []figure `json:"figures"`
	}{seed, version(), append([]figure{}, r.list...)})
}

// figureText writes a number with three digits that mean something.
func figureText(v float64) string {
	switch {
	case v >= 1e15 || v < 0:
		return strconv.FormatFloat(v, 'g', 4, 64)
	case v >= 100:
		return grouped(uint64(math.Round(v)))
	case v >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}
