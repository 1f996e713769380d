package window

import (
	"path"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func compile(t testing.TB, patterns ...string) NodeMatcher {
	t.Helper()
	m, err := CompileNodes(patterns)
	if err != nil {
		t.Fatalf("CompileNodes(%q): %v", patterns, err)
	}
	return m
}

func TestNodeMatcher(t *testing.T) {
	f := func(pattern, id string, want bool) {
		t.Helper()
		if got := compile(t, pattern).Match(id); got != want {
			t.Errorf("%q matches %q: %v, want %v", pattern, id, got, want)
		}
	}
	f("web-1", "web-1", true)
	f("web-1", "web-10", false)
	f("web-*", "web-", true)
	f("web-*", "db-1", false)
	f("*-1", "a-1-1", true)
	f("a*b*c", "axxbyyc", true)
	f("a*b*c", "axxbyy", false)
	f("**a", "bba", true)
	f("w?b", "wüb", true)
	f("w?b", "wb", false)
	f("n[0-9]", "n7", true)
	f("n[0-9]", "nx", false)
	f("n[!0-9]", "nx", true)
	f("n[^0-9]", "n7", false)
	f("n[ab-]", "n-", true)
	f(`n[\]]`, "n]", true)
	f(`\*`, "*", true)
	f(`\*`, "x", false)
	f("rack/*/web", "rack/a/b/web", true) // a slash is a character like any other
	f("*", "anything", true)
}

func TestCompileNodes_UnionAllAndExact(t *testing.T) {
	if m := compile(t); !m.All() || !m.Match("x") {
		t.Error("no pattern does not match every node")
	}
	if m := compile(t, "a", "*"); !m.All() || !m.Match("x") {
		t.Error(`"a" or "*" does not match every node`)
	}
	m := compile(t, "b", "x*", "a")
	if m.All() || !m.Match("a") || !m.Match("b") || !m.Match("xy") || m.Match("c") {
		t.Error(`"b", "x*" or "a" is not their union`)
	}
	if _, ok := m.Exact(); ok {
		t.Error(`"x*" counts as an id`)
	}
	if ids, ok := compile(t, "b", `a\*`, "b").Exact(); !ok || !slices.Equal(ids, []string{"a*", "b"}) {
		t.Errorf("Exact() = %q, %v, want a* and b", ids, ok)
	}
	if ids, ok := compile(t).Exact(); ok {
		t.Errorf("Exact() of every node = %q", ids)
	}
}

func TestCompileNodes_Refuses(t *testing.T) {
	f := func(want string, patterns ...string) {
		t.Helper()
		if _, err := CompileNodes(patterns); reason(err) != want {
			t.Errorf("CompileNodes(%.60q): %v, want reason %s", patterns, err, want)
		}
	}
	f(ReasonEmpty, "a", "")
	f(ReasonTooLong, strings.Repeat("a", MaxGlobBytes+1))
	f(ReasonTooMany, make([]string, MaxGlobs+1)...)
	for _, p := range []string{"[", "[a", "[]", "[!]", "[a-", "[z-a]", `a\`, `[\`, `[a-\`, "\xff"} {
		f(ReasonBadGlob, p)
	}
	_, err := CompileNodes([]string{"a", "["})
	if err == nil || !strings.HasPrefix(err.Error(), "nodes[1]: ") {
		t.Errorf("error %v does not name nodes[1]", err)
	}
}

// Without slashes, path.Match means the same by these patterns, but for "!".
func TestNodeMatcher_AgreesWithPathMatch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pattern := strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "ü", "?", "*", "[a-b]", "[^a]", `\*`, `\a`}), 1, 8).Draw(t, "pattern"), "")
		id := rapid.StringOfN(rapid.SampledFrom([]rune("abü*")), 0, 8, -1).Draw(t, "id")
		want, err := path.Match(pattern, id)
		if err != nil {
			t.Fatalf("path.Match(%q): %v", pattern, err)
		}
		m, err := CompileNodes([]string{pattern})
		if err != nil {
			t.Fatalf("CompileNodes(%q): %v", pattern, err)
		}
		if got := m.Match(id); got != want {
			t.Fatalf("%q matches %q: %v, want %v", pattern, id, got, want)
		}
	})
}

func TestNodeMatcher_ManyStarsStayFast(t *testing.T) {
	m := compile(t, strings.Repeat("*a", 100)+"b")
	for range 1000 { // exponential backtracking would not end
		if m.Match(strings.Repeat("a", MaxNodeBytes)) {
			t.Fatal("matches without the b")
		}
	}
}
