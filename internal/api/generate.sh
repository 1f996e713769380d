#!/bin/sh
# Writes the Go code of dmt/v1/tracker.proto.
#
#   generate.sh [DIR]
#
# DIR is where the tree dmt/v1/... goes; by default, this directory. The plugins
# are pinned in .ci/tools/go.mod. The files name their protoc, so only the one
# release below gives the same bytes.
set -eu

api=$(cd "$(dirname "$0")" && pwd)
out=$(cd "${1:-$api}" && pwd)
tools=$api/../../.ci/tools

want='libprotoc 3.21.12'
have=$(protoc --version)
if [ "$have" != "$want" ]; then
	echo "generate.sh: $have, want $want" >&2
	exit 1
fi

bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
(cd "$tools" && go build -o "$bin/" \
	google.golang.org/protobuf/cmd/protoc-gen-go \
	connectrpc.com/connect/cmd/protoc-gen-connect-go)

PATH="$bin:$PATH" protoc -I "$api" \
	--go_out="$out" --go_opt=paths=source_relative \
	--connect-go_out="$out" --connect-go_opt=paths=source_relative \
	dmt/v1/tracker.proto
