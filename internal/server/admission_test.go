package server

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"github.com/distributed-median-tracker/dmt/internal/api"
)

func TestAdmission_RefusesWhileFullAndRecovers(t *testing.T) {
	var answered int
	a := &admission{
		next:   http.HandlerFunc(func(http.ResponseWriter, *http.Request) { answered++ }),
		errors: connect.NewErrorWriter(api.Codecs()...),
	}
	f := func(what, contentType string, want int, wantBody string) {
		t.Helper()
		r := httptest.NewRequest(http.MethodPost, "/dmt.v1.Tracker/Query", strings.NewReader("{}"))
		r.Header.Set("Content-Type", contentType)
		w := httptest.NewRecorder()
		before, requests, bytes := answered, a.requests.Load(), a.bytes.Load()
		a.ServeHTTP(w, r)
		if w.Code != want || !strings.Contains(w.Body.String(), wantBody) {
			t.Errorf("%s: %d %s, want %d %s", what, w.Code, w.Body, want, wantBody)
		}
		if want == http.StatusTooManyRequests && w.Header().Get("Retry-After") == "" && contentType == "application/json" {
			t.Errorf("%s: no Retry-After", what)
		}
		if (answered > before) != (want == http.StatusOK) {
			t.Errorf("%s: work was done: %v", what, answered > before)
		}
		if a.requests.Load() != requests || a.bytes.Load() != bytes {
			t.Errorf("%s: %d requests, %d bytes are counted afterwards, %d and %d before", what, a.requests.Load(), a.bytes.Load(), requests, bytes)
		}
	}
	f("idle", "application/json", 200, "")
	a.requests.Store(maxInFlight)
	f("full of requests", "application/json", 429, `"reason":"overload"`)
	f("full of requests, no Connect", "text/plain", 429, "overloaded")
	a.requests.Store(maxInFlight - 1)
	f("one place left", "application/json", 200, "")
	a.bytes.Store(maxInFlightBytes - 1)
	f("full of bytes", "application/json", 429, `"reason":"overload"`)
	a.bytes.Store(0)
	f("idle again", "application/json", 200, "")
}

func TestBodyWeight(t *testing.T) {
	f := func(length int64, encoding string, want int64) {
		t.Helper()
		r := httptest.NewRequest(http.MethodPost, "/", http.NoBody)
		r.ContentLength = length
		if encoding != "" {
			r.Header.Set("Content-Encoding", encoding)
		}
		if got := bodyWeight(r); got != want {
			t.Errorf("bodyWeight(%d, %q) = %d, want %d", length, encoding, got, want)
		}
	}
	f(0, "", 0)
	f(1000, "", 1000)
	f(1000, "identity", 1000)
	f(1000, "gzip", 8000)
	f(-1, "", unknownLength)
	f(5<<20, "gzip", api.MaxRequestBytes)
}
