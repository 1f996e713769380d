package api

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"connectrpc.com/connect"

	dmtv1 "github.com/distributed-median-tracker/dmt/internal/api/dmt/v1"
	"github.com/distributed-median-tracker/dmt/internal/api/dmt/v1/dmtv1connect"
)

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
			if connect.CodeOf(err) != connect.CodeInvalidArgument || !ok || d.Field != "lats" || d.Reason != ReasonUnknownField {
				t.Errorf("%s: error %v with %v", name, err, d)
			}
		}
	}
}

// brokenJSON sends what no message would.
type brokenJSON struct{ jsonCodec }

func (brokenJSON) Marshal(any) ([]byte, error)           { return []byte(`{"lats":1}`), nil }
func (c brokenJSON) MarshalStable(v any) ([]byte, error) { return c.Marshal(v) }

func TestRefusal_IgnoresOtherUnknownFields(t *testing.T) {
	for _, unknown := range []string{"", "\x08\x01", "\xfa\xff\xff\xff\x0f\x01a"} {
		if in := refusal([]byte(unknown)); in != nil {
			t.Errorf("refusal(%x) = %v", unknown, in)
		}
	}
}
