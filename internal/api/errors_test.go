package api

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode/utf8"

	"connectrpc.com/connect"

	dmtv1 "github.com/distributed-median-tracker/dmt/internal/api/dmt/v1"
	"github.com/distributed-median-tracker/dmt/internal/api/dmt/v1/dmtv1connect"
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

// echo answers a query with its metric.
type echo struct {
	dmtv1connect.UnimplementedTrackerHandler
}

func (echo) Query(_ context.Context, r *connect.Request[dmtv1.QueryRequest]) (*connect.Response[dmtv1.QueryResponse], error) {
	return connect.NewResponse(&dmtv1.QueryResponse{Metric: r.Msg.Metric}), nil
}

func serveEcho(t *testing.T) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle(dmtv1connect.NewTrackerHandler(echo{}, Codecs()...))
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

func TestCodecs_OverHTTP(t *testing.T) {
	s := serveEcho(t)
	f := func(contentType, body string, code int, want string) {
		t.Helper()
		r, err := s.Client().Post(s.URL+dmtv1connect.TrackerQueryProcedure, contentType, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		got := new(strings.Builder)
		if err := r.Write(got); err != nil {
			t.Fatal(err)
		}
		if r.StatusCode != code || !strings.Contains(got.String(), want) {
			t.Errorf("%s: answer\n%s\nwant %d with %s", body, got, code, want)
		}
	}
	const empty = `{"metric":"m","read":"","applied_index":"0","buckets_merged":0,"results":[]}`
	for _, json := range []string{"application/json", "application/json; charset=utf-8"} {
		f(json, `{"metric":"m"}`, 200, empty)
		f(json, `{"metric":"m","lats":"1h"}`, 400, `"code":"invalid_argument","message":"lats: unknown field"`)
		f(json, `{"quantiles":[1,null]}`, 400, `"reason":"null"`)
		f(json, ``, 400, `"message":"body: no JSON; send at least {}"`)
	}
}

func TestCodecs_RefusalsKeepTheirDetail(t *testing.T) {
	s := serveEcho(t)
	for name, options := range map[string][]connect.ClientOption{
		"protobuf":  nil,
		"JSON":      {JSON()},
		"JSON, GET": {JSON(), connect.WithHTTPGet()},
		"gRPC-Web":  {JSON(), connect.WithGRPCWeb()},
	} {
		c := dmtv1connect.NewTrackerClient(s.Client(), s.URL, options...)
		r, err := c.Query(t.Context(), connect.NewRequest(&dmtv1.QueryRequest{Metric: "m"}))
		if err != nil || r.Msg.Metric != "m" {
			t.Errorf("%s: %v, %v", name, r, err)
		}
		if strings.HasPrefix(name, "JSON") || name == "gRPC-Web" {
			options = append(options, connect.WithCodec(brokenJSON{jsonCodec{"json"}}))
			c = dmtv1connect.NewTrackerClient(s.Client(), s.URL, options...)
			_, err := c.Query(t.Context(), connect.NewRequest(&dmtv1.QueryRequest{}))
			d, ok := FromError(err)
			if connect.CodeOf(err) != connect.CodeInvalidArgument || !ok || d.Field != "results[0]" || d.Reason != ReasonUnknownField {
				// The field is told by the body that brokenJSON sends.
				t.Errorf("%s: error %v with %v", name, err, d)
			}
		}
	}
}

// brokenJSON sends what no message would.
type brokenJSON struct{ jsonCodec }

func (brokenJSON) Marshal(any) ([]byte, error)           { return []byte(`{"results[0]":1}`), nil }
func (c brokenJSON) MarshalStable(v any) ([]byte, error) { return c.Marshal(v) }

func TestRefusal_IgnoresOtherUnknownFields(t *testing.T) {
	for _, unknown := range []string{"", "\x08\x01", "\xfa\xff\xff\xff\x0f\x01a"} {
		if in := refusal([]byte(unknown)); in != nil {
			t.Errorf("refusal(%x) = %v", unknown, in)
		}
	}
}
