// Package manage changes what the registry stores: it deletes tags, manifests and repositories,
// and puts back what was deleted or moved.
//
// Each change is an operation: first a row of the database, with the record of who asked for it,
// and then performed by a writer, which holds a lease, so that another one goes on with it if
// the process dies. Operations on one repository are performed one after the other.
//
// Changes go through the registry's own API, and then into the book as all content does: by
// tasks. The package relies on nothing that it has read a while ago: a tag is deleted right
// after the registry has said what it shows. The registry cannot be locked, so a push may still
// fall between the two. Such a push is found by its event and put back: see Running.settleAll.
//
// Before a manifest is deleted, its bytes are kept in the table trash.
package manage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/remote"
)

const (
	// lease is how long an operation belongs to the process that has claimed it: 10 s, as for
	// tasks. It is renewed while the process runs.
	lease = 10 * time.Second
	// lookEvery is how often a process looks for operations of others: 1 s.
	lookEvery = time.Second
	// parallel is how many operations a process performs at the same time: 4, so that one of a
	// large repository does not keep small ones waiting.
	parallel = 4
	// giveUpAfter is how often an operation is tried if the registry answers with an error that
	// may end, such as 500: 5 times. While it does not answer at all, nothing counts.
	giveUpAfter = 5
	// diesAfter is how often an operation is begun whose process dies: 20 times. It may be that
	// operation of which it dies.
	diesAfter = 20
)

// A Performer performs the operations of a kind.
//
// It may run again after the process was killed, or after it has failed because the registry or
// the database did not answer: then it must find out what is left to do. Errors of the kinds
// ErrConflict, ErrNotFound, ErrInvalid and ErrForbidden end the operation; after ErrUnavailable
// it is tried again until it succeeds, and after any other error a few times.
type Performer interface {
	Perform(ctx context.Context, r *Running) error
}

// A Previewer is a Performer that can say what an operation would do. Manager.Do asks it before
// the operation is recorded: if Effect.Refused is not empty, there is no operation.
type Previewer interface {
	Preview(ctx context.Context, o indexer.Operation) (indexer.Effect, error)
}

// A Config is what a Manager needs.
type Config struct {
	Store  *postgres.Store
	Remote *remote.Client
	Log    *slog.Logger
	// Wake wakes the workers that read what was changed. It may be nil.
	Wake func()
	// Wait is how long Do waits for the end; 0: as long as its context allows.
	Wait time.Duration
	// Performers are those of kinds elsewhere. They replace those of this package.
	Performers map[indexer.OperationKind]Performer
	// Protected returns for each of the tags that must not be deleted, or moved, the reason. It
	// may be nil.
	Protected func(ctx context.Context, repository string, tags []string) (map[string]string, error)
	// Freed returns how many bytes only these manifests use, and how many others use too. It
	// may be nil.
	Freed func(ctx context.Context, manifests []indexer.Reference) (own, shared int64, err error)
}

// A Manager performs operations. It is safe for concurrent use.
type Manager struct {
	Config
	performers map[indexer.OperationKind]Performer
	wake       chan struct{}
}

// New returns a Manager.
func New(c Config) *Manager {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Wake == nil {
		c.Wake = func() {}
	}
	m := &Manager{Config: c, wake: make(chan struct{}, parallel)}
	m.performers = map[indexer.OperationKind]Performer{
		indexer.Untag:            untag{m},
		indexer.DeleteManifest:   deleteManifest{m},
		indexer.DeleteRepository: deleteRepository{m},
		indexer.Restore:          restore{m},
		indexer.Rollback:         rollback{m},
		indexer.PutBack:          putBack{m},
	}
	for kind, p := range c.Performers {
		m.performers[kind] = p
	}
	return m
}

// Preview returns what an operation would do now. It changes nothing.
func (m *Manager) Preview(ctx context.Context, o indexer.Operation) (indexer.Effect, error) {
	if err := check(o); err != nil {
		return indexer.Effect{}, err
	}
	p, ok := m.performers[o.Kind].(Previewer)
	if !ok {
		return indexer.Effect{Operation: o, Own: -1, Shared: -1}, nil
	}
	e, err := p.Preview(ctx, o)
	if err != nil {
		return e, err
	}
	e.Operation, e.Manifests = o, max(e.Manifests, len(e.Deletes))
	return e, m.weigh(ctx, &e)
}

// weigh sets how many bytes the deletions of an effect free.
func (m *Manager) weigh(ctx context.Context, e *indexer.Effect) (err error) {
	e.Own, e.Shared = -1, -1
	if m.Freed == nil || len(e.Deletes) == 0 || e.Manifests > len(e.Deletes) {
		return nil
	}
	var all []indexer.Reference
	for _, d := range e.Deletes {
		all = append(all, indexer.Reference{Repository: e.Operation.Repository, Digest: d.Digest})
	}
	e.Own, e.Shared, err = m.Freed(ctx, all)
	return err
}

