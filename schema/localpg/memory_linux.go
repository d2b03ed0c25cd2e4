package localpg

import (
	"os"
	"syscall"
)

const (
	memory = "/dev/shm" // a file system in memory, on most machines as large as half of it

	// memoryFree is how much of memory must be free: 8 GB, a guess. A server keeps up to 1
	// GB of write-ahead log, and a few run at the same time. A container often has 64 MB.
	memoryFree = 8 << 30
)

// tempDir returns where the directories of servers for tests are created: in memory if it has
// room and TMPDIR does not name another place, else "", which is the usual place.
func tempDir() string {
	if os.Getenv("TMPDIR") != "" {
		return ""
	}
	const (
		tmpfs    = 0x01021994 // f_type of statfs(2)
		writable = 2          // W_OK of access(2)
	)
	var fs syscall.Statfs_t
	if syscall.Statfs(memory, &fs) != nil || fs.Type != tmpfs || syscall.Access(memory, writable) != nil {
		return ""
	}
	if fs.Bavail*uint64(fs.Bsize) < memoryFree {
		return ""
	}
	return memory
}
