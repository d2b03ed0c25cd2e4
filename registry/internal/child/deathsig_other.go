//go:build unix && !linux

package child

import "syscall"

// dieWithParent returns nil: of the unix systems, only Linux and FreeBSD have a death
// signal. A test binary that is killed leaves its registry running.
func dieWithParent() *syscall.SysProcAttr { return nil }