// maxTags is the maximum number of tags that the caller can say to know: 10,000, some 400 KB. They
// are stored with the operation.
const maxTags = 10_000

// check returns an ErrInvalid if an operation names something that cannot be.
func check(o indexer.Operation) error {
	switch {
	case !slices.Contains(indexer.OperationKinds, o.Kind):
		return indexer.Invalid("%q is no kind of operation", o.Kind)
	case o.Kind == indexer.PutBack: // it may move a protected tag, so only the store adds it
		return indexer.Invalid("nobody asks for the operation %s: it follows when a protected tag was moved or deleted",
			o.Kind)
	case o.Repository != "" && !indexer.IsRepository(o.Repository):
		return indexer.InvalidRepository(o.Repository)
	case o.Tag != "" && !indexer.IsTag(o.Tag):
		return indexer.InvalidTag(o.Tag)
	case o.Repository == "" && o.Kind != indexer.ApplyPlan && o.Kind != indexer.Restore:
		return indexer.Invalid("the operation %s needs the name of a repository", o.Kind)
	case o.Tag == "" && (o.Kind == indexer.Untag || o.Kind == indexer.Rollback):
		return indexer.Invalid("the operation %s needs a tag", o.Kind)
	case o.Digest == "" && o.Kind == indexer.DeleteManifest:
		return indexer.Invalid("the operation %s needs a digest", o.Kind)
	}
	if len(o.Options.Tags) > maxTags {
		return indexer.Invalid("at most %d tags can be given: leave them out", maxTags)
	}
	for _, tag := range o.Options.Tags {
		if !indexer.IsTag(tag) {
			return indexer.InvalidTag(tag)
		}
	}
	for _, d := range []digest.Digest{o.Digest, o.Options.Shows} {
		if d == "" {
			continue
		}
		if _, err := indexer.ParseDigest(string(d)); err != nil {
			return err
		}
	}
	return nil
}

// Do records an operation, for the actor of ctx, and waits until a Run has performed it. The
// actor must have the permit of ctx, if there is one: see access.WithPermit.
//
// If the operation is not over after Config.Wait, or when ctx ends, it goes on, and Do returns
// it as it is. If it has failed, the error is of the kind, and has the text, of the failure. An
// operation that would be refused is not recorded, and its ID is 0.
func (m *Manager) Do(ctx context.Context, o indexer.Operation) (indexer.Operation, error) {
	e, err := m.Preview(ctx, o)
	if err != nil {
		return o, err
	}
	if len(e.Refused) > 0 {
		return o, refusal(e.Refused)
	}
	added, err := m.Store.AddOperation(ctx, o)
	if err != nil {
		return o, err
	}
	m.kick()
	return m.wait(ctx, added)
}

// maxReasons is the maximum number of reasons in the text of an error: 5.
const maxReasons = 5

// refusal returns the ErrConflict for reasons.
func refusal(reasons []string) error {
	text := ""
	for i, r := range reasons {
		switch {
		case i == maxReasons:
			return indexer.Conflict("%s; and %d more", text, len(reasons)-i)
		case i > 0:
			text += "; "
		}
		text += r
	}
	return indexer.Conflict("%s", text)
}

// kick wakes a Run of this process.
func (m *Manager) kick() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// wait returns an operation when it is over. It asks the database, because another process may
// perform it.
func (m *Manager) wait(ctx context.Context, o indexer.Operation) (indexer.Operation, error) {
	if m.Wait > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, m.Wait)
		defer cancel()
	}
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, 500*time.Millisecond) {
		if !sleep(ctx, pause) {
			return o, nil
		}
		now, err := m.Store.Operation(ctx, o.ID)
		switch {
		case err != nil && ctx.Err() != nil, errors.Is(err, indexer.ErrUnavailable):
			continue
		case err != nil:
			return o, err
		}
		if o = now; o.Ended() {
			return o, failureOf(o)
		}
	}
}

// sleep waits, and reports whether ctx has not ended.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// Run performs operations until ctx ends. Several processes may run it.
func (m *Manager) Run(ctx context.Context) error {
	done := make(chan struct{})
	for range parallel {
		go func() {
			defer func() { done <- struct{}{} }()
			m.work(ctx)
		}()
	}
	for range parallel {
		<-done
	}
	return ctx.Err()
}

