package raftfsm

// Entries in hex, field by field as entry.go draws them.
const (
	pinnedTick = "01 01 00 80a0abfef962" + // version, kind, group, clock
		"00930c88"
	pinnedInit = "01 02 00 01" +
		"02 6331 07" + // cluster id, precision
		"01 0a e0a801 00" + // one tier: width, keep node, keep fleet
		"8deac0f8"
	pinnedRetention = "01 04 00 01" +
		"01 0a e0a801 00" + // one tier: width, keep node, keep fleet
		"ab817253"
	pinnedAcceptClock = "01 05 00 80a0abfef962" +
		"218e8ee5"
	pinnedBatches = "01 03 00 02" +
		"01" + // one batch
		"01000000000000000000000000000010" + // producer
		"01 f6a1abfef962 0123456789abcdef" + // seq, seen, hash
		"02 02 03 b905" + // refused: two, both listed: 3, 700
		"03" + // deltas
		"03 6c6174 02 6e31 80c49fd50c 05 02 aabb" +
		"00 02 6e32 00 01 01 cc" + // same metric, same start
		"02 7570 00 13 00 00" + // same node, 10 s before
		"fc919a83"
)
