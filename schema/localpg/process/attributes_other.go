//go:build unix && !linux

package process

import "syscall"

// Attributes are those of a process that runs as a. Only Linux can end it when
// its parent is killed; elsewhere a killed parent leaves the process running.
func (a *Account) Attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: a.credential(), Setpgid: true}
}
