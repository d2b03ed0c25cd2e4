package packages

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/pesde"
)

// Repository returns the repository of a package.
func (s *Service) Repository(n pesde.Name) string { return s.Prefix + n.String() }

// Publish publishes an archive, and returns a text for the publisher. The errors are *pesde.Refused,
// ErrForbidden if the scope belongs to others, ErrConflict if the version is published for the
// target already, and pesde.ErrTooLarge.
func (s *Service) Publish(ctx context.Context, u indexer.PackageUser, archive []byte) (text string, err error) {
	var repository, tag string
	now := time.Now() // also if it has to be made again, so that the artifact stays the same
	err = s.change(ctx, func(ctx context.Context, c *change) error {
		p, err := c.read(ctx, archive)
		if err != nil {
			return err
		}
		repository, tag = s.Repository(p.Name), p.ID.Tag()
		text = fmt.Sprintf("published %s@%s", p.Name, p.ID)
		return c.publish(ctx, u, p, archive, now)
	})
	if err != nil {
		return "", err
	}
	return text, s.follow(ctx, repository, tag)
}

// read returns the package in an archive.
func (c *change) read(ctx context.Context, archive []byte) (p pesde.Package, err error) {
	config, err := c.config(ctx)
	switch {
	case err != nil:
		return p, err
	case int64(len(archive)) > min(config.MaxArchiveSize, MaxArchive):
		return p, pesde.ErrTooLarge
	}
	return pesde.Read(archive, config, c.own(config), pesde.DefaultLimits)
}

