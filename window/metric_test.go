package window

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// reason returns the reason word of an InputError, "" for none.
func reason(err error) string {
	var in *InputError
	if !errors.As(err, &in) {
		return ""
	}
	return in.Reason
}

func TestParseMetric(t *testing.T) {
	ok := func(in, want string) {
		t.Helper()
		got, err := ParseMetric(in)
		if err != nil || string(got) != want {
			t.Errorf("ParseMetric(%q) = %q, %v, want %q", in, got, err, want)
		}
	}
	ok("latency_us", "latency_us")
	ok(":a:b_1", ":a:b_1")
	ok("a{}", "a")
	ok("a{ }", "a")
	ok(`a{z="1",b="2"}`, `a{b="2",z="1"}`)
	ok("a{ z = \"1\" ,\tb=\"2\" }", `a{b="2",z="1"}`)
	ok(`a{b="ü {},= \" \\ \n"}`, `a{b="ü {},= \" \\ \n"}`)
	ok(`a{b=""}`, `a{b=""}`)
	ok("m"+strings.Repeat("x", MaxMetricBytes-1), "m"+strings.Repeat("x", MaxMetricBytes-1))
	ok(`a{b="`+strings.Repeat("x", MaxLabelValueBytes)+`"}`, `a{b="`+strings.Repeat("x", MaxLabelValueBytes)+`"}`)
	ok("a{"+manyLabels(MaxLabels)+"}", "a{"+manyLabels(MaxLabels)+"}")
}

// manyLabels returns n labels in canonical order.
func manyLabels(n int) string {
	var b []string
	for i := range n {
		b = append(b, fmt.Sprintf(`l%02d="v"`, i))
	}
	return strings.Join(b, ",")
}

func TestParseMetric_Refuses(t *testing.T) {
	bad := func(in, want string) {
		t.Helper()
		if got, err := ParseMetric(in); reason(err) != want || got != "" {
			t.Errorf("ParseMetric(%q) = %q, %v, want reason %s", in, got, err, want)
		}
	}
	bad("", ReasonEmpty)
	bad(strings.Repeat("x", MaxMetricBytes+1), ReasonTooLong)
	bad(`a{b="`+strings.Repeat("x", MaxLabelValueBytes+1)+`"}`, ReasonTooLong)
	bad("a{"+manyLabels(MaxLabels+1)+"}", ReasonTooMany)
	for _, in := range []string{
		"1a", "{a=\"b\"}", " a", "a ", "a b", "a-b", "ä", "a\x00", "a\xff", "a{", "a}", "a{b}", "a{b=}", "a{b=c}",
		`a{b="c"`, `a{b="c}`, `a{b="c",}`, `a{,}`, `a{b="c"}x`, `a{b="c"}}`, `a{b="c" d="e"}`, `a{1b="c"}`, `a{b:c="d"}`,
		`a{b="c",b="d"}`, `a{b="\t"}`, `a{b="\`, "a{b=\"\n\"}", "a{b=\"\x00\"}", "a{b=\"\u202e\"}", "a{b=\"\u200b\"}", `a{b="c"},`,
	} {
		bad(in, ReasonBadMetric)
	}
}

// genLabelValue draws values with everything that needs escaping.
func genLabelValue() *rapid.Generator[string] {
	return rapid.StringOfN(rapid.SampledFrom([]rune("ab/{},=\"\\\n ü€")), 0, 12, -1)
}

func TestParseMetric_OrderFreeAndIdempotent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringMatching(`[a-zA-Z_:][a-zA-Z0-9_:]{0,9}`).Draw(t, "name")
		values := rapid.MapOfN(rapid.StringMatching(`[a-zA-Z_][a-zA-Z0-9_]{0,5}`), genLabelValue(), 0, 8).Draw(t, "labels")
		var labels []Label
		for k, v := range values {
			labels = append(labels, Label{k, v})
		}
		slices.SortFunc(labels, func(a, b Label) int { return strings.Compare(a.Name, b.Name) })
		shuffled := rapid.Permutation(labels).Draw(t, "order")
		blank := rapid.SampledFrom([]string{"", " ", "\t "})
		var b strings.Builder
		b.WriteString(name + "{")
		for i, l := range shuffled {
			if i > 0 {
				b.WriteString("," + blank.Draw(t, "blank"))
			}
			b.WriteString(l.Name + blank.Draw(t, "blank") + `="` + escaper.Replace(l.Value) + `"` + blank.Draw(t, "blank"))
		}
		b.WriteString("}")

		got, err := ParseMetric(b.String())
		if err != nil {
			t.Fatalf("ParseMetric(%q): %v", b.String(), err)
		}
		if want, _ := canonical(name, slices.Clone(labels)); got != want {
			t.Fatalf("ParseMetric(%q) = %q, want %q", b.String(), got, want)
		}
		if again, err := ParseMetric(string(got)); err != nil || again != got {
			t.Fatalf("ParseMetric(%q) = %q, %v, want itself", got, again, err)
		}
		if got.Name() != name || !slices.Equal(got.Labels(), labels) {
			t.Fatalf("%q has name %q and labels %q, want %q and %q", got, got.Name(), got.Labels(), name, labels)
		}
	})
}

func TestCheckNode(t *testing.T) {
	f := func(id, want string) {
		t.Helper()
		if got := reason(CheckNode(id)); got != want {
			t.Errorf("CheckNode(%q) has reason %q, want %q", id, got, want)
		}
	}
	f("web-1", "")
	f("a/../b", "")
	f("..", "")
	f("**", "")
	f("Knoten 7 ü 世界", "")
	f(strings.Repeat("x", MaxNodeBytes), "")
	f("", ReasonEmpty)
	f(strings.Repeat("x", MaxNodeBytes+1), ReasonTooLong)
	f("*", ReasonBadNode)
	f("a\x00b", ReasonBadNode)
	f("a\nb", ReasonBadNode)
	f("a\x7f", ReasonBadNode)
	f("\xff", ReasonBadNode)
	f("a\u202eb", ReasonBadNode)
	f("a\u200fb", ReasonBadNode)
	f("a\u00a0b", ReasonBadNode)
}
