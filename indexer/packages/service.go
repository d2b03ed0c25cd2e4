// Package packages is the registry of packages of pesde: it publishes, yanks and deprecates them,
// and serves the index that clients read.
//
// A package is an artifact in the container registry. The index is a git repository. Its files and
// its history are in the database, so that every process serves the same commits; each process
// keeps a copy in its data directory, which may be deleted. One change is made at a time, in a
// transaction that locks the index. If the index is published elsewhere too, that repository is
// the truth: it is fetched before each change, and pushed to before the change is committed.
package packages

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/pesde"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/remote"
)

const (
	// changeTime limits a change of the index: 60 s. Without an upstream it takes some 100 ms.
	changeTime = 60 * time.Second
	// maxBundles is how many bundles the history has before they are made one: 100. A new process
	// applies them in some 10 ms each.
	maxBundles = 100
	// pushTries is how often a change is made again because somebody pushed to the upstream: 3.
	pushTries = 3
	// readTime is how long a change waits until the book has what was pushed: 10 s.
	readTime = 10 * time.Second
)

// MaxArchive is the maximum size of an archive, whatever config.toml says: 32 MiB. It is in memory
// while it is published.
const MaxArchive = 32 << 20

const configFile = "config.toml"

// A Config is what a Service needs.
type Config struct {
	Store  *postgres.Store // nil on a reader, which only serves the index
	Reads  *postgres.Store // reads the index
	Remote *remote.Client
	Wake   func() // wakes the workers that read what was pushed; may be nil
	Log    *slog.Logger

	Dir      string // of data
	Prefix   string // begins the names of repositories of packages, such as pesde/
	API      string // the absolute URL of our API, for the first config.toml
	ClientID string // of our application at GitHub, for the first config.toml; "": there is none
	Upstream Upstream
	// CommitterName and CommitterEmail are whom commits name.
	CommitterName, CommitterEmail string
}

// An Upstream is a repository elsewhere in which the index is published; its URL is "" if there is
// none.
type Upstream = upstream

// A Service serves and changes the index of packages. It is safe for concurrent use.
type Service struct {
	Config
	repo     *repository
	changing chan struct{} // holds a value while a change is made
	mu       sync.Mutex    // of the copy of the index
}

// New returns a Service. It needs git.
func New(ctx context.Context, c Config) (*Service, error) {
	dir, err := claim(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("data_dir: %w", err)
	}
	if c.Wake == nil {
		c.Wake = func() {}
	}
	s := &Service{Config: c, changing: make(chan struct{}, 1)}
	s.repo = &repository{dir: dir + "/index.git", who: committer{oneLine(c.CommitterName), oneLine(c.CommitterEmail)}}
	return s, s.repo.create(ctx)
}

// oneLine returns a text that can stand in a commit as a name.
func oneLine(s string) string {
	return strings.NewReplacer("\n", " ", "<", "", ">", "").Replace(s)
}

// Sync makes the copy of the index what the database has.
func (s *Service) Sync(ctx context.Context) error {
	head, err := s.Reads.PackageHead(ctx)
	if err != nil || head.ID == 0 {
		return err
	}
	// A change may hold the lock for long, if the upstream is slow.
	if have, err := s.repo.head(ctx, branch); err == nil && have == hex.EncodeToString(head.Head) {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for try := 0; ; try++ {
		err := s.sync(ctx, head)
		if try > 0 || !errors.Is(err, indexer.ErrNotFound) { // the bundles may just have been made one
			return err
		}
	}
}

func (s *Service) sync(ctx context.Context, head indexer.PackageBundle) error {
	var failed *gitError
	have, err := s.repo.head(ctx, branch)
	if errors.As(err, &failed) { // somebody has deleted the copy
		err = s.repo.create(ctx)
	}
	if err != nil || have == hex.EncodeToString(head.Head) {
		return err
	}
	all, err := s.Reads.PackageBundles(ctx)
	if err != nil {
		return err
	}
	after := slices.IndexFunc(all, func(b indexer.PackageBundle) bool { return hex.EncodeToString(b.Head) == have })
	defer s.repo.tidy(ctx)
	err = s.apply(ctx, all[after+1:])
	if !errors.As(err, &failed) {
		return err
	}
	s.Log.WarnContext(ctx, "the copy of the index is broken, and is made again", "error", err)
	if err := s.repo.create(ctx); err != nil {
		return err
	}
	return s.apply(ctx, all)
}

// apply adds bundles to the copy of the index.
func (s *Service) apply(ctx context.Context, bundles []indexer.PackageBundle) error {
	for _, b := range bundles {
		data, err := s.Reads.PackageBundle(ctx, b.ID)
		if err != nil {
			return err
		}
		if err := s.repo.apply(ctx, data); err != nil {
			return err
		}
	}
	return nil
}

// A change is a change of the index that is being made.
type change struct {
	*Service
	index  *postgres.PackageIndex
	base   string   // the commit that the change builds on; "": there is none
	branch string   // of the upstream
	full   bool     // the history is to be made one bundle
	first  bool     // there was no index
	head   string   // the commit of the change
	moved  []string // tags that show something else than what was published: see Service.Rebuild
}

// change runs f, which may make a commit, while nobody else changes the index. f runs again if
// somebody pushed to the upstream meanwhile.
func (s *Service) change(ctx context.Context, f func(context.Context, *change) error) error {
	ctx, cancel := context.WithTimeout(ctx, changeTime)
	defer cancel()
	select {
	case s.changing <- struct{}{}:
		defer func() { <-s.changing }()
	case <-ctx.Done():
		return errBusy
	}
	for try := 1; ; try++ {
		var head string
		err := s.Store.ChangePackages(ctx, func(x *postgres.PackageIndex) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			c := &change{Service: s, index: x}
			if err := c.begin(ctx); err != nil {
				return err
			}
			err := f(ctx, c)
			head = c.head
			return err
		})
		switch {
		case errors.Is(err, errRaced) && try < pushTries:
			continue
		case err == nil && head != "":
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.repo.serve(ctx, head)
		}
		return err
	}
}

