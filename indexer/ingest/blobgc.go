package ingest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
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
	// holdTime is how long a blob that was removed can be put back: 2 s, and until the registry
	// has reported the removal, and so the pushes before it, and all of these have been read.
	holdTime = 2 * time.Second
	// releaseTime is how long a run waits for that: a minute. Later the leader looks again every
	// minute, also if the run was killed.
	releaseTime = time.Minute
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
// job loose does that, a minute later.
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
	if err := g.holdIsFree(ctx); err != nil {
		return err
	}
	if _, err := g.release(ctx, 0); err != nil { // of a run that was killed
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
	err := g.releaseAll(ctx)
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
		case used[b.Digest] == postgres.InUse:
			err = g.leader.config.Store.ForgetLoose(ctx, b)
		case used[b.Digest] == postgres.InTrash: // it stays until its manifest cannot be restored any more
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

// maxOnlyStored is how many manifests of a repository are asked for, at most, of which only a look
// at the storage has told: 1,000. The next run asks for others.
const maxOnlyStored = 1000

// look compares a repository with the book, and with the last look at the storage if there was one,
// and says why the book does not know all manifests of it, "" if it does. What differs is read
// then.
func (g *blobGC) look(ctx context.Context, repository string) (unsure string, err error) {
	shelves, err := g.leader.config.Store.Shelves(ctx, []string{repository})
	if err != nil {
		return "", err
	}
	run := &scanRun{ScannerConfig: g.leader.config.Scanner.config}
	_, asks, err := run.compare(ctx, repository, shelves[0])
	if err != nil {
		return "", err
	}
	stored, err := run.Store.OnlyStored(ctx, repository, maxOnlyStored)
	if err != nil {
		return "", err
	}
	for _, d := range stored {
		switch err := run.Remote.Exists(ctx, repository, d); {
		case errors.Is(err, indexer.ErrNotFound): // it was deleted since
		case err != nil:
			return "", err
		default:
			asks = append(asks, indexer.Ask{
				Repository: repository, Reference: indexer.TagOrDigest(d), Priority: indexer.PriorityScan,
			})
		}
	}
	if len(asks) == 0 {
		return "", nil
	}
	if err := run.Store.Ask(ctx, asks); err != nil {
		return "", err
	}
	run.Wake()
	return fmt.Sprintf("%d references of it differ from the book, and are read now", len(asks)), nil
}

// hold moves a blob from its repository to HoldRepository, unless something has touched it.
func (g *blobGC) hold(ctx context.Context, b indexer.LooseBlob) error {
	if err := g.mayDelete(ctx); err != nil {
		return err
	}
	gone := false
	err := g.leader.config.Store.HoldLoose(ctx, b, func() error {
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

// holdIsFree returns an error if somebody has pushed images to HoldRepository: they would lose
// blobs.
func (g *blobGC) holdIsFree(ctx context.Context) error {
	tags, err := g.remote.Tags(ctx, indexer.HoldRepository)
	if err != nil && !errors.Is(err, indexer.ErrNotFound) {
		return err
	}
	_, manifests, err := g.leader.config.Store.Contents(ctx, indexer.HoldRepository, 1)
	if err == nil && len(tags)+manifests > 0 {
		const text = "somebody has pushed to the repository " + indexer.HoldRepository + ", which this job needs: delete it"
		err = &indexer.Fault{Reason: text, Err: errors.New(text)}
	}
	return err
}

// releaseAll releases all that is held, as soon as what was pushed meanwhile is known. What is
// not known after releaseTime stays held, for the job loose.
func (g *blobGC) releaseAll(ctx context.Context) error {
	for end := time.Now().Add(releaseTime); ; rest(ctx, 5*indexEvery) {
		left, err := g.release(ctx, holdTime)
		if err != nil || left == 0 || ctx.Err() != nil || time.Now().After(end) {
			return err
		}
	}
}

// releaseHeld releases what a run has left, or one that was killed.
func (l *Leader) releaseHeld(ctx context.Context) error {
	g := &blobGC{leader: l, remote: l.config.Scanner.config.Remote}
	_, err := g.release(ctx, 2*releaseTime)
	return err
}

// release puts back the blobs that were held for an age and that a manifest uses now, or may use
// after a restore, and lets go of the others. It returns how many are held still, because what
// was pushed to their repository is not known yet.
func (g *blobGC) release(ctx context.Context, age time.Duration) (left int, err error) {
	held, err := g.leader.config.Store.HeldLoose(ctx, 0)
	if err != nil {
		return 0, err
	}
	for len(held) > 0 {
		n := 1
		for n < len(held) && held[n].Repository == held[0].Repository {
			n++
		}
		stay, err := g.releaseIn(ctx, held[:n], age)
		left += stay
		if err != nil {
			if fatal(err) || ctx.Err() != nil {
				return left, err
			}
			g.leader.config.Log.WarnContext(ctx, "blobs stay held",
				"repository", held[0].Repository, "blobs", n, "error", err)
		}
		held = held[n:]
	}
	return left, nil
}

// releaseIn is release for the held blobs of one repository. It returns how many stay held.
func (g *blobGC) releaseIn(ctx context.Context, held []indexer.LooseBlob, age time.Duration) (stay int, err error) {
	last := slices.MaxFunc(held, func(a, b indexer.LooseBlob) int { return a.HeldAt.Compare(b.HeldAt) })
	now, err := g.leader.config.Store.Now(ctx)
	if err != nil || now.Sub(last.HeldAt) < age {
		return len(held), err
	}
	repository := last.Repository
	digests := make([]digest.Digest, len(held))
	for i, b := range held {
		digests[i] = b.Digest
	}
	used, unsure, err := g.known(ctx, last, digests)
	if err != nil {
		return len(held), err
	}
	for _, b := range held {
		if unsure && used[b.Digest] == postgres.Unused {
			stay++
			continue
		}
		if err := g.releaseOne(ctx, b, used[b.Digest]); err != nil {
			return stay, fmt.Errorf("blob %s of %s: %w", b.Digest, repository, err)
		}
	}
	return stay, nil
}

// known returns what uses blobs that were held, and whether more may be pushed that is not known
// yet: before the last one was removed, of which the registry tells when it has told of that.
func (g *blobGC) known(
	ctx context.Context, last indexer.LooseBlob, digests []digest.Digest,
) (used map[digest.Digest]postgres.BlobUse, unsure bool, err error) {
	store, repository := g.leader.config.Store, last.Repository
	reported, err := store.Reported(ctx, repository, indexer.TagOrDigest(last.Digest), g.remote.UserAgent(), last.HeldAt)
	if err == nil && !reported {
		if unsure, err = store.ReportsDeletions(ctx, g.remote.UserAgent()); unsure {
			now, _ := store.Now(ctx)
			unsure = now.Sub(last.HeldAt) < releaseTime // then its event was lost
		}
	}
	if err != nil {
		return nil, false, err
	}
	used, why, err := store.Used(ctx, repository, digests)
	if unsure = unsure || why != ""; unsure || err != nil {
		return used, unsure, err
	}
	if why, err = g.look(ctx, repository); why == "" && err == nil {
		used, why, err = store.Used(ctx, repository, digests)
	}
	return used, why != "", err
}

// mountBack puts a blob back. It reports whether there was one to put back.
func (g *blobGC) mountBack(ctx context.Context, b indexer.LooseBlob) (bool, error) {
	log := g.leader.config.Log.With("repository", b.Repository, "digest", b.Digest)
	err := g.remote.Mount(ctx, b.Repository, indexer.HoldRepository, b.Digest)
	switch {
	case errors.Is(err, indexer.ErrNotFound): // somebody has deleted it there
		log.ErrorContext(ctx, "blob cannot be put back: "+indexer.HoldRepository+" does not have it")
		return false, nil
	case err != nil:
		return false, err
	}
	log.InfoContext(ctx, "blob put back: a manifest with it was pushed meanwhile")
	return true, nil
}

// releaseOne puts a blob back if it is used, and lets go of it.
func (g *blobGC) releaseOne(ctx context.Context, b indexer.LooseBlob, use postgres.BlobUse) error {
	err := g.remote.HasBlob(ctx, b.Repository, b.Digest)
	there := err == nil
	if err != nil && !errors.Is(err, indexer.ErrNotFound) {
		return err
	}
	if use != postgres.Unused && !there {
		if there, err = g.mountBack(ctx, b); err != nil {
			return err
		}
	}
	err = g.remote.DeleteBlob(ctx, indexer.HoldRepository, b.Digest)
	if err != nil && !errors.Is(err, indexer.ErrNotFound) {
		return err
	}
	if there && use != postgres.InUse { // removed by a later run
		return g.leader.config.Store.UnholdLoose(ctx, b)
	}
	return g.leader.config.Store.DropLoose(ctx, b)
}
