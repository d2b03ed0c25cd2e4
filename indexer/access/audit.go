package access

import (
	"context"
	"time"
)

// An Actor is who does something that is recorded.
type Actor struct {
	Name   string // an account, or cli:USER
	Token  string // the id of the personal token; "": none
	Source string // the address of the client, or the name of the host
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
	AccountAdd      Event = "account.add"
	AccountChange   Event = "account.change"
	AccountPassword Event = "account.password"
	AccountDelete   Event = "account.delete"
	TokenAdd        Event = "token.add"
	TokenExpire     Event = "token.expire"
	TokenRevoke     Event = "token.revoke"
	GrantAdd        Event = "grant.add"
	GrantRemove     Event = "grant.remove"
	WorkloadAdd     Event = "workload.add"
	WorkloadRemove  Event = "workload.remove"
	SessionBegin    Event = "session.begin"
	SessionEnd      Event = "session.end"
)

// A Record says that somebody did something, or was refused. Records are never changed.
type Record struct {
	ID      int64
	At      time.Time
	Event   Event
	Actor   Actor
	Target  string // the account, token or grantee that it was done to
	Refused bool
	Request string // the id of the request; "": the command line
	Detail  string // what was granted, or what a token is limited to
}

// An AuditQuery selects records, the latest first.
type AuditQuery struct {
	Actor, Target string // "": any
	Event         Event  // "": any
	Before        int64  // only records with a smaller id; 0: all
	Limit         int
}

// Outcome returns a word for whether it was done.
func (r Record) Outcome() string {
	if r.Refused {
		return "refused"
	}
	return "done"
}
