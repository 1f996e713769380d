package sketch

import (
	"encoding/json"
	"errors"
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"
)

func anyNumber(t *rapid.T, label string) Number {
	if rapid.Bool().Draw(t, label+" is an integer") {
		return Int(rapid.Int64().Draw(t, label))
	}
	f := rapid.Float64().Filter(finite).Draw(t, label)
	n, err := Float(f)
	if err != nil {
		t.Fatalf("Float(%v): %v", f, err)
	}
	return n
}

func TestNumber_CmpIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := anyNumber(t, "a"), anyNumber(t, "b")
		if rapid.Bool().Draw(t, "close") {
			b, _ = Float(math.Nextafter(a.Float64(), 0))
		}
		if got, want := a.Cmp(b), a.big().Cmp(b.big()); got != want || b.Cmp(a) != -want || (a == b) != (want == 0) {
			t.Fatalf("(%v).Cmp(%v) = %d, want %d", a, b, got, want)
		}
		if got, want := a.neg().big(), new(big.Float).Neg(a.big()); got.Cmp(want) != 0 {
			t.Fatalf("(%v).neg() = %v", a, got)
		}
	})
}

func TestNumber_TextRoundTrips(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := anyNumber(t, "n")
		if got, err := ParseNumber(n.String()); err != nil || got != n {
			t.Fatalf("ParseNumber(%q) = %v, %v", n, got, err)
		}
		b, err := json.Marshal(n)
		if err != nil {
			t.Fatal(err)
		}
		var got Number
		if err := json.Unmarshal(b, &got); err != nil || got != n {
			t.Fatalf("%s reads back as %v, %v", b, got, err)
		}
	})
}

func TestNumber_IntegersAreOneThing(t *testing.T) {
	f := func(v float64, want Number) {
		t.Helper()
		if got, err := Float(v); err != nil || got != want {
			t.Errorf("Float(%v) = %#v, %v, want %#v", v, got, err, want)
		}
	}
	f(3, Int(3))
	f(math.Copysign(0, -1), Number{})
	f(-0x1p63, Int(math.MinInt64))
	f(0x1p62, Int(1<<62))
	if n, err := Float(0x1p63); err != nil || !n.float {
		t.Errorf("Float(2^63) = %#v, %v, want a float", n, err)
	}
	for _, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		if _, err := Float(v); !errors.Is(err, ErrNotFinite) {
			t.Errorf("Float(%v) = %v, want ErrNotFinite", v, err)
		}
	}
}

func TestParseNumber(t *testing.T) {
	f := func(s string, want Number) {
		t.Helper()
		if got, err := ParseNumber(s); err != nil || got != want {
			t.Errorf("ParseNumber(%q) = %v, %v, want %v", s, got, err, want)
		}
	}
	f("0", Number{})
	f("-0.0", Number{})
	f("+17", Int(17))
	f("1e3", Int(1000))
	f("2.50", number(2.5))
	f(".5", number(0.5))
	f("9223372036854775807", Int(math.MaxInt64))
	f("9223372036854775808", number(0x1p63))
	f("1e-400", Number{})

	bad := func(s string, want error) {
		t.Helper()
		if got, err := ParseNumber(s); err == nil || want != nil && !errors.Is(err, want) {
			t.Errorf("ParseNumber(%q) = %v, %v, want an error, %v", s, got, err, want)
		}
	}
	for _, s := range []string{"", " 1", "1 ", "0x10", "0x1p3", "1_000", "e", "1e", "-", "1.2.3", "ten", "1,5"} {
		bad(s, nil)
	}
	bad("1e400", ErrNotFinite)
	bad("-1e400", ErrNotFinite)
	for _, s := range []string{"NaN", "inf", "-Infinity"} {
		bad(s, nil)
	}
}

func TestNumber_JSONOfLargeIntegersIsText(t *testing.T) {
	f := func(n Number, want string) {
		t.Helper()
		if b, err := json.Marshal(n); err != nil || string(b) != want {
			t.Errorf("json.Marshal(%v) = %s, %v, want %s", n, b, err, want)
		}
	}
	f(Int(1<<53), "9007199254740992")
	f(Int(1<<53+1), `"9007199254740993"`)
	f(Int(math.MinInt64), `"-9223372036854775808"`)
	f(number(0.1), "0.1")
	f(number(1e300), "1e+300")
	var n Number
	for _, s := range []string{`"x"`, `true`, `"0x1"`, `{}`} {
		if err := json.Unmarshal([]byte(s), &n); err == nil {
			t.Errorf("%s read as %v", s, n)
		}
	}
}
