package process

import "syscall"

// Attributes returns the attributes of a process that runs as a and ends with its
// parent, even if the parent is killed. SIGINT is PostgreSQL's fast shutdown.
func (a *Account) Attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		Credential: a.credential(),
		Pdeathsig:  syscall.SIGINT,
		Setpgid:    true, // Ctrl-C then reaches only the parent, which stops its servers in order
	}
}
