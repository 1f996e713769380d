// Package imports holds no code: its test keeps the one direction in which
// the packages of this module may import each other.
package imports

import (
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/distributed-median-tracker/dmt/"

// deps returns the packages that the named ones import: directly, or with
// -deps among the flags also through others. Tests do not count.
func deps(t *testing.T, args ...string) map[string][]string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-f", "{{.ImportPath}} {{join .Imports \" \"}} {{if .Standard}}std{{end}}"}, args...)...)
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %v: %v", args, err)
	}
	imports := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); f[len(f)-1] != "std" {
			imports[strings.TrimPrefix(f[0], module)] = f[1:]
		}
	}
	return imports
}

func TestImports_PointOneWay(t *testing.T) {
	only := func(library string, allowed ...string) {
		for pkg, imports := range deps(t, "./...") {
			for _, i := range imports {
				if strings.HasPrefix(i, library) && !matches(pkg, allowed) {
					t.Errorf("%s imports %s; only %v may", pkg, i, allowed)
				}
			}
		}
	}
	only("go.etcd.io/bbolt", "storage", "raftfsm", "client/spool")
	only("github.com/hashicorp/raft", "raftfsm")
	only("github.com/spf13/", "cmd/")
	only("github.com/guptarohit/asciigraph", "internal/plot")
	only(module+"internal/server", "cmd/", "client/clustertest")
	only(module+"internal/api", "internal/", "client", "cmd/")
	only(module+"raftfsm", "internal/server", "client/clustertest", "cmd/")

	for pkg, imports := range deps(t, "./window/...") {
		for _, i := range imports {
			if i != module+"window/sketch" && strings.Contains(i, ".") {
				t.Errorf("%s imports %s; window is the standard library and itself", pkg, i)
			}
		}
	}
	for _, i := range deps(t, "./internal/plot")["internal/plot"] {
		if strings.Contains(i, ".") && !matches(i, []string{module + "window", module + "window/sketch", "github.com/guptarohit/asciigraph"}) {
			t.Errorf("internal/plot imports %s; it draws what window says, wherever that came from", i)
		}
	}
	for pkg := range deps(t, "-deps", "./client") {
		if matches(pkg, []string{"storage", "raftfsm", "internal/server", "go.etcd.io/bbolt", "github.com/hashicorp/"}) {
			t.Errorf("client reaches %s", pkg)
		}
	}
}

// matches says whether pkg is one of list; an entry that ends in a slash
// stands for everything below it.
func matches(pkg string, list []string) bool {
	for _, l := range list {
		if pkg == l || strings.HasSuffix(l, "/") && strings.HasPrefix(pkg, l) {
			return true
		}
	}
	return false
}
