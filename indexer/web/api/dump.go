package api

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/web/answer"
)

const (
	// maxDumps is the maximum number of dumps that one indexer writes at once: 2, and 1
	// for one client. Each holds a database connection and a snapshot for as long as
	// the client reads.
	maxDumps     = 2
	maxDumpsEach = 1
	// dumpTime is the time limit of one dump: 15 min. While its snapshot is held,
	// vacuum cannot remove rows that were deleted since. The dump of a book of a
	// million repositories takes longer: it is interrupted, and the client continues it
	// with after.
	dumpTime = 15 * time.Minute
	// dumpSpeed is the minimum average speed at which a client must read: 64 KiB/s,
	// less than a slow line of today. The client may be behind by answer.Timeout, so
	// that a pause is harmless.
	dumpSpeed = 64 << 10
	// dumpBatch is the number of records in a batch: 500. A dump can be continued after
	// each batch.
	dumpBatch = 500
	// dumpForm is the version of the record format. It changes only if readers must
	// change.
	dumpForm = 1
)

// A dumpRecord is one line of a dump. Type names the other fields that are set.
type dumpRecord struct {
	Type       string          `json:"type" doc:"dump (the first line), repository, manifest, tag, move, after, or end (the last line of a complete dump)"`
	Dump       *dumpHead       `json:"dump,omitempty"`
	Repository *dumpRepository `json:"repository,omitempty" doc:"a repository that has a tag"`
	Manifest   *dumpManifest   `json:"manifest,omitempty"`
	Tag        *dumpTag        `json:"tag,omitempty"`
	Move       *move           `json:"move,omitempty"`
	After      string          `json:"after,omitempty" doc:"value of the parameter after that continues the dump after this line"`
	Records    *int            `json:"records,omitempty" doc:"in the end record: number of repositories, manifests, tags and moves before it"`
}

type dumpHead struct {
	Form      int              `json:"form" doc:"version of the record format: 1"`
	Catalogue string           `json:"catalogue" doc:"version of the catalogue that all records show"`
	ScannedAt answer.Timestamp `json:"scanned_at,omitzero" doc:"when the last full scan ended"`
	Time      answer.Timestamp `json:"time" doc:"when the dump began"`
	Program   string           `json:"program" doc:"version of the program"`
	After     string           `json:"after,omitempty" doc:"value of the parameter after, if the dump was continued"`
}

type dumpRepository struct {
	Name        string           `json:"name"`
	Namespace   string           `json:"namespace" doc:"the part of the name before the first slash"`
	Title       string           `json:"title"`
	Description string           `json:"description"`
	Tags        int              `json:"tags" doc:"number of tags"`
	UpdatedAt   answer.Timestamp `json:"updated_at" doc:"when anything in the repository last changed"`
}

type dumpManifest struct {
	Repository string           `json:"repository"`
	Digest     string           `json:"digest"`
	MediaType  string           `json:"media_type"`
	Kind       string           `json:"kind"`
	SeenAt     answer.Timestamp `json:"seen_at"`
	Problems   []string         `json:"problems,omitempty"`
	Body       []byte           `json:"body,omitempty" doc:"bytes of the manifest, in base64"`
	Config     any              `json:"config,omitempty" doc:"config of the image, if the manifest is one"`
}

type dumpTag struct {
	Repository string           `json:"repository"`
	Name       string           `json:"name"`
	Digest     string           `json:"digest"`
	MovedAt    answer.Timestamp `json:"moved_at,omitzero"`
	Problem    string           `json:"problem,omitempty"`
}

