//go:build unix && !linux

package child

import "syscall"

// dieWithParent does nothing: only Linux and FreeBSD know a death signal. A test
// that is killed leaves its registry running.
func dieWithParent() *syscall.SysProcAttr { return nil }
