//go:build race

package server_test

// raceDetector empties pools at random, so that memory says nothing.
const raceDetector = true
