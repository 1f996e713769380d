package sketch

import (
	"encoding/binary"
	"math"
	"testing"
)

// FuzzDecode feeds bytes as they are and with a checksum that fits, so that the
// fuzzer gets past it.
func FuzzDecode(f *testing.F) {
	for _, b := range samples(f) {
		if len(b) < 2000 {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		checkForged(t, "as it is", b)
		if len(b) >= checksumSize {
			checkForged(t, "resealed", resealed(b))
		}
	})
}

// FuzzCheck holds Check against decoding plainly and encoding again.
func FuzzCheck(f *testing.F) {
	for _, b := range samples(f) {
		if len(b) < 2000 {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		equalsReference(t, b)
		if len(b) >= checksumSize {
			equalsReference(t, resealed(b))
		}
	})
}

// FuzzValues reads values from the input and checks that every way to count them
// gives the same bytes.
func FuzzValues(f *testing.F) {
	f.Add([]byte("one value is here, and some more of them follow"), uint8(7))
	f.Add(binary.LittleEndian.AppendUint64(nil, math.Float64bits(0.1)), uint8(5))
	f.Fuzz(func(t *testing.T, b []byte, precision uint8) {
		p := MinPrecision + int(precision)%(MaxPrecision-MinPrecision+1)
		var ns []Number
		for ; len(b) >= 9; b = b[9:] {
			bits := binary.LittleEndian.Uint64(b[1:])
			if v := math.Float64frombits(bits); b[0]&1 == 0 && finite(v) {
				ns = append(ns, number(v))
			} else {
				ns = append(ns, Int(int64(bits)>>(b[0]>>2)))
			}
		}
		want := sketchOfNumbers(t, p, ns)
		sameBytes(t, "decoded", mustDecode(t, encode(want)), want)

		half := sketchOfNumbers(t, MaxPrecision, ns[:len(ns)/2])
		half.Coarsen(p)
		half.Merge(sketchOfNumbers(t, p, ns[len(ns)/2:]))
		sameBytes(t, "merged", half, want)

		var r Recorder
		addTo(t, &r, ns...)
		s := r.Drain()
		s.Coarsen(p)
		sameBytes(t, "recorded", s, want)
	})
}
