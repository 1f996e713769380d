package client

import "maps"

// Stats is what a Client has done since New.
type Stats struct {
	// Values were added, refused ones excluded. RawBytes is what they would
	// take as bare 64-bit numbers.
	Values   uint64 `json:"values,string"`
	RawBytes uint64 `json:"raw_bytes,string"`

	// Recovered values were found in the spool, left by an earlier process.
	Recovered uint64 `json:"recovered,string"`

	// Of both, so many values in so many sketches and batches are acknowledged.
	AckedValues uint64 `json:"acked_values,string"`
	Sketches    uint64 `json:"sketches,string"`
	Batches     uint64 `json:"batches,string"`

	// BytesSent are the bodies of all requests that carry sketches, as they
	// went out: after compression, repetitions included. Requests counts them.
	// Headers come on top, about 250 bytes for each request.
	BytesSent uint64 `json:"bytes_sent,string"`
	Requests  uint64 `json:"requests,string"`

	// SketchBytes are the encoded sketches in Sketches alone.
	SketchBytes uint64 `json:"sketch_bytes,string"`

	// Retries counts tries after the first.
	Retries uint64 `json:"retries,string"`

	// Refused counts values by reason, those refused by the client itself
	// included; RefusedSketches counts sketches refused by the cluster.
	Refused         map[string]uint64 `json:"refused,omitempty"`
	RefusedSketches uint64            `json:"refused_sketches,string"`

	// Coarsened counts values that were moved to the beginning of a minute, ten
	// minutes, an hour or a day for want of memory, each time they were: they
	// are counted, but not at their time any more.
	Coarsened uint64 `json:"coarsened,string"`

	// Dropped counts values given up for want of memory or time.
	Dropped uint64 `json:"dropped,string"`

	// PendingBytes is the memory of sketches not yet acknowledged.
	PendingBytes int64 `json:"pending_bytes,string"`
}

func (s Stats) clone() Stats {
	s.Refused = maps.Clone(s.Refused)
	return s
}

func (s *Stats) refuse(reason string, values uint64) {
	if s.Refused == nil {
		s.Refused = make(map[string]uint64)
	}
	s.Refused[reason] += values
}
