package launch

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/portbook/portbook/schema/localpg/process"
)

// data is the folder of all data that is kept between starts.
type data struct {
	dir  string
	lock *os.File // locked while we run
}

func (d data) path(name string) string { return filepath.Join(d.dir, name) }

// Names in the folder. Each start writes bin and the configurations.
const (
	lockName           = "lock"
	binName            = "bin"
	postgresName       = "postgres"
	registryName       = "registry"
	filesName          = "files" // of the indexer
	registryConfigName = "registry.yml"
	indexerConfigName  = "indexer.yaml"
	tokenName          = "events-token"
	keysName           = "keys.json"  // that sign tokens for the registry
	jwksName           = "jwks.json"  // their public halves
	privatePostgres    = "postgresql" // programs, if apt cannot install them
)

// DefaultData returns the default folder of the user. That of root is not in its home,
// which servers of another account cannot enter.
func DefaultData(getenv func(string) string) (string, error) {
	if os.Geteuid() == 0 {
		return "/var/lib/portbook", nil
	}
	if state := getenv("XDG_STATE_HOME"); filepath.IsAbs(state) { // the XDG spec ignores a relative one
		return filepath.Join(state, "portbook"), nil
	}
	if home := getenv("HOME"); home != "" {
		return filepath.Join(home, ".local", "state", "portbook"), nil
	}
	return "", errors.New("neither DATA nor HOME is set: choose a folder for the data: make up DATA=folder")
}

// openData creates the folder if it does not exist, and locks it.
func (s *system) openData(context.Context) error {
	account, err := process.Unprivileged()
	if err != nil {
		return err
	}
	dir := s.cfg.Data
	if dir == "" {
		if dir, err = DefaultData(s.getenv); err != nil {
			return err
		}
	}
	if s.data.dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	if err := s.data.open(account); err != nil {
		return fmt.Errorf("DATA=%s: %w", s.data.dir, err)
	}
	return nil
}

func (d *data) open(account *process.Account) error {
	mode := os.FileMode(0o700)
	if account != nil {
		mode = 0o755 // the servers' account must enter; secret files have their own mode
	}
	if err := os.MkdirAll(d.dir, mode); err != nil {
		return err
	}
	if err := openEmpty(d.dir, mode); err != nil {
		return err
	}
	if err := account.Reach(d.dir); err != nil {
		return err
	}
	if err := d.lockDir(); err != nil {
		return err
	}
	if err := os.MkdirAll(d.path(binName), mode); err != nil {
		return err
	}
	if err := os.MkdirAll(d.path(filesName), 0o700); err != nil {
		return err
	}
	if err := account.Own(d.path(filesName)); err != nil {
		return err
	}
	return os.MkdirAll(d.path(registryName), 0o700)
}

// openEmpty sets the mode of an empty folder: the servers' account cannot enter a new
// folder of mktemp -d. It does not change the mode of other folders.
func openEmpty(dir string, mode os.FileMode) error {
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 0 {
		return err
	}
	return os.Chmod(dir, mode)
}

// lockDir returns an error if another launcher uses the folder. The lock ends with the
// process, so a crash needs no cleanup.
func (d *data) lockDir() error {
	f, err := os.OpenFile(d.path(lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return errors.New("another `make up` uses this folder:" +
			" stop it, or choose another: make up ADDR=127.0.0.1:7090 DATA=folder")
	}
	d.lock = f
	return nil
}

func (d *data) unlock() {
	if d.lock != nil {
		d.lock.Close()
	}
}

// token reads the secret that the registry sends to the indexer, or creates it in a
// new folder.
func (d *data) token() (string, error) {
	b, err := os.ReadFile(d.path(tokenName))
	if errors.Is(err, os.ErrNotExist) {
		token := rand.Text()
		return token, os.WriteFile(d.path(tokenName), []byte(token), 0o600)
	}
	return strings.TrimSpace(string(b)), err
}

// writeFile writes a file that only the account may read. It replaces an existing
// file, which would keep its mode and owner otherwise.
func (d *data) writeFile(account *process.Account, name string, content []byte) error {
	name = d.path(name)
	if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.WriteFile(name, content, 0o600); err != nil {
		return err
	}
	return account.Own(name)
}
