package ingest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/remote"
)

const (
	// looseAge is how long a blob must be loose, and untouched, before it is removed: a day, as
	// in the registry of Deploys.app. Clients upload blobs before the manifest.
	looseAge = 24 * time.Hour
	// looseRead is how many loose blobs are read at once: 1,000.
	looseRead = 1000
	// holdTime is how long a blob that was removed can be put back: 2 s, and until all that was
	// pushed to its repository meanwhile has been read. The registry reports a push in
	// milliseconds.
	holdTime = 2 * time.Second
	// bookTime is how long runBlobGC waits for the first complete scan of the registry: 1 min.
	bookTime = time.Minute
)

// A blobGC is one run of runBlobGC. It removes blobs from repositories of which no manifest uses
// them. It frees no bytes: the registry keeps them, and other repositories may have them.
//
// The registry cannot be locked, so a manifest may be pushed between the last look and the
// removal of a blob that it names; whoever pushes it later is refused, and uploads the blob
// again. So each blob is first mounted into HoldRepository. After holdTime the book is looked up
// once more: if a manifest uses the blob now, it is mounted back. If the process is killed, the
// next run does that.
type blobGC struct {
	leader  *Leader
	remote  *remote.Client
	removed int
	seen    int // loose blobs that were looked at
}

// runBlobGC removes old loose blobs. Errors about one repository are logged, and the run goes on.
func (l *Leader) runBlobGC(ctx context.Context) error {
	g := &blobGC{leader: l, remote: l.config.Scanner.config.Remote}
	if err := g.awaitBook(ctx); err != nil {
		return err
	}
	if err := g.release(ctx, 0); err != nil { // of a run that was killed
		return err
	}
	var after indexer.LooseBlob
	for {
		blobs, err := l.config.Store.OldLoose(ctx, looseAge, after, looseRead)
		if err != nil {
			return err
		}
		if len(blobs) == 0 {
			break
		}
		after = blobs[len(blobs)-1]
		if err := g.remove(ctx, blobs); err != nil {
			return err
		}
	}
	if g.removed > 0 {
		rest(ctx, holdTime)
	}
	err := g.release(ctx, holdTime)
	l.config.Log.InfoContext(ctx, "loose blobs removed", "seen", g.seen, "removed", g.removed)
	return err
}

// awaitBook waits until the whole registry was scanned once: before that, the book does not know
// which blobs are used.
func (g *blobGC) awaitBook(ctx context.Context) error {
	for began := time.Now(); ; rest(ctx, indexEvery) {
		_, err := g.leader.config.Store.SinceScan(ctx)
		if !errors.Is(err, indexer.ErrNotFound) {
			return err
		}
		if time.Since(began) > bookTime {
			const text = "the whole registry was not scanned yet, so it is not known which blobs are used"
			return &indexer.Fault{Reason: text, Err: errors.New(text)}
		}
	}
}

// remove removes blobs, which are ordered by repository.
func (g *blobGC) remove(ctx context.Context, blobs []indexer.LooseBlob) error {
	for len(blobs) > 0 {
		n := 1
		for n < len(blobs) && blobs[n].Repository == blobs[0].Repository {
			n++
		}
		some := blobs[:n]
		blobs = blobs[n:]
		if err := g.removeFrom(ctx, some[0].Repository, some); err != nil {
			if fatal(err) || ctx.Err() != nil {
				return err
			}
			g.leader.config.Log.WarnContext(ctx, "loose blobs not removed", "repository", some[0].Repository, "error", err)
		}
		g.seen += n
		progress(ctx, int64(g.seen), int64(g.seen+len(blobs)))
	}
	return nil
}

// fatal reports whether an error ends the run: the registry or the database is unavailable, or
// the registry allows no deletion.
func fatal(err error) bool {
	return errors.Is(err, indexer.ErrUnavailable) || errors.Is(err, errNoDeletion)
}

var errNoDeletion = &indexer.Fault{
	Reason: "the registry allows no deletion: set storage.delete.enabled in its configuration",
	Err:    errors.New("the registry answered 405 to a deletion"),
}

