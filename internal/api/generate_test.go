package api

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The committed code is what the committed .proto generates.
func TestGenerate_ChangesNothing(t *testing.T) {
	const want = "libprotoc 3.21.12"
	version, err := exec.Command("protoc", "--version").Output()
	if err != nil {
		t.Skipf("generated code is not compared: no protoc (%v)", err)
	}
	if got := strings.TrimSpace(string(version)); got != want {
		t.Skipf("generated code is not compared: %s here, %s wrote it", got, want)
	}
	if testing.Short() {
		t.Skip("generated code is not compared: building the plugins takes seconds")
	}
	dir := t.TempDir()
	if out, err := exec.Command("./generate.sh", dir).CombinedOutput(); err != nil {
		t.Fatalf("generate.sh: %v\n%s", err, out)
	}
	for _, file := range []string{"dmt/v1/tracker.pb.go", "dmt/v1/dmtv1connect/tracker.connect.go"} {
		committed, err := os.ReadFile(filepath.FromSlash(file))
		if err != nil {
			t.Fatal(err)
		}
		generated, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(file)))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(committed, generated) {
			t.Errorf("%s is not what tracker.proto generates: run go generate ./internal/api", file)
		}
	}
}
