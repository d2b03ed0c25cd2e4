package plan

import (
	"context"
	"errors"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/retention"
)

// A Service is what pages, the API and the command line use: rules, reports of what runs, plans
// and their operations.
type Service struct {
	*postgres.Store
	*Planner
	// Do performs operations: manage.Manager.Do.
	Do func(context.Context, indexer.Operation) (indexer.Operation, error)
	// Cap is the largest share that a plan deletes unless more is accepted, in per cent.
	Cap int
}

// Limit returns the cap in per cent.
func (s *Service) Limit() int { return s.Cap }

// Apply applies a plan, for the actor of ctx: see Applying.
func (s *Service) Apply(ctx context.Context, p retention.Plan, accept int) (indexer.Operation, error) {
	return s.Do(ctx, Applying(p.ID, accept))
}

// UndoPlan puts back what a plan has deleted, for the actor of ctx.
func (s *Service) UndoPlan(ctx context.Context, p retention.Plan) (indexer.Operation, error) {
	o, err := Undoing(p)
	if err != nil {
		return o, err
	}
	o, err = s.Do(ctx, o)
	if o.ID > 0 {
		if stored := s.SetUndo(context.WithoutCancel(ctx), p.ID, o.ID); err == nil {
			err = stored
		}
	}
	return o, err
}

// A Schedule asks for plans by itself.
type Schedule struct {
	Service *Service
	// Every is the time from one plan to the next.
	Every time.Duration
	// Apply says that these plans are applied, as far as the cap allows.
	Apply bool
}

// scheduled is who asks for plans of a schedule, in records.
const scheduled = "schedule"

// Due asks for a plan if it is time, waits for it and applies it if that is switched on. The
// leader calls it.
func (s *Schedule) Due(ctx context.Context) error {
	since, err := s.Service.SincePlan(ctx)
	switch {
	case err == nil && since < s.Every:
		return nil
	case err != nil && !errors.Is(err, indexer.ErrNotFound):
		return err
	}
	ctx = access.WithActor(ctx, access.Actor{Name: scheduled})
	p, err := s.Service.AskPlan(ctx, access.Every, retention.ByInterval)
	if err == nil {
		p, err = s.Service.WaitPlan(ctx, p)
	}
	if err != nil || p.State != retention.PlanMade || !s.Apply || p.TagsDeleted+p.ManifestsDeleted == 0 ||
		p.Percent > s.Service.Cap {
		return err
	}
	_, err = s.Service.Apply(ctx, p, 0)
	return err
}
