package login

import (
	"context"
	"net/http"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/retention"
	"github.com/portbook/portbook/indexer/web/answer"
)

// Plans has the rules of retention, what runs in clusters, and plans. See package plan.
type Plans interface {
	RetentionRules(ctx context.Context, of access.Pattern) ([]retention.Rule, error)
	RetentionRule(ctx context.Context, id int64) (retention.Rule, error)
	AddRetentionRule(ctx context.Context, r retention.Rule) (retention.Rule, error)
	ChangeRetentionRule(ctx context.Context, r retention.Rule) (retention.Rule, error)
	RemoveRetentionRule(ctx context.Context, r retention.Rule) error

	ReportUse(ctx context.Context, uses []retention.Use) error
	Uses(ctx context.Context, q retention.UseQuery) ([]retention.Use, error)

	AskPlan(ctx context.Context, scope access.Pattern, reason string) (retention.Plan, error)
	WaitPlan(ctx context.Context, p retention.Plan) (retention.Plan, error)
	Plan(ctx context.Context, id int64) (retention.Plan, error)
	Plans(ctx context.Context, q retention.PlanQuery) ([]retention.Plan, error)
	PlanRepositories(ctx context.Context, q retention.RepositoryQuery) ([]retention.PlanRepository, error)
	PlanItems(ctx context.Context, q retention.ItemQuery) ([]retention.Item, error)
	PlanOutcomes(ctx context.Context, plan int64) (retention.Outcomes, error)

	Apply(ctx context.Context, p retention.Plan, accept int) (indexer.Operation, error)
	UndoPlan(ctx context.Context, p retention.Plan) (indexer.Operation, error)
	Limit() int // the cap in per cent
}

const (
	// maxPlanning and maxPlanningEach are how many requests about rules and plans are answered at
	// the same time, and of one client: 4 and 2. Some wait for a plan or for what it deletes.
	maxPlanning     = 4
	maxPlanningEach = 2
	// planningTime limits one of them: 25 s. Clients and fronts wait for 30 s or more.
	planningTime = 25 * time.Second
	// awaitPlan is how long a request waits until its plan is made: 10 s.
	awaitPlan = 10 * time.Second
)

// Planning runs f, which reads or changes rules of retention and plans, when its turn comes, if
// permit lets the subject. The store asks permit again in the transaction of a change.
func (l *Login) Planning(
	r *http.Request, who access.Subject, permit access.Permit, f func(context.Context, Plans) error,
) error {
	if l.Plans == nil {
		return ErrOnlyReads
	}
	if err := permit(who); err != nil {
		return l.Forbidden(r, who, err)
	}
	ctx, cancel := context.WithTimeout(access.WithPermit(As(r, who), permit), planningTime)
	defer cancel()
	done, err := l.planTurns.Take(ctx, "plans", answer.ClientOf(r))
	if err != nil {
		return err
	}
	defer done()
	c := l.Plans
	if !who.Asker().Visibility().All() {
		c = partlyPlans{c}
	}
	return l.Forbidden(r, who, f(ctx, c))
}

type plans = Plans // a name that a struct can embed beside the method Plans

// partlyPlans are the Plans for a subject that does not see every repository: what plans free
// would tell what is in the others, as for partly.
type partlyPlans struct{ plans }

// without returns a plan without what it frees.
func (partlyPlans) without(p retention.Plan, err error) (retention.Plan, error) {
	p.Freed = nil
	if p.State == retention.PlanMade {
		p.Notes = append(p.Notes[:len(p.Notes):len(p.Notes)], "What it frees is told to those who see all repositories.")
	}
	return p, err
}

func (c partlyPlans) Plan(ctx context.Context, id int64) (retention.Plan, error) {
	return c.without(c.plans.Plan(ctx, id))
}

func (c partlyPlans) WaitPlan(ctx context.Context, p retention.Plan) (retention.Plan, error) {
	return c.without(c.plans.WaitPlan(ctx, p))
}

func (c partlyPlans) Plans(ctx context.Context, q retention.PlanQuery) ([]retention.Plan, error) {
	all, err := c.plans.Plans(ctx, q)
	for i := range all {
		all[i], _ = c.without(all[i], nil)
	}
	return all, err
}

// MakePlan asks for a plan and waits a while until it is made.
func MakePlan(ctx context.Context, c Plans, scope access.Pattern) (retention.Plan, error) {
	p, err := c.AskPlan(ctx, scope, retention.ByRequest)
	if err != nil {
		return p, err
	}
	ctx, cancel := context.WithTimeout(ctx, awaitPlan)
	defer cancel()
	return c.WaitPlan(ctx, p)
}

// PlanOf returns a plan whose scope the subject oversees. Of another one it says that there is
// none.
func PlanOf(ctx context.Context, c Plans, who access.Subject, id int64) (retention.Plan, error) {
	p, err := c.Plan(ctx, id)
	if err == nil && !who.Oversees(p.Scope) {
		err = indexer.ErrNotFound
	}
	return p, err
}

// PullersOf permits who may pull all of some repositories. Others are told that there is no such
// repository.
func PullersOf(repositories []string) access.Permit {
	return func(s access.Subject) error {
		for _, name := range repositories {
			if s.Name == "" || !s.Allowed(name).Has(access.Pull) {
				return indexer.Forbidden("you may not pull %.255q, or there is none", name)
			}
		}
		return nil
	}
}
