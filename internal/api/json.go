package api

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

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

// value checks one value that begins with token.
func (w *walker) value(token json.Token, f protoreflect.FieldDescriptor) error {
	switch f.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return w.object(token, f.Message())
	case protoreflect.BoolKind:
		if _, ok := token.(bool); !ok {
			return w.mismatch(token, "true or false")
		}
		return nil
	case protoreflect.DoubleKind, protoreflect.FloatKind:
		return w.double(token)
	case protoreflect.StringKind:
		_, err := w.text(token)
		return err
	case protoreflect.BytesKind:
		return w.bytes(token)
	case protoreflect.EnumKind:
		s, err := w.text(token)
		if err == nil && f.Enum().Values().ByName(protoreflect.Name(s)) == nil {
			err = w.refuse(ReasonBadJSON, "%.40q is no %s", s, f.Enum().Name())
		}
		return err
	}
	return w.integer(token, f.Kind())
}

// object checks a message, two of which have a short form.
func (w *walker) object(token json.Token, d protoreflect.MessageDescriptor) error {
	switch d.FullName() {
	case "google.protobuf.Timestamp":
		s, err := w.text(token)
		if err != nil {
			return err
		}
		if _, err := time.Parse(time.RFC3339Nano, s); err != nil {
			return w.refuse(ReasonBadTime, "%.40q is no RFC 3339 time", s)
		}
		return nil
	case "google.protobuf.Value":
		switch token.(type) {
		case nil, string:
			return nil
		case json.Number:
			return w.double(token)
		}
		return w.mismatch(token, "a number, a string or null")
	}
	if token != json.Delim('{') {
		return w.mismatch(token, "an object")
	}
	return w.message(d)
}

func (w *walker) text(token json.Token) (string, error) {
	s, ok := token.(string)
	if !ok {
		return "", w.mismatch(token, "a string")
	}
	return s, nil
}

// bytes checks base64 of either alphabet, padded or not, as protojson reads it.
func (w *walker) bytes(token json.Token) error {
	s, err := w.text(token)
	if err != nil {
		return err
	}
	enc := base64.StdEncoding
	if strings.ContainsAny(s, "-_") {
		enc = base64.URLEncoding
	}
	if len(s)%4 != 0 {
		enc = enc.WithPadding(base64.NoPadding)
	}
	if _, err := enc.DecodeString(s); err != nil {
		return w.refuse(ReasonBadJSON, "not base64: %v", err)
	}
	return nil
}

// double refuses the strings "NaN" and "Infinity", which protojson takes.
func (w *walker) double(token json.Token) error {
	switch v := token.(type) {
	case json.Number:
		if f, err := v.Float64(); err != nil || math.IsInf(f, 0) {
			return w.refuse(ReasonRange, "%.40s is beyond the range of a float64", v)
		}
		return nil
	case string:
		if v == "NaN" || v == "Infinity" || v == "-Infinity" {
			return w.refuse(ReasonNotFinite, "%s is not a finite number", v)
		}
	}
	return w.mismatch(token, "a number")
}

// integer takes a number or a string of decimal digits, without fraction and
// exponent, so that no digit is lost on the way.
func (w *walker) integer(token json.Token, kind protoreflect.Kind) error {
	var s string
	switch v := token.(type) {
	case json.Number:
		s = v.String()
	case string:
		s = v
	default:
		return w.mismatch(token, "an integer")
	}
	digits := strings.TrimPrefix(s, "-")
	if digits == "" || strings.Trim(digits, "0123456789") != "" || digits[0] == '0' && digits != "0" {
		return w.refuse(ReasonBadJSON, "%.40q is not an integer", s)
	}
	var err error
	switch kind {
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		_, err = strconv.ParseInt(s, 10, 32)
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		_, err = strconv.ParseUint(s, 10, 32)
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		_, err = strconv.ParseUint(s, 10, 64)
	default:
		_, err = strconv.ParseInt(s, 10, 64)
	}
	if err != nil {
		return w.refuse(ReasonRange, "%.40s is outside the range of %s", s, kind)
	}
	return nil
}

// mismatch is the refusal of a value of another type.
func (w *walker) mismatch(token json.Token, want string) error {
	if token == nil {
		return w.refuse(ReasonNull, "null where %s is needed; leave the field out for its default", want)
	}
	return w.refuse(ReasonBadJSON, "%s where %s is needed", describe(token), want)
}

// describe names a token in messages.
func describe(token json.Token) string {
	switch v := token.(type) {
	case nil:
		return "null"
	case json.Delim:
		if v == '[' {
			return "a list"
		}
		return "an object"
	case bool:
		return "true or false"
	case json.Number:
		return "a number"
	}
	return "a string"
}
