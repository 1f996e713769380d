package api

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"connectrpc.com/connect"

	"github.com/distributed-median-tracker/dmt/window"
)

func TestError_CarriesItsDetail(t *testing.T) {
	want := ErrorDetail{Reason: ReasonOverload, Field: "batches[0]", Limit: "10", Leader: "a:7171", RetryAfterMs: 1500}
	err := fmt.Errorf("outer: %w", Error(connect.CodeResourceExhausted, want, "too %s", "much"))
	d, ok := FromError(err)
	if !ok || d.Reason != want.Reason || d.Field != want.Field || d.Limit != want.Limit || d.Leader != want.Leader || d.RetryAfterMs != 1500 {
		t.Errorf("FromError(%v) = %v, %v", err, d, ok)
	}
	if got := connect.CodeOf(err); got != connect.CodeResourceExhausted {
		t.Errorf("code %v", got)
	}
	if got := Error(connect.CodeResourceExhausted, want, "x").Meta().Get("Retry-After"); got != "2" {
		t.Errorf("Retry-After: %q, want 2", got)
	}
	if d, ok := FromError(fmt.Errorf("plain")); ok {
		t.Errorf("a plain error has detail %v", d)
	}
	if d, ok := FromError(connect.NewError(connect.CodeUnknown, fmt.Errorf("bare"))); ok {
		t.Errorf("a bare error has detail %v", d)
	}
}

func TestError_IsShortValidText(t *testing.T) {
	e := Error(connect.CodeInternal, ErrorDetail{Field: "\xff"}, "\xff%s", strings.Repeat("ü", 2000))
	if !utf8.ValidString(e.Message()) || len(e.Message()) > maxMessageBytes || !strings.HasSuffix(e.Message(), "ü...") {
		t.Errorf("message of %d bytes, %q", len(e.Message()), e.Message()[len(e.Message())-9:])
	}
	if d, ok := FromError(e); !ok || d.Field != "\uFFFD" {
		t.Errorf("detail %v, %v", d, ok)
	}
}

func TestInputError_Codes(t *testing.T) {
	f := func(reason string, want connect.Code) {
		t.Helper()
		e := InputError(&window.InputError{Field: "f", Reason: reason, Message: "bad", Limit: "9"})
		d, ok := FromError(e)
		if e.Code() != want || !ok || d.Field != "f" || d.Reason != reason || d.Limit != "9" || e.Message() != "f: bad" {
			t.Errorf("%s: %v, %v", reason, e, d)
		}
	}
	f(ReasonRange, connect.CodeInvalidArgument)
	f(ReasonTooOld, connect.CodeOutOfRange)
	f(ReasonTooNew, connect.CodeOutOfRange)
}
