package sweep

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

const (
	// maxManifest is how large a manifest is read: 4 MiB, the most that the registry stores.
	maxManifest = 4 << 20
	// readers is how many manifests are read at the same time: 16. On S3 each takes some 20 ms.
	readers = 16
	// maxProblems is how many problems are reported with their paths: 100. All are counted.
	maxProblems = 100
	// progressEvery is how often a walk reports how far it is, so that who waits for it sees that
	// it lives: every 2 s.
	progressEvery = 2 * time.Second
)

// A Sweeper looks at one storage and frees what nothing uses. It does one thing at a time.
type Sweeper struct {
	config Config
	turn   sync.Mutex
}

// A Config holds the settings of a Sweeper.
type Config struct {
	Driver driver.StorageDriver
	Log    *slog.Logger
	// Delete allows Trash and Purge.
	Delete bool
	// Grace is the minimum age of the data of a blob that is moved to the trash, and the time
	// without a write after which an upload counts as abandoned.
	Grace time.Duration
	// Keep is the minimum time that a blob stays in the trash.
	Keep time.Duration
}

// New returns a Sweeper.
func New(c Config) *Sweeper {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Sweeper{config: c}
}

// ErrBusy is the error of a call while another runs.
var ErrBusy = errors.New("another look or order is under way: wait for its end")

// A look is one walk over the whole storage.
type look struct {
	driver driver.StorageDriver
	grace  time.Duration
	give   func(Line) error

	found   *sorter // blobs and links
	named   *sorter // what manifests name
	sum     Summary
	files   int64
	told    time.Time
	upload  file      // the upload whose files are being visited
	written time.Time // the last write to it
	bytes   int64     // of its files

	mu       sync.Mutex // of what follows
	problems []Problem
}

// Look reports what is in the storage, in this order: manifests, blobs in order of digest,
// problems, and the summary. It changes nothing. Lines of progress may come between.
func (s *Sweeper) Look(ctx context.Context, give func(Line) error) error {
	if !s.turn.TryLock() {
		return ErrBusy
	}
	defer s.turn.Unlock()
	l := &look{
		driver: s.config.Driver, grace: s.config.Grace, give: give,
		found: newSorter(), named: newSorter(), told: time.Now(),
	}
	defer l.found.close()
	defer l.named.close()
	return l.run(ctx)
}

func (l *look) run(ctx context.Context) error {
	l.sum.Begin = time.Now()
	w := walker{driver: l.driver, visit: l.visit, problem: l.blind}
	// Blobs first: the link of a blob that is uploaded meanwhile is seen, or its data are not.
	for _, from := range []string{trashRoot, blobsRoot, repositoriesRoot} {
		if err := w.walk(ctx, from); err != nil {
			return fmt.Errorf("walk of the storage: %w", err)
		}
	}
	l.endUpload()
	if err := l.readManifests(ctx); err != nil {
		return fmt.Errorf("manifests of the storage: %w", err)
	}
	if err := merge(l.report, l.found, l.named); err != nil {
		return err
	}
	for _, p := range l.problems {
		if err := l.give(Line{Problem: &p}); err != nil {
			return err
		}
	}
	l.sum.Seconds = time.Since(l.sum.Begin).Seconds()
	return l.give(Line{Summary: &l.sum})
}

// visit takes note of one file.
func (l *look) visit(f file) error {
	if err := l.progress(); err != nil {
		return err
	}
	switch k, known := keyOf(f.digest); {
	case f.kind == upload:
		l.visitUpload(f)
	case f.kind == layer || f.kind == manifest:
		return l.visitLink(f, k, known)
	case !known: // the registry stores no such blobs
		l.problem(f.path, errors.New("is not named by a sha256 digest, and is left alone"))
	case f.kind == data:
		l.sum.Blobs++
		l.sum.Bytes += f.size
		l.found.add(record{key: k, flags: stored, size: f.size, modified: f.modified.UnixNano()})
	case f.kind == trash:
		l.found.add(record{key: k, size: f.size, trashed: f.trashedAt().UnixNano()})
	}
	return nil
}

// progress reports how far the walk is, from time to time.
func (l *look) progress() error {
	if l.files++; l.files%256 != 0 || time.Since(l.told) < progressEvery {
		return nil
	}
	l.told = time.Now()
	return l.give(Line{Progress: &Progress{Files: l.files}})
}

// linkSize is the size of a link to a sha256 digest: 71 bytes.
const linkSize = int64(len("sha256:") + 64)

// visitLink takes note of a link. It links the digest of its path, even if its content cannot
// be read. A link under another algorithm links the sha256 digest that it contains.
func (l *look) visitLink(f file, k key, known bool) error {
	l.sum.Links++
	flag := linked
	if f.kind == manifest {
		flag = revision
		l.sum.Manifests++
		if err := l.give(Line{Manifest: &Manifest{Repository: f.repository, Digest: f.digest}}); err != nil {
			return err
		}
	}
	if known {
		l.found.add(record{key: k, flags: flag})
		if f.size == linkSize {
			return nil
		}
	}
	target, err := readLink(l.driver, f.path)
	switch {
	case isAbsent(err): // deleted meanwhile
	case err == nil:
		l.found.add(record{key: target, flags: flag})
	case known:
		l.unreadable(f.path, err)
	default:
		l.blind(f.path, err)
	}
	return nil
}

