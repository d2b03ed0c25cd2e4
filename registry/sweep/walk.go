package sweep

import (
	"context"
	"errors"
	"path"
	"slices"
	"strings"

	"github.com/distribution/distribution/v3/registry/storage/driver"
)

// s3Driver is the name of the driver that lists all files below a directory with one request
// for each thousand. The others ask for each file.
const s3Driver = "s3aws"

// A walker walks the storage and passes each file that classify knows to visit, which runs in
// one goroutine.
type walker struct {
	driver  driver.StorageDriver
	visit   func(file) error
	problem func(path string, err error) // of a directory that cannot be listed, and is left out
}

// errUnlisted is why a directory that cannot be listed is a problem.
var errUnlisted = errors.New("cannot be listed")

// walk visits all files below a directory. A file or directory that vanishes meanwhile is left
// out.
func (w *walker) walk(ctx context.Context, from string) error {
	if w.driver.Name() != s3Driver {
		return w.directory(ctx, from)
	}
	err := w.driver.Walk(ctx, from, func(info driver.FileInfo) error {
		if info.IsDir() {
			return nil
		}
		return w.file(info)
	})
	if isAbsent(err) {
		return nil
	}
	return err
}

// directory visits the files below a directory, which it knows by their names, so that it
// need not ask what each entry is.
func (w *walker) directory(ctx context.Context, dir string) error {
	children, err := w.driver.List(ctx, dir)
	switch {
	case isAbsent(err):
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return w.unlisted(ctx, dir, err)
	}
	slices.Sort(children)
	for _, child := range children {
		if err := w.entry(ctx, child); err != nil {
			return err
		}
	}
	return nil
}

// entry visits one entry of a directory.
func (w *walker) entry(ctx context.Context, name string) error {
	switch base := path.Base(name); {
	case strings.HasSuffix(base, ".tmp"): // of a link that is being written
		return nil
	case base == "tags" && strings.HasSuffix(path.Dir(name), "/_manifests"):
		return nil // a tag links no blob
	case classify(name).kind == other && !isUploadFile(name):
		return w.directory(ctx, name)
	}
	info, err := w.driver.Stat(ctx, name)
	switch {
	case isAbsent(err):
		return nil
	case err != nil:
		return err
	case info.IsDir():
		return w.directory(ctx, name)
	}
	return w.file(info)
}

// isUploadFile reports whether a path may be that of a file of an upload.
func isUploadFile(name string) bool { return classify(name).kind == upload }

func (w *walker) file(info driver.FileInfo) error {
	f := classify(info.Path())
	if f.kind == other {
		return nil
	}
	f.path, f.size, f.modified = info.Path(), info.Size(), info.ModTime()
	return w.visit(f)
}

// unlisted reports a directory that cannot be listed, unless it is a file that the registry
// does not know.
func (w *walker) unlisted(ctx context.Context, dir string, err error) error {
	info, errStat := w.driver.Stat(ctx, dir)
	switch {
	case isAbsent(errStat) || errStat == nil && !info.IsDir():
		return nil
	case errStat != nil:
		return errStat
	}
	w.problem(dir, errors.Join(errUnlisted, err))
	return nil
}

func isAbsent(err error) bool {
	absent := driver.PathNotFoundError{}
	return errors.As(err, &absent)
}
