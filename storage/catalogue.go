package storage

import "strings"

// catalogue gives metrics and nodes numbers, in the order in which the log
// first names them. A number is never used again. The slices are only appended
// to, so that a prefix of them is the catalogue at an earlier index.
type catalogue struct {
	metrics       []*metric
	nodes         []string
	metricNumbers map[string]*metric
	nodeNumbers   map[string]uint32
}

func newCatalogue() *catalogue {
	return &catalogue{metricNumbers: make(map[string]*metric), nodeNumbers: make(map[string]uint32)}
}

// metric returns the metric of a name, a new one where needed. The name is
// copied.
func (c *catalogue) metric(name string) (m *metric, isNew bool) {
	if m, ok := c.metricNumbers[name]; ok {
		return m, false
	}
	m = &metric{name: strings.Clone(name), number: uint32(len(c.metrics))}
	c.metrics = append(c.metrics, m)
	c.metricNumbers[m.name] = m
	return m, true
}

// node returns the number of a node, a new one where needed. The id is copied.
func (c *catalogue) node(id string) (n uint32, isNew bool) {
	if n, ok := c.nodeNumbers[id]; ok {
		return n, false
	}
	n = uint32(len(c.nodes))
	id = strings.Clone(id)
	c.nodes = append(c.nodes, id)
	c.nodeNumbers[id] = n
	return n, true
}
