// Package client is how every process of a fleet takes part: it counts values
// into sketches in its own memory, ships each sketch once, and asks the cluster
// for medians and quantiles over any window of time.
//
// # Measuring
//
//	c, err := client.New([]string{"a:7171", "b:7171", "c:7171"}, client.Options{})
//	defer c.Close(ctx)
//	rec := c.Recorder("web-17", client.RecorderOptions{})
//	latency := rec.Metric("latency_us") // hot loops hold the handle
//	latency.AddInt(1830)
//
// A value costs some ten nanoseconds and never waits for the network. Every ten
// seconds of wall clock the client closes a bucket of time, and ships what each
// (metric, node) counted in it as one sketch of a few hundred bytes, however
// many values that were.
//
// # Asking
//
//	ans, err := c.Query(ctx, window.Query{Metric: "latency_us", Span: window.Last(time.Hour)})
//	m, ok := ans.Median()
//	fmt.Println(m.Value, m.Lower, m.Upper)
//
// The truth lies between Lower and Upper, always. MedianTracker is the short way
// for one number: AddValue and EstimateMedian.
//
// # What is promised
//
// Exactly once. A batch of sketches carries the name of its producer and a
// number. It is sent again, to any member, until it is acknowledged, under the
// same name and with the same bytes, and counted once however often it arrives.
// Flush returns nil when everything added before it is counted by the cluster.
//
// Nothing is lost in silence. What the cluster refuses (too old, too new), names
// that are none, NaN, and what memory has no room for is counted by reason in
// Stats, reported once by Flush, for ever by Err, and one by one to
// Options.OnDrop and the logger.
//
// Bounded memory. Sketches that are not acknowledged take at most
// Options.MaxPendingBytes: past it the sketches of one bucket are merged, and
// then the oldest that were never sent are dropped and reported. Besides that a
// client holds one open bucket for every (metric, node): 0.3 KB with a few
// values in it, 10 to 12 KB with hundreds over some octaves, and 0.3 KB again
// once a bucket passed without any (0.9 KB with a Recorder and Handle of its own
// for each). A MedianTracker forgets a node that was silent for a minute.
// BenchmarkIdleMemory measures this.
//
// Close waits for everything that the client has started. After it every method
// returns ErrClosed, and values are refused.
//
// # What is left to others
//
// Unsent sketches do not survive the process. TLS is as the address says: with
// https:// the certificate is verified by the system's roots.
package client
