package packages

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// maxProcesses is the maximum number of processes that share a data directory: 64.
const maxProcesses = 64

// claim returns a directory below root that no other process uses, until the process ends.
// Directories of processes that have ended are used again.
func claim(root string) (string, error) {
	for i := range maxProcesses {
		dir := filepath.Join(root, fmt.Sprintf("packages-%d", i))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return "", err
		}
		lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return "", err
		}
		err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			claimed = append(claimed, lock)
			return dir, nil
		}
		_ = lock.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return "", fmt.Errorf("lock %s: %w", dir, err)
		}
	}
	return "", fmt.Errorf("%d processes use %s already: set another data_dir", maxProcesses, root)
}

// claimed are the locks of this process, which it keeps.
var claimed []*os.File
