// Package api is the wire: the protobuf messages and Connect services of
// dmt/v1/tracker.proto, a strict JSON for them, the conversion between messages
// and the words of package window, and errors that a program can act on.
//
// It promises that one JSON is spoken everywhere: snake_case keys in a fixed
// order, unknown, repeated and camelCase keys refused, null refused where it is
// no value, counts and integers beyond 2^53 as strings. What the server answers
// is byte for byte what the command line prints. Every refusal names the field
// as a path, "batches[0].entries[17].sketch".
//
// It leaves to package server what needs the cluster: which precision sketches
// must have, which times are too old, who the leader is.
package api

//go:generate ./generate.sh