var (
	errRaced = errors.New("the upstream was pushed to meanwhile")
	errBusy  = unavailable("other changes of the index take too long: try again", nil)
)

// unavailable returns an error with a text for clients.
func unavailable(text string, err error) error {
	return &indexer.Fault{Reason: "the index of packages cannot be changed now: " + text,
		Err: fmt.Errorf("index of packages: %s: %w", text, errors.Join(err, indexer.ErrUnavailable))}
}

// begin finds out what the change builds on: what the database has, and what was pushed to the
// upstream since. Without any index it makes the first commit.
func (c *change) begin(ctx context.Context) error {
	bundles, err := c.Store.PackageBundles(ctx)
	if err != nil {
		return err
	}
	c.first = len(bundles) == 0
	if n := len(bundles); n > 0 {
		if err := c.sync(ctx, bundles[n-1]); err != nil {
			return err
		}
		c.base, c.full = hex.EncodeToString(bundles[n-1].Head), n >= maxBundles
	}
	if c.Upstream.URL != "" {
		if err := c.fetchUpstream(ctx); err != nil {
			return err
		}
	}
	if c.base != "" {
		return nil
	}
	text, err := c.firstConfig().Encode()
	if err != nil {
		return err
	}
	if err := c.commit(ctx, "create the index", map[string][]byte{configFile: text}); err != nil {
		return err
	}
	c.base = c.head
	return nil
}

// firstConfig returns the config.toml of a new index.
func (s *Service) firstConfig() pesde.Config {
	return pesde.Config{API: s.API, GitHubOAuthClientID: s.ClientID, MaxArchiveSize: pesde.DefaultMaxArchiveSize}
}

// fetchUpstream takes over what was pushed to the upstream.
func (c *change) fetchUpstream(ctx context.Context) (err error) {
	if c.branch, err = c.repo.branchOf(ctx, c.Upstream); err != nil {
		return unavailable("the repository of packages.index_url does not answer", err)
	}
	if c.branch == "" { // it is empty
		c.branch = branch
		if c.base == "" {
			return nil
		}
		return c.pushed(ctx, c.base)
	}
	theirs, err := c.repo.fetch(ctx, c.Upstream, c.branch)
	if err != nil {
		return unavailable("the repository of packages.index_url does not answer", err)
	}
	if theirs == c.base {
		return nil
	}
	return c.takeOver(ctx, theirs)
}

// takeOver makes a commit of the upstream the one that the change builds on.
func (c *change) takeOver(ctx context.Context, theirs string) error {
	base := c.base
	if base != "" {
		follows, err := c.repo.isAncestor(ctx, base, theirs)
		if err != nil {
			return err
		}
		if !follows {
			c.Log.WarnContext(ctx, "the history of the index was rewritten in its repository, and is taken over",
				"from", base, "to", theirs)
			base = ""
		}
	}
	files, err := c.repo.changed(ctx, base, theirs)
	if err != nil {
		return err
	}
	if base == "" {
		if err := c.removeOthers(ctx, files); err != nil {
			return err
		}
	}
	maps.DeleteFunc(files, func(path string, _ []byte) bool { return !isIndexFile(path) })
	if err := c.index.Set(ctx, files); err != nil {
		return err
	}
	if err := c.store(ctx, base, theirs); err != nil {
		return err
	}
	c.base = theirs
	return nil
}

// removeOthers adds to files all that the database has and files does not, as gone.
func (c *change) removeOthers(ctx context.Context, files map[string][]byte) error {
	paths, err := c.index.Paths(ctx)
	for _, path := range paths {
		if _, ok := files[path]; !ok {
			files[path] = nil
		}
	}
	return err
}

// isIndexFile reports whether clients read a file of the index.
func isIndexFile(path string) bool {
	scope, name, ok := strings.Cut(path, "/")
	if !ok {
		return path == configFile
	}
	if name == scopeFile {
		name = "x"
	}
	_, err := pesde.ParseName(scope + "/" + name)
	return err == nil
}

