package raftfsm

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/raft"
)

const (
	maxIDLen     = 64
	identityFile = "member.json"
)

// Identity is who a member is: the id that people use, and the uuid of its data
// directory. Raft knows a member by both, as "id@uuid": a directory that lost
// its data cannot vote under its old name, because it is another server.
type Identity struct {
	ID      string `json:"id"`
	UUID    string `json:"uuid"`
	Address string `json:"-"`

	// ClusterID is the cluster that the directory has promised to join, kept
	// so that it never joins another one. Once the state machine is
	// initialised, the cluster id stands there.
	ClusterID string `json:"cluster_id,omitempty"`
}

// ServerID is the name that Raft uses.
func (i Identity) ServerID() raft.ServerID { return serverID(i.ID, i.UUID) }

func serverID(id, uuid string) raft.ServerID { return raft.ServerID(id + "@" + uuid) }

// splitServerID is the reverse of serverID.
func splitServerID(s raft.ServerID) (id, uuid string) {
	id, uuid, _ = strings.Cut(string(s), "@")
	return id, uuid
}

func validID(id string) bool {
	if id == "" || len(id) > maxIDLen {
		return false
	}
	for _, c := range []byte(id) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}

func validUUID(uuid string) bool {
	b, err := hex.DecodeString(uuid)
	return err == nil && len(b) == 16
}

// randomHex returns 2n characters.
func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: it ends the process instead
	return hex.EncodeToString(b)
}

// loadIdentity reads the identity of dir, or makes one. An id that differs from
// the one kept is refused: the directory belongs to that member.
func loadIdentity(dir, id string) (Identity, error) {
	path := filepath.Join(dir, identityFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if id == "" {
			id = "m-" + randomHex(4)
		}
		ident := Identity{ID: id, UUID: randomHex(16)}
		return ident, ident.save(dir)
	}
	if err != nil {
		return Identity{}, fmt.Errorf("raftfsm: read identity: %w", err)
	}
	var ident Identity
	if err := json.Unmarshal(data, &ident); err != nil {
		return Identity{}, fmt.Errorf("raftfsm: identity %s: %w", path, err)
	}
	if !validID(ident.ID) || !validUUID(ident.UUID) {
		return Identity{}, fmt.Errorf("raftfsm: identity %s: bad id or uuid", path)
	}
	if id != "" && id != ident.ID {
		return Identity{}, fmt.Errorf("raftfsm: id %q: the directory %s belongs to member %q", id, dir, ident.ID)
	}
	return ident, nil
}

// save writes the identity so that it is there, whole, after a crash.
func (i Identity) save(dir string) error {
	data, err := json.MarshalIndent(i, "", "  ")
	if err != nil {
		return fmt.Errorf("raftfsm: identity: %w", err)
	}
	if err := writeFileSync(dir, identityFile, append(data, '\n')); err != nil {
		return fmt.Errorf("raftfsm: write identity: %w", err)
	}
	return nil
}

// writeFileSync replaces dir/name: a reader sees the old bytes or the new ones.
func writeFileSync(dir, name string, data []byte) (err error) {
	f, err := os.CreateTemp(dir, name+".*.tmp")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()           // the first error is the one to report
			_ = os.Remove(f.Name()) // a leftover is harmless
		}
	}()
	if _, err = f.Write(data); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), filepath.Join(dir, name)); err != nil {
		return err
	}
	return syncDir(dir)
}

// syncDir makes a rename in dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	if err := d.Sync(); err != nil {
		_ = d.Close() // the sync error is the one to report
		return err
	}
	return d.Close()
}
