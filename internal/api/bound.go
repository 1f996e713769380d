package api

import (
	"errors"
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/distributed-median-tracker/dmt/window"
)

// protoCodec is binary protobuf that counts before it allocates: two bytes on
// the wire can be an entry that takes a hundred in memory, so MaxRequestBytes
// alone would let one request take a gigabyte.
type protoCodec struct{}

func (protoCodec) Name() string { return "proto" }

func (protoCodec) Marshal(v any) ([]byte, error) {
	m, ok := v.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("%T is no protobuf message", v)
	}
	return proto.Marshal(m)
}

// MarshalAppend saves Connect a copy of every answer.
func (protoCodec) MarshalAppend(b []byte, v any) ([]byte, error) {
	m, ok := v.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("%T is no protobuf message", v)
	}
	return proto.MarshalOptions{}.MarshalAppend(b, m)
}

// MarshalStable lets Connect put a request into the URL of a GET.
func (protoCodec) MarshalStable(v any) ([]byte, error) {
	m, ok := v.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("%T is no protobuf message", v)
	}
	return proto.MarshalOptions{Deterministic: true}.Marshal(m)
}

// IsBinary says that the bytes are no text.
func (protoCodec) IsBinary() bool { return true }

// Unmarshal keeps a refusal inside the message, as deferring does.
func (protoCodec) Unmarshal(b []byte, v any) error {
	m, ok := v.(proto.Message)
	if !ok {
		return fmt.Errorf("%T is no protobuf message", v)
	}
	left := maxElements
	var in *window.InputError
	if errors.As(countElements(b, m.ProtoReflect().Descriptor(), &left), &in) {
		keepRefusal(m, in)
		return nil
	}
	return proto.Unmarshal(b, m)
}

// maxFields is more than any message of the API has.
const maxFields = 32

// countElements takes the elements of every list in b from left, and refuses
// the one that it has no room for. What is no protobuf it leaves to Unmarshal.
func countElements(b []byte, d protoreflect.MessageDescriptor, left *int) error {
	fields := d.Fields()
	var positions [maxFields]int // of list elements, by field, for the path
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil
		}
		size := protowire.ConsumeFieldValue(num, typ, b[n:])
		if size < 0 {
			return nil
		}
		value := b[n : n+size]
		b = b[n+size:]
		f := fields.ByNumber(num)
		if f == nil {
			continue
		}
		if f.IsList() || f.IsMap() {
			if *left -= listed(f, typ, value); *left < 0 {
				return &window.InputError{
					Field: string(f.Name()), Reason: ReasonTooManyEntries, Limit: fmt.Sprint(maxElements),
					Message: fmt.Sprintf("more than %d elements in one request", maxElements),
				}
			}
		}
		inner := f.Message()
		if inner == nil || typ != protowire.BytesType || !hasLists(inner) {
			continue
		}
		inside, _ := protowire.ConsumeBytes(value) // ConsumeFieldValue has seen to it
		if err := countElements(inside, inner, left); err != nil {
			at := string(f.Name())
			if f.IsList() {
				at = fmt.Sprintf("%s[%d]", at, positions[f.Index()])
			}
			return within(at+".", err)
		}
		positions[f.Index()]++
	}
	return nil
}

// listed returns how many elements of the list f one field on the wire adds.
func listed(f protoreflect.FieldDescriptor, typ protowire.Type, value []byte) int {
	if typ != protowire.BytesType {
		return 1
	}
	packed, n := protowire.ConsumeBytes(value)
	if n < 0 {
		return math.MaxInt32 // cannot be: ConsumeFieldValue has seen to it
	}
	switch f.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind, protoreflect.StringKind, protoreflect.BytesKind:
		return 1
	case protoreflect.DoubleKind, protoreflect.Fixed64Kind, protoreflect.Sfixed64Kind:
		return len(packed) / 8
	case protoreflect.FloatKind, protoreflect.Fixed32Kind, protoreflect.Sfixed32Kind:
		return len(packed) / 4
	}
	elements := 0
	for _, c := range packed {
		if c < 0x80 { // the last byte of a varint
			elements++
		}
	}
	return elements
}

// hasLists says whether messages of d may hold a list at any depth. No message
// of the API holds itself; google.protobuf.Value, which does, is in answers
// only and counts as flat.
func hasLists(d protoreflect.MessageDescriptor) bool {
	if d.ParentFile().Package() != "dmt.v1" || d.Fields().Len() > maxFields {
		return false
	}
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		if f.IsList() || f.IsMap() || f.Message() != nil && hasLists(f.Message()) {
			return true
		}
	}
	return false
}