// scopeFile is the file of a scope.
const scopeFile = "scope.toml"

// commit commits files, publishes the commit in the upstream, and stores it.
func (c *change) commit(ctx context.Context, message string, files map[string][]byte) error {
	commit, err := c.repo.commit(ctx, c.base, message, time.Now(), files)
	if err != nil {
		return err
	}
	if err := c.readBack(ctx, commit, files); err != nil {
		return err
	}
	if c.Upstream.URL != "" {
		if err := c.pushed(ctx, commit); err != nil {
			return err
		}
	}
	if err := c.index.Set(ctx, files); err != nil {
		return err
	}
	c.head = commit
	return c.store(ctx, c.base, commit)
}

// readBack reads files of a commit as the client does: one bad entry breaks a package for all.
func (c *change) readBack(ctx context.Context, commit string, files map[string][]byte) error {
	for path, content := range files {
		if content == nil {
			continue
		}
		text, err := c.repo.file(ctx, commit, path)
		if err != nil {
			return err
		}
		switch {
		case path == configFile:
			_, err = pesde.ParseConfig(text)
		case strings.HasSuffix(path, "/"+scopeFile):
			_, err = pesde.ParseScope(text)
		default:
			_, err = pesde.ParseFile(text)
		}
		if err != nil {
			return fmt.Errorf("clients could not read %s: %w", path, err)
		}
	}
	return nil
}

// pushed pushes a commit to the upstream.
func (c *change) pushed(ctx context.Context, commit string) error {
	err := c.repo.push(ctx, c.Upstream, commit, c.branch)
	if err == nil {
		return nil
	}
	if now, errNow := c.repo.fetch(ctx, c.Upstream, c.branch); errNow == nil && now != c.base && now != commit {
		return errRaced
	}
	return unavailable("the repository of packages.index_url does not accept it", err)
}

// store stores the history from a base to a commit. Every maxBundles commits it stores all of the
// history as one bundle instead, unless that is too large.
func (c *change) store(ctx context.Context, base, commit string) error {
	if c.full && base != "" {
		if b, err := c.repo.bundle(ctx, "", commit); err == nil {
			return c.index.Add(ctx, b)
		}
	}
	b, err := c.repo.bundle(ctx, base, commit)
	if err != nil {
		return err
	}
	return c.index.Add(ctx, b)
}

// Ensure makes the index if there is none, and takes over what was pushed to the upstream. With a
// new index it protects the tags of all packages, so that no rule of retention deletes them, and
// one that is moved is put back.
func (s *Service) Ensure(ctx context.Context) error {
	first := false
	err := s.change(ctx, func(_ context.Context, c *change) error {
		first = c.first
		return nil
	})
	if err != nil || !first {
		return err
	}
	pattern, err := access.ParsePattern(s.Prefix + "*")
	if err != nil {
		return err
	}
	err = s.Store.AddProtection(ctx, access.Protection{
		Kind: access.Protect, Pattern: pattern, Tags: "*", Reason: "packages never change: yank one instead",
	})
	if errors.Is(err, indexer.ErrConflict) {
		return nil
	}
	return err
}

// config returns the config.toml of the index.
func (c *change) config(ctx context.Context) (pesde.Config, error) {
	files, err := c.index.Files(ctx, configFile)
	if err != nil {
		return pesde.Config{}, err
	}
	config, err := pesde.ParseConfig(files[configFile])
	if err != nil {
		return config, unavailable("its config.toml is broken: "+err.Error(), nil)
	}
	return config, nil
}

// Configure replaces the config.toml of the index.
func (s *Service) Configure(ctx context.Context, text []byte) error {
	if _, err := pesde.ParseConfig(text); err != nil {
		return indexer.Invalid("%s", err)
	}
	return s.change(ctx, func(ctx context.Context, c *change) error {
		if err := c.commit(ctx, "change config.toml", map[string][]byte{configFile: text}); err != nil {
			return err
		}
		return c.index.Record(ctx, access.Record{Event: access.PackageConfigure, Target: configFile})
	})
}

// own returns the URLs of our own index, as dependencies name it.
func (s *Service) own(c pesde.Config) []string {
	all := []string{c.API + "/index"}
	if s.Upstream.URL != "" {
		all = append(all, s.Upstream.URL)
	}
	return all
}

// MaxArchive returns the maximum size of an archive, in bytes.
func (s *Service) MaxArchive(ctx context.Context) (int64, error) {
	text, err := s.Reads.PackageFile(ctx, configFile)
	switch {
	case errors.Is(err, indexer.ErrNotFound):
		return 0, unavailable("it does not exist yet", nil)
	case err != nil:
		return 0, err
	}
	config, err := pesde.ParseConfig(text)
	if err != nil {
		return 0, unavailable("its config.toml is broken: "+err.Error(), nil)
	}
	return min(config.MaxArchiveSize, MaxArchive), nil
}
