package localpg

import (
	"os"
	"syscall"
)

const (
	memory = "/dev/shm" // a file system in memory, on most machines as large as half of it

	// memoryFree is how much of memory must be free: 8 GB. All tests together use up to
	// about 2 GB at the same time, most of it for write-ahead logs. A container often has
	// 64 MB.
	memoryFree = 8 << 30
)

// tempDir returns where the directories of servers for tests are created: in memory if it has
// room and TMPDIR does not name another place, else "", which is the usual place.
func tempDir() string {
	if os.Getenv("TMPDIR") != "" {
		return ""
	}
	var fs syscall.Statfs_t
	const tmpfs = 0x01021994 // statfs(2)
	err := syscall.Statfs(memory, &fs)
	if err != nil || fs.Type != tmpfs || fs.Bavail*uint64(fs.Bsize) < memoryFree || syscall.Access(memory, writable) != nil {
		return ""
	}
	return memory
}

const writable = 2 // W_OK of access(2)
