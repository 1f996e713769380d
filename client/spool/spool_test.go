package spool

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/distributed-median-tracker/dmt/client/internal/record"
	"github.com/distributed-median-tracker/dmt/window/sketch"
)

func delta(id uint64, values int) *record.Delta {
	rng := rand.New(rand.NewPCG(id, 1))
	var s sketch.Sketch
	for range values {
		s.AddInt(rng.Int64N(1_000_000))
	}
	data, _ := s.MarshalBinary() // the error is always nil
	return &record.Delta{ID: id, Created: 1, Entry: record.Entry{Metric: "m", Node: fmt.Sprint("n", id), Start: 10, Sketch: data}}
}

func many(n, values int) (all []record.Record) {
	for i := range n {
		all = append(all, delta(uint64(i+1), values))
	}
	return all
}

func mustOpen(t testing.TB, dir string) (*file, record.Found) {
	t.Helper()
	f, found, err := open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, found
}

// dump is what records are compared by.
func dump(rs []record.Record) (out []string) {
	for _, r := range rs {
		out = append(out, fmt.Sprintf("%x=%x", r.Key(), r.AppendValue(nil)))
	}
	return out
}

func same(t testing.TB, found record.Found, want ...record.Record) {
	t.Helper()
	if len(found.Damage) > 0 {
		t.Errorf("damage: %v", found.Damage)
	}
	if !slices.Equal(dump(found.Records), dump(want)) {
		t.Errorf("found %d records, want %d: %v", len(found.Records), len(want), found.Records)
	}
}

func TestOpen_FindsWhatWasCommitted(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	f, found := mustOpen(t, dir)
	same(t, found)
	all := many(5, 100)
	b := &record.Batch{Producer: [16]byte{1}, Seq: 3, Entries: []record.Entry{all[4].(*record.Delta).Entry}}
	if err := f.Commit(all, nil); err != nil {
		t.Fatal(err)
	}
	if err := f.Commit([]record.Record{b}, [][]byte{all[4].Key(), []byte("absent")}); err != nil {
		t.Fatal(err)
	}
	for range 2 { // each opening rewrites
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		f, found = mustOpen(t, dir)
		same(t, found, append([]record.Record{b}, all[:4]...)...)
	}
	swapped, err := f.Rewrite(all[:2])
	if !swapped || err != nil {
		t.Fatal(swapped, err)
	}
	f.Close()
	if err := f.Close(); err != nil {
		t.Errorf("second Close = %v", err)
	}
	_, found = mustOpen(t, dir)
	same(t, found, all[:2]...)
}

func TestOpen_GivesSpaceBack(t *testing.T) {
	dir := t.TempDir()
	f, _ := mustOpen(t, dir)
	all := many(2000, 100)
	var keys [][]byte
	for _, r := range all {
		keys = append(keys, r.Key())
	}
	if err := errors.Join(f.Commit(all, nil), f.Commit(nil, keys), f.Close()); err != nil {
		t.Fatal(err)
	}
	mustOpen(t, dir)
	if info, err := os.Stat(filepath.Join(dir, FileName)); err != nil || info.Size() > 64<<10 {
		t.Errorf("an empty spool takes %v bytes, %v", info.Size(), err)
	}
}

func TestOpen_RefusesASecondOwner(t *testing.T) {
	dir := t.TempDir()
	f, _ := mustOpen(t, dir)
	refused := func(err error) {
		t.Helper()
		if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), dir) {
			t.Errorf("second open = %v, want ErrLocked with the path", err)
		}
	}
	_, _, err := open(dir)
	refused(err)
	if _, err := f.Rewrite(many(1, 1)); err != nil { // the lock goes along
		t.Fatal(err)
	}
	_, _, err = open(dir)
	refused(err)

	cmd := exec.Command(os.Args[0], "-test.run=^TestChild_OpensTheSpool$", "-test.v")
	cmd.Env = append(os.Environ(), "DMT_SPOOL_CHILD="+dir)
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "in use by another process") {
		t.Errorf("another process: %v\n%s", err, out)
	}
	f.Close()
	_, found := mustOpen(t, dir)
	same(t, found, many(1, 1)...)
}

