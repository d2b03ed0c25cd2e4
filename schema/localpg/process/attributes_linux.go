package process

import "syscall"

// Attributes are those of a process that runs as a and ends with its parent,
// even when the parent is killed. SIGINT is PostgreSQL's fast shutdown.
func (a *Account) Attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		Credential: a.credential(),
		Pdeathsig:  syscall.SIGINT,
		Setpgid:    true, // Ctrl-C goes to the parent, which stops us in its order
	}
}
