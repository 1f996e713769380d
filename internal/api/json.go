package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/distributed-median-tracker/dmt/window"
)

// checkJSON walks JSON text beside the descriptor of the message it is meant
// to be, and refuses, by path, everything that protojson would let pass or
// would refuse without saying where.
func checkJSON(b []byte, d protoreflect.MessageDescriptor) error {
	if len(bytes.TrimSpace(b)) == 0 {
		return &window.InputError{Field: "body", Reason: ReasonEmpty, Message: "no JSON; send at least {}"}
	}
	w := walker{dec: json.NewDecoder(bytes.NewReader(b)), limit: maxElements}
	if strings.HasSuffix(string(d.Name()), "Response") {
		w.limit = math.MaxInt // who reads an answer has asked for it, and bounds its bytes
	}
	w.dec.UseNumber()
	token, err := w.next()
	if err != nil {
		return err
	}
	if token != json.Delim('{') {
		return w.refuse(ReasonBadJSON, "%s where an object is needed", describe(token))
	}
	if err := w.message(d); err != nil {
		return err
	}
	switch _, err := w.dec.Token(); {
	case err == nil:
		return w.refuse(ReasonBadJSON, "something follows the object")
	case !errors.Is(err, io.EOF):
		return w.syntax(err)
	}
	return nil
}

// walker reads tokens and knows where it is.
type walker struct {
	dec      *json.Decoder
	path     []place
	elements int // of all lists so far
	limit    int // of elements
}

// place is a key, or without one a position in a list.
type place struct {
	key   string
	index int
}

func (w *walker) push(p place) { w.path = append(w.path, p) }
func (w *walker) pop()         { w.path = w.path[:len(w.path)-1] }

func (w *walker) next() (json.Token, error) {
	token, err := w.dec.Token()
	if err != nil {
		return nil, w.syntax(err)
	}
	return token, nil
}

// syntax is the refusal of text that is no JSON.
func (w *walker) syntax(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return w.refuse(ReasonBadJSON, "the JSON ends too early")
	}
	return w.refuse(ReasonBadJSON, "byte %d: %v", w.dec.InputOffset(), err)
}

// refuse builds the error for the present place.
func (w *walker) refuse(reason, format string, args ...any) error {
	var b strings.Builder
	for _, p := range w.path {
		if p.key == "" {
			fmt.Fprintf(&b, "[%d]", p.index)
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		b.WriteString(clean(p.key, 80))
	}
	field := b.String()
	if field == "" {
		field = "body"
	}
	return &window.InputError{Field: field, Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// message checks the members of an object whose brace has been read.
func (w *walker) message(d protoreflect.MessageDescriptor) error {
	if len(w.path) > maxDepth {
		return w.refuse(ReasonBadJSON, "nested too deeply")
	}
	seen := make([]bool, d.Fields().Len())
	for w.dec.More() {
		key, err := w.key()
		if err != nil {
			return err
		}
		w.push(place{key: key})
		f := d.Fields().ByName(protoreflect.Name(key))
		switch {
		case f == nil:
			if twin := d.Fields().ByJSONName(key); twin != nil {
				return w.refuse(ReasonUnknownField, "unknown field, write %s", twin.Name())
			}
			return w.refuse(ReasonUnknownField, "unknown field")
		case seen[f.Index()]:
			return w.refuse(ReasonDuplicate, "given twice")
		}
		seen[f.Index()] = true
		if err := w.field(f); err != nil {
			return err
		}
		w.pop()
	}
	_, err := w.next()
	return err
}

// key reads the name of a member; the decoder has seen to it that it is text.
func (w *walker) key() (string, error) {
	token, err := w.next()
	if err != nil {
		return "", err
	}
	key, ok := token.(string)
	if !ok {
		return "", w.refuse(ReasonBadJSON, "%s where a key is needed", describe(token))
	}
	if key == "" {
		return "", w.refuse(ReasonUnknownField, "an empty key")
	}
	return key, nil
}

// field checks the value of a field, which may be a list or a map.
func (w *walker) field(f protoreflect.FieldDescriptor) error {
	token, err := w.next()
	switch {
	case err != nil:
		return err
	case f.IsList() && token == json.Delim('['):
		return w.list(f)
	case f.IsList():
		return w.mismatch(token, "a list")
	case f.IsMap() && token == json.Delim('{'):
		return w.entries(f.MapValue())
	case f.IsMap():
		return w.mismatch(token, "an object")
	}
	return w.value(token, f)
}

func (w *walker) list(f protoreflect.FieldDescriptor) error {
	for i := 0; w.dec.More(); i++ {
		if w.elements++; w.elements > w.limit {
			return w.refuse(ReasonTooManyEntries, "more than %d elements in one request", w.limit)
		}
		w.push(place{index: i})
		token, err := w.next()
		if err != nil {
			return err
		}
		if err := w.value(token, f); err != nil {
			return err
		}
		w.pop()
	}
	_, err := w.next()
	return err
}

// entries checks a map, whose keys are free but not repeated.
func (w *walker) entries(value protoreflect.FieldDescriptor) error {
	seen := make(map[string]bool)
	for w.dec.More() {
		key, err := w.key()
		if err != nil {
			return err
		}
		w.push(place{key: key})
		if seen[key] {
			return w.refuse(ReasonDuplicate, "given twice")
		}
		seen[key] = true
		token, err := w.next()
		if err != nil {
			return err
		}
		if err := w.value(token, value); err != nil {
			return err
		}
		w.pop()
	}
	_, err := w.next()
	return err
}
