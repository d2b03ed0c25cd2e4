package login

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/web/answer"
)

// As returns the context for what a subject does by a request, which is recorded.
func As(r *http.Request, s access.Subject) context.Context {
	source := answer.ClientOf(r).Addr().String()
	return access.WithActor(r.Context(), access.Actor{Name: s.Name, Token: s.Token, Source: source})
}

// maxRecords is the maximum number of records in an answer, and defaultRecords their number
// if the client does not say how many it wants.
const (
	maxRecords     = 1000
	defaultRecords = 100
)

// An auditRecord is a record in the API.
type auditRecord struct {
	ID      int64            `json:"id"`
	Time    answer.Timestamp `json:"time"`
	Event   access.Event     `json:"event"`
	Actor   string           `json:"actor"`
	Token   string           `json:"token,omitempty"`
	Source  string           `json:"source"`
	Target  string           `json:"target"`
	Outcome string           `json:"outcome"`
	Request string           `json:"request_id,omitempty"`
	Detail  string           `json:"detail,omitempty"`
}

// auditPage is the answer of GET /api/v1/audit.
type auditPage struct {
	Items []auditRecord `json:"items"`
	Next  string        `json:"next,omitempty"` // the address of the next page
}

// Audit serves GET /api/v1/audit to administrators: the records, the latest first.
func (l *Login) Audit(w http.ResponseWriter, r *http.Request) error {
	s, err := l.Subject(r)
	switch {
	case err != nil:
		return err
	case s.Name == "":
		return denied
	case !s.Administers():
		return answer.Refuse(http.StatusForbidden,
			"only an administrator may read this, with a password or a token without rules")
	}
	q, err := readAuditQuery(r.URL.Query())
	if err != nil {
		return err
	}
	q.Limit++ // to see whether there are more
	records, err := l.Records(r.Context(), q)
	if err != nil {
		return err
	}
	var page auditPage
	if len(records) == q.Limit {
		records = records[:q.Limit-1]
		next := r.URL.Query()
		next.Set("before", strconv.FormatInt(records[len(records)-1].ID, 10))
		page.Next = r.URL.Path + "?" + next.Encode()
	}
	page.Items = answer.Map(records, func(x access.Record) auditRecord {
		return auditRecord{
			ID: x.ID, Time: answer.Timestamp{Time: x.At.Truncate(time.Millisecond)}, Event: x.Event,
			Actor: x.Actor.Name, Token: x.Actor.Token, Source: x.Actor.Source, Target: x.Target, Outcome: x.Outcome(),
			Request: x.Request, Detail: x.Detail,
		}
	})
	return answer.WriteJSON(w, http.StatusOK, page)
}

// readAuditQuery reads the parameters of a request for records.
func readAuditQuery(values url.Values) (q access.AuditQuery, err error) {
	q = access.AuditQuery{Limit: defaultRecords}
	for name := range values {
		value := values.Get(name)
		switch name {
		case "actor":
			q.Actor = value
		case "target":
			q.Target = value
		case "event":
			q.Event = access.Event(value)
		case "before":
			if q.Before, err = strconv.ParseInt(value, 10, 64); err != nil || q.Before < 1 {
				return q, answer.Invalid("before", "is %.32q: write the id of a record", value)
			}
		case "limit":
			if q.Limit, err = strconv.Atoi(value); err != nil || q.Limit < 1 || q.Limit > maxRecords {
				return q, answer.Invalid("limit", "is %.32q: write a number from 1 to %d", value, maxRecords)
			}
		default:
			return q, answer.Invalid("the parameter", "%.32q is unknown: there are actor, target, event, before and limit", name)
		}
	}
	return q, nil
}
