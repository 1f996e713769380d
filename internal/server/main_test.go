package server_test

import (
	"testing"

	"go.uber.org/goleak"
)

// Whatever a test starts ends with it: servers, members, connections.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}
