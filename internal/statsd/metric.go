package statsd

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/distributed-median-tracker/dmt/window"
)

// Metric returns the name and tags of the line in the words of package window,
// or a *BadLine.
func (l *Line) Metric() (window.Metric, error) {
	text, ok := appendName(nil, l.Name, true)
	if !ok || len(text) > window.MaxMetricBytes {
		return "", ErrName
	}
	if l.Tags != "" {
		if text, ok = appendLabels(text, l.Tags); !ok {
			return "", ErrTag
		}
	}
	m, err := window.ParseMetric(string(text))
	switch {
	case err == nil:
		return m, nil
	case l.Tags == "":
		return "", ErrName
	}
	return "", ErrTag // too many labels, or too long a value
}

// appendName appends a name as package window knows them. False means that it
// is empty or has characters that no name is meant to have.
func appendName(b []byte, name string, colon bool) ([]byte, bool) {
	if len(name) == 0 {
		return b, false
	}
	if '0' <= name[0] && name[0] <= '9' {
		b = append(b, '_')
	}
	for len(name) > 0 {
		r, size := utf8.DecodeRuneInString(name)
		name = name[size:]
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == ':' && colon:
			b = append(b, byte(r))
		case r == utf8.RuneError && size == 1, !unicode.IsPrint(r):
			return b, false
		default:
			b = append(b, '_')
		}
	}
	return b, true
}

// appendLabels appends tags, a:b,c, as labels, {a="b",c="true"}. A tag that is
// there twice with one value counts once.
func appendLabels(b []byte, tags string) ([]byte, bool) {
	seen := make(map[string]string)
	open := byte('{')
	for more := true; more; {
		var tag string
		tag, tags, more = strings.Cut(tags, ",")
		if tag == "" {
			continue // a comma too many
		}
		name, value, ok := strings.Cut(tag, ":")
		if !ok {
			value = "true"
		}
		label, ok := appendName(nil, name, false)
		if !ok {
			return b, false
		}
		if old, twice := seen[string(label)]; twice {
			if old != value {
				return b, false
			}
			continue
		}
		if len(seen) >= window.MaxLabels {
			return b, false
		}
		seen[string(label)] = value
		b = append(append(b, open), label...)
		b = append(b, '=', '"')
		if b, ok = appendQuoted(b, value); !ok {
			return b, false
		}
		b = append(b, '"')
		open = ','
	}
	if open == '{' {
		return b, true
	}
	return append(b, '}'), true
}

// appendQuoted appends the inside of a label value.
func appendQuoted(b []byte, value string) ([]byte, bool) {
	if len(value) > window.MaxLabelValueBytes {
		return b, false
	}
	for len(value) > 0 {
		r, size := utf8.DecodeRuneInString(value)
		if r == utf8.RuneError && size == 1 || !unicode.IsPrint(r) {
			return b, false
		}
		if r == '"' || r == '\\' {
			b = append(b, '\\')
		}
		b = append(b, value[:size]...)
		value = value[size:]
	}
	return b, true
}
