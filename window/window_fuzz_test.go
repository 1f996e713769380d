package window

import (
	"slices"
	"testing"
	"unicode/utf8"
)

func FuzzParseMetric(f *testing.F) {
	for _, s := range []string{"a", `a{b="c"}`, `a{z="\"",b="\\\n"}`, "a{", "\xff", `:a{ b = "ü" , c="" }`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m, err := ParseMetric(s)
		if err != nil {
			if reason(err) == "" || m != "" {
				t.Fatalf("ParseMetric(%q) = %q, %v", s, m, err)
			}
			return
		}
		if len(m) > len(s) || !utf8.ValidString(string(m)) {
			t.Fatalf("ParseMetric(%q) = %q", s, m)
		}
		if again, err := ParseMetric(string(m)); err != nil || again != m {
			t.Fatalf("ParseMetric(%q) = %q, %v, want itself", m, again, err)
		}
		labels := m.Labels()
		built, err := canonical(m.Name(), slices.Clone(labels))
		if err != nil || built != m {
			t.Fatalf("%q is made of %q and %q, which make %q, %v", m, m.Name(), labels, built, err)
		}
	})
}

func FuzzParseTime(f *testing.F) {
	for _, s := range []string{"now", "2026-11-23T10:00Z", "2026-11-23", "0", "-1", "90m", "2d", "1w2d", "9999999999999", "106751d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := ParseTime(s, noon)
		if err != nil {
			if reason(err) == "" {
				t.Fatalf("ParseTime(%q): %v", s, err)
			}
			return
		}
		if got < MinTime || got >= MaxTime {
			t.Fatalf("ParseTime(%q) = %d", s, got)
		}
		if again, err := ParseTime(FormatTime(got), noon); err != nil || again != got {
			t.Fatalf("ParseTime(%q) = %d, %v, want %d", FormatTime(got), again, err, got)
		}
	})
}

func FuzzParseTiers(f *testing.F) {
	f.Add("standard")
	f.Add(StandardTiers().String())
	f.Add(ForeverTiers().String())
	f.Add("10s node=6h fleet=7d # finest\n\n1m node=forever fleet=forever")
	f.Fuzz(func(t *testing.T, s string) {
		tiers, err := ParseTiers(s)
		if err != nil {
			if reason(err) == "" {
				t.Fatalf("ParseTiers(%q): %v", s, err)
			}
			return
		}
		if err := tiers.Check(); err != nil {
			t.Fatalf("ParseTiers(%q): %v", s, err)
		}
		if again, err := ParseTiers(tiers.String()); err != nil || !slices.Equal(again, tiers) {
			t.Fatalf("ParseTiers(%q) = %v, %v, want %v", tiers, again, err, tiers)
		}
	})
}

func FuzzCompileNodes(f *testing.F) {
	f.Add("web-*", "web-1")
	f.Add("[a-z]?\\*", "bx*")
	f.Add("[!a]*b*", "bbb")
	f.Fuzz(func(t *testing.T, pattern, id string) {
		m, err := CompileNodes([]string{pattern})
		if err != nil {
			if reason(err) == "" {
				t.Fatalf("CompileNodes(%q): %v", pattern, err)
			}
			return
		}
		got := m.Match(id)
		if ids, ok := m.Exact(); ok && got != slices.Contains(ids, id) {
			t.Fatalf("%q matches %q: %v, but stands for %q", pattern, id, got, ids)
		}
	})
}
