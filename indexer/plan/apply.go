package plan

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/manage"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/retention"
)

const (
	// storeEvery is how many steps are done until their outcomes are stored, and until it is asked
	// again what runs: 100.
	storeEvery = 100
	// settleFor is how long applying waits for the tasks of a repository, which may be those of
	// its own deletions: 20 s. Afterwards the repository is skipped.
	settleFor = 20 * time.Second
)

// An Applier performs operations of the kind apply-plan.
type Applier struct {
	Store *postgres.Store
	// Cap is the largest share of the tags or of the manifests of a repository, or of all of the
	// plan, that is deleted unless the operation accepts more; in per cent.
	Cap int
}

// An acceptance is what somebody who applies a plan says: see Applying.
type acceptance struct {
	Percent int `json:"accept_percent,omitempty"`
}

// Applying returns the operation that applies a plan. Accept is the share in per cent up to
// which it deletes, if that is more than the cap; 0: the cap holds.
func Applying(plan int64, accept int) indexer.Operation {
	o := indexer.Operation{Kind: indexer.ApplyPlan, Options: indexer.OperationOptions{Plan: plan}}
	if accept > 0 {
		o.Options.More, _ = json.Marshal(acceptance{accept}) // a number always marshals
	}
	return o
}

// Undoing returns the operation that puts back what the operation has deleted that applied a
// plan.
func Undoing(p retention.Plan) (indexer.Operation, error) {
	if p.Operation == 0 {
		return indexer.Operation{}, indexer.Conflict("plan %d was not applied: there is nothing to undo", p.ID)
	}
	o := indexer.Operation{Kind: indexer.Restore}
	o.Options.Undo, o.Options.Plan = p.Operation, p.ID
	return o, nil
}

// limit returns the share that an operation may delete, in per cent.
func (a *Applier) limit(o indexer.Operation) int {
	var said acceptance
	if len(o.Options.More) > 0 {
		_ = json.Unmarshal(o.Options.More, &said) // anything else accepts nothing
	}
	return max(a.Cap, said.Percent)
}

// check returns an ErrConflict if a plan must not be applied by an operation.
func (a *Applier) check(p retention.Plan, o indexer.Operation) error {
	switch limit := a.limit(o); {
	case p.Operation == o.ID && o.ID != 0:
		return nil // it goes on
	case p.Operation != 0:
		return indexer.Conflict("plan %d was applied already, by operation %d", p.ID, p.Operation)
	case p.State != retention.PlanMade:
		return indexer.Conflict("plan %d is not made: its state is %s", p.ID, p.State)
	case p.Stale != "":
		return indexer.Conflict("plan %d is stale: %s", p.ID, p.Stale)
	case p.TagsDeleted+p.ManifestsDeleted == 0:
		return indexer.Conflict("plan %d deletes nothing", p.ID)
	case p.Percent > limit:
		return indexer.Conflict("plan %d deletes %d %% of the tags or manifests of %s, and at most %d %% is allowed:"+
			" look at it, and"+
			" apply it with accept_percent %d if that is right", p.ID, p.Percent, Whole(p.PercentOf), limit, p.Percent)
	}
	return nil
}

// Whole returns the name of a repository, or words for all of a plan.
func Whole(repository string) string {
	if repository == "" {
		return "the whole plan"
	}
	return repository
}

// Preview implements manage.Previewer.
func (a *Applier) Preview(ctx context.Context, o indexer.Operation) (e indexer.Effect, err error) {
	p, err := a.Store.Plan(ctx, o.Options.Plan)
	if err != nil {
		return e, err
	}
	if err := a.check(p, o); err != nil {
		e.Refused = append(e.Refused, err.Error())
	}
	return e, nil
}

// Perform implements manage.Performer.
func (a *Applier) Perform(ctx context.Context, r *manage.Running) (err error) {
	o := r.Operation()
	p, err := a.Store.Plan(ctx, o.Options.Plan)
	if err == nil {
		err = a.check(p, o)
	}
	if err == nil {
		p, err = a.Store.BeginPlan(ctx, o.Options.Plan, o.ID)
	}
	if err != nil {
		return err
	}
	run := &applying{Applier: a, running: r, plan: p, limit: a.limit(o), total: int(p.TagsDeleted + p.ManifestsDeleted)}
	outcomes, err := a.Store.PlanOutcomes(ctx, p.ID)
	if err != nil {
		return err
	}
	run.done = run.total - int(outcomes.Left)
	if err = run.all(ctx); err == nil || !errors.Is(err, indexer.ErrUnavailable) {
		if kept := run.keepTags(context.WithoutCancel(ctx)); err == nil {
			err = kept
		}
	}
	return err
}