// dump writes the whole book: repositories, manifests, tags and moves, each ordered
// by its key, from one state. It holds one batch in memory. After the first batch is
// sent, an error can only interrupt the answer. The client detects this because the
// end record is missing, and continues with after.
func (s *API) dump(w http.ResponseWriter, r asked) error {
	at, err := readPlace(r.values.Get("after"))
	if err != nil {
		return err
	}
	if err := s.answerer.AwaitVersion(r.Request); err != nil {
		return err
	}
	leave, ok := s.dumps.Take(r.Request)
	if !ok {
		// Not 503, because a reverse proxy would then consider this server down.
		w.Header().Set("Retry-After", "60")
		return answer.Refuse(http.StatusTooManyRequests,
			"too many dumps are being written: at most %d for one address and %d in all; try again later",
			maxDumpsEach, maxDumps)
	}
	defer leave()
	ctx, cancel := context.WithTimeout(r.Context(), dumpTime)
	defer cancel()
	late := time.AfterFunc(answer.Budget, cancel) // each batch has the time budget of a request
	defer late.Stop()
	gone := r.Context()
	r.Request = r.WithContext(ctx)
	var d *dump
	err = s.answerer.ReadSince(r.Request, func(b answer.Book, fresh indexer.Freshness) error {
		if d != nil && d.begun { // f runs again, and the new snapshot may have another state
			return errors.New("the snapshot was lost")
		}
		d = newDump(w, r, fresh, late)
		defer d.close()
		head := dumpHead{
			Form: dumpForm, Catalogue: fresh.Version.String(), ScannedAt: answer.Timestamp{Time: fresh.ScannedAt},
			Time:    answer.Timestamp{Time: time.Now().Truncate(time.Second)},
			Program: s.config.Version, After: r.values.Get("after"),
		}
		d.write(dumpRecord{Type: "dump", Dump: &head})
		if r.Method == http.MethodHead {
			return d.flush()
		}
		return d.all(b, at)
	})
	if err != nil && d != nil && d.begun {
		s.config.Log.WarnContext(r.Context(), "dump broken off", "error", err)
		panic(http.ErrAbortHandler) // returning would end the answer as if it were complete
	}
	if err != nil && ctx.Err() != nil && gone.Err() == nil {
		return fmt.Errorf("dump: %w: %w", err, indexer.ErrTooSlow)
	}
	return err
}

// A place is a position in a dump: after the record of a kind with a key.
type place struct{ kind, repository, key string }

// dumpKinds are the kinds of records, in the order of a dump.
var dumpKinds = []string{"repository", "manifest", "tag", "move"}

func (p place) String() string {
	switch p.kind {
	case "manifest":
		return p.kind + ":" + p.repository + "@" + p.key
	case "tag":
		return p.kind + ":" + p.repository + ":" + p.key
	}
	return p.kind + ":" + p.repository + p.key
}

// readPlace parses the result of String. "" means the start.
func readPlace(text string) (place, error) {
	if text == "" {
		return place{kind: dumpKinds[0]}, nil
	}
	kind, rest, _ := strings.Cut(text, ":")
	p := place{kind: kind}
	ref, err := indexer.ParseReference(rest)
	switch {
	case kind == "move":
		p.key = rest
		if n, err := strconv.ParseInt(rest, 10, 64); err == nil && n > 0 {
			return p, nil
		}
	case err == nil:
		p.repository, p.key = ref.Repository, ref.Tag+ref.Digest.String()
		if (kind == "repository" || kind == "manifest" || kind == "tag") && p.String() == text {
			return p, nil
		}
	}
	return p, answer.Invalid("after", "is %.64q: write the last \"after\" of the dump to continue", text)
}

// A dump is the state of a dump that is being written.
type dump struct {
	w       http.ResponseWriter
	asked   asked
	fresh   indexer.Freshness
	buffer  bytes.Buffer // output for the next flush
	zip     *gzip.Writer // writes to buffer; nil: not compressed
	encoder *json.Encoder
	records int
	start   time.Time
	late    *time.Timer // cancels the read of a batch that is too slow
	sent    int         // number of bytes
	begun   bool        // whether the header was sent
	err     error       // the first write error
}

func newDump(w http.ResponseWriter, r asked, fresh indexer.Freshness, late *time.Timer) *dump {
	d := &dump{w: w, asked: r, fresh: fresh, start: time.Now(), late: late}
	out := io.Writer(&d.buffer)
	if answer.TakesGzip(r.Header.Values("Accept-Encoding")) {
		d.zip = answer.Gzips.Get().(*gzip.Writer)
		d.zip.Reset(&d.buffer)
		out = d.zip
	}
	d.encoder = json.NewEncoder(out)
	d.encoder.SetEscapeHTML(false)
	return d
}

func (d *dump) write(r dumpRecord) {
	if d.err == nil {
		d.err = d.encoder.Encode(r)
	}
}

// flush sends the buffer. It fails if the client reads more slowly than dumpSpeed.
func (d *dump) flush() error {
	if d.err == nil && d.zip != nil {
		d.err = d.zip.Flush()
	}
	if d.err != nil {
		return d.err
	}
	d.late.Stop()
	defer d.late.Reset(answer.Budget)
	d.begin()
	d.sent += d.buffer.Len()
	answer.SetDeadline(d.w, time.Until(dumpDeadline(d.start, d.sent)))
	if _, d.err = d.w.Write(d.buffer.Bytes()); d.err != nil {
		return d.err
	}
	d.buffer.Reset()
	_ = http.NewResponseController(d.w).Flush() // fails only without a connection
	return nil
}

