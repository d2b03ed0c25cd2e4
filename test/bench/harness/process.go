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

// ProcessorSeconds returns the processor time of a process so far, to the nanosecond; 0
// after it has ended. /proc counts in ticks of 10 ms: more than a small run takes.
func ProcessorSeconds(pid int) float64 {
	// The clock id of a process is its inverted pid, shifted left by three, with 2
	// (CPUCLOCK_SCHED) in the free bits: clock_getcpuclockid(3), which is not a system
	// call.
	var t unix.Timespec
	if err := unix.ClockGettime(^int32(pid)<<3|2, &t); err != nil {
		return 0
	}
	return float64(t.Nano()) / 1e9
}

// ticks is the unit of processor time in /proc: 1/100 s on every Linux (USER_HZ).
const ticks = 100

// endedSeconds returns the processor time of the children that a process has waited
// for.
func endedSeconds(pid int) float64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The fields after the name, which may contain spaces: state is the third of
	// proc(5), cutime and cstime are 16 and 17.
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 15 {
		return 0
	}
	user, _ := strconv.ParseFloat(fields[13], 64) // the kernel writes numbers
	system, _ := strconv.ParseFloat(fields[14], 64)
	return (user + system) / ticks
}

// FamilySeconds returns the processor time of a process and its children, including
// those that have ended.
func FamilySeconds(pid int) float64 {
	sum := ProcessorSeconds(pid) + endedSeconds(pid)
	for _, child := range children(pid) {
		sum += ProcessorSeconds(child)
	}
	return sum
}

// children returns the running children of a process.
func children(pid int) (all []int) {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid)) // fails only for a malformed pattern
	for _, list := range lists {
		b, _ := os.ReadFile(list) // a thread that has just ended has no children
		for _, child := range strings.Fields(string(b)) {
			n, _ := strconv.Atoi(child)
			all = append(all, n)
		}
	}
	return all
}

// PeakMemory returns the peak resident memory of a process in bytes; 0 after it has
// ended.
func PeakMemory(pid int) int64 { return memory(pid, "VmHWM") }

// Memory returns the resident memory of a process in bytes; 0 after it has ended.
func Memory(pid int) int64 { return memory(pid, "VmRSS") }

// FamilyMemory returns the resident anonymous memory of a process and its children in
// bytes: without files and shared memory.
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

// HugePages reports whether PostgreSQL's shared memory uses huge pages: the kernel
// gives such an anonymous mapping this name.
func HugePages(postmaster int) bool {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/maps", postmaster)) // "" on systems other than Linux
	return strings.Contains(string(b), "/anon_hugepage")
}

// LoadAverage returns the load average of the last minute, as the kernel writes it.
func LoadAverage() string {
	b, _ := os.ReadFile("/proc/loadavg") // "" on systems other than Linux
	first, _, _ := strings.Cut(string(b), " ")
	return first
}
