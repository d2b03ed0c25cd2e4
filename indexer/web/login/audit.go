package login

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/web/answer"
)

// Records are what was recorded.
type Records interface {
	// Audit returns the records of a query, the latest first.
	Audit(context.Context, access.AuditQuery) ([]access.Record, error)
	// AuditAfter returns them in order of their ids, the first after one.
	AuditAfter(ctx context.Context, id int64, q access.AuditQuery) ([]access.Record, error)
}

// As returns the context for what a subject does by a request, which is recorded.
func As(r *http.Request, s access.Subject) context.Context {
	return access.WithActor(r.Context(), access.Actor{Name: s.Name, Token: s.Token, Source: sourceOf(r)})
}

// sourceOf returns the address of the client of a request.
func sourceOf(r *http.Request) string { return answer.ClientOf(r).Addr().String() }

// refused records that a login with a name was refused, if err is the answer to wrong
// credentials or to too many of them.
func (l *Login) refused(r *http.Request, e access.Event, name string, err error) {
	code, _ := answer.RefusedWith(err)
	if err == unsure || code != http.StatusUnauthorized && code != http.StatusTooManyRequests {
		return
	}
	record := refusalOf(r, e, name)
	if code == http.StatusTooManyRequests {
		record.Detail = "too many wrong passwords before"
	}
	l.Refusals.Add(record)
}

// refusalOf returns the record of a request that was refused, of a client who says that it has a
// name.
func refusalOf(r *http.Request, e access.Event, name string) access.Record {
	name = answer.Cut(indexer.CleanText(name), maxTyped)
	return access.Record{
		Event: e, Actor: access.Actor{Claimed: name, Source: sourceOf(r)}, Target: name,
		Request: indexer.RequestOf(r.Context()),
	}
}

// Administrator returns the subject of a request, which must be an administrator. Who is known
// and is none is recorded.
func (l *Login) Administrator(r *http.Request) (access.Subject, error) {
	s, err := l.Subject(r)
	switch {
	case err != nil:
		return s, err
	case s.Name == "":
		return s, denied
	}
	return s, l.Forbidden(r, s, access.Administrators(s))
}

// Forbidden records that a subject may not do what it requests, if err says so, and returns
// err.
func (l *Login) Forbidden(r *http.Request, s access.Subject, err error) error {
	if errors.Is(err, indexer.ErrForbidden) {
		l.Refusals.Add(access.Record{
			Event: access.Administration, Actor: access.ActorOf(As(r, s)), Target: answer.LoggedPath(r),
			Request: indexer.RequestOf(r.Context()),
		})
	}
	return err
}

// maxRecords is the maximum number of records in an answer, and defaultRecords their number
// if the client does not say how many it wants.
const (
	maxRecords     = 1000
	defaultRecords = 100
)

// An auditRecord is a record in the API.
type auditRecord struct {
	ID         int64            `json:"id"`
	Time       answer.Timestamp `json:"time"`
	Event      access.Event     `json:"event"`
	Actor      string           `json:"actor"`
	Claimed    string           `json:"claimed,omitempty"`
	Token      string           `json:"token,omitempty"`
	Source     string           `json:"source"`
	Target     string           `json:"target"`
	Repository string           `json:"repository,omitempty"`
	Outcome    string           `json:"outcome"`
	Request    string           `json:"request_id,omitempty"`
	Detail     string           `json:"detail,omitempty"`
	ReportedAt answer.Timestamp `json:"reported_at,omitzero"`
}

// An AuditAnswer is the answer of GET /api/v1/audit.
type AuditAnswer struct {
	Items []auditRecord `json:"items"`
	Next  string        `json:"next,omitempty"` // the address of the next page
}

// ServeAudit serves GET /api/v1/audit to administrators: the records, the latest first.
func (l *Login) ServeAudit(w http.ResponseWriter, r *http.Request) error {
	if _, err := l.Administrator(r); err != nil {
		return err
	}
	q, err := ReadAuditQuery(r.URL.Query(), "before", "limit")
	if err != nil {
		return err
	}
	records, more, err := l.AuditPage(r.Context(), q)
	if err != nil {
		return err
	}
	page := AuditAnswer{Items: answer.Map(records, auditRecordOf)}
	if more {
		next := r.URL.Query()
		next.Set("before", strconv.FormatInt(records[len(records)-1].ID, 10))
		page.Next = r.URL.Path + "?" + next.Encode()
	}
	return answer.WriteJSON(w, http.StatusOK, page)
}

// AuditPage returns the records of a query, the latest first, and whether there are more.
func (l *Login) AuditPage(ctx context.Context, q access.AuditQuery) (records []access.Record, more bool, err error) {
	q.Limit++
	records, err = l.Audit.Audit(ctx, q)
	if more = len(records) == q.Limit; more {
		records = records[:q.Limit-1]
	}
	return records, more, err
}

func auditRecordOf(x access.Record) auditRecord {
	return auditRecord{
		ID: x.ID, Time: toMilliseconds(x.At), Event: x.Event, Actor: x.Actor.Name, Claimed: x.Actor.Claimed,
		Token: x.Actor.Token, Source: x.Actor.Source, Target: x.Target, Repository: x.Repository, Outcome: x.Outcome(),
		Request: x.Request, Detail: x.Detail, ReportedAt: toMilliseconds(x.Reported),
	}
}

func toMilliseconds(t time.Time) answer.Timestamp {
	return answer.Timestamp{Time: t.Truncate(time.Millisecond)}
}

// RefusedPush records that a push or a deletion was refused by a protection.
func (l *Login) RefusedPush(r *http.Request, repository, tag, why string) {
	record := access.Record{Event: access.PushRefuse, Actor: access.Actor{Source: sourceOf(r)},
		Target:     cmp.Or(tag, repository),
		Repository: repository, Request: indexer.RequestOf(r.Context()), Detail: why}
	if token, ok := access.BareToken(r.Header.Get("Authorization")); ok && l.Signer != nil {
		if actor, _, err := l.Signer.Registry(token, time.Now()); err == nil {
			record.Actor.Name, record.Actor.Token = access.ParseActor(actor)
		}
	}
	l.Refusals.Add(record)
}
