package api

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
)

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
