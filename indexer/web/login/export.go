package login

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/web/answer"
)

const (
	// maxExports is the maximum number of exports that one indexer writes at once: 2, and 1 for
	// one client. Each has a batch in memory.
	maxExports     = 2
	maxExportsEach = 1
	// exportTime is the time limit of one export: 15 min, as of a dump; two million records.
	exportTime = 15 * time.Minute
	// exportBatch is the number of records that are read and sent at once: 500, about 0.5 MB.
	exportBatch = 500
)

// ServeExport serves GET /api/v1/audit/export to administrators: the records in order of their
// ids, each a line with a CloudEvent. After an interruption a client goes on after the last id
// that it has.
func (l *Login) ServeExport(w http.ResponseWriter, r *http.Request) error {
	if _, err := l.Administrator(r); err != nil {
		return err
	}
	values := r.URL.Query()
	q, err := ReadAuditQuery(values, "after")
	if err != nil {
		return err
	}
	e := export{login: l, w: w, r: r, source: l.AuditAddress(), query: q}
	if text := values.Get("after"); text != "" && text != "0" {
		if e.after, err = idOf("after", text); err != nil {
			return err
		}
	}
	leave, ok := l.exports.Take(r)
	if !ok {
		w.Header().Set("Retry-After", "60")
		return answer.Refuse(http.StatusTooManyRequests,
			"too many exports are being written: at most %d for one address and %d in all; try again later",
			maxExportsEach, maxExports)
	}
	defer leave()
	if r.Method == http.MethodHead {
		e.begin()
		return nil
	}
	return e.run()
}

// AuditAddress returns the address of the records, the source of their CloudEvents.
func (l *Login) AuditAddress() string { return AuditAddress(l.PublicURL) }

// AuditAddress returns the address of the records of an indexer.
func AuditAddress(publicURL string) string {
	return strings.TrimSuffix(publicURL, "/") + answer.APIPrefix + "/audit"
}

// An export is the state of one that is being written.
type export struct {
	login  *Login
	w      http.ResponseWriter
	r      *http.Request
	source string
	query  access.AuditQuery
	after  int64
	begun  bool // whether the header was sent
}

func (e *export) run() error {
	ctx, cancel := context.WithTimeout(e.r.Context(), exportTime)
	defer cancel()
	for {
		n, err := e.batch(ctx)
		switch {
		case err != nil && e.begun:
			e.login.Log.WarnContext(ctx, "export broken off", "after", e.after, "error", err)
			panic(http.ErrAbortHandler) // returning would end the answer as if it were complete
		case err != nil:
			return err
		case n < exportBatch:
			return nil
		}
	}
}

// batch sends the next records, and returns how many there were.
func (e *export) batch(ctx context.Context) (int, error) {
	limited, cancel := context.WithTimeout(ctx, answer.Budget)
	defer cancel()
	e.query.Limit = exportBatch
	records, err := e.login.Audit.AuditAfter(limited, e.after, e.query)
	if err != nil {
		return 0, err
	}
	var b bytes.Buffer
	if err := WriteCloudEvents(json.NewEncoder(&b), records, e.source, e.login.Version); err != nil {
		return 0, err
	}
	e.begin()
	answer.SetDeadline(e.w, answer.Timeout)
	if _, err := e.w.Write(b.Bytes()); err != nil {
		return 0, err
	}
	_ = http.NewResponseController(e.w).Flush() // fails only without a connection
	if len(records) > 0 {
		e.after = records[len(records)-1].ID
	}
	return len(records), ctx.Err()
}

// begin sets the header fields, once.
func (e *export) begin() {
	if e.begun {
		return
	}
	e.begun = true
	h := e.w.Header()
	h.Set("Content-Type", "application/x-ndjson")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx must not buffer the answer
}

// WriteCloudEvents writes each record as a line.
func WriteCloudEvents(to *json.Encoder, records []access.Record, source, version string) error {
	to.SetEscapeHTML(false)
	for _, r := range records {
		if err := to.Encode(r.CloudEvent(source, version)); err != nil {
			return err
		}
	}
	return nil
}
