package raftfsm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestIdentity_IsKept(t *testing.T) {
	dir := t.TempDir()
	first, err := loadIdentity(dir, "")
	if err != nil || !validID(first.ID) || !validUUID(first.UUID) {
		t.Fatalf("loadIdentity = %+v, %v", first, err)
	}
	for _, id := range []string{"", first.ID} {
		if again, err := loadIdentity(dir, id); err != nil || again != first {
			t.Errorf("loadIdentity(%q) again = %+v, %v, want %+v", id, again, err, first)
		}
	}
	if _, err := loadIdentity(dir, "other"); err == nil || !strings.Contains(err.Error(), first.ID) {
		t.Errorf("loadIdentity under another id = %v, want a refusal that names %s", err, first.ID)
	}
	if names, _ := filepath.Glob(filepath.Join(dir, "*.tmp")); len(names) != 0 {
		t.Errorf("left behind: %v", names)
	}
}

func TestIdentity_DamagedIsRefused(t *testing.T) {
	for _, text := range []string{"", "{", `{"id":"","uuid":"00"}`, `{"id":"a b","uuid":"000102030405060708090a0b0c0d0e0f"}`, `{"id":"a"}`} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, identityFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := loadIdentity(dir, ""); err == nil {
			t.Errorf("identity %q was read as %+v", text, got)
		}
	}
}

func TestServerID_Splits(t *testing.T) {
	id, uuid := splitServerID(serverID("node.1", uuidA))
	if id != "node.1" || uuid != uuidA {
		t.Errorf("splitServerID = %q, %q", id, uuid)
	}
	for _, bad := range []string{"", "a b", "a@b", strings.Repeat("a", maxIDLen+1), "é"} {
		if validID(bad) {
			t.Errorf("validID(%q)", bad)
		}
	}
}
