package login

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/web/answer"
)

// AuditFilters are the names of the parameters that select records.
var AuditFilters = []string{"actor", "target", "repository", "event", "outcome", "since", "until"}

// ReadAuditQuery reads the parameters of a request for records: filters, and those of others.
// One that is empty is as if it were not there, because a form sends all its fields.
func ReadAuditQuery(values url.Values, others ...string) (access.AuditQuery, error) {
	q := access.AuditQuery{Limit: defaultRecords}
	known := slices.Concat(AuditFilters, others)
	for name, given := range values {
		if !slices.Contains(known, name) {
			return q, answer.Invalid("parameter", "%.64q is unknown: this address takes %s", name, strings.Join(known, ", "))
		}
		if len(given) > 1 {
			return q, answer.Invalid("parameter", "%q is given %d times: give it once", name, len(given))
		}
		if given[0] == "" {
			continue
		}
		if err := setAuditFilter(&q, name, given[0]); err != nil {
			return q, err
		}
	}
	return q, nil
}

// setAuditFilter sets the part of a query that a parameter is for.
func setAuditFilter(q *access.AuditQuery, name, value string) (err error) {
	switch name {
	case "actor":
		q.Actor = value
	case "target":
		q.Target = value
	case "repository":
		if q.Repository = value; !indexer.IsRepository(value) {
			err = indexer.InvalidRepository(value)
		}
	case "event":
		if q.Event = access.Event(value); !slices.Contains(access.Events, q.Event) {
			err = answer.Invalid(name, "is %.64q: write one of %s", value, EventNames())
		}
	case "outcome":
		if q.Outcome = value; value != access.Done && value != access.Refused {
			err = answer.Invalid(name, "is %.64q: write %s or %s", value, access.Done, access.Refused)
		}
	case "since":
		q.Since, err = timeOf(name, value)
	case "until":
		q.Until, err = timeOf(name, value)
	case "before":
		q.Before, err = idOf(name, value)
	case "limit":
		if q.Limit, err = strconv.Atoi(value); err != nil || q.Limit < 1 || q.Limit > maxRecords {
			err = answer.Invalid(name, "is %.64q: write a number from 1 to %d", value, maxRecords)
		}
	}
	return err
}

// EventNames lists all events.
func EventNames() string {
	return strings.Join(answer.Map(access.Events, func(e access.Event) string { return string(e) }), ", ")
}

// timeForms are the forms of a time: RFC 3339, and without seconds or hours, in UTC, as the
// fields of a browser write it and as people do.
var timeForms = []string{time.RFC3339, "2006-01-02T15:04", time.DateOnly}

// earliest and latest are the times that a filter may name; PostgreSQL knows times from 4713 BC.
var (
	earliest = time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC)
	latest   = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
)

func timeOf(name, value string) (time.Time, error) {
	for _, form := range timeForms {
		if t, err := time.Parse(form, value); err == nil && !t.Before(earliest) && t.Before(latest) {
			return t, nil
		}
	}
	return time.Time{}, answer.Invalid(name, "is %.64q: write a time such as 2026-11-30T14:00:00Z, or a day", value)
}

func idOf(name, value string) (int64, error) {
	id, err := strconv.ParseInt(value, 10, 64)
	if err != nil || id < 1 {
		return 0, answer.Invalid(name, "is %.64q: write the id of a record", value)
	}
	return id, nil
}
