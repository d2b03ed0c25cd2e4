package access

import (
	"context"
	"time"
)

// An Actor is who does something that is recorded.
type Actor struct {
	Name    string // an account, or cli:USER; "": not verified
	Claimed string // without a Name: the name that the client gave, not verified
	Token   string // the id of the personal token; "": none
	Source  string // the address of the client, or the name of the host
}

type actorKey struct{}

// WithActor returns a context for what an actor does.
func WithActor(ctx context.Context, a Actor) context.Context {
	return context.WithValue(ctx, actorKey{}, a)
}

// ActorOf returns the actor of a context.
func ActorOf(ctx context.Context) Actor {
	a, _ := ctx.Value(actorKey{}).(Actor)
	return a
}

// An Event names what was done or tried.
type Event string

// The events that are recorded.
const (
	AccountAdd       Event = "account.add"
	AccountChange    Event = "account.change"
	AccountPassword  Event = "account.password"
	AccountDelete    Event = "account.delete"
	AccountLink      Event = "account.link"
	AccountUnlink    Event = "account.unlink"
	TokenAdd         Event = "token.add"
	TokenExpire      Event = "token.expire"
	TokenRevoke      Event = "token.revoke"
	GrantAdd         Event = "grant.add"
	GrantRemove      Event = "grant.remove"
	WorkloadAdd      Event = "workload.add"
	WorkloadRemove   Event = "workload.remove"
	RetentionAdd     Event = "retention.add"
	RetentionChange  Event = "retention.change"
	RetentionRemove  Event = "retention.remove"
	PlanMake         Event = "plan.make"
	WebhookAdd       Event = "webhook.add"
	WebhookChange    Event = "webhook.change"
	WebhookRemove    Event = "webhook.remove"
	WebhookRotate    Event = "webhook.rotate"
	WebhookTest      Event = "webhook.test"
	WebhookRedeliver Event = "webhook.redeliver"
	WebhookPause     Event = "webhook.pause" // by the indexer itself
	SessionBegin     Event = "session.begin"
	SessionEnd       Event = "session.end"
	CollectPause     Event = "collect.pause"
	CollectResume    Event = "collect.resume"
	CollectRetry     Event = "collect.retry"
	Login            Event = "login"         // of a program; only refused ones are recorded
	Administration   Event = "administrator" // a request for what only administrators may; only refused ones
	ImagePush        Event = "image.push"    // this and the following three are reported by the registry
	ImageDelete      Event = "image.delete"  // or asked of us, as are the following
	TagDelete        Event = "tag.delete"
	BlobDelete       Event = "blob.delete"

	ProtectionAdd     Event = "protection.add"
	ProtectionRemove  Event = "protection.remove"
	ProtectionBreak   Event = "protection.break" // a protected tag was moved or deleted all the same
	ProtectionRestore Event = "protection.restore"
	PushRefuse        Event = "push.refuse" // of a client who has the right; only refused ones
	YankAdd           Event = "yank.add"
	YankRemove        Event = "yank.remove"
	PackagePublish    Event = "package.publish"
	PackageConfigure  Event = "package.configure" // the config.toml of the index was replaced

	RepositoryDelete Event = "repository.delete"
	ImageRestore     Event = "image.restore"
	TagRollback      Event = "tag.rollback"
	PlanApply        Event = "plan.apply"
	OperationAdd     Event = "operation.add" // of a kind that has no event of its own
	JobRun           Event = "job.run"       // asked for; the leader runs it
)

// Events are all events, in the order in which they are documented.
var Events = []Event{
	AccountAdd, AccountChange, AccountPassword, AccountDelete, AccountLink, AccountUnlink,
	TokenAdd, TokenExpire, TokenRevoke, WorkloadAdd, WorkloadRemove, GrantAdd, GrantRemove,
	CollectPause, CollectResume, CollectRetry,
	RetentionAdd, RetentionChange, RetentionRemove, PlanMake,
	WebhookAdd, WebhookChange, WebhookRemove, WebhookRotate, WebhookTest, WebhookRedeliver, WebhookPause,
	SessionBegin, SessionEnd, Login, Administration, ImagePush, ImageDelete, TagDelete, BlobDelete,
	ProtectionAdd, ProtectionRemove, ProtectionBreak, ProtectionRestore, PushRefuse, YankAdd, YankRemove,
	PackagePublish, PackageConfigure,
	RepositoryDelete, ImageRestore, TagRollback, PlanApply, OperationAdd,
	JobRun,
}

// A Record says that somebody did something, or was refused. Records are never changed.
type Record struct {
	ID         int64
	At         time.Time // when it was recorded
	Event      Event
	Actor      Actor
	Target     string // the account, token, grantee, tag or manifest that it was done to
	Repository string // of the tag or manifest; "": none
	Refused    bool
	Request    string    // the id of the request; "": the command line
	Detail     string    // what was granted, what a token is limited to, or which digest was pushed
	Reported   time.Time // when it happened, as the registry reports; zero: the indexer did it itself
}

// The words for whether it was done.
const (
	Done    = "done"
	Refused = "refused"
)

// An AuditQuery selects records, the latest first.
type AuditQuery struct {
	Actor, Target, Repository string // "": any
	Event                     Event  // "": any
	Outcome                   string // Done or Refused; "": any
	// Only records of this time, in which they were recorded. Until is excluded; zero: no limit.
	Since, Until time.Time
	Before       int64 // only records with a smaller id; 0: all
	Limit        int
}

// Outcome returns a word for whether it was done.
func (r Record) Outcome() string {
	if r.Refused {
		return Refused
	}
	return Done
}
