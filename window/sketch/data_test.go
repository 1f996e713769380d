package sketch

import (
	"compress/gzip"
	"encoding/csv"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"
)

// dataDir holds real data with exact answers, beside the repository. It is
// not part of it.
const dataDir = "../../../shared/data"

// TestRealData answers every median of the expected files from a sketch. The
// certificate must hold on each row; where the two middle values have one sign
// each estimate must be within 0.55 %, and the mean over a file within 0.14 %.
func TestRealData(t *testing.T) {
	files, err := filepath.Glob(dataDir + "/*.expected.csv")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Skipf("no real data in %s", dataDir)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".expected.csv")
		t.Run(name, func(t *testing.T) { checkData(t, name) })
	}
}

// observation is a row of the data.
type observation struct {
	second int64
	node   string
	value  Number
}

func checkData(t *testing.T, name string) {
	all := readData(t, name)
	byNode := map[string][]observation{}
	for _, o := range all {
		byNode[o.node] = append(byNode[o.node], o)
	}
	sum, worst, rows := 0.0, 0.0, 0
	for _, row := range readCSV(t, dataDir+"/"+name+".expected.csv") {
		from, to := mustInt(t, row[2]), mustInt(t, row[3])
		source := all
		if row[1] != "*" {
			source = byNode[row[1]]
		}
		var r Recorder
		addTo(t, &r, within(source, from, to)...)
		s := r.Drain()
		s.Coarsen(DefaultPrecision)
		rows++
		e := checkRow(t, s, row)
		sum += e
		worst = math.Max(worst, e)
	}
	mean := sum / float64(rows)
	if mean > 0.0014 || worst > 0.0055 {
		t.Errorf("mean error %.4f %%, worst %.4f %%; want at most 0.14 and 0.55", 100*mean, 100*worst)
	}
	t.Logf("%d rows, mean error %.4f %%, worst %.4f %%", rows, 100*mean, 100*worst)
}

// checkRow checks one answer and returns the relative error of its estimate,
// zero where the middle values have two signs.
func checkRow(t *testing.T, s *Sketch, row []string) float64 {
	t.Helper()
	n := make([]Number, len(row))
	for i := 4; i < 10; i++ {
		n[i] = mustNumber(t, row[i])
	}
	if s.Count() != n[4].bits || s.Min() != n[5] || s.Max() != n[6] {
		t.Fatalf("%v: count, min, max = %d, %v, %v", row[:7], s.Count(), s.Min(), s.Max())
	}
	below, above := n[7], n[8]
	middle, _ := mix(below, above, 0.5)
	e := s.Median()
	if middle.less(e.Lower) || e.Upper.less(middle) {
		t.Fatalf("%v: Median() = %+v, want it to hold %v", row[:4], e, middle)
	}
	if below.sign()*above.sign() <= 0 {
		return 0
	}
	relative := math.Abs(e.Float64()/middle.Float64() - 1)
	if relative > e.MaxRelativeError && relative > 0x1p-50 {
		t.Fatalf("%v: Median() = %+v is off by %v", row[:4], e, relative)
	}
	return relative
}

func within(sorted []observation, from, to int64) []Number {
	first := sort.Search(len(sorted), func(i int) bool { return sorted[i].second >= from })
	var ns []Number
	for _, o := range sorted[first:] {
		if o.second >= to {
			break
		}
		ns = append(ns, o.value)
	}
	return ns
}

func readData(t *testing.T, name string) (all []observation) {
	t.Helper()
	for _, row := range readCSV(t, dataDir+"/"+name+".csv.gz") {
		all = append(all, observation{mustInt(t, row[0]), row[1], mustNumber(t, row[2])})
	}
	if !slices.IsSortedFunc(all, func(a, b observation) int { return int(a.second - b.second) }) {
		t.Fatalf("%s is not in order of time", name)
	}
	return all
}

// readCSV returns the rows of a file, plain or compressed, but for the header.
func readCSV(t *testing.T, path string) [][]string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var r io.Reader = f
	if strings.HasSuffix(path, ".gz") {
		if r, err = gzip.NewReader(f); err != nil {
			t.Fatal(err)
		}
	}
	rows, err := csv.NewReader(r).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return rows[1:]
}

func mustInt(t *testing.T, s string) int64 {
	t.Helper()
	v, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func mustNumber(t *testing.T, s string) Number {
	t.Helper()
	n, err := ParseNumber(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
