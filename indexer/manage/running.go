package manage

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
)

// A Running is an operation that this process performs. Its methods change the registry, each
// after a look at what is there now. They are safe for concurrent use.
type Running struct {
	manager *Manager

	mu      sync.Mutex
	o       indexer.Operation
	windows map[string]*window // by repository
}

func newRunning(m *Manager, o indexer.Operation) *Running {
	return &Running{manager: m, o: o, windows: map[string]*window{}}
}

// Operation returns the operation as it was when it was claimed, with its progress and its
// result so far.
func (r *Running) Operation() indexer.Operation { return r.state() }

func (r *Running) state() indexer.Operation {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.o
}

// Resumed reports whether it was tried before, so that a part of it may be done.
func (r *Running) Resumed() bool { return r.state().Claims > 1 }

// Progress says how much of the operation is done. It is stored within a few seconds.
func (r *Running) Progress(done, total int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.o.Done, r.o.Total = done, total
}

// Note adds a sentence to the result, of what was different from what was asked for.
func (r *Running) Note(format string, a ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.o.Result.Notes); n < indexer.MaxNotes {
		r.o.Result.Notes = append(r.o.Result.Notes[:n:n], fmt.Sprintf(format, a...))
	}
}

// Result changes the result by f.
func (r *Running) Result(f func(*indexer.OperationResult)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(&r.o.Result)
}

// Save stores the progress and the result now.
func (r *Running) Save(ctx context.Context) error {
	return r.manager.Store.RenewOperation(ctx, r.state(), lease)
}

// run performs the operation while its lease is renewed, and then settles it, even if it has
// failed: a part of it may have been done. If it will be tried again, nothing is waited for, since
// the registry may be away, and the next attempt settles all of it.
func (r *Running) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	renewed := make(chan struct{})
	go func() {
		defer close(renewed)
		r.renew(ctx, cancel)
	}()
	err := r.resume(ctx)
	if err == nil {
		if err = r.manager.Store.MayStill(ctx, r.state()); err == nil {
			err = r.perform(ctx)
		}
		after, _ := retry(r.state(), err)
		if settled := r.settleAll(ctx, err == nil || after == never); err == nil {
			err = settled
		}
	}
	if cause := context.Cause(ctx); errors.Is(cause, postgres.ErrStale) {
		err = cause
	}
	cancel(nil)
	<-renewed
	return err
}

// perform performs the operation. A panic is an error of this operation, as net/http makes it one
// of its request: otherwise one row of the database could end every writer, again and again.
func (r *Running) perform(ctx context.Context) (err error) {
	defer func() {
		if p := recover(); p != nil {
			caught := indexer.PanicOf(p)
			r.manager.Log.ErrorContext(ctx, "operation panicked",
				"operation", r.o.ID, "error", caught, "stack", string(debug.Stack()))
			err = &indexer.Fault{Reason: "it ended with an error of the indexer: see its log", Err: caught}
		}
	}()
	return r.manager.performers[r.o.Kind].Perform(ctx, r)
}

// renew extends the lease until ctx ends. If another process has claimed the operation, it
// ends ctx.
func (r *Running) renew(ctx context.Context, cancel context.CancelCauseFunc) {
	held := time.Now()
	for sleep(ctx, lease/5) {
		began := time.Now()
		saving, saved := context.WithDeadline(ctx, held.Add(lease*4/5)) // the connection may be dead
		err := r.Save(saving)
		saved()
		switch {
		case err == nil:
			held = began
		case errors.Is(err, postgres.ErrStale), time.Since(held) >= lease*4/5:
			cancel(fmt.Errorf("lease of operation %d: %w", r.o.ID, errors.Join(err, postgres.ErrStale)))
			return
		}
	}
}
