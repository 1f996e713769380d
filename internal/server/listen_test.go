package server

import (
	"context"
	"net"
	"strings"
	"testing"
)

func TestListen_OnlyLoopbackUnlessInsecure(t *testing.T) {
	f := func(o Options, want string) {
		t.Helper()
		l, advertise, err := listen(context.Background(), o)
		if err == nil {
			defer l.Close()
			if host, _, _ := net.SplitHostPort(advertise); host != want {
				t.Errorf("listen(%+v) advertises %s, want host %s", o, advertise, want)
			}
			return
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("listen(%+v) = %v, want %q", o, err, want)
		}
	}
	f(Options{Listen: "127.0.0.1:0"}, "127.0.0.1")
	f(Options{Listen: "localhost:0"}, "127.0.0.1")
	f(Options{Listen: "127.0.0.2:0"}, "127.0.0.2")
	f(Options{Listen: "127.0.0.1:0", Advertise: "db-1.example:7171"}, "db-1.example")
	f(Options{Listen: "127.0.0.1:0", Advertise: "db-1.example:0"}, "db-1.example")
	f(Options{Listen: ":0"}, "refusing to listen")
	f(Options{Listen: "0.0.0.0:0"}, "refusing to listen")
	f(Options{Listen: "[::]:0"}, "refusing to listen")
	f(Options{Listen: "192.0.2.1:0"}, "refusing to listen")
	f(Options{Listen: "0.0.0.0:0", Insecure: true}, "must be given")
	f(Options{Listen: "0.0.0.0:0", Insecure: true, Advertise: "db-1.example:7171"}, "db-1.example")
	f(Options{Listen: "127.0.0.1"}, "missing port")
	f(Options{Listen: "127.0.0.1:0", Advertise: "db-1.example"}, "missing port")
	f(Options{Listen: "127.0.0.1:0", Advertise: ":7171"}, "names no host")
	f(Options{Listen: "127.0.0.1:0", Advertise: "0.0.0.0:7171"}, "names no host")
	open, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	f(Options{Listener: open}, "refusing to listen")
}