// dumpDeadline returns the time by which a client must have read the first sent
// bytes of a dump.
func dumpDeadline(start time.Time, sent int) time.Time {
	seconds := min(sent/dumpSpeed, int(dumpTime/time.Second))
	return start.Add(min(answer.Timeout+time.Duration(seconds)*time.Second, dumpTime))
}

// begin sets the header fields, once.
func (d *dump) begin() {
	if d.begun {
		return
	}
	d.begun = true
	h := d.w.Header()
	answer.SetFreshness(h, d.fresh)
	h.Set("Content-Type", "application/x-ndjson")
	answer.AsFile(h, answer.FileName(".ndjson", "portbook", d.fresh.Version.String()))
	h.Set("Cache-Control", "no-store") // it may have gigabytes, and no two dumps are equal
	h.Set("Vary", "Accept-Encoding")
	h.Set("X-Accel-Buffering", "no") // nginx must not buffer the answer
	if d.zip != nil {
		h.Set("Content-Encoding", "gzip")
	}
}

// end closes the gzip stream and sends the rest.
func (d *dump) end() error {
	if d.zip != nil && d.err == nil {
		d.begin() // before close, since begin needs d.zip
		d.err = d.zip.Close()
		d.close()
	}
	return d.flush()
}

func (d *dump) close() {
	if d.zip != nil {
		answer.Gzips.Put(d.zip)
		d.zip = nil
	}
}

// all writes all records after a place, and the end record.
func (d *dump) all(b answer.Book, at place) error {
	for i, kind := range dumpKinds {
		if kind != at.kind {
			continue
		}
		for {
			last, err := d.batch(b, at)
			if err != nil {
				return err
			}
			if last == (place{}) {
				break
			}
			at = last
			d.write(dumpRecord{Type: "after", After: at.String()})
			if err := d.flush(); err != nil {
				return err
			}
		}
		if i+1 < len(dumpKinds) {
			at = place{kind: dumpKinds[i+1]}
		}
	}
	d.write(dumpRecord{Type: "end", Records: &d.records})
	return d.end()
}

// batch writes the next batch of records after a place of the same kind. It returns
// the place of the last record, or zero if there was none.
func (d *dump) batch(b answer.Book, at place) (last place, err error) {
	ctx := d.asked.Context()
	record := func(repository, key string, r dumpRecord) {
		r.Type, last = at.kind, place{at.kind, repository, key}
		d.records++
		d.write(r)
	}
	switch at.kind {
	case "repository":
		list, err := b.Repositories(ctx, at.repository, dumpBatch)
		for _, x := range list {
			r := dumpRepository{x.Name, x.Namespace(), x.Title, x.Description, x.Tags, answer.Timestamp{Time: x.UpdatedAt}}
			record(x.Name, "", dumpRecord{Repository: &r})
		}
		return last, err
	case "manifest":
		list, err := b.AllManifests(ctx, at.repository, digest.Digest(at.key), dumpBatch)
		for _, m := range list {
			r := dumpManifest{Repository: m.Repository, Digest: m.Digest.String(), MediaType: m.MediaType, Kind: string(m.Kind),
				SeenAt: answer.Timestamp{Time: m.SeenAt}, Problems: m.Problems, Body: m.Body}
			if len(m.ConfigBody) > 0 {
				r.Config = json.RawMessage(m.ConfigBody)
			}
			record(m.Repository, m.Digest.String(), dumpRecord{Manifest: &r})
		}
		return last, err
	case "tag":
		list, err := b.AllTags(ctx, at.repository, at.key, dumpBatch)
		for _, t := range list {
			record(t.Repository, t.Name, dumpRecord{Tag: &dumpTag{
				Repository: t.Repository, Name: t.Name, Digest: t.Digest.String(),
				MovedAt: answer.Timestamp{Time: t.MovedAt}, Problem: t.Problem,
			}})
		}
		return last, err
	}
	before, _ := strconv.ParseInt(at.key, 10, 64) // was checked; "" is 0: from the latest
	list, err := b.History(ctx, "", "", before, dumpBatch)
	for _, x := range list {
		m := moveOf(x)
		record("", strconv.FormatInt(x.ID, 10), dumpRecord{Move: &m})
	}
	return last, err
}
