package api

import "github.com/distributed-median-tracker/dmt/window"

// Limits of one request. They bound what a member allocates and how long it
// works before it knows that a request is sound.
const (
	// MaxRequestBytes bounds a request, decompressed. It fits 30 sketches of
	// the greatest size, or 10,000 usual ones of 800 bytes.
	MaxRequestBytes = 8 << 20

	// MaxResponseBytes bounds an answer that a client is willing to read:
	// 10,000 nodes of one query with 10 quantiles take some 16 MiB as JSON.
	MaxResponseBytes = 64 << 20

	// MaxBatchesPerRequest is as many batches as a producer has in doubt.
	MaxBatchesPerRequest = 64

	// MaxBatchEntries bounds a batch. A larger one blocks the log for longer
	// than an election takes to notice.
	MaxBatchEntries = 10_000

	// MaxValues bounds the numbers of one AddValues request, integers and
	// floats together.
	MaxValues = 100_000

	// MaxRequestIDBytes bounds AddValuesRequest.request_id.
	MaxRequestIDBytes = 256

	// MaxRefusalsListed is how many refused entries of a batch are listed.
	// The count holds them all.
	MaxRefusalsListed = 100

	// MaxQuantiles and MaxPoints bound a query.
	MaxQuantiles = window.MaxQuantiles
	MaxPoints    = window.MaxPoints

	// ProducerBytes is the length of Batch.producer.
	ProducerBytes = 16

	// maxElements bounds the elements of all lists of a request together, and
	// with them what it takes in memory: some 16 MiB beyond its own bytes. It
	// is more than MaxValues, and than there is room for real sketches in
	// MaxRequestBytes.
	maxElements = 131_072

	// maxMessageBytes bounds the text of an error, which gRPC sends in a
	// header.
	maxMessageBytes = 1024

	// maxDepth bounds nesting in JSON. The deepest message of the API has 4
	// levels.
	maxDepth = 16
)
