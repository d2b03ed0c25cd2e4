// Package imports takes over what other systems have: repositories of another registry, and the
// creation times in the database of another one. An import that was interrupted goes on when it is
// run again, and one that is run twice does no harm.
package imports

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/portbook/portbook/indexer"
)

const (
	// copyWorkers is how many tags are copied at the same time: 8.
	copyWorkers = 8
	// maxReferrers is how many referrers of referrers are followed: a signature of an SBOM of an
	// image is two.
	maxReferrers = 4
	// maxMounts is how many blobs are remembered that other repositories have: 100,000, some 20 MB.
	maxMounts = 100_000
	// maxFailures is how many failures are kept with their reasons: 1,000. All are counted.
	maxFailures = 1000
)

// A RegistryConfig says what to copy from which registry into which.
type RegistryConfig struct {
	From, To string // URLs: http or https, without a path
	// FromClient and ToClient send the requests, with their logins.
	FromClient, ToClient remote.Client
	// Include and Exclude are globs of names of repositories at the source; * also matches /. If no
	// Include has a *, the source need not list its repositories. Empty: all.
	Include, Exclude []string
	Prefix           string // begins the names at the destination, such as mirror/
	DryRun           bool   // only find out what would be copied
}

// Counts are how far an import is.
type Counts struct {
	Repositories, Tags    int64 // found
	Copied, There, Failed int64 // tags
	Referrers             int64 // copied
	Began                 time.Time
	Done                  bool // all repositories and tags are found
}

// A Failure is something that was not copied.
type Failure struct {
	What string // such as team/app:v1
	Err  error
}

// A Registry copies repositories of another registry. An image is copied wholly before its tag, and
// what the destination has is not copied again, so a copy that was interrupted goes on.
type Registry struct {
	config RegistryConfig
	counts struct{ repositories, tags, copied, there, failed, referrers atomic.Int64 }
	done   atomic.Bool
	began  time.Time

	mu       sync.Mutex
	failures []Failure
	has      map[digest.Digest]string // a repository of the destination that has a blob
}

// NewRegistry returns a Registry.
func NewRegistry(c RegistryConfig) *Registry {
	return &Registry{config: c, began: time.Now(), has: map[digest.Digest]string{}}
}

// Counts returns how far the import is.
func (x *Registry) Counts() Counts {
	c := &x.counts
	return Counts{
		Repositories: c.repositories.Load(), Tags: c.tags.Load(), Copied: c.copied.Load(), There: c.there.Load(),
		Failed: c.failed.Load(), Referrers: c.referrers.Load(), Began: x.began, Done: x.done.Load(),
	}
}

// Failures returns what was not copied: all, or the first of many.
func (x *Registry) Failures() []Failure {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Clone(x.failures)
}

// A tagged is a tag to copy.
type tagged struct {
	from, to registry.Repository
	name     string // at the source
	tag      string
}

// Run copies. It returns an error if the source cannot be listed, or the context ends; what could
// not be copied is among the Failures.
func (x *Registry) Run(ctx context.Context) error {
	tags := make(chan tagged)
	var work sync.WaitGroup
	for range copyWorkers {
		work.Go(func() {
			for t := range tags {
				x.note(ctx, t.name+":"+t.tag, x.copyTag(ctx, t))
			}
		})
	}
	err := x.list(ctx, tags)
	close(tags)
	x.done.Store(true)
	work.Wait()
	return errors.Join(err, ctx.Err())
}

// note counts a failure, unless err is nil or the context has ended.
func (x *Registry) note(ctx context.Context, what string, err error) {
	if err == nil || ctx.Err() != nil {
		return
	}
	x.counts.failed.Add(1)
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.failures) < maxFailures {
		x.failures = append(x.failures, Failure{what, err})
	}
}

