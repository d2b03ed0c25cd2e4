package harness

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ProcessorSeconds is what a process has used so far, to the nanosecond; 0 once
// it is gone. /proc counts in ticks of 10 ms: more than a small run takes.
func ProcessorSeconds(pid int) float64 {
	// A process's clock is its number inverted, shifted by three, with 2
	// (CPUCLOCK_SCHED) in the free bits: clock_getcpuclockid(3), which is not a
	// system call.
	var t unix.Timespec
	if err := unix.ClockGettime(^int32(pid)<<3|2, &t); err != nil {
		return 0
	}
	return float64(t.Nano()) / 1e9
}

// ticks is the unit of processor time in /proc: 1/100 s on every Linux (USER_HZ).
const ticks = 100

// endedSeconds is what the children that a process has waited for have used.
func endedSeconds(pid int) float64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The fields after the name, which may hold spaces: state is the third of
	// proc(5), cutime and cstime are 16 and 17.
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 15 {
		return 0
	}
	user, _ := strconv.ParseFloat(fields[13], 64) // the kernel writes numbers
	system, _ := strconv.ParseFloat(fields[14], 64)
	return (user + system) / ticks
}

// FamilySeconds is what a process and its children have used, those that have
// ended too.
func FamilySeconds(pid int) float64 {
	sum := ProcessorSeconds(pid) + endedSeconds(pid)
	for _, child := range children(pid) {
		sum += ProcessorSeconds(child)
	}
	return sum
}

// children are those of a process that run now.
func children(pid int) (all []int) {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid)) // fails for a malformed pattern only
	for _, list := range lists {
		b, _ := os.ReadFile(list) // a thread that has just ended has no children
		for _, child := range strings.Fields(string(b)) {
			n, _ := strconv.Atoi(child)
			all = append(all, n)
		}
	}
	return all
}

// PeakMemory is the most memory that a process has had resident, in bytes; 0
// once it is gone.
func PeakMemory(pid int) int64 { return memory(pid, "VmHWM") }

// Memory is what a process has resident now, in bytes; 0 once it is gone.
func Memory(pid int) int64 { return memory(pid, "VmRSS") }

// FamilyMemory is what a process and its children have resident now that no file
// and no shared memory backs, in bytes.
func FamilyMemory(pid int) int64 {
	sum := memory(pid, "RssAnon")
	for _, child := range children(pid) {
		sum += memory(child, "RssAnon")
	}
	return sum
}

// memory reads one field of /proc/PID/status, in bytes.
func memory(pid int, field string) int64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for _, line := range strings.Split(string(b), "\n") {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			kib, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kib << 10
		}
	}
	return 0
}

// HugePages reports whether the memory that a PostgreSQL shares with its sessions
// is of huge pages: an anonymous mapping of such is called so by the kernel.
func HugePages(postmaster int) bool {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/maps", postmaster)) // "" elsewhere than on Linux
	return strings.Contains(string(b), "/anon_hugepage")
}

// LoadAverage is that of the last minute, as the kernel writes it.
func LoadAverage() string {
	b, _ := os.ReadFile("/proc/loadavg") // "" elsewhere than on Linux
	first, _, _ := strings.Cut(string(b), " ")
	return first
}
