// Package plan makes plans of what rules of retention would delete, and applies them.
//
// A plan is made in parts, each in one short transaction, by one process at a time, which holds
// a lease; if it dies, another one goes on. Making a plan changes nothing but the plan. A plan
// is applied as an operation of package manage, which looks at everything again.
package plan

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/retention"
)

const (
	// lease is how long a plan belongs to the process that makes it: 30 s. It is renewed with each
	// part, and while what it frees is counted.
	lease = 30 * time.Second
	// lookEvery is how often a process looks for plans that others were asked for: 1 s.
	lookEvery = time.Second
	// restShare is how long the maker rests after a part, of the time that the part took: a
	// quarter, so that searches and pushes get their turn.
	restShare = 4
	// tries is how often a part is tried while the database does not answer: 10 times, a second
	// apart.
	tries = 10
)

// A Planner makes plans. It is safe for concurrent use.
type Planner struct {
	store *postgres.Store
	log   *slog.Logger
	wake  chan struct{}
}

// NewPlanner returns a Planner that does nothing before Run or Step.
func NewPlanner(store *postgres.Store, log *slog.Logger) *Planner {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Planner{store: store, log: log, wake: make(chan struct{}, 1)}
}

// AskPlan asks for a plan of the repositories of a pattern, for the actor of ctx.
func (p *Planner) AskPlan(ctx context.Context, scope access.Pattern, reason string) (retention.Plan, error) {
	made, err := p.store.AddPlan(ctx, scope, reason)
	if err == nil {
		select {
		case p.wake <- struct{}{}:
		default:
		}
	}
	return made, err
}

// WaitPlan returns a plan when it is made or has failed, or as it is when ctx ends.
func (p *Planner) WaitPlan(ctx context.Context, made retention.Plan) (retention.Plan, error) {
	for pause := 20 * time.Millisecond; !made.Ended(); pause = min(2*pause, time.Second) {
		if !sleep(ctx, pause) {
			return made, nil
		}
		now, err := p.store.Plan(ctx, made.ID)
		switch {
		case err != nil && (ctx.Err() != nil || errors.Is(err, indexer.ErrUnavailable)):
			continue
		case err != nil:
			return made, err
		}
		made = now
	}
	return made, nil
}

// Run makes plans until ctx ends.
func (p *Planner) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		worked, err := p.Step(ctx)
		if err != nil && ctx.Err() == nil {
			p.log.WarnContext(ctx, "plan", "error", err)
		}
		if worked && err == nil {
			continue
		}
		timer := time.NewTimer(lookEvery)
		select {
		case <-ctx.Done():
		case <-p.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
	return ctx.Err()
}

// Step makes one plan, and reports whether there was one to make.
func (p *Planner) Step(ctx context.Context) (bool, error) {
	c, err := p.store.ClaimPlan(ctx, lease)
	switch {
	case errors.Is(err, indexer.ErrNotFound):
		return false, nil
	case err != nil:
		return false, err
	}
	began := time.Now()
	err = p.make(ctx, c)
	switch {
	case err == nil:
		p.log.InfoContext(ctx, "plan made", "plan", c.ID, "seconds", time.Since(began).Seconds())
	case errors.Is(err, postgres.ErrStale):
		return true, nil // another process makes it
	case ctx.Err() != nil, errors.Is(err, indexer.ErrUnavailable):
		return true, err // the lease ends, and somebody goes on
	default:
		p.log.ErrorContext(ctx, "plan failed", "plan", c.ID, "error", err)
		return true, p.store.FailPlan(ctx, c, reasonOf(err))
	}
	return true, nil
}

// reasonOf returns the text of an error for people.
func reasonOf(err error) string {
	if errors.Is(err, indexer.ErrConflict) {
		return err.Error()
	}
	return indexer.Reason(err)
}

func (p *Planner) make(ctx context.Context, c postgres.PlanClaim) error {
	for last := false; !last; {
		began := time.Now()
		var err error
		if last, err = p.part(ctx, c); err != nil {
			return err
		}
		if !last && !sleep(ctx, time.Since(began)/restShare) {
			return ctx.Err()
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go p.renew(ctx, c)
	return p.store.EndPlan(ctx, c)
}

// part makes a part of a plan.
func (p *Planner) part(ctx context.Context, c postgres.PlanClaim) (last bool, err error) {
	for range tries {
		last, err = p.store.PlanNext(ctx, c, lease)
		if !errors.Is(err, indexer.ErrUnavailable) || !sleep(ctx, time.Second) {
			return last, err
		}
	}
	return last, err
}

// renew extends the lease until ctx ends.
func (p *Planner) renew(ctx context.Context, c postgres.PlanClaim) {
	for sleep(ctx, lease/3) {
		if err := p.store.RenewPlan(ctx, c, lease); err != nil && ctx.Err() == nil {
			p.log.WarnContext(ctx, "lease of a plan", "plan", c.ID, "error", err)
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
