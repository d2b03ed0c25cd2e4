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

// An Account is a user of the operating system. A nil *Account is the caller, and
// valid for all methods.
type Account struct {
	Name     string
	UID, GID uint32
}

// Unprivileged returns the account for servers that root starts: postgres if that
// user exists, else nobody. It returns nil if the caller is not root.
func Unprivileged() (*Account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			return account(u)
		}
	}
	return nil, fmt.Errorf("servers must not run as root, and this machine has neither a user" +
		" postgres nor a user nobody: add one of them, or run as another user")
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

// credential returns a credential for a without supplementary groups.
func (a *Account) credential() *syscall.Credential {
	if a == nil {
		return nil
	}
	return &syscall.Credential{Uid: a.UID, Gid: a.GID}
}

// Own makes a the owner of a file, or of a directory with everything in it. If a owns
// the directory already, Own does not look inside. The account changes, for example,
// from nobody to postgres when PostgreSQL is installed.
//
// Own fails if a cannot reach the file, for example below /root (mode 0700). Without
// this check the server would fail without a reason.
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
	// The directory is last: if this is interrupted, the next call repeats all of it.
	return os.Lchown(name, int(a.UID), int(a.GID))
}

// Reach returns an error if a may not enter dir or a directory above it. The error
// names that directory.
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
			return fmt.Errorf("servers that root starts run as user %s, which may not enter %s (mode %v):"+
				" choose another directory, such as one below /var/lib, or run: chmod o+x %s", a.Name, dir, fi.Mode().Perm(), dir)
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
