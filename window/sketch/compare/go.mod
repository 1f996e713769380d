module github.com/distributed-median-tracker/dmt/window/sketch/compare

go 1.26.0

require (
	github.com/DataDog/sketches-go v1.4.8
	github.com/distributed-median-tracker/dmt v0.0.0
	google.golang.org/protobuf v1.36.12
)

replace github.com/distributed-median-tracker/dmt => ../../..