// list sends all tags to copy.
func (x *Registry) list(ctx context.Context, to chan<- tagged) error {
	each := func(names []string) error {
		for _, name := range names {
			if x.wanted(name) {
				x.counts.repositories.Add(1)
				x.note(ctx, name, x.listTags(ctx, name, to))
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
		return nil
	}
	if plain(x.config.Include) {
		return each(x.config.Include)
	}
	source, err := x.registry(x.config.From, x.config.FromClient)
	if err != nil {
		return err
	}
	if err := source.Repositories(ctx, "", each); err != nil {
		return fmt.Errorf("the repositories of %s cannot be listed: %w: name them with --include, without *",
			hostOf(x.config.From), err)
	}
	return nil
}

// plain reports whether there are names, and all of them are without wildcards.
func plain(globs []string) bool {
	return len(globs) > 0 && !slices.ContainsFunc(globs, func(g string) bool { return strings.ContainsAny(g, "*?") })
}

func (x *Registry) wanted(name string) bool {
	matches := func(g string) bool { return indexer.MatchGlob(g, name) }
	return (len(x.config.Include) == 0 || slices.ContainsFunc(x.config.Include, matches)) &&
		!slices.ContainsFunc(x.config.Exclude, matches)
}

// registry returns a registry at a URL.
func (x *Registry) registry(address string, client remote.Client) (*remote.Registry, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	r, err := remote.NewRegistry(u.Host)
	if err != nil {
		return nil, err
	}
	r.PlainHTTP, r.Client = u.Scheme == "http", client
	return r, nil
}

func hostOf(address string) string {
	if u, err := url.Parse(address); err == nil {
		return u.Host
	}
	return address
}

// listTags sends the tags of a repository.
func (x *Registry) listTags(ctx context.Context, name string, to chan<- tagged) error {
	target := x.config.Prefix + name
	if !indexer.IsRepository(target) {
		return indexer.InvalidRepository(target)
	}
	from, err := x.repository(ctx, x.config.From, x.config.FromClient, name)
	if err != nil {
		return err
	}
	into, err := x.repository(ctx, x.config.To, x.config.ToClient, target)
	if err != nil {
		return err
	}
	return from.Tags(ctx, "", func(tags []string) error {
		for _, tag := range tags {
			x.counts.tags.Add(1)
			if !indexer.IsTag(tag) {
				x.note(ctx, name, indexer.InvalidTag(tag))
				continue
			}
			select {
			case to <- tagged{from, into, name, tag}:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
}

func (x *Registry) repository(
	ctx context.Context, address string, client remote.Client, name string,
) (registry.Repository, error) {
	r, err := x.registry(address, client)
	if err != nil {
		return nil, err
	}
	return r.Repository(ctx, name)
}

// copyTag copies what a tag shows, with its referrers, and then the tag.
func (x *Registry) copyTag(ctx context.Context, t tagged) error {
	desc, err := t.from.Resolve(ctx, t.tag)
	if err != nil {
		return err
	}
	have, err := t.to.Resolve(ctx, t.tag)
	if err != nil && !errors.Is(err, errdef.ErrNotFound) {
		return err
	}
	there := err == nil && have.Digest == desc.Digest
	if x.config.DryRun {
		x.count(there)
		return nil
	}
	if !there {
		if err := oras.CopyGraph(ctx, t.from, t.to, desc, x.options(t.to)); err != nil {
			return err
		}
	}
	if err := x.copyReferrers(ctx, t, desc, maxReferrers); err != nil {
		return fmt.Errorf("referrers: %w", err)
	}
	if !there {
		if err := t.to.Tag(ctx, desc, t.tag); err != nil {
			return err
		}
	}
	x.count(there)
	return nil
}

func (x *Registry) count(there bool) {
	if there {
		x.counts.there.Add(1)
	} else {
		x.counts.copied.Add(1)
	}
}

// options mounts blobs that another repository of the destination has, instead of copying them.
func (x *Registry) options(to registry.Repository) oras.CopyGraphOptions {
	name := ""
	if r, ok := to.(*remote.Repository); ok {
		name = r.Reference.Repository
	}
	return oras.CopyGraphOptions{
		MountFrom: func(_ context.Context, desc ocispec.Descriptor) ([]string, error) {
			x.mu.Lock()
			defer x.mu.Unlock()
			if from := x.has[desc.Digest]; from != "" && from != name {
				return []string{from}, nil
			}
			return nil, nil
		},
		PostCopy: func(_ context.Context, desc ocispec.Descriptor) error {
			x.mu.Lock()
			defer x.mu.Unlock()
			if len(x.has) < maxMounts && !isManifest(desc) {
				x.has[desc.Digest] = name
			}
			return nil
		},
	}
}

// isManifest reports whether a descriptor is of a manifest.
func isManifest(desc ocispec.Descriptor) bool {
	return strings.Contains(desc.MediaType, "manifest") || strings.Contains(desc.MediaType, "image.index")
}

// copyReferrers copies the referrers of a manifest, and of the manifests of an index, and theirs.
func (x *Registry) copyReferrers(ctx context.Context, t tagged, desc ocispec.Descriptor, depth int) error {
	lister, ok := t.from.(registry.ReferrerLister)
	if !ok || depth == 0 {
		return nil
	}
	below, err := content.Successors(ctx, t.from, desc)
	if err != nil {
		return err
	}
	isIndex := strings.Contains(desc.MediaType, "image.index") || strings.Contains(desc.MediaType, "manifest.list")
	for _, d := range below {
		if isIndex && isManifest(d) {
			if err := x.copyReferrers(ctx, t, d, depth); err != nil {
				return err
			}
		}
	}
	return lister.Referrers(ctx, desc, "", func(found []ocispec.Descriptor) error {
		for _, r := range found {
			if err := x.copyReferrer(ctx, t, r, depth); err != nil {
				return err
			}
		}
		return nil
	})
}

// copyReferrer copies one referrer with its own ones.
func (x *Registry) copyReferrer(ctx context.Context, t tagged, r ocispec.Descriptor, depth int) error {
	there, err := t.to.Exists(ctx, r)
	if err != nil {
		return err
	}
	if !there {
		if err := oras.CopyGraph(ctx, t.from, t.to, r, x.options(t.to)); err != nil {
			return err
		}
		x.counts.referrers.Add(1)
	}
	return x.copyReferrers(ctx, t, r, depth-1)
}

// A Tokens is a client that sends tokens of our own making: see remote.Config.Token of package
// indexer/remote.
type Tokens struct {
	Client    *http.Client
	Token     func(pull, change string) (string, error)
	UserAgent string
}

// Do implements remote.Client of oras.
func (c Tokens) Do(req *http.Request) (*http.Response, error) {
	name := repositoryIn(req.URL.Path)
	pull, change := name, ""
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		pull, change = req.URL.Query().Get("from"), name
	}
	token, err := c.Token(pull, change)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("User-Agent", c.UserAgent)
	return c.Client.Do(req)
}

// repositoryIn returns the repository that a path of the registry's API is in.
func repositoryIn(path string) string {
	name, end := strings.TrimPrefix(path, "/v2/"), 0
	for _, part := range []string{"/tags/", "/manifests/", "/blobs/", "/referrers/"} {
		end = max(end, strings.LastIndex(name, part))
	}
	return name[:end]
}