// publish publishes a package: first in the registry, then in the index. If it fails between the
// two, nobody sees it, and it can be published again.
func (c *change) publish(
	ctx context.Context, u indexer.PackageUser, p pesde.Package, archive []byte, now time.Time,
) error {
	files := map[string][]byte{}
	if err := c.may(ctx, &u, p.Name); errors.Is(err, indexer.ErrNotFound) {
		if files[p.Name.Scope+"/"+scopeFile], err = (pesde.Scope{Owners: []uint64{u.Number}}).Encode(); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	f, err := c.file(ctx, p.Name)
	if err != nil && !errors.Is(err, indexer.ErrNotFound) {
		return err
	}
	if err := fits(f, p); err != nil {
		return err
	}
	listed, err := c.left(ctx, p, archive)
	if errors.Is(err, indexer.ErrNotFound) {
		listed, err = c.push(ctx, p, archive, now)
	}
	if err != nil {
		return err
	}
	f.Entries[p.ID] = listed
	if files[p.Name.String()], err = f.Encode(); err != nil {
		return err
	}
	if err := c.commit(ctx, fmt.Sprintf("add %s@%s", p.Name, p.ID), files); err != nil {
		return err
	}
	return c.index.Record(ctx, access.Record{
		Event: access.PackagePublish, Target: p.Name.String() + "@" + p.ID.String(), Repository: c.Repository(p.Name),
	})
}

// fits returns an error if a package cannot be added to its file.
func fits(f pesde.File, p pesde.Package) error {
	for id, e := range f.Entries {
		if id.Version == p.ID.Version && e.Description != p.Entry.Description {
			return &pesde.Refused{Text: "same versions with different descriptions are forbidden"}
		}
	}
	if _, ok := f.Entries[p.ID]; ok {
		return indexer.Conflict("%s@%s is published already", p.Name, p.ID)
	}
	return nil
}

// may returns nil if a user may change a package, and ErrNotFound if nobody owns its scope yet. It
// sets the number of the user.
func (c *change) may(ctx context.Context, u *indexer.PackageUser, n pesde.Name) (err error) {
	if err := u.May(ctx, c.Repository(n)); err != nil {
		return err
	}
	if u.Account {
		if u.Number, err = c.index.Number(ctx); err != nil {
			return err
		}
		if u.Number == 0 {
			return indexer.Forbidden("there is no such account any more")
		}
	}
	owners, err := c.owners(ctx, n.Scope)
	if err == nil && !slices.Contains(owners, u.Number) {
		err = indexer.Forbidden("the scope %s belongs to others", n.Scope)
	}
	return err
}

// owners returns the owners of a scope, or ErrNotFound if there is no such scope.
func (c *change) owners(ctx context.Context, scope string) ([]uint64, error) {
	path := scope + "/" + scopeFile
	files, err := c.index.Files(ctx, path)
	if err != nil {
		return nil, err
	}
	if files[path] == nil {
		return nil, indexer.ErrNotFound
	}
	s, err := pesde.ParseScope(files[path])
	if err != nil {
		return nil, unavailable(scope+"/"+err.Error(), nil)
	}
	return s.Owners, nil
}

// file returns the file of a package, or an empty one and ErrNotFound if there is none.
func (c *change) file(ctx context.Context, n pesde.Name) (pesde.File, error) {
	files, err := c.index.Files(ctx, n.String())
	if err != nil {
		return pesde.File{}, err
	}
	if files[n.String()] == nil {
		return pesde.File{Entries: map[pesde.ID]pesde.Listed{}}, indexer.ErrNotFound
	}
	f, err := pesde.ParseFile(files[n.String()])
	if err != nil {
		return f, unavailable("the file "+n.String()+" of the index is broken: "+err.Error(), nil)
	}
	return f, nil
}

// left returns the entry of a package that the registry has already, because a process ended
// before it was in the index; or ErrNotFound. If the registry has something else under the tag, the
// error is ErrConflict: the tag is protected, so it would be put back if we moved it.
func (c *change) left(ctx context.Context, p pesde.Package, archive []byte) (l pesde.Listed, err error) {
	body, desc, err := c.Remote.Manifest(ctx, c.Repository(p.Name), p.ID.Tag())
	if err != nil {
		return l, err
	}
	s, err := pesde.ParseArtifact(body)
	if err != nil || s.Name != p.Name || s.ID != p.ID || s.Archive.Digest != digest.FromBytes(archive) {
		c.Log.WarnContext(ctx, "a package is not published, since the registry has something else under its tag",
			"repository", c.Repository(p.Name), "tag", p.ID.Tag(), "remedy", "`portbook packages rebuild` publishes what the"+
				" registry has; or remove the protection, and delete the tag")
		return l, indexer.Conflict("the registry has another archive of %s@%s", p.Name, p.ID)
	}
	p.Entry.PublishedAt = s.Entry.PublishedAt
	return pesde.Listed{Entry: p.Entry, Digest: desc.Digest.String()}, nil
}

// push stores a package in the registry, and returns its entry.
func (c *change) push(ctx context.Context, p pesde.Package, archive []byte, at time.Time) (l pesde.Listed, err error) {
	a, err := pesde.Make(p, archive, at, access.ActorOf(ctx).Name)
	if err != nil {
		return l, err
	}
	repository := c.Repository(p.Name)
	for _, b := range a.Blobs {
		if _, err := c.Remote.Upload(ctx, repository, b.Data); err != nil {
			return l, err
		}
	}
	d, err := c.Remote.Put(ctx, repository, indexer.TagOrDigest(p.ID.Tag()), ocispec.MediaTypeImageManifest, a.Manifest)
	p.Entry.PublishedAt = pesde.Timestamp(at)
	return pesde.Listed{Entry: p.Entry, Digest: d.String()}, err
}

// follow waits until the book has a tag that was pushed.
func (s *Service) follow(ctx context.Context, repository, tag string) error {
	ask := indexer.Ask{Repository: repository, Reference: indexer.TagOrDigest(tag), Priority: indexer.PriorityEvent}
	if err := s.Store.Ask(ctx, []indexer.Ask{ask}); err != nil {
		return err
	}
	s.Wake()
	end := time.Now().Add(readTime)
	for pause := 5 * time.Millisecond; time.Now().Before(end); pause = min(2*pause, 200*time.Millisecond) {
		unread, err := s.Store.Unread(ctx, repository, []string{tag})
		if err != nil || unread == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
	return nil // the event of the registry, or a scan, tells the book later
}

// All stands for all targets of a version.
const All pesde.Target = "all"

// Yank yanks a version of a package for a target, or for All, or gives it back. It returns a text
// for the user, and the errors of the index: ErrNotFound for no such scope or package, ErrForbidden,
// and ErrConflict if nothing would change.
func (s *Service) Yank(
	ctx context.Context, u indexer.PackageUser, n pesde.Name, v pesde.Version, target pesde.Target, yanked bool,
) (text string, err error) {
	err = s.changeFile(ctx, u, n, func(ctx context.Context, f *pesde.File) (string, error) {
		var targets []string
		for _, id := range f.IDs() {
			e := f.Entries[id]
			if id.Version != v || target != All && id.Target != target || e.Yanked == yanked {
				continue
			}
			e.Yanked = yanked
			f.Entries[id] = e
			targets = append(targets, string(id.Target))
			y := indexer.Yank{Repository: s.Repository(n), Tag: id.Tag()}
			if err := s.inBook(ctx, y, yanked); err != nil {
				return "", err
			}
		}
		if len(targets) == 0 {
			return "", indexer.Conflict("nothing changes")
		}
		text = fmt.Sprintf("%s@%s %s", n, v, strings.Join(targets, ", "))
		return verb(yanked, "yank") + " " + text, nil
	})
	return verb(yanked, "yanked") + " " + text, err
}

// verb returns a word, or its opposite.
func verb(yes bool, word string) string {
	if yes {
		return word
	}
	return "un" + word
}

// inBook yanks or deprecates in the book too, so that searches leave it out.
func (s *Service) inBook(ctx context.Context, y indexer.Yank, yes bool) error {
	f := s.Store.Unyank
	if yes {
		f = s.Store.Yank
	}
	err := f(ctx, y)
	if errors.Is(err, indexer.ErrConflict) || errors.Is(err, indexer.ErrNotFound) { // it is so already, or not in the book
		return nil
	}
	return err
}

// MaxReason is the maximum length of the reason of a deprecation, in bytes: 4 KiB. A client shows it
// whenever the package is installed.
const MaxReason = 4 << 10

// Deprecate deprecates a package, or takes that back if the reason is "".
func (s *Service) Deprecate(
	ctx context.Context, u indexer.PackageUser, n pesde.Name, reason string,
) (text string, err error) {
	yes := reason != ""
	err = s.changeFile(ctx, u, n, func(ctx context.Context, f *pesde.File) (string, error) {
		if f.Deprecated == reason {
			return "", indexer.Conflict("nothing changes")
		}
		f.Deprecated = reason
		y := indexer.Yank{Repository: s.Repository(n), Deprecated: true, Reason: bookReason(reason)}
		return verb(yes, "deprecate") + " " + n.String(), s.inBook(ctx, y, yes)
	})
	return verb(yes, "deprecated") + " " + n.String(), err
}

// bookReason returns a reason as the book can have it: one short line.
func bookReason(reason string) string {
	line := []rune(strings.Join(strings.Fields(indexer.CleanText(reason)), " "))
	if len(line) > indexer.MaxYankReason {
		line = append(line[:indexer.MaxYankReason-3], '.', '.', '.')
	}
	return string(line)
}

// changeFile changes the file of a package by f, which returns the message of the commit.
func (s *Service) changeFile(
	ctx context.Context, u indexer.PackageUser, n pesde.Name, f func(context.Context, *pesde.File) (string, error),
) error {
	return s.change(ctx, func(ctx context.Context, c *change) error {
		if err := c.may(ctx, &u, n); err != nil {
			return err
		}
		file, err := c.file(ctx, n)
		if err != nil {
			return err
		}
		message, err := f(ctx, &file)
		if err != nil {
			return err
		}
		text, err := file.Encode()
		if err != nil {
			return err
		}
		return c.commit(ctx, message, map[string][]byte{n.String(): text})
	})
}
