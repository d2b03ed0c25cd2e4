// Package transfer copies the storage of a registry into another one, of the same or of another
// kind: a bucket into a directory, or into a bucket elsewhere.
//
// The data of blobs are copied before the links to them, and tags last. So a registry that runs on
// the destination never shows what it does not have. What is there already is not copied again, so a
// copy that was interrupted goes on when it is run again; nothing is deleted.
package transfer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/opencontainers/go-digest"
)

const (
	// defaultWorkers is how many objects are copied at the same time: 8. More than maxWorkers, 64, are
	// not allowed: each has a connection to both sides.
	defaultWorkers = 8
	maxWorkers     = 64
	// tries is how often an object is tried, with a pause of a second and then two between.
	tries = 3
	// small is the maximum size of an object that is compared and copied in memory: 4 KiB. A link
	// has some 71 bytes.
	small = 4 << 10
	// maxFailures is how many failures are kept with their reasons: 1,000. All are counted.
	maxFailures = 1000
)

// Counts are how far a copy is.
type Counts struct {
	Copied, There, Failed int64 // objects
	Bytes                 int64 // copied
	// Objects are all that there are to copy; 0 until they are counted.
	Objects int64
}

// A Failure is an object that was not copied.
type Failure struct {
	Path string
	Err  error
}

// A Copy copies From to To.
type Copy struct {
	From, To driver.StorageDriver
	// Workers is how many objects are copied at the same time; 0: defaultWorkers.
	Workers int
	// Pause is the first pause before an object is tried again; 0: a second.
	Pause time.Duration

	copied, there, failed, bytes, objects atomic.Int64

	mu       sync.Mutex
	failures []Failure
}

// Counts returns how far the copy is.
func (c *Copy) Counts() Counts {
	return Counts{c.copied.Load(), c.there.Load(), c.failed.Load(), c.bytes.Load(), c.objects.Load()}
}

// Failures returns what was not copied: all, or the first of many.
func (c *Copy) Failures() []Failure {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Failure{}, c.failures...)
}

// repositories is where the registry keeps its links.
const repositories = "/docker/registry/v2/repositories"

// isTag reports whether an object belongs to a tag.
func isTag(name string) bool { return strings.Contains(name, "/_manifests/tags/") }

// skips reports whether an object is not copied: unfinished uploads are of no use elsewhere.
func skips(name string) bool {
	return strings.Contains(name+"/", "/_uploads/")
}

// Run copies everything. It returns an error if From cannot be listed, or the context ends; what could
// not be copied is among the Failures.
func (c *Copy) Run(ctx context.Context) error {
	counting, stop := context.WithCancel(ctx)
	defer stop()
	var counted sync.WaitGroup
	counted.Go(func() { c.count(counting) })
	defer counted.Wait()
	defer stop()
	for _, pass := range []struct {
		root string
		part func(name string) bool
	}{
		{"/", func(name string) bool { return !strings.HasPrefix(name, repositories+"/") }},
		{repositories, func(name string) bool { return !isTag(name) }},
		{repositories, isTag},
	} {
		if err := c.pass(ctx, pass.root, pass.part); err != nil {
			return err
		}
	}
	return nil
}

// count counts what there is to copy.
func (c *Copy) count(ctx context.Context) {
	n := int64(0)
	err := walk(ctx, c.From, "/", func(driver.FileInfo) error {
		n++
		return ctx.Err()
	})
	if err == nil {
		c.objects.Store(n)
	}
}

// walk calls f for each object below root, except those that are not copied.
func walk(ctx context.Context, d driver.StorageDriver, root string, f func(driver.FileInfo) error) error {
	err := d.Walk(ctx, root, func(info driver.FileInfo) error {
		switch {
		case skips(info.Path()) && info.IsDir():
			return driver.ErrSkipDir
		case skips(info.Path()), info.IsDir():
			return nil
		}
		return f(info)
	})
	var missing driver.PathNotFoundError
	if errors.As(err, &missing) {
		return nil
	}
	return err
}