// removeFrom removes blobs from a repository.
func (g *blobGC) removeFrom(ctx context.Context, repository string, blobs []indexer.LooseBlob) error {
	var digests []digest.Digest
	for _, b := range blobs {
		digests = append(digests, b.Digest)
	}
	used, unsure, err := g.leader.config.Store.Used(ctx, repository, digests)
	if err == nil && unsure == "" && len(used) < len(blobs) {
		unsure, err = g.look(ctx, repository)
	}
	if err != nil {
		return err
	}
	for _, b := range blobs {
		switch {
		case used[b.Digest]:
			err = g.leader.config.Store.ForgetLoose(ctx, b)
		case unsure == "":
			err = g.hold(ctx, b)
		}
		if err != nil {
			return err
		}
	}
	if unsure != "" {
		g.leader.config.Log.InfoContext(ctx, "loose blobs stay",
			"repository", repository, "blobs", len(blobs)-len(used), "reason", unsure)
	}
	return nil
}

// look compares a repository with the book, and says why the book does not know all manifests of
// it, "" if it does. What differs is read then.
func (g *blobGC) look(ctx context.Context, repository string) (unsure string, err error) {
	shelves, err := g.leader.config.Store.Shelves(ctx, []string{repository})
	if err != nil {
		return "", err
	}
	run := &scanRun{ScannerConfig: g.leader.config.Scanner.config}
	_, asks, err := run.compare(ctx, repository, shelves[0])
	if err != nil || len(asks) == 0 {
		return "", err
	}
	if err := run.Store.Ask(ctx, asks); err != nil {
		return "", err
	}
	run.Wake()
	return fmt.Sprintf("%d references of it differ from the book, and are read now", len(asks)), nil
}

// hold moves a blob from its repository to HoldRepository, unless something has touched it.
func (g *blobGC) hold(ctx context.Context, b indexer.LooseBlob) error {
	gone := false
	err := g.leader.config.Store.HoldLoose(ctx, b, func() error {
		if err := g.mayDelete(ctx); err != nil {
			return err
		}
		err := g.remote.Mount(ctx, indexer.HoldRepository, b.Repository, b.Digest)
		if err == nil {
			err = g.remote.DeleteBlob(ctx, b.Repository, b.Digest)
		}
		if gone = errors.Is(err, indexer.ErrNotFound); gone { // somebody else has removed it
			err = nil
		}
		return err
	})
	switch {
	case errors.Is(err, postgres.ErrStale):
		return nil
	case err != nil:
		return err
	case !gone:
		g.removed++
	}
	return nil
}

// mayDelete returns errNoDeletion if the registry allows no deletion. It asks once in each run.
func (g *blobGC) mayDelete(ctx context.Context) error {
	if g.removed > 0 {
		return nil
	}
	none := digest.NewDigestFromEncoded(digest.SHA256, strings.Repeat("0", 64))
	err := g.remote.DeleteBlob(ctx, indexer.HoldRepository, none)
	var status *remote.StatusError
	switch {
	case errors.As(err, &status) && status.Status == http.StatusMethodNotAllowed:
		return errNoDeletion
	case errors.Is(err, indexer.ErrNotFound):
		return nil
	}
	return err
}

// release puts back the blobs that were held for an age and that a manifest uses now, and lets
// go of the others. A blob of a repository of which something waits to be read stays held until
// the next run.
func (g *blobGC) release(ctx context.Context, age time.Duration) error {
	held, err := g.leader.config.Store.HeldLoose(ctx, age)
	if err != nil {
		return err
	}
	for _, b := range held {
		if err := g.releaseOne(ctx, b); err != nil {
			if fatal(err) || ctx.Err() != nil {
				return err
			}
			g.leader.config.Log.WarnContext(ctx, "blob stays held", "repository", b.Repository, "digest", b.Digest, "error", err)
		}
	}
	return nil
}

func (g *blobGC) releaseOne(ctx context.Context, b indexer.LooseBlob) error {
	store := g.leader.config.Store
	used, unsure, err := store.Used(ctx, b.Repository, []digest.Digest{b.Digest})
	if err != nil || unsure != "" && !used[b.Digest] {
		return err
	}
	if used[b.Digest] {
		if err := g.remote.Mount(ctx, b.Repository, indexer.HoldRepository, b.Digest); err != nil {
			return err
		}
		g.leader.config.Log.InfoContext(ctx, "blob put back: a manifest with it was pushed meanwhile",
			"repository", b.Repository, "digest", b.Digest)
	}
	err = g.remote.DeleteBlob(ctx, indexer.HoldRepository, b.Digest)
	if err != nil && !errors.Is(err, indexer.ErrNotFound) {
		return err
	}
	return store.ForgetLoose(ctx, b)
}
