package window

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of a metric.
const (
	MaxMetricBytes     = 1024 // whole canonical text
	MaxLabels          = 16
	MaxLabelValueBytes = 256 // unescaped
)

// Metric is what is measured, as canonical text: a name, or a name with labels
// sorted by label name. The text is its identity:
//
//	latency_us
//	latency_us{region="eu",route="/cart"}
//
// ParseMetric is the only way to make one from outside; a constant in source
// code may be written directly when it is canonical.
type Metric string

// Label is one label of a metric. Value is unescaped.
type Label struct{ Name, Value string }

// ParseMetric reads a metric and returns its canonical text. A name matches
// [a-zA-Z_:][a-zA-Z0-9_:]*, a label name [a-zA-Z_][a-zA-Z0-9_]*. Label values
// are quoted, printable UTF-8 with the escapes \" \\ \n. Labels may come in any
// order and with blanks around them; a label given twice is refused.
func ParseMetric(s string) (Metric, error) {
	switch {
	case s == "":
		return "", badInput("metric", ReasonEmpty, "a metric needs a name")
	case len(s) > MaxMetricBytes: // bounds everything below
		return "", tooLong("metric", ReasonTooLong, len(s), MaxMetricBytes, "bytes")
	case !utf8.ValidString(s):
		return "", badInput("metric", ReasonBadMetric, "not UTF-8")
	}
	name, rest := s[:nameEnd(s, true)], s[nameEnd(s, true):]
	switch {
	case name == "":
		return "", badInput("metric", ReasonBadMetric, "%q does not start with a letter, _ or :", s)
	case rest == "":
		return Metric(name), nil
	case rest[0] != '{':
		return "", badInput("metric", ReasonBadMetric, "%q after the name; a name is letters, digits, _ and :", firstRune(rest))
	}
	labels, err := parseLabels(rest[1:])
	if err != nil {
		return "", err
	}
	return canonical(name, labels)
}

// Name returns the metric without its labels.
func (m Metric) Name() string {
	name, _, _ := strings.Cut(string(m), "{")
	return name
}

// Labels returns the labels sorted by name, nil when there are none or m is not
// canonical.
func (m Metric) Labels() []Label {
	_, rest, found := strings.Cut(string(m), "{")
	if !found {
		return nil
	}
	labels, err := parseLabels(rest)
	if err != nil { // only a Metric that ParseMetric did not make
		return nil
	}
	return labels
}

// parseLabels reads what follows the opening brace.
func parseLabels(s string) ([]Label, error) {
	var labels []Label
	s = trimBlank(s)
	if s == "}" {
		return nil, nil
	}
	for {
		label, rest, err := parseLabel(s)
		if err != nil {
			return nil, err
		}
		if labels = append(labels, label); len(labels) > MaxLabels {
			return nil, &InputError{Field: "metric", Reason: ReasonTooMany, Limit: "16", Message: "more than 16 labels"}
		}
		s = trimBlank(rest)
		switch {
		case s == "}":
			return labels, nil
		case strings.HasPrefix(s, ","):
			s = trimBlank(s[1:])
		case strings.HasPrefix(s, "}"):
			return nil, badInput("metric", ReasonBadMetric, "%q after the closing brace", s[1:])
		default:
			return nil, badInput("metric", ReasonBadMetric, "no comma or closing brace after label %q", label.Name)
		}
	}
}

// parseLabel reads one name="value" and returns what follows it.
func parseLabel(s string) (Label, string, error) {
	end := nameEnd(s, false)
	if end == 0 {
		return Label{}, "", badInput("metric", ReasonBadMetric, "%q where a label name should start", firstRune(s))
	}
	name := s[:end]
	s = trimBlank(s[end:])
	if !strings.HasPrefix(s, "=") {
		return Label{}, "", badInput("metric", ReasonBadMetric, "no = after label %q", name)
	}
	if s = trimBlank(s[1:]); !strings.HasPrefix(s, `"`) {
		return Label{}, "", badInput("metric", ReasonBadMetric, "the value of label %q is not quoted", name)
	}
	value, rest, err := parseValue(name, s[1:])
	return Label{name, value}, rest, err
}

// parseValue reads a label value up to its closing quote.
func parseValue(label, s string) (value, rest string, err error) {
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == '"':
			if b.Len() > MaxLabelValueBytes {
				return "", "", tooLong("metric", ReasonTooLong, b.Len(), MaxLabelValueBytes, "bytes in the value of label "+label)
			}
			return b.String(), s[i+1:], nil
		case r == '\\':
			i++
			c, ok := unescape(s[i:])
			if !ok {
				return "", "", badInput("metric", ReasonBadMetric, `label %q: unknown escape, use \" \\ or \n`, label)
			}
			b.WriteByte(c)
		case !unicode.IsPrint(r):
			return "", "", badInput("metric", ReasonBadMetric, "label %q: %U is not printable", label, r)
		default:
			b.WriteString(s[i : i+size])
		}
		i += size
	}
	return "", "", badInput("metric", ReasonBadMetric, "the value of label %q has no closing quote", label)
}

// unescape returns the byte that the escape starting s stands for.
func unescape(s string) (byte, bool) {
	if s == "" {
		return 0, false
	}
	switch s[0] {
	case '"', '\\':
		return s[0], true
	case 'n':
		return '\n', true
	}
	return 0, false
}

var escaper = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

// canonical sorts the labels and writes the one text of the metric. It is never
// longer than the text the labels were read from.
func canonical(name string, labels []Label) (Metric, error) {
	if len(labels) == 0 {
		return Metric(name), nil
	}
	slices.SortFunc(labels, func(a, b Label) int { return strings.Compare(a.Name, b.Name) })
	var b strings.Builder
	b.WriteString(name)
	for i, l := range labels {
		if i == 0 {
			b.WriteByte('{')
		} else {
			if labels[i-1].Name == l.Name {
				return "", badInput("metric", ReasonBadMetric, "label %q is given twice", l.Name)
			}
			b.WriteByte(',')
		}
		b.WriteString(l.Name)
		b.WriteString(`="`)
		b.WriteString(escaper.Replace(l.Value))
		b.WriteByte('"')
	}
	b.WriteByte('}')
	return Metric(b.String()), nil
}

// nameEnd returns the length of the name that s starts with, 0 for none. Only
// metric names may hold colons.
func nameEnd(s string, colon bool) int {
	for i := range len(s) {
		c := s[i]
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' || colon && c == ':'
		if !letter && (i == 0 || c < '0' || '9' < c) {
			return i
		}
	}
	return len(s)
}

func trimBlank(s string) string { return strings.TrimLeft(s, " \t") }

// firstRune returns the first rune of s as text, for messages.
func firstRune(s string) string {
	_, size := utf8.DecodeRuneInString(s)
	return s[:size]
}
