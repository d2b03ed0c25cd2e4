package launch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// storageRoot names a directory for the registry, as for pesde's registry server.
const storageRoot = "FS_STORAGE_ROOT"

// storageVariables say where the registry keeps its content, beside those of storagePrefixes.
var storageVariables = []string{storageRoot, "BUCKET_NAME"}

// storagePrefixes begin the names of more such variables.
var storagePrefixes = []string{"S3_", "PORTBOOK_STORAGE_", "PORTBOOK_REDIS_"}

// credentialPrefixes begin the names of variables by which the registry itself finds credentials
// of its storage.
var credentialPrefixes = []string{"AWS_", "AZURE_", "GOOGLE_APPLICATION_CREDENTIALS="}

// storage returns the variables of the environment about the registry's storage, or nil.
func (s *system) storage() (variables []string) {
	for _, pair := range s.cfg.Environ {
		name, value, _ := strings.Cut(pair, "=")
		if value != "" && (slices.Contains(storageVariables, name) || hasPrefix(name, storagePrefixes)) {
			variables = append(variables, pair)
			if hidden := strings.Contains(name, "SECRET") || strings.Contains(name, "PASSWORD") ||
				strings.HasSuffix(name, "ACCOUNTKEY"); hidden {
				s.out.hide(value)
			}
		}
	}
	return variables
}

func hasPrefix(text string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(text, p) })
}

// registryFile returns the registry's configuration, and what it needs in its environment: a
// sample of the clone and our folder, or what `portbook registry-config` writes if the
// environment says where the content is. sample has the same logins as that.
func (s *system) registryFile(ctx context.Context, sample string) (file []byte, env []string, err error) {
	variables := s.storage()
	if len(variables) == 0 {
		file, err = os.ReadFile(filepath.Join(s.cfg.Source, "registry", "config", sample))
		return file, []string{"REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY=" + s.data.path(registryName)}, err
	}
	if err := s.openStorage(); err != nil {
		return nil, nil, err
	}
	if !slices.ContainsFunc(variables, func(v string) bool { return !hasPrefix(v, []string{"PORTBOOK_REDIS_"}) }) {
		variables = append(variables, storageRoot+"="+s.data.path(registryName)) // only the cache is elsewhere
	}
	variables = append(variables, "PORTBOOK_REGISTRY_PUBLIC_URL=http://"+s.local())
	if s.cfg.Auth {
		variables = append(variables, "PORTBOOK_AUTH_METHOD=accounts", "PORTBOOK_AUTH_KEYS="+s.data.path(keysName))
	}
	for _, pair := range s.cfg.Environ {
		if hasPrefix(pair, credentialPrefixes) {
			env = append(env, pair)
		}
	}
	file, err = s.portbookWith(ctx, variables, "", "registry-config", "--jwks", s.data.path(jwksName))
	return file, env, err
}

// openStorage makes the directory of storageRoot for the servers' account. It does not take an
// existing one away from another user.
func (s *system) openStorage() error {
	root := s.getenv(storageRoot)
	if root == "" {
		return nil
	}
	if !filepath.IsAbs(root) {
		return fmt.Errorf("%s=%s: write an absolute path", storageRoot, root)
	}
	info, err := os.Stat(root)
	if errors.Is(err, os.ErrNotExist) {
		if err := os.MkdirAll(root, 0o700); err != nil {
			return fmt.Errorf("%s: %w", storageRoot, err)
		}
		return s.account.Own(root)
	}
	if err != nil || s.account == nil {
		return err
	}
	if err := s.account.Reach(filepath.Dir(root)); err != nil {
		return fmt.Errorf("%s: %w", storageRoot, err)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != s.account.UID {
		return fmt.Errorf("%s=%s: servers that root starts run as user %s, and it belongs to another: chown -R %s it, or"+
			" name a directory that does not exist", storageRoot, root, s.account.Name, s.account.Name)
	}
	return nil
}
