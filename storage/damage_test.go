package storage

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/distributed-median-tracker/dmt/window"
)

// damageFixture returns the path of a closed file with a bit of everything.
func damageFixture(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "state.db")
	db := mustOpen(t, path, manual(t))
	mustApply(t, db, initEntry())
	db.SetConfiguration(2, 1, []byte("configuration"))
	index := uint64(2)
	for round := range 3 {
		for node := range 40 {
			index++
			id := fmt.Sprintf("node-%d", node)
			b := batch(node, uint64(round)+1, 0, newDelta("m", id, int64(round/2)*10, int64(node), 7), newDelta("n", id, 0, int64(round)))
			mustApply(t, db, batches(index, 2000, b))
		}
		mustFlush(t, db)
	}
	mustApply(t, db, &Entry{Index: index + 1, Term: 1, ClockMs: 700_000, Kind: KindTick}) // rolls up minutes and ten minutes
	mustFlush(t, db)
	path = streamTo(t, db) // without the space that bbolt allocates ahead
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// answers are all that a reader could be told.
type answers struct {
	queries []window.Answer
	metrics []MetricInfo
	nodes   []NodeInfo
	flushed FlushedState
}

// difference tells where answers differ.
func difference(got, want answers) string {
	for i := range got.queries {
		if !reflect.DeepEqual(got.queries[i], want.queries[i]) {
			return fmt.Sprintf("query %d: %d values in %d results, want %d in %d", i,
				got.queries[i].Count(), len(got.queries[i].Results), want.queries[i].Count(), len(want.queries[i].Results))
		}
	}
	return fmt.Sprintf("lists %v %v, want %v %v, or state %+v, want %+v", got.metrics, got.nodes, want.metrics, want.nodes, got.flushed, want.flushed)
}

func readAll(path string) (a answers, err error) {
	db, err := Open(path, Options{FlushEvery: -1, OnFatal: func(error) {}})
	if err != nil {
		return a, err
	}
	defer db.Kill()
	minute, tenMinutes := window.Span{From: 0, To: 60}, window.Span{From: 0, To: 600}
	for _, q := range []window.Query{
		{Metric: "m"}, {Metric: "m", ByNode: true}, {Metric: "n", Nodes: []string{"node-1*"}},
		{Metric: "m", Span: minute}, {Metric: "m", Span: minute, ByNode: true}, {Metric: "n", Span: tenMinutes, Nodes: []string{"node-1*"}},
	} {
		q, err := q.Check(epoch, window.TenSeconds)
		if err != nil {
			return a, err
		}
		answer, err := db.Query(ctx, q)
		if err != nil {
			return a, err
		}
		a.queries = append(a.queries, answer)
	}
	if a.metrics, _, err = db.Metrics(ctx); err != nil {
		return a, err
	}
	if a.nodes, _, err = db.Nodes(ctx, "m"); err != nil {
		return a, err
	}
	var ok bool
	if a.flushed, ok = db.FlushedState(); !ok {
		return a, errors.New("no flushed state")
	}
	return a, nil
}

// One flipped bit anywhere: the same answers or an error, never others. bbolt
// keeps small tables inside a page of their parent and copies those to the heap,
// where a damaged offset can make the runtime end the process: that is a stop, not
// an answer, and the reason for the child processes.
func TestDamage_FlippedBitNeverChangesAnAnswer(t *testing.T) {
	if text := os.Getenv("DMT_FLIP_SEED"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		flipBits(t, seed)
		return
	}
	ended := 0
	const children = 8
	for range children {
		seed := rand.Uint64()
		child := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=60s")
		child.Env = append(os.Environ(), fmt.Sprintf("DMT_FLIP_SEED=%d", seed))
		out, err := child.CombinedOutput()
		switch {
		case err == nil:
		case strings.Contains(string(out), "\nfatal error: "), strings.Contains(string(out), "\nSIGSEGV: "):
			ended++
		default:
			t.Errorf("DMT_FLIP_SEED=%d: %v\n%s", seed, err, out)
		}
	}
	if ended > children/2 {
		t.Errorf("%d of %d processes were ended by the runtime", ended, children)
	}
}

func flipBits(t *testing.T, seed uint64) {
	path := damageFixture(t)
	want, err := readAll(path)
	if err != nil {
		t.Fatal(err)
	}
	clean, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(seed, 1))
	target := filepath.Join(t.TempDir(), "flipped.db")
	found, verified := 0, 0
	const flips = 100
	for range flips {
		at, bit := random.IntN(len(clean)), random.IntN(8)
		for clean[at] == 0 && random.IntN(8) > 0 { // empty space is most of a small file
			at = random.IntN(len(clean))
		}
		bad := append([]byte(nil), clean...)
		bad[at] ^= 1 << bit
		if err := os.WriteFile(target, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		_, verifyErr := VerifyFile(target)
		if verifyErr != nil {
			verified++
		}
		got, err := readAll(target)
		if err != nil {
			found++
			continue
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("bit %d of byte %d (page %d, offset %d) flipped: %s; VerifyFile says %v",
				bit, at, at/pageSize, at%pageSize, difference(got, want), verifyErr)
		}
	}
	if found < flips/20 || verified < found {
		t.Errorf("of %d flips VerifyFile found %d and readers %d: the test does not bite", flips, verified, found)
	}
}

