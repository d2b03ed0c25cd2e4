package process

import (
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// An Account is a user of the operating system. A nil Account is the caller's
// own; all methods take it.
type Account struct {
	Name     string
	UID, GID uint32
}

// Unprivileged is the account that servers started by root run as: postgres if
// there is such a user, else nobody. It is nil if the caller is not root.
func Unprivileged() (*Account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			return account(u)
		}
	}
	return nil, fmt.Errorf("servers are not run as root, and this machine has neither a user" +
		" postgres nor a user nobody: add one of them, or work as an ordinary user")
}

func account(u *user.User) (*Account, error) {
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &Account{Name: u.Username, UID: uint32(uid), GID: uint32(gid)}, nil
}

// credential makes a process run as a, with none of the caller's groups.
func (a *Account) credential() *syscall.Credential {
	if a == nil {
		return nil
	}
	return &syscall.Credential{Uid: a.UID, Gid: a.GID}
}

// Own gives a file, or a directory with everything in it, to a. It looks inside
// only if the directory itself is somebody else's: after the first time that is
// so when the account changed, as from nobody to postgres when PostgreSQL was
// installed in between.
//
// It fails if a cannot reach the file, which is how a clone in /root (mode 0700)
// fails otherwise, without a word of why.
func (a *Account) Own(name string) error {
	if a == nil {
		return nil
	}
	if err := a.Reach(filepath.Dir(name)); err != nil {
		return err
	}
	fi, err := os.Lstat(name)
	if err != nil {
		return err
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok && st.Uid == a.UID {
		return nil
	}
	err = filepath.WalkDir(name, func(inner string, _ fs.DirEntry, err error) error {
		if err != nil || inner == name {
			return err
		}
		return os.Lchown(inner, int(a.UID), int(a.GID))
	})
	if err != nil {
		return err
	}
	// The directory last: if we are interrupted, all is done again.
	return os.Lchown(name, int(a.UID), int(a.GID))
}

// Reach returns nil if a may enter dir and so each directory above it. Else the
// error names the one that is closed.
func (a *Account) Reach(dir string) error {
	if a == nil {
		return nil
	}
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	for {
		fi, err := os.Stat(dir)
		if err != nil {
			return err
		}
		if !a.mayEnter(fi) {
			return fmt.Errorf("user %s, as whom servers run when root starts them, may not enter %s (mode %v):"+
				" choose a directory elsewhere, such as below /var/lib, or run: chmod o+x %s", a.Name, dir, fi.Mode().Perm(), dir)
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
		dir = filepath.Dir(dir)
	}
}

func (a *Account) mayEnter(fi os.FileInfo) bool {
	mode := fi.Mode().Perm()
	st, ok := fi.Sys().(*syscall.Stat_t)
	switch {
	case ok && st.Uid == a.UID:
		return mode&0o100 != 0
	case ok && st.Gid == a.GID:
		return mode&0o010 != 0
	}
	return mode&0o001 != 0
}