func (m *Manager) work(ctx context.Context) {
	for ctx.Err() == nil {
		worked, err := m.Step(ctx)
		if err != nil && ctx.Err() == nil {
			m.Log.WarnContext(ctx, "operation", "error", err)
		}
		if worked && err == nil {
			continue
		}
		timer := time.NewTimer(lookEvery)
		select {
		case <-ctx.Done():
		case <-m.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// Step performs one operation that is due, and reports whether there was one.
func (m *Manager) Step(ctx context.Context) (bool, error) {
	o, err := m.Store.ClaimOperation(ctx, m.kinds(), lease)
	switch {
	case errors.Is(err, indexer.ErrNotFound):
		return false, nil
	case err != nil:
		return false, err
	}
	err = m.perform(ctx, o)
	m.kick() // the next one of its repository is due now
	return true, err
}

func (m *Manager) kinds() (kinds []indexer.OperationKind) {
	for k := range m.performers {
		kinds = append(kinds, k)
	}
	slices.Sort(kinds)
	return kinds
}

// perform performs an operation that was claimed, and stores how it ended.
func (m *Manager) perform(ctx context.Context, o indexer.Operation) error {
	r := newRunning(m, o)
	err := error(errDies)
	if o.Attempts <= diesAfter {
		err = r.run(ctx)
	}
	if errors.Is(err, postgres.ErrStale) {
		return nil // another process performs it
	}
	o = r.state()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lease)
	defer cancel()
	log := m.Log.With("operation", o.ID, "kind", o.Kind, "repository", o.Repository, "error", err)
	switch after, counts := retry(o, err); {
	case err == nil:
		o.State, o.Error = indexer.OperationDone, ""
	case after >= 0:
		o.Error = textOf(err)
		log.WarnContext(ctx, "operation is tried again", "after", after)
		return m.Store.ReleaseOperation(ctx, o, after, counts)
	default:
		o.State, o.Error, o.Result.Failure = indexer.OperationFailed, textOf(err), failureKind(err)
		log.WarnContext(ctx, "operation failed")
	}
	return m.Store.EndOperation(ctx, o)
}

// errDies is the error of an operation that is not begun any more.
var errDies = &indexer.Fault{
	Reason: "the indexer died again and again while it performed this: see its log",
	Err:    errors.New("its process died too often"),
}

// failures are the kinds of errors that end an operation, by their names in the database.
var failures = map[string]error{
	"conflict": indexer.ErrConflict, "not-found": indexer.ErrNotFound, "invalid": indexer.ErrInvalid,
	"forbidden": indexer.ErrForbidden,
}

func failureKind(err error) string {
	for _, name := range []string{"conflict", "not-found", "invalid", "forbidden"} {
		if errors.Is(err, failures[name]) {
			return name
		}
	}
	return "internal"
}

// failureOf returns the error of an operation that has failed, nil if it has not.
func failureOf(o indexer.Operation) error {
	if o.State != indexer.OperationFailed {
		return nil
	}
	if kind := failures[o.Result.Failure]; kind != nil {
		return &failed{kind, o.Error}
	}
	text := fmt.Sprintf("the operation %d failed: %s", o.ID, o.Error)
	return &indexer.Fault{Reason: text, Err: errors.New(text)}
}

// A failed is the error of an operation that somebody else has performed.
type failed struct {
	kind error
	text string
}

func (e *failed) Error() string { return e.text }
func (e *failed) Unwrap() error { return e.kind }

// never is the pause of retry after which an operation is not tried again.
const never = -1

// retry returns the pause before an operation is tried again after an error, or never, and
// whether the attempt counts.
func retry(o indexer.Operation, err error) (after time.Duration, counts bool) {
	var status *remote.StatusError
	switch {
	case errors.Is(err, context.Canceled): // we are stopping: another process may go on at once
		return 0, false
	case errors.Is(err, indexer.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		return backoff(o.Claims), false
	case failureKind(err) != "internal", o.Attempts >= giveUpAfter:
		return never, true
	case errors.As(err, &status) && status.Status < 500:
		return never, true // the registry does not allow it
	}
	return backoff(o.Claims), true
}

// backoff returns the pause after a number of tries: 1 s, then twice as long, at most a minute.
func backoff(tries int) time.Duration {
	return min(time.Second<<min(max(tries-1, 0), 6), time.Minute)
}

// textOf returns the text of an error for people.
func textOf(err error) string {
	var status *remote.StatusError
	var fault *indexer.Fault
	switch {
	case errors.As(err, &status) && status.Status == 405:
		return "the registry refuses deletions: set storage.delete.enabled to true in its configuration"
	case errors.As(err, &fault):
		return fault.Reason
	case failureKind(err) != "internal":
		return err.Error()
	}
	return cmp.Or(indexer.Reason(err), err.Error())
}