func TestDamage_TruncatedFileIsRefused(t *testing.T) {
	path := damageFixture(t)
	clean, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(t.TempDir(), "cut.db")
	for size := 0; size < len(clean); size += pageSize / 2 {
		if err := os.WriteFile(target, clean[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := VerifyFile(target); err == nil {
			t.Errorf("VerifyFile accepts the first %d bytes", size)
		}
		if _, err := readAll(target); err == nil {
			t.Errorf("the first %d bytes are read as if they were all", size)
		}
	}
}

// edit changes a value, or with nil deletes it, behind the back of everything.
func edit(t *testing.T, path, table string, key []byte, change func([]byte) []byte) {
	t.Helper()
	b, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	err = b.Update(func(tx *bbolt.Tx) error {
		bucket := tx.Bucket([]byte(table))
		old := bucket.Get(key)
		if old == nil {
			t.Fatalf("%s has no key %x", table, key)
		}
		if value := change(append([]byte(nil), old...)); value != nil {
			return bucket.Put(key, value)
		}
		return bucket.Delete(key)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestDamage_IsNamed(t *testing.T) {
	flip := func(b []byte) []byte { b[len(b)/2] ^= 4; return b }
	remove := func([]byte) []byte { return nil }
	byNode := window.Query{Metric: "m", ByNode: true}
	node3 := window.Query{Metric: "m", Nodes: []string{"node-3"}}
	nodeRow := nodeKey{10, 0, 3}.append(nil)
	fleetRow := fleetKey{0, 10}.append(nil)
	f := func(table string, key []byte, change func([]byte) []byte, q window.Query, words string) {
		t.Helper()
		path := damageFixture(t)
		edit(t, path, table, key, change)
		var damaged *DamagedError
		if _, err := VerifyFile(path); !errors.As(err, &damaged) {
			t.Errorf("%s: VerifyFile = %v, want a DamagedError", words, err)
		}
		db := mustOpen(t, path, manual(t))
		defer db.Kill()
		_, err := db.Query(ctx, ask(t, q))
		if !errors.As(err, &damaged) || damaged.Table != table || !strings.Contains(err.Error(), words) {
			t.Errorf("Query = %v, want a DamagedError in %s that names %s", err, table, words)
		}
		if a := mustQuery(t, db, window.Query{Metric: "n"}); a.Count() != 120 {
			t.Errorf("the other metric has %d values, want 120", a.Count())
		}
	}
	f("nodes/10s", nodeRow, flip, byNode, `metric "m", node "node-3", bucket 10s@1970-01-01T00:00:10Z`)
	f("nodes/10s", nodeRow, remove, byNode, `metric "m", node "node-3", bucket 10s@1970-01-01T00:00:10Z: the record is missing`)
	f("nodes/10s", nodeRow, remove, node3, `metric "m", node "node-3", bucket 10s@1970-01-01T00:00:10Z: the record is missing`)
	f("fleet/10s", fleetRow, flip, window.Query{Metric: "m"}, `metric "m", node "*", bucket 10s@1970-01-01T00:00:10Z`)
}

func TestOpen_RefusesDamagedMeta(t *testing.T) {
	flip := func(b []byte) []byte { b[0] ^= 1; return b }
	f := func(table string, key []byte, words string) {
		t.Helper()
		path := damageFixture(t)
		edit(t, path, table, key, flip)
		_, err := Open(path, manual(t))
		if err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("Open = %v, want an error with %q", err, words)
		}
	}
	for _, key := range []string{metaFormat, metaState, metaCluster, metaConfiguration} {
		f(tableMeta, []byte(key), key)
	}
	f(tableProducers, producersKey, "producers")
	f(tableNodes, numberKey(nil, 3), "node 3")
	f(tableMetrics, numberKey(nil, 1), "metric 1")
	path := damageFixture(t)
	edit(t, path, tableMeta, []byte(metaFormat), func([]byte) []byte {
		return seal(tableMeta, []byte(metaFormat), []byte{formatVersion + 1})
	})
	if _, err := Open(path, manual(t)); err == nil || !strings.Contains(err.Error(), "update this member") {
		t.Errorf("Open of a newer format = %v", err)
	}
}

func TestOpen_SecondOneIsLockedOut(t *testing.T) {
	db := newDB(t)
	if _, err := Open(db.path, manual(t)); !errors.Is(err, ErrLocked) {
		t.Errorf("second Open = %v, want ErrLocked", err)
	}
}