// pass copies a part of what is below root.
func (c *Copy) pass(ctx context.Context, root string, part func(string) bool) error {
	objects := make(chan driver.FileInfo)
	var work sync.WaitGroup
	for range cmp.Or(c.Workers, defaultWorkers) {
		work.Go(func() {
			for info := range objects {
				c.note(ctx, info.Path(), c.tryObject(ctx, info))
			}
		})
	}
	err := walk(ctx, c.From, root, func(info driver.FileInfo) error {
		if !part(info.Path()) {
			return nil
		}
		select {
		case objects <- info:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	close(objects)
	work.Wait()
	return errors.Join(err, ctx.Err())
}

// note counts a failure, unless err is nil or the context has ended.
func (c *Copy) note(ctx context.Context, name string, err error) {
	if err == nil || ctx.Err() != nil {
		return
	}
	c.failed.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.failures) < maxFailures {
		c.failures = append(c.failures, Failure{name, err})
	}
}

// errWrong is the error of a blob whose bytes do not have its digest: it is not tried again.
var errWrong = errors.New("its bytes do not have the digest that its name says")

// tryObject copies an object, a few times if it fails.
func (c *Copy) tryObject(ctx context.Context, info driver.FileInfo) (err error) {
	pause := c.Pause
	if pause == 0 {
		pause = time.Second
	}
	for try := 1; ; try++ {
		if err = c.object(ctx, info); err == nil || try == tries || errors.Is(err, errWrong) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
			pause *= 2
		}
	}
}

// object copies an object, unless it is there.
func (c *Copy) object(ctx context.Context, info driver.FileInfo) error {
	have, err := c.To.Stat(ctx, info.Path())
	var missing driver.PathNotFoundError
	switch {
	case errors.As(err, &missing):
	case err != nil:
		return err
	}
	sameSize := err == nil && !have.IsDir() && have.Size() == info.Size()
	if info.Size() <= small {
		return c.small(ctx, info.Path(), sameSize)
	}
	if sameSize {
		c.there.Add(1)
		return nil
	}
	if err := c.large(ctx, info); err != nil {
		return err
	}
	c.copied.Add(1)
	c.bytes.Add(info.Size())
	return nil
}

// small copies a small object. All links have one size, so their contents are compared.
func (c *Copy) small(ctx context.Context, name string, compare bool) error {
	content, err := c.From.GetContent(ctx, name)
	if err != nil {
		return err
	}
	if d := blobAt(name); d != "" && d.Algorithm().FromBytes(content) != d {
		return errWrong
	}
	if compare {
		have, err := c.To.GetContent(ctx, name)
		if err != nil {
			return err
		}
		if string(have) == string(content) {
			c.there.Add(1)
			return nil
		}
	}
	if err := c.To.PutContent(ctx, name, content); err != nil {
		return err
	}
	c.copied.Add(1)
	c.bytes.Add(int64(len(content)))
	return nil
}

// large copies an object as a stream. It becomes whole only if all bytes are right.
func (c *Copy) large(ctx context.Context, info driver.FileInfo) (err error) {
	name := info.Path()
	from, err := c.From.Reader(ctx, name, 0)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := c.To.Writer(ctx, name, false)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = to.Cancel(context.WithoutCancel(ctx))
		}
		err = errors.Join(err, to.Close())
	}()
	var read io.Reader = from
	var check digest.Verifier
	if d := blobAt(name); d != "" {
		check = d.Verifier()
		read = io.TeeReader(from, check)
	}
	n, err := io.Copy(to, read)
	switch {
	case err != nil:
		return err
	case n != info.Size():
		return fmt.Errorf("it has %d bytes, and %d were read", info.Size(), n)
	case check != nil && !check.Verified():
		return errWrong
	}
	return to.Commit(ctx)
}

var blobPath = regexp.MustCompile(`^/docker/registry/v2/blobs/([a-z0-9]+)/[0-9a-f]{2}/([0-9a-f]+)/data$`)

// blobAt returns the digest of the blob that an object is; "" if it is none.
func blobAt(name string) digest.Digest {
	m := blobPath.FindStringSubmatch(path.Clean(name))
	if m == nil {
		return ""
	}
	d := digest.NewDigestFromEncoded(digest.Algorithm(m[1]), m[2])
	if d.Validate() != nil {
		return ""
	}
	return d
}
