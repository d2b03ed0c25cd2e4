package packages

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/pesde"
	"github.com/portbook/portbook/indexer/postgres"
)

// Rebuild adds to the index what the registry has and it lacks, such as after the loss of the
// database. Scopes that are not in the index get an owner; what was yanked and deprecated is not
// known to the registry. It returns what was added, and why other tags were left out.
func (s *Service) Rebuild(ctx context.Context, owner uint64) (added, skipped []string, err error) {
	repositories, err := s.repositories(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, repository := range repositories {
		found, left, err := s.find(ctx, repository)
		skipped = append(skipped, left...)
		if err == nil {
			var more []string
			more, left, err = s.add(ctx, found, owner)
			added, skipped = append(added, more...), append(skipped, left...)
		}
		if err != nil {
			return added, skipped, fmt.Errorf("%s: %w", repository, err)
		}
	}
	return added, skipped, nil
}

// repositories returns the repositories of packages that the book has.
func (s *Service) repositories(ctx context.Context) (names []string, err error) {
	const page = 1000
	for after := strings.TrimSuffix(s.Prefix, "/"); ; {
		var some []string
		err := s.Store.View(ctx, indexer.Everyone, func(v *postgres.View) (err error) {
			some, err = v.Names(ctx, after, page)
			return err
		})
		if err != nil {
			return nil, err
		}
		for _, name := range some {
			after = name
			if strings.HasPrefix(name, s.Prefix) {
				names = append(names, name)
			} else if name > s.Prefix {
				return names, nil
			}
		}
		if len(some) < page {
			return names, nil
		}
	}
}

// A found is a package of the registry.
type found struct {
	name   pesde.Name
	id     pesde.ID
	listed pesde.Listed
}

// find returns the packages in a repository.
func (s *Service) find(ctx context.Context, repository string) (all []found, skipped []string, err error) {
	tags, err := s.Remote.Tags(ctx, repository)
	if err != nil {
		return nil, nil, err
	}
	for _, tag := range tags {
		body, desc, err := s.Remote.Manifest(ctx, repository, tag)
		switch {
		case errors.Is(err, indexer.ErrNotFound):
			continue
		case err != nil:
			return nil, nil, err
		}
		stored, err := pesde.ParseArtifact(body)
		if err == nil && (s.Repository(stored.Name) != repository || stored.ID.Tag() != tag) {
			err = fmt.Errorf("it is the package %s@%s", stored.Name, stored.ID)
		}
		if err != nil {
			skipped = append(skipped, repository+":"+tag+": "+err.Error())
			continue
		}
		all = append(all, found{stored.Name, stored.ID, pesde.Listed{Entry: stored.Entry, Digest: desc.Digest.String()}})
	}
	return all, skipped, nil
}

// add adds versions of one package to the index. It returns which tags show something else than what
// was published.
func (s *Service) add(ctx context.Context, all []found, owner uint64) (added, moved []string, err error) {
	if len(all) == 0 {
		return nil, nil, nil
	}
	err = s.change(ctx, func(ctx context.Context, c *change) error {
		added, err = c.add(ctx, all, owner)
		moved = c.moved
		return err
	})
	return added, moved, err
}

func (c *change) add(ctx context.Context, all []found, owner uint64) (added []string, err error) {
	n := all[0].name
	f, err := c.file(ctx, n)
	if err != nil && !errors.Is(err, indexer.ErrNotFound) {
		return nil, err
	}
	for _, x := range all {
		have, ok := f.Entries[x.id]
		switch {
		case !ok:
			f.Entries[x.id] = x.listed
			added = append(added, n.String()+"@"+x.id.String())
		case have.Digest != "" && have.Digest != x.listed.Digest:
			c.moved = append(c.moved, fmt.Sprintf("%s:%s: it shows %s, and was published as %s", c.Repository(n), x.id.Tag(),
				x.listed.Digest, have.Digest))
		}
	}
	if len(added) == 0 {
		return nil, nil
	}
	files := map[string][]byte{}
	_, err = c.owners(ctx, n.Scope)
	if errors.Is(err, indexer.ErrNotFound) {
		files[n.Scope+"/"+scopeFile], err = (pesde.Scope{Owners: []uint64{owner}}).Encode()
	}
	if err != nil {
		return nil, err
	}
	if files[n.String()], err = f.Encode(); err != nil {
		return nil, err
	}
	message := "add " + added[0]
	if len(added) > 1 {
		message = fmt.Sprintf("add %d versions of %s", len(added), n)
	}
	return added, c.commit(ctx, message, files)
}

// ConfigFile returns the config.toml of the index.
func (s *Service) ConfigFile(ctx context.Context) ([]byte, error) {
	return s.Reads.PackageFile(ctx, configFile)
}
