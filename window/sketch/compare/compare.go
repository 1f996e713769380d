// Package compare measures package sketch beside github.com/DataDog/sketches-go,
// in one run. It is a module of its own, so that users of the library do not
// inherit the dependency. It holds benchmarks only:
//
//	cd window/sketch/compare && go test -bench .
package compare
