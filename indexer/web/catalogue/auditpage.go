package catalogue

import (
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/web/answer"
	"github.com/portbook/portbook/indexer/web/login"
)

// An auditView lists records, the latest first.
type auditView struct {
	tabs
	Typed      map[string]string // the filters, as they were typed
	Events     []access.Event
	Records    []access.Record
	Export     string // address of the same records as CloudEvents
	Back, More string // addresses of the latest records and of older ones; "" if there are none
}

// Filtered reports whether not all records are listed.
func (v auditView) Filtered() bool { return len(v.Typed) > 0 }

// Audit serves the records to administrators. Who is not signed in is asked to.
func (s *Catalogue) Audit(w http.ResponseWriter, r *http.Request) error {
	l := s.config.Login
	who, err := l.Person(r)
	if err != nil {
		return err
	}
	if who.Name == "" && r.Header.Get("Authorization") == "" {
		seeOther(w, "/account?"+url.Values{"next": {r.URL.RequestURI()}}.Encode())
		return nil
	}
	if who, err = l.Administrator(r); err != nil {
		return err
	}
	q, err := login.ReadAuditQuery(r.URL.Query(), "before")
	if err != nil {
		return err
	}
	q.Limit = pageSize
	records, more, err := l.AuditPage(r.Context(), q)
	if err != nil {
		return err
	}
	v := auditView{tabs: tabsOf(who, "audit"), Typed: typedFilters(r.URL.Query()), Events: access.Events, Records: records}
	v.Export = v.address(answer.APIPrefix+"/audit/export", 0)
	if q.Before > 0 {
		v.Back = v.address("/account/audit", 0)
	}
	if more {
		v.More = v.address("/account/audit", records[len(records)-1].ID)
	}
	return s.unstored(w, http.StatusOK, "audit", page{Title: "Audit log", Account: true, Main: v})
}

// typedFilters returns the filters of a request that are not empty.
func typedFilters(values url.Values) map[string]string {
	typed := map[string]string{}
	for _, name := range login.AuditFilters {
		if text := values.Get(name); text != "" {
			typed[name] = text
		}
	}
	return typed
}

// address returns the address of path with the filters of v, from before an id on.
func (v auditView) address(path string, before int64) string {
	values := url.Values{}
	for name, text := range v.Typed {
		values.Set(name, text)
	}
	if before > 0 {
		values.Set("before", strconv.FormatInt(before, 10))
	}
	if len(values) == 0 {
		return path
	}
	return path + "?" + values.Encode()
}

// lateReport is from how much later on a report shows when it was recorded too: 1 min. The
// registry usually reports within a second.
const lateReport = time.Minute

// happened returns when something happened, as far as is known.
func happened(r access.Record) time.Time {
	if r.Reported.IsZero() {
		return r.At
	}
	return r.Reported
}

// reportedLate reports whether the registry has reported something late.
func reportedLate(r access.Record) bool { return r.At.Sub(happened(r)) > lateReport }