// An applying is a plan while it is applied.
type applying struct {
	*Applier
	running     *manage.Running
	plan        retention.Plan
	limit       int
	done, total int
	repository  string
	outcomes    []postgres.Outcome
	ended       map[int]bool // by the id of the item
	stays       map[digest.Digest]bool
	inUse       []digest.Digest
}

// leaving is how many repositories are settled while others are changed: 8. Each waits until
// the registry has reported the deletions and the book has them.
const leaving = 8

// all applies the plan to one repository after the other.
func (a *applying) all(ctx context.Context) error {
	a.running.Progress(a.done, a.total)
	left, ctxLeft := errgroup.WithContext(ctx)
	left.SetLimit(leaving)
	err := a.each(ctxLeft, func(name string) {
		left.Go(func() error { return a.running.Leave(ctxLeft, name) })
	})
	if settled := left.Wait(); settled != nil { // which has ended each
		return settled
	}
	return err
}

// each applies the plan to one repository after the other, and calls f after each.
func (a *applying) each(ctx context.Context, f func(name string)) error {
	for after := ""; ; {
		name, err := a.Store.NextPlanned(ctx, a.plan.ID, after)
		if err != nil || name == "" {
			return err
		}
		if err := a.one(ctx, name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		f(name)
		after = name
	}
}

// one applies the plan to one repository.
func (a *applying) one(ctx context.Context, name string) (err error) {
	a.repository, a.stays, a.ended = name, map[digest.Digest]bool{}, map[int]bool{}
	look, err := a.look(ctx)
	if err != nil {
		return err
	}
	a.inUse = look.InUse
	stop := a.stop(look)
	defer func() {
		stored := a.store(context.WithoutCancel(ctx))
		if err == nil {
			err = stored
		}
	}()
	tags := tagsToDelete(look.Steps)
	for i, step := range look.Steps {
		if i%storeEvery == 0 && i > 0 {
			if err := a.store(ctx); err != nil {
				return err
			}
			if stop == "" {
				stop, err = a.nowInUse(ctx)
			}
			if err != nil {
				return err
			}
		}
		if err := a.step(ctx, step, stop, tags); err != nil {
			return err
		}
	}
	return nil
}

// look looks again at the repository, after a comparison of its tags with the registry. If tasks of
// it wait, it waits for them.
func (a *applying) look(ctx context.Context) (look postgres.SecondLook, err error) {
	if err := a.running.Refresh(ctx, a.repository); err != nil {
		return look, err
	}
	for end := time.Now().Add(settleFor); ; {
		look, err = a.Store.LookAgain(ctx, a.plan, a.repository)
		if err != nil || look.LeftOut == "" || time.Now().After(end) || !sleep(ctx, lookEvery/4) {
			return look, err
		}
	}
}

// stop returns why nothing of the repository is deleted; "" if it may be.
func (a *applying) stop(look postgres.SecondLook) string {
	if look.LeftOut != "" {
		return "its repository is left out now: " + look.LeftOut
	}
	tags, manifests := 0, 0
	for _, s := range look.Steps {
		switch {
		case s.Skip != "":
		case s.Decision.Tag != "":
			tags++
		default:
			manifests++
		}
	}
	percent := max(retention.Percent(int64(tags), int64(look.Tags)),
		retention.Percent(int64(manifests), int64(look.Manifests)))
	if percent > a.limit {
		return "it would be " + strconv.Itoa(percent) + " % of its repository now, more than " + strconv.Itoa(a.limit) + " %"
	}
	return ""
}

// nowInUse returns why no more of the repository is deleted, if something was reported to run
// since it was looked at.
func (a *applying) nowInUse(ctx context.Context) (string, error) {
	now, err := a.Store.InUse(ctx, a.repository)
	for _, d := range now {
		if !slices.Contains(a.inUse, d) {
			return "something of its repository was reported to run meanwhile: make a new plan", err
		}
	}
	return "", err
}

// tagsToDelete returns the tags that are deleted with each manifest that is.
func tagsToDelete(steps []postgres.PlanStep) map[digest.Digest][]postgres.PlanStep {
	tags := map[digest.Digest][]postgres.PlanStep{}
	for _, s := range steps {
		if s.Decision.Tag == "" && s.Skip == "" {
			tags[s.Decision.Digest] = []postgres.PlanStep{}
		}
	}
	for _, s := range steps {
		if of, goes := tags[s.Decision.Digest]; goes && s.Decision.Tag != "" && s.Skip == "" {
			tags[s.Decision.Digest] = append(of, s)
		}
	}
	return tags
}

// step does one step. The tags of a manifest that is deleted go with it.
func (a *applying) step(ctx context.Context, s postgres.PlanStep, stop string,
	tags map[digest.Digest][]postgres.PlanStep) error {
	d := s.Decision
	if stop != "" && s.Skip == "" {
		s.Skip = stop
	}
	for _, above := range s.Above {
		if a.stays[above] && s.Skip == "" {
			s.Skip = "it belongs to " + above.String() + ", which stays"
		}
	}
	of, goes := tags[d.Digest]
	switch {
	case s.Skip == retention.NotThere && a.running.Resumed():
		a.end(s, "") // it was deleted before the process died
		return nil
	case d.Tag != "" && goes && stop == "":
		return nil // with the manifest
	case d.Tag != "" && s.Skip == "":
		return a.do(s, a.running.Untag(ctx, a.repository, d.Tag, d.Digest))
	case d.Tag != "" || s.Skip != "":
		a.skip(s, of)
		return nil
	}
	deletion := manage.Deletion{Repository: a.repository, Digest: d.Digest, Tags: []string{}}
	for _, t := range of {
		deletion.Tags = append(deletion.Tags, t.Decision.Tag)
	}
	err := a.running.Delete(ctx, deletion)
	for _, t := range of {
		if ended := a.do(t, err); ended != nil {
			return ended
		}
	}
	return a.do(s, err)
}

// skip ends a step that is not done, and those of its tags.
func (a *applying) skip(s postgres.PlanStep, tags []postgres.PlanStep) {
	a.end(s, s.Skip)
	if s.Decision.Tag == "" {
		for _, t := range tags {
			a.end(t, "what it shows stays: "+s.Skip)
		}
	}
}

// do ends a step that was done with an error or nil. An error that is about this step alone
// skips it.
func (a *applying) do(s postgres.PlanStep, err error) error {
	switch {
	case err == nil:
		a.end(s, "")
	case errors.Is(err, indexer.ErrNotFound):
		a.end(s, retention.NotThere)
	case errors.Is(err, indexer.ErrConflict):
		a.end(s, err.Error())
	default:
		return err
	}
	return nil
}

// end notes what became of a step, the first time.
func (a *applying) end(s postgres.PlanStep, skip string) {
	o := postgres.Outcome{ID: int32(s.ID), Outcome: retention.OutcomeDone, Skipped: skip}
	if skip != "" {
		o.Outcome = retention.OutcomeSkipped
		a.stays[s.Decision.Digest] = a.stays[s.Decision.Digest] || skip != retention.NotThere
	}
	if a.ended[s.ID] {
		return
	}
	a.ended[s.ID] = true
	a.outcomes = append(a.outcomes, o)
	a.done++
	a.running.Progress(a.done, a.total)
}

// store stores what became of the steps so far.
func (a *applying) store(ctx context.Context) error {
	if len(a.outcomes) == 0 {
		return nil
	}
	err := a.Store.EndItems(ctx, a.plan.ID, a.repository, a.outcomes)
	if err == nil {
		a.outcomes = a.outcomes[:0]
	}
	return err
}

// keepTags puts the tags into the trash that were deleted without their manifests, so that an
// undo puts them back too. It does so last, since the trash also says which manifests are gone.
func (a *applying) keepTags(ctx context.Context) error {
	all, err := a.Store.UntaggedOnly(ctx, a.plan.ID)
	if err != nil {
		return err
	}
	for _, t := range all {
		var err error
		t.MediaType, t.Body, err = a.Store.ManifestBody(ctx, t.Repository, t.Digest)
		if errors.Is(err, indexer.ErrNotFound) {
			a.running.Note("%s@%s is not in the book: an undo does not put back its tags", t.Repository, t.Digest)
			continue
		}
		t.Operation, t.TagsOnly = a.running.Operation().ID, true
		if err == nil {
			err = a.Store.KeepTrash(ctx, t)
		}
		if err == nil {
			err = a.Store.DeletedTrash(ctx, t.Operation, t.Repository, []digest.Digest{t.Digest})
		}
		if err != nil {
			return err
		}
	}
	return nil
}
