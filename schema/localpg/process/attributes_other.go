//go:build unix && !linux

package process

import "syscall"

// Attributes returns the attributes of a process that runs as a. On this system the
// process goes on if its parent is killed.
func (a *Account) Attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: a.credential(), Setpgid: true}
}