// TestChild_OpensTheSpool is the other process of the test above.
func TestChild_OpensTheSpool(t *testing.T) {
	dir := os.Getenv("DMT_SPOOL_CHILD")
	if dir == "" {
		t.Skip("is run by TestOpen_RefusesASecondOwner")
	}
	_, _, err := open(dir)
	t.Log(err)
}

func TestOpen_NamesWhatItMayNot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := open(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("open of a file as a directory = %v", err)
	}
}

// TestOpen_DamageCostsNoMoreThanIsDamaged flips and cuts at random, and wants
// that nothing is made up, that what is missing is reported, and that the
// spool works afterwards.
func TestOpen_DamageCostsNoMoreThanIsDamaged(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, FileName)
	all := many(60, 300)
	f, _ := mustOpen(t, dir)
	if err := errors.Join(f.Commit(all, nil), f.Close()); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	known := make(map[string]bool)
	for _, d := range dump(all) {
		known[d] = true
	}
	rng := rand.New(rand.NewPCG(3, 3))
	kept, reported := 0, 0
	const rounds = 300
	for i := range rounds {
		bad := bytes.Clone(good)
		what := "cut"
		switch i % 3 {
		case 0:
			bad = bad[:rng.IntN(len(bad))]
		case 1:
			what = "flip"
			bad[rng.IntN(len(bad))] ^= byte(1 + rng.IntN(255))
		case 2: // a torn page
			what = "torn"
			at := rng.IntN(len(bad)/512) * 512
			clear(bad[at : at+512])
		}
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		f, found, err := open(dir)
		if err != nil {
			t.Fatalf("round %d, %s: %v", i, what, err)
		}
		for _, d := range dump(found.Records) {
			if !known[d] {
				t.Fatalf("round %d, %s: a record that was never written: %s", i, what, d)
			}
		}
		kept += len(found.Records)
		if len(found.Damage) > 0 {
			reported++
			if _, err := os.Stat(filepath.Join(dir, DamagedName)); err != nil {
				t.Errorf("round %d: the damaged file was not kept: %v", i, err)
			}
		} else if len(found.Records) < len(all) && len(bad) > 0 {
			t.Errorf("round %d, %s: %d of %d records and nothing reported", i, what, len(found.Records), len(all))
		}
		if err := errors.Join(f.Commit([]record.Record{delta(1000, 1)}, nil), f.Close()); err != nil {
			t.Errorf("round %d, %s: commit afterwards: %v", i, what, err)
		}
	}
	t.Logf("%d of %d records kept over %d damaged files, damage reported for %d", kept, rounds*len(all), rounds, reported)
	if kept < rounds*len(all)/4 {
		t.Errorf("%d of %d records kept: too careful", kept, rounds*len(all))
	}
}

func TestOpen_OneDamagedRecordCostsItselfOnly(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, FileName)
	all := many(20, 300)
	f, _ := mustOpen(t, dir)
	if err := errors.Join(f.Commit(all, nil), f.Close()); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.LastIndex(raw, all[7].(*record.Delta).Sketch)
	raw[at+20] ^= 1
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	_, found := mustOpen(t, dir)
	if len(found.Damage) != 1 || !strings.Contains(found.Damage[0].Error(), "640000000000000008") {
		t.Errorf("damage = %v, want record 8 named", found.Damage)
	}
	same(t, record.Found{Records: found.Records}, slices.Delete(slices.Clone(all), 7, 8)...)
}

func BenchmarkCommit(b *testing.B) {
	for _, n := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprintf("sketches=%d", n), func(b *testing.B) {
			f, _ := mustOpen(b, b.TempDir())
			all := many(n, 100)
			var keys [][]byte
			for _, r := range all {
				keys = append(keys, r.Key())
			}
			for b.Loop() {
				if err := f.Commit(all, nil); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if err := f.Commit(nil, keys); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/float64(n), "us/sketch")
		})
	}
}
