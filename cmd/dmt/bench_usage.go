package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// usage is what the members of a local cluster took from the machine so far,
// as far as it tells: Linux does, in /proc.
type usage struct {
	cpu      time.Duration // of all of them
	written  uint64        // bytes sent to the disks by all of them
	resident uint64        // bytes of the greatest, at its most
	members  int           // that were looked at; 0: not known
}

func (b *bench) usage() usage {
	var u usage
	if b.local == nil {
		return u
	}
	for _, m := range b.local.members {
		if m.cmd == nil {
			continue
		}
		proc := fmt.Sprintf("/proc/%d/", m.cmd.Process.Pid)
		cpu, err := processCPU(proc + "stat")
		written, werr := procField(proc+"io", "write_bytes")
		peak, perr := procField(proc+"status", "VmHWM")
		if err != nil || werr != nil || perr != nil {
			return usage{} // another system, which does not tell
		}
		u.cpu, u.written, u.resident, u.members = u.cpu+cpu, u.written+written, max(u.resident, peak<<10), u.members+1
	}
	return u
}

// processCPU reads the time that a process spent in user and system mode.
func processCPU(path string) (time.Duration, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	// The name in parentheses may hold blanks; user and system time are the
	// 12th and 13th field behind it, in ticks of 10 ms on every Linux.
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("%s: %d fields", path, len(fields))
	}
	user, err := strconv.ParseUint(fields[11], 10, 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseUint(fields[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond, err
}

// procField reads the number behind "name:".
func procField(path, name string) (uint64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			return strconv.ParseUint(strings.Fields(rest)[0], 10, 64)
		}
	}
	return 0, fmt.Errorf("%s: no %s", path, name)
}

// reportUsage says what a load cost the members.
func (b *bench) reportUsage(before, after usage, got *loaded) {
	if before.members == 0 || before.members != after.members {
		return
	}
	n := float64(after.members)
	payload := float64(got.sketches) * b.mean
	cpu := after.cpu - before.cpu
	b.report("member_cpu", cpu.Seconds()*1e6/float64(got.sketches), "us/sketch", "all %d members together, %.2f cores", after.members, cpu.Seconds()/got.elapsed.Seconds())
	b.report("member_written", float64(after.written-before.written)/n/payload, "B/B", "bytes to the disk for each byte of sketches, by each member")
	b.report("member_resident", float64(after.resident)/(1<<20), "MiB", "the greatest, at its most")
}
