package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sort"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/remote"
)

// Verify compares the tags and digests of the book with the registry, and derived rows
// with the manifests and tags that they are derived from (see Store.Differences). It
// writes a line for each difference, sorted by repository, and returns the number of
// lines. It changes nothing. During pushes it also reports changes that the workers
// have not read yet.
func Verify(
	ctx context.Context, store *postgres.Store, client *remote.Client, parallelism int, out io.Writer,
) (differences int, err error) {
	v := &verification{store: store, remote: client, found: map[string][]string{}}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelism)
	seen := map[string]bool{}
	begin := func(name string) {
		if !seen[name] {
			seen[name] = true
			group.Go(func() error { return v.repository(ctx, name) })
		}
	}
	for name, err := range client.Repositories(ctx, "") {
		if err != nil {
			return 0, errors.Join(err, group.Wait())
		}
		begin(name)
	}
	names, err := allNames(ctx, store)
	if err != nil {
		return 0, errors.Join(err, group.Wait())
	}
	for _, name := range names {
		begin(name)
	}
	if err := group.Wait(); err != nil {
		return 0, err
	}
	return v.write(out)
}

func allNames(ctx context.Context, store *postgres.Store) (all []string, err error) {
	after := ""
	for {
		names, err := store.RepositoryNames(ctx, after, namesPage)
		all = append(all, names...)
		if err != nil || len(names) < namesPage {
			return all, err
		}
		after = names[len(names)-1]
	}
}

type verification struct {
	store  *postgres.Store
	remote *remote.Client

	mu    sync.Mutex
	found map[string][]string // by repository
}

func (v *verification) differ(repository, format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.found[repository] = append(v.found[repository], fmt.Sprintf(format, args...))
}

func (v *verification) write(out io.Writer) (n int, err error) {
	var names []string
	for name := range v.found {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		sort.Strings(v.found[name])
		for _, line := range v.found[name] {
			n++
			if _, err := fmt.Fprintf(out, "%s%s\n", name, line); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

func (v *verification) repository(ctx context.Context, name string) error {
	shelves, err := v.store.Shelves(ctx, []string{name})
	if err != nil {
		return err
	}
	shelf := shelves[0]
	listed, err := v.remote.Tags(ctx, name)
	if err != nil && !errors.Is(err, indexer.ErrNotFound) {
		return err
	}
	for _, tag := range listed {
		if err := v.tag(ctx, name, tag, shelf); err != nil {
			return err
		}
		delete(shelf.Tags, tag)
	}
	for tag, d := range shelf.Tags {
		v.differ(name, ":%s is %s in the book, but not in the registry", tag, orNothing(d))
	}
	if err := v.manifests(ctx, name, shelf.Manifests, true); err != nil {
		return err
	}
	if err := v.manifests(ctx, name, shelf.Missing, false); err != nil {
		return err
	}
	return v.derived(ctx, name)
}

// derived compares the derived rows of a repository with what they are derived from.
func (v *verification) derived(ctx context.Context, name string) error {
	found, err := v.store.Differences(ctx, name)
	for _, d := range found {
		if d.Where == "" {
			v.differ(name, ": %s", d.What)
		} else {
			v.differ(name, "@%s: %s", d.Where, d.What)
		}
	}
	return err
}

// tag compares one tag. A tag that the registry lists but cannot show must be in the
// book without a digest.
func (v *verification) tag(ctx context.Context, name, tag string, shelf postgres.Shelf) error {
	shown, err := v.remote.Shows(ctx, name, tag, "")
	if errors.Is(err, indexer.ErrUnavailable) || ctx.Err() != nil {
		return err
	}
	known, in := shelf.Tags[tag]
	switch {
	case !in && errors.Is(err, indexer.ErrNotFound): // deleted since it was listed
	case !in:
		v.differ(name, ":%s is %s in the registry, but not in the book", tag, orNothing(shown))
	case err == nil && known != shown:
		v.differ(name, ":%s is %s in the registry, but %s in the book", tag, shown, orNothing(known))
	}
	return nil
}

// manifests checks that the registry has each manifest if inBook is true, and that it
// has none of them otherwise.
func (v *verification) manifests(ctx context.Context, name string, digests []digest.Digest, inBook bool) error {
	for _, d := range digests {
		err := v.remote.Exists(ctx, name, d)
		if errors.Is(err, indexer.ErrUnavailable) || ctx.Err() != nil {
			return err
		}
		switch {
		case inBook && errors.Is(err, indexer.ErrNotFound):
			v.differ(name, "@%s is in the book, but not in the registry", d)
		case !inBook && err == nil:
			v.differ(name, "@%s is in the registry and listed by an index, but not in the book", d)
		}
	}
	return nil
}

func orNothing(d digest.Digest) string {
	if d == "" {
		return "unreadable"
	}
	return d.String()
}
