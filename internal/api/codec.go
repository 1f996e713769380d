package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/distributed-median-tracker/dmt/window"
)

// MarshalJSON writes the one JSON of a message: snake_case keys in the order of
// the .proto file, no blanks, default values included but for messages that are
// absent. Equal messages give equal bytes.
func MarshalJSON(m proto.Message) ([]byte, error) {
	loose, err := protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("write %s as JSON: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	// protojson puts in blanks at random, to keep people from relying on them.
	var b bytes.Buffer
	b.Grow(len(loose))
	if err := json.Compact(&b, loose); err != nil {
		return nil, fmt.Errorf("write %s as JSON: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	return b.Bytes(), nil
}

// UnmarshalJSON reads what MarshalJSON writes, absent keys being default
// values. Keys that are unknown, given twice or not snake_case are refused, and
// so are null and values of another type; the error is an *window.InputError
// that names the field. After an error m is undefined.
func UnmarshalJSON(b []byte, m proto.Message) error {
	if err := checkJSON(b, m.ProtoReflect().Descriptor()); err != nil {
		return err
	}
	// Not reached with what checkJSON refuses; what is left is rare, like a
	// time in the year 10000.
	if err := protojson.Unmarshal(b, m); err != nil {
		return &window.InputError{Field: "body", Reason: ReasonBadJSON, Message: err.Error()}
	}
	return nil
}

// Codecs returns what a handler needs to speak this JSON instead of Connect's
// own, which discards unknown keys, and a protobuf that bounds what a request
// may unfold to. What is refused becomes an invalid_argument with its detail.
func Codecs() []connect.HandlerOption {
	return []connect.HandlerOption{
		connect.WithCodec(protoCodec{}),
		connect.WithCodec(deferring{jsonCodec{name: "json"}}),
		connect.WithCodec(deferring{jsonCodec{name: "json; charset=utf-8"}}),
		connect.WithInterceptors(refuser{}),
	}
}

// JSON makes a client speak JSON; without it clients speak protobuf.
func JSON() connect.ClientOption { return connect.WithCodec(jsonCodec{name: "json"}) }

// jsonCodec is MarshalJSON and UnmarshalJSON as Connect wants them.
type jsonCodec struct{ name string }

func (c jsonCodec) Name() string { return c.name }

func (jsonCodec) Marshal(v any) ([]byte, error) {
	m, ok := v.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("%T is no protobuf message", v)
	}
	return MarshalJSON(m)
}

func (jsonCodec) Unmarshal(b []byte, v any) error {
	m, ok := v.(proto.Message)
	if !ok {
		return fmt.Errorf("%T is no protobuf message", v)
	}
	return UnmarshalJSON(b, m)
}

// MarshalStable lets Connect put a request into the URL of a GET.
func (c jsonCodec) MarshalStable(v any) ([]byte, error) { return c.Marshal(v) }

// IsBinary says that the bytes are text.
func (jsonCodec) IsBinary() bool { return false }

// deferring is a jsonCodec that keeps a refusal for later. Connect wraps what
// Unmarshal returns in an error of its own, and a detail would be lost. So the
// refusal travels inside the message, as an unknown field, up to the
// interceptor, which answers with it. Binary requests that carry such a field
// gain nothing but that answer.
type deferring struct{ jsonCodec }

// refusalField is the greatest field number there is. It holds the field, the
// reason, the message and the limit of an InputError, in this order.
const refusalField = protowire.MaxValidNumber

func (c deferring) Unmarshal(b []byte, v any) error {
	err := c.jsonCodec.Unmarshal(b, v)
	var in *window.InputError
	if !errors.As(err, &in) {
		return err
	}
	keepRefusal(v.(proto.Message), in) // else UnmarshalJSON had not refused anything
	return nil
}

// keepRefusal empties m and puts a refusal into it.
func keepRefusal(m proto.Message, in *window.InputError) {
	proto.Reset(m)
	var kept []byte
	for _, s := range []string{in.Field, in.Reason, in.Message, in.Limit} {
		kept = protowire.AppendTag(kept, refusalField, protowire.BytesType)
		kept = protowire.AppendString(kept, clean(s, maxMessageBytes))
	}
	m.ProtoReflect().SetUnknown(kept)
}

// refuser answers requests whose JSON was refused.
type refuser struct{}

func (refuser) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, r connect.AnyRequest) (connect.AnyResponse, error) {
		if m, ok := r.Any().(proto.Message); ok && !r.Spec().IsClient {
			if in := refusal(m.ProtoReflect().GetUnknown()); in != nil {
				return nil, InputError(in)
			}
		}
		return next(ctx, r)
	}
}

func (refuser) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// WrapStreamingHandler changes nothing: no method of the API streams.
func (refuser) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}

// refusal finds what deferring has kept.
func refusal(unknown []byte) *window.InputError {
	var parts []string
	for len(unknown) > 0 {
		num, typ, n := protowire.ConsumeField(unknown)
		if n < 0 { // proto.Unmarshal keeps only whole fields
			return nil
		}
		if num == refusalField && typ == protowire.BytesType {
			_, _, tag := protowire.ConsumeTag(unknown)
			s, _ := protowire.ConsumeString(unknown[tag:n]) // whole, as ConsumeField has seen
			parts = append(parts, s)
		}
		unknown = unknown[n:]
	}
	if len(parts) != 4 {
		return nil
	}
	return &window.InputError{Field: parts[0], Reason: parts[1], Message: parts[2], Limit: parts[3]}
}
