package retention

import (
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
)

// MaxPlanAge is how long a plan can be applied: a day. An older one is about another registry.
const MaxPlanAge = 24 * time.Hour

// A PlanState says how far the making of a plan is.
type PlanState string

// The states of a plan.
const (
	PlanWaiting PlanState = "waiting" // for a writer that makes it
	PlanMaking  PlanState = "making"
	PlanMade    PlanState = "made"
	PlanFailed  PlanState = "failed"
)

// Why a plan is made.
const (
	ByRequest  = "request"
	ByInterval = "interval"
)

// A Plan lists what rules would delete. Nothing is deleted until it is applied, by its number.
type Plan struct {
	ID        int64
	Scope     access.Pattern
	State     PlanState
	Reason    string // ByRequest or ByInterval
	CreatedAt time.Time
	CreatedBy string
	MadeAt    time.Time // zero: it is not made whole
	Rules     []string  // that were used, in words
	Stale     string    // why it cannot be applied any more; "": it can
	Notes     []string  // what was not known, in words

	Repositories int // that were looked at
	LeftOut      int // of which nothing was decided
	Tags, TagsDeleted,
	Manifests, ManifestsDeleted int64
	Percent   int    // the largest share that is deleted of a repository, or of the whole; rounded up
	PercentOf string // the repository of Percent; "": the whole
	Freed     *indexer.Freed
	Error     string // why it failed, in words

	Operation int64 // that applies it; 0: it was not applied
	Undo      int64 // the last operation that puts back what it deleted; 0: none
}

// Ended reports whether the plan is made, or has failed.
func (p Plan) Ended() bool { return p.State == PlanMade || p.State == PlanFailed }

// PlanStale returns why a plan cannot be applied, by its age and its rules; "" if it can.
func PlanStale(madeAt, now time.Time, fingerprint, rules string) string {
	switch {
	case fingerprint != rules:
		return "the rules have changed since it was made: make a new plan"
	case now.Sub(madeAt) > MaxPlanAge:
		return "it is older than a day: make a new plan"
	}
	return ""
}

// Percent returns what part of all some are, in per cent, rounded up.
func Percent(some, all int64) int {
	if all == 0 {
		return 0
	}
	return int((100*some + all - 1) / all)
}

// A PlanRepository is a repository of a plan, in which something is deleted or which was left
// out.
type PlanRepository struct {
	Name                        string
	Tags, TagsDeleted           int
	Manifests, ManifestsDeleted int
	Size                        int64        // bytes that the deleted manifests name; others may use them too
	LeftOut                     string       // why nothing was decided; "": it was
	Stays                       map[Code]int // tags and manifests that stay, by the reason
	Listed                      bool         // whether what stays is listed too
}

// Percent returns the larger of the shares of its tags and manifests that are deleted.
func (r PlanRepository) Percent() int {
	return max(Percent(int64(r.TagsDeleted), int64(r.Tags)), Percent(int64(r.ManifestsDeleted), int64(r.Manifests)))
}

// Outcomes of items.
const (
	OutcomeDone    = "done"
	OutcomeSkipped = "skipped"
)

// An Item is a tag or a manifest of a plan.
type Item struct {
	Repository string
	ID         int // unique in its repository
	Decision
	Outcome string // what applying the plan did: "" for nothing yet
	Skipped string // why it was not deleted
}

// A PlanQuery selects plans, the latest first.
type PlanQuery struct {
	Within []access.Pattern // only with a scope within these
	Before int64            // only those with a smaller id; 0: all
	Limit  int
}

// An ItemQuery selects items of a plan, in order of repository and id.
type ItemQuery struct {
	Plan       int64
	Repository string // "": all
	Deleted    *bool  // only those that go, or that stay; nil: both
	Tags       *bool  // only tags, or only manifests; nil: both
	Outcome    string // "": any
	Contains   string // a part of the tag, or of the digest; "": any
	After      string // only repositories after this one, and in it only items after AfterID
	AfterID    int
	Limit      int
}

// A RepositoryQuery selects repositories of a plan, those in which most goes first.
type RepositoryQuery struct {
	Plan     int64
	Contains string // a part of the name; "": any
	LeftOut  bool   // those that were left out, in order of name, instead of the others
	Offset   int
	Limit    int
}

const (
	// MaxUse is how long a report that something runs counts at most: 30 days.
	MaxUse = 30 * day
	// DefaultUse is how long it counts if the report does not say: a day.
	DefaultUse = day
	// MaxUses is the most reports of one reporter that count at a time: 50,000.
	MaxUses = 50_000
	// MaxUsesEach is the most manifests of one report: 500, which fit in a body.
	MaxUsesEach = 500
	// maxCluster is the most characters of the name of a cluster: 100.
	maxCluster = 100
)

// A Use says that a manifest runs in a cluster.
type Use struct {
	Repository string
	Digest     digest.Digest
	Cluster    string
	Reporter   string
	ReportedAt time.Time
	ExpiresAt  time.Time
}

// CheckCluster returns ErrInvalid unless text is a name of a cluster.
func CheckCluster(text string) error {
	if text == "" || len(text) > maxCluster || !indexer.IsTag(text) {
		return indexer.Invalid("cluster is %.64q: write a name of letters, digits and . _ -, at most %d characters", text,
			maxCluster)
	}
	return nil
}

// A UseQuery selects reports that count, in order of repository, digest and cluster.
type UseQuery struct {
	Repository string // "": any
	Within     []access.Pattern
	After      *Use
	Limit      int
}

// Outcomes are how many tags and manifests of a plan were deleted, skipped, and are left.
type Outcomes struct{ Tags, Manifests, Skipped, Left int64 }