// readLink returns the blob that the content of a link names.
func readLink(d driver.StorageDriver, name string) (k key, err error) {
	b, err := d.GetContent(context.Background(), name)
	if err != nil {
		return k, err
	}
	k, ok := keyOf(string(b))
	if !ok {
		return k, fmt.Errorf("the link of %d bytes names no sha256 digest", len(b))
	}
	return k, nil
}

// visitUpload takes note of a file of an upload. The files of one upload follow each other.
func (l *look) visitUpload(f file) {
	if f.repository != l.upload.repository || f.upload != l.upload.upload {
		l.endUpload()
	}
	l.upload = f
	l.bytes += f.size
	if f.modified.After(l.written) {
		l.written = f.modified
	}
}

// endUpload counts the upload whose files have been visited.
func (l *look) endUpload() {
	switch {
	case l.upload.upload == "":
	case time.Since(l.written) < l.grace:
		l.sum.ActiveUploads++
	default:
		l.sum.AbandonedUploads++
		l.sum.AbandonedBytes += l.bytes
	}
	l.upload, l.written, l.bytes = file{}, time.Time{}, 0
}

// readManifests reads each manifest once, and takes note of what it names.
func (l *look) readManifests(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(readers)
	read := 0
	err := merge(func(r record) error {
		if r.flags&revision == 0 {
			return nil
		}
		group.Go(func() error { return l.readManifest(ctx, r.key) })
		if read++; read%256 == 0 && time.Since(l.told) > progressEvery {
			l.told = time.Now()
			return l.give(Line{Progress: &Progress{Files: l.files}})
		}
		return ctx.Err()
	}, l.found)
	if errGroup := group.Wait(); errGroup != nil {
		return errGroup
	}
	return err
}

func (l *look) readManifest(ctx context.Context, k key) error {
	names, err := namedBy(ctx, l.driver, k)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		l.unreadable(k.place()+"/data", err)
	}
	for _, n := range names {
		l.named.add(n)
	}
	return nil
}

// namedBy returns records of the blobs that a manifest in the storage names.
func namedBy(ctx context.Context, d driver.StorageDriver, k key) ([]record, error) {
	name := k.place() + "/data"
	info, err := d.Stat(ctx, name)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxManifest {
		return nil, fmt.Errorf("is a manifest of %d bytes", info.Size())
	}
	b, err := d.GetContent(ctx, name)
	if err != nil {
		return nil, err
	}
	if digest.FromBytes(b).String() != k.String() {
		return nil, errors.New("is a manifest whose bytes have another digest")
	}
	return parseManifest(b)
}

// parseManifest returns the blobs that a manifest of any kind names: of OCI and Docker, also
// of Docker's first schema.
func parseManifest(b []byte) (names []record, err error) {
	type descriptor struct {
		Digest  string
		BlobSum string
		URLs    []string // where it is if the registry does not have it
	}
	var m struct {
		Config                             descriptor
		Layers, Manifests, Blobs, FSLayers []descriptor
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, errors.New("is a manifest that is no JSON of the known form")
	}
	all := append([]descriptor{m.Config}, m.Layers...)
	all = append(append(append(all, m.Manifests...), m.Blobs...), m.FSLayers...)
	for _, d := range all {
		for _, text := range []string{d.Digest, d.BlobSum} {
			k, ok := keyOf(text)
			switch {
			case ok && len(d.URLs) > 0:
				names = append(names, record{key: k, flags: used | elsewhere})
			case ok:
				names = append(names, record{key: k, flags: used})
			}
		}
	}
	return names, nil
}

// report gives the line of a blob, unless it is as almost all are: stored, linked and used. It
// leaves out links to nothing, and layers that are elsewhere.
func (l *look) report(r record) error {
	isUsed, isLinked := r.flags&(used|revision) != 0, r.flags&(linked|revision) != 0
	isStored, isMissing := r.flags&stored != 0, r.flags&(used|elsewhere) == used || r.flags&revision != 0
	if r.trashed == 0 && (isStored && isUsed && isLinked || !isStored && !isMissing) {
		return nil
	}
	b := Blob{Digest: r.key.String(), Stored: isStored, Size: r.size, Linked: isLinked, Used: isUsed}
	if r.modified != 0 {
		b.Modified = time.Unix(0, r.modified).UTC()
	}
	if r.trashed != 0 {
		b.Trashed = time.Unix(0, r.trashed).UTC()
	}
	return l.give(Line{Blob: &b})
}

// problem takes note of a file that was left out.
func (l *look) problem(path string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.problems) < maxProblems {
		l.problems = append(l.problems, Problem{Path: path, Reason: err.Error()})
	}
}

// unreadable is problem for a link or a manifest: what it names may seem to be unused.
func (l *look) unreadable(path string, err error) {
	l.problem(path, err)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sum.Unreadable++
}

// blind is unreadable for what may hide a link to any blob: nothing may be deleted.
func (l *look) blind(path string, err error) {
	l.unreadable(path, err)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sum.Blind = fmt.Sprintf("%s %v: it may hide links", path, err)
}
