package window

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// Limits of node patterns. More or longer ones cost a query time per node.
const (
	MaxGlobs     = 100
	MaxGlobBytes = 2 * MaxNodeBytes // an id with every byte escaped still fits
)

// NodeMatcher chooses nodes: those that match any of its patterns. The zero
// value matches every node.
type NodeMatcher struct {
	some    bool // at least one pattern, and none that matches everything
	literal map[string]struct{}
	globs   []glob
}

// CompileNodes reads patterns over the whole id: * is any run of characters, ?
// one character, [a-z] and [!a-z] a class, and \ takes the next character as it
// is. Several patterns are a union; none matches every node.
func CompileNodes(patterns []string) (NodeMatcher, error) {
	var m NodeMatcher
	if len(patterns) > MaxGlobs {
		return m, tooLong("nodes", ReasonTooMany, len(patterns), MaxGlobs, "patterns")
	}
	all := len(patterns) == 0
	for i, p := range patterns {
		g, err := compileGlob(p)
		if err != nil {
			return NodeMatcher{}, InField(err, fmt.Sprintf("nodes[%d]", i))
		}
		if text, ok := g.literal(); ok {
			if m.literal == nil {
				m.literal = make(map[string]struct{}, len(patterns))
			}
			m.literal[text] = struct{}{}
			continue
		}
		all = all || g.everything()
		m.globs = append(m.globs, g)
	}
	if all {
		return NodeMatcher{}, nil
	}
	m.some = true
	return m, nil
}

// All reports whether every node matches.
func (m NodeMatcher) All() bool { return !m.some }

// Match reports whether the node is chosen.
func (m NodeMatcher) Match(id string) bool {
	if !m.some {
		return true
	}
	if _, ok := m.literal[id]; ok {
		return true
	}
	for _, g := range m.globs {
		if g.match(id) {
			return true
		}
	}
	return false
}

// Exact returns the chosen ids, sorted, when they are listed one by one and so
// can be looked up instead of searched.
func (m NodeMatcher) Exact() ([]string, bool) {
	if !m.some || len(m.globs) > 0 {
		return nil, false
	}
	return slices.Sorted(maps.Keys(m.literal)), true
}

// A glob is a pattern as a list of steps.
type glob []step

type step struct {
	kind   stepKind
	r      rune
	not    bool       // class: everything else
	ranges []runeSpan // class
}

type runeSpan struct{ first, last rune }

type stepKind uint8

const (
	stepRune  stepKind = iota // exactly r
	stepAny                   // one character
	stepStar                  // any run of characters
	stepClass                 // one character in ranges
)

// compileGlob reads one pattern.
func compileGlob(p string) (glob, error) {
	switch {
	case p == "":
		return nil, badInput("nodes", ReasonEmpty, "an empty pattern matches no node")
	case len(p) > MaxGlobBytes:
		return nil, tooLong("nodes", ReasonTooLong, len(p), MaxGlobBytes, "bytes")
	case !utf8.ValidString(p):
		return nil, badInput("nodes", ReasonBadGlob, "not UTF-8")
	}
	var g glob
	for rs := []rune(p); len(rs) > 0; {
		s, n, err := compileStep(rs)
		if err != nil {
			return nil, err
		}
		rs = rs[n:]
		if s.kind == stepStar && len(g) > 0 && g[len(g)-1].kind == stepStar {
			continue // ** is *
		}
		g = append(g, s)
	}
	return g, nil
}

// compileStep reads the step that rs starts with and its length.
func compileStep(rs []rune) (step, int, error) {
	switch rs[0] {
	case '*':
		return step{kind: stepStar}, 1, nil
	case '?':
		return step{kind: stepAny}, 1, nil
	case '[':
		return compileClass(rs)
	case '\\':
		if len(rs) == 1 {
			return step{}, 0, badInput("nodes", ReasonBadGlob, `ends in a single \`)
		}
		return step{r: rs[1]}, 2, nil
	}
	return step{r: rs[0]}, 1, nil
}

// compileClass reads [a-z] or [!a-z]; ^ may stand for !.
func compileClass(rs []rune) (step, int, error) {
	s := step{kind: stepClass}
	i := 1
	if i < len(rs) && (rs[i] == '!' || rs[i] == '^') {
		s.not = true
		i++
	}
	bound := func() (rune, bool) {
		if i < len(rs) && rs[i] == '\\' {
			i++
		}
		if i >= len(rs) {
			return 0, false
		}
		i++
		return rs[i-1], true
	}
	for i < len(rs) && rs[i] != ']' {
		first, ok := bound()
		if !ok {
			break
		}
		last := first
		if i+1 < len(rs) && rs[i] == '-' && rs[i+1] != ']' {
			i++
			if last, ok = bound(); !ok {
				break
			}
		}
		if last < first {
			return step{}, 0, badInput("nodes", ReasonBadGlob, "the range %c-%c runs backwards", first, last)
		}
		s.ranges = append(s.ranges, runeSpan{first, last})
	}
	if i >= len(rs) {
		return step{}, 0, badInput("nodes", ReasonBadGlob, "[ without ]")
	}
	if len(s.ranges) == 0 {
		return step{}, 0, badInput("nodes", ReasonBadGlob, "[] holds nothing")
	}
	return s, i + 1, nil
}

// match remembers only the last star: when the rest does not fit, that star
// takes one character more. The time is at most len(g) * len(id).
func (g glob) match(id string) bool {
	at, pos := 0, 0
	star, from := -1, 0
	for pos < len(id) {
		if at < len(g) && g[at].kind == stepStar {
			star, from = at, pos
			at++
			continue
		}
		r, size := utf8.DecodeRuneInString(id[pos:])
		if at < len(g) && g[at].takes(r) {
			at, pos = at+1, pos+size
			continue
		}
		if star < 0 {
			return false
		}
		_, size = utf8.DecodeRuneInString(id[from:])
		from += size
		at, pos = star+1, from
	}
	for at < len(g) && g[at].kind == stepStar {
		at++
	}
	return at == len(g)
}

func (s step) takes(r rune) bool {
	switch s.kind {
	case stepAny:
		return true
	case stepRune:
		return s.r == r
	case stepClass:
		for _, c := range s.ranges {
			if c.first <= r && r <= c.last {
				return !s.not
			}
		}
		return s.not
	}
	return false
}

// literal returns the one id that g matches, when it has no wildcard.
func (g glob) literal() (string, bool) {
	var b strings.Builder
	for _, s := range g {
		if s.kind != stepRune {
			return "", false
		}
		b.WriteRune(s.r)
	}
	return b.String(), true
}

func (g glob) everything() bool { return len(g) == 1 && g[0].kind == stepStar }
