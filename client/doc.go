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
// # Measuring a fleet
//
// One Client for a process, made at its start; one Recorder for each node that
// the process speaks for; one Handle for each thing measured. A node is
// whatever answers should be told apart by: a host, a container, a device. A
// gateway holds a Recorder for each of thousands, or a MedianTracker, which finds
// the node by its name.
//
// Which way to count:
//
//	MedianTracker.AddValue  20 ns   by node name, from any goroutine
//	Handle.AddInt           13 ns   from any goroutine; two share one at 13 to 19 ns of wall time
//	Local.AddInt             5 ns   one for each goroutine, which closes it; scales with cores
//	Handle.AddInts         2.6 ns   a value of a slice
//
// In the same run, on the same two shared cores, sketches-go behind a mutex took
// 19 ns, an OpenTelemetry histogram 75 ns and a prometheus native histogram 48
// to 70 ns (BenchmarkCount in window/sketch/compare). None of ours allocates.
// AddIntN adds a value many times, for sampled values say; AddIntAt and AddAt go
// to the bucket of their own time, which is how one loads a file or passes on
// what devices report late.
//
// End a process with Close and a deadline: it returns what could not be sent.
// What may not be lost when the process is killed, or the cluster is away for
// longer than the process lives, needs a spool:
//
//	import _ "github.com/distributed-median-tracker/dmt/client/spool"
//
//	rec := c.Recorder("web-17", client.RecorderOptions{Spool: "/var/lib/app/dmt"})
//
// Then only the values of the open bucket, ten seconds at most, are lost with a
// kill -9; Sync brings even those to disk. Watch Recorder.Err, or set OnDrop and
// a Logger: they tell of all that was lost, and of nothing else.
//
// # Accuracy, bytes and flush interval
//
// Accuracy is the cluster's: its precision, fixed when it is created, is that at
// which sketches are shipped and stored. Bytes on the wire for one node and one
// bucket of ten seconds with lognormal values (microseconds, sigma 1.5): the body
// of the request when the node is alone in its process, and its part when a
// hundred share one. TestWire_BytesAreAsDocumented holds these figures.
//
//	values          10        100        1000       10000       100000
//	raw             80        800        8000       80000       800000
//	precision 5     87 / 26   128 / 66   207 / 150  325 / 264   501 / 439    interval +- 1.08 %
//	precision 6     88 / 27   140 / 78   301 / 225  477 / 419   767 / 677    +- 0.54 %
//	precision 7     90 / 28   153 / 91   378 / 308  780 / 679   1220 / 1122  +- 0.27 %, the default
//	precision 8     91 / 29   166 / 103  502 / 437  1179 / 1096 2006 / 1907  +- 0.135 %
//	bound for 8     12        75         359        979         1752
//
// The bound is the entropy of the counts at precision 8 when the distribution is
// known beforehand, without count, minimum, maximum, sum, names and time; at
// precision 7 it is 259 bytes for 1000 values. Headers of HTTP come on top, some
// 250 bytes for each request. A step of precision halves the interval for about
// one bit for each value that has a bin of its own.
//
// FlushEvery trades freshness for bytes. At ten seconds, the width of a bucket,
// each bucket is shipped once. At one second it is shipped in ten parts: with
// 1000 values in ten seconds at precision 7 that is ten requests of 153 bytes
// in place of one of 378. At a minute six buckets share a request, which saves the
// headers and not much else. Nothing of it changes an answer: the sketches of a
// bucket add up to the same bytes however they were cut.
//
// # What is promised
//
// Exactly once. A batch of sketches carries the name of its producer and a
// number. It is sent again, to any member, until it is acknowledged, under the
// same name and with the same bytes, and counted once however often it arrives;
// with a spool also after the process was killed. Flush returns nil when
// everything added before it is counted by the cluster.
//
// Nothing is lost in silence. What the cluster refuses (too old, too new), names
// that are none, NaN, and what memory has no room for is counted by reason in
// Stats, reported once by Flush, for ever by Err, and one by one to
// Options.OnDrop and the logger.
//
// Bounded memory. Sketches that are not acknowledged take at most
// Options.MaxPendingBytes. Past it the sketches of one bucket are merged, then
// the oldest buckets into ones of a minute, ten minutes, an hour and a day: they
// keep every value but lose their time within those, which Stats.Coarsened and
// the logger tell. Only when that is not enough are the oldest dropped and
// reported. An outage of three days of one (metric, node) fits into 40 KiB.
// Besides that a client holds one open bucket for every (metric, node): 0.3 KB
// with a few values in it, 10 to 12 KB with hundreds over some octaves, and
// 0.3 KB again once a bucket passed without any (0.9 KB with a Recorder and
// Handle of its own for each). A MedianTracker forgets a node that was silent
// for a minute. BenchmarkIdleMemory measures this.
//
// Close waits for everything that the client has started. After it every method
// returns ErrClosed, and values are refused.
//
// # What is left to others
//
// TLS is as the address says: with https:// the certificate is verified by the
// system's roots.
package client
