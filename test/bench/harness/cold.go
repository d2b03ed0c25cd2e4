package harness

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Cold restarts PostgreSQL, and then asks the kernel to forget what it has cached of
// its files, so that each block that is needed comes from the disk. It returns an error
// if the kernel refuses; a disk of a virtual machine may have a cache of its own all the
// same.
func (s *System) Cold(ctx context.Context) error {
	if err := s.Postgres.Restart(ctx); err != nil {
		return err
	}
	unix.Sync() // only what is on disk can be forgotten
	return filepath.WalkDir(s.Data, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return ignoreGone(err)
		}
		file, err := os.Open(name)
		if err != nil {
			return ignoreGone(err)
		}
		defer file.Close()
		return unix.Fadvise(int(file.Fd()), 0, 0, unix.FADV_DONTNEED)
	})
}

// ignoreGone ignores that a file has been removed since its directory was read.
func ignoreGone(err error) error {
	if os.IsNotExist(err) {
		return nil
	}
	return err
}
