package ingest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/remote"
)

const (
	// maxEnvelope is the maximum size of a notification: 8 MiB. The registry sends one event
	// at a time, usually of 750 to 1,850 bytes. An event also lists the references of the
	// manifest, which for a manifest of 4 MiB, the maximum, take about 4 MiB.
	maxEnvelope = 8 << 20
	// maxEvents is the maximum number of events of one envelope, stored in one transaction.
	maxEvents = 10_000
	// receiveTimeout limits reading a notification, unless ReceiverConfig sets another
	// time: 10 s. The registry itself gives up after about a second.
	receiveTimeout = 10 * time.Second
	// maxID is the maximum length of an event's id; the registry uses UUIDs of 36 bytes.
	maxID = 128
)

// A Receiver is the handler of the registry's notifications. It answers when the events are
// stored, since the registry forgets an answered event, and does nothing else before: a slow
// answer delays the registry's queue.
type Receiver struct {
	config   ReceiverConfig
	scanners []func(userAgent string) bool
}

// A ReceiverConfig holds the settings of a Receiver. Receive, Wake, Log and Metrics are
// required.
type ReceiverConfig struct {
	Token   string // bearer token of the sender; "" accepts every sender
	Receive func(ctx context.Context, events []indexer.Event) (fresh int, err error)
	// Pulls stores pulls, which are counted later. Heard is called if there were events of
	// pulls and none of them counts. If Pulls is nil, no pull is counted.
	Pulls func(ctx context.Context, pulls []indexer.Pull) (postgres.Counted, error)
	Heard func(ctx context.Context) error
	// Kind returns the kind of the client of an actor; nil: anonymous or a person.
	Kind     func(actor string) indexer.ClientKind
	Scanners []string                         // globs of the user agents of scanners, in any case
	Used     func(actor string, at time.Time) // called for each actor of an event, also of a pull; nil: nothing
	// Blobs stores that blobs were pushed, mounted or pulled; nil: they are ignored.
	Blobs   func(ctx context.Context, events []indexer.BlobEvent) error
	Wake    func()        // called when there is something new to read
	Timeout time.Duration // for reading a notification; 0: 10 s
	Log     *slog.Logger
	Metrics *Metrics
}

// NewReceiver returns a receiver of notifications.
func NewReceiver(c ReceiverConfig) *Receiver {
	c.Timeout = cmp.Or(c.Timeout, receiveTimeout)
	r := &Receiver{config: c}
	for _, pattern := range c.Scanners {
		r.scanners = append(r.scanners, indexer.Glob(strings.ToLower(pattern)))
	}
	return r
}

// ServeHTTP answers 200 if the events are stored or can never be used: the registry repeats
// any other event for ever, and sends no other until it is accepted. It answers 401 without
// the token, 413 or 400 if the body is no envelope, and 503 while the database is
// unavailable.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(r.config.Timeout)) // fails only for the writers of tests
	if !r.authorized(req) {
		r.refuse(w, req, http.StatusUnauthorized, "the request does not have the token of events.token")
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxEnvelope))
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		r.refuse(w, req, http.StatusRequestEntityTooLarge, "the body is larger than 8 MiB")
		return
	}
	if err != nil {
		r.refuse(w, req, http.StatusBadRequest, "the body could not be read")
		return
	}
	var e envelope
	if err := json.Unmarshal(body, &e); err != nil {
		r.refuse(w, req, http.StatusBadRequest, "the body is not an envelope of events")
		return
	}
	r.store(w, req, e)
}

func (r *Receiver) store(w http.ResponseWriter, req *http.Request, e envelope) {
	ctx := req.Context()
	events, pulls := r.usefulOf(ctx, e.Events)
	if err := errors.Join(r.receive(ctx, events), r.count(ctx, pulls), r.receiveBlobs(ctx, e.Events)); err != nil {
		r.config.Log.WarnContext(ctx, "events not stored", "events", len(e.Events), "error", err)
		w.Header().Set("Retry-After", "1")
		http.Error(w, "the database is unavailable: send the events again", http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusOK)
}

// receiveBlobs stores what events say of blobs.
func (r *Receiver) receiveBlobs(ctx context.Context, all []rawEvent) error {
	blobs := blobsOf(all)
	if len(blobs) == 0 || r.config.Blobs == nil {
		return nil
	}
	return r.config.Blobs(ctx, blobs)
}

// blobsOf returns what events say of blobs: see Store.ReceiveBlobs. Those of HoldRepository are
// our own.
func blobsOf(all []rawEvent) (blobs []indexer.BlobEvent) {
	for _, raw := range all {
		about := raw.Action == "push" || raw.Action == "mount" || raw.Action == "pull"
		if raw.odd || !about || isManifest(raw.Target.MediaType) || raw.Target.Tag != "" ||
			!indexer.IsRepository(raw.Target.Repository) || raw.Target.Repository == indexer.HoldRepository {
			continue
		}
		d, err := digest.Parse(raw.Target.Digest)
		size, errSize := strconv.ParseInt(string(raw.Target.Size), 10, 64)
		if err != nil || errSize != nil || size < 0 || size > indexer.MaxSize {
			continue
		}
		blobs = append(blobs, indexer.BlobEvent{
			Repository: raw.Target.Repository, Digest: d, Size: size, Pull: raw.Action == "pull",
		})
	}
	return blobs
}

// receive stores the events of pushes and deletions.
func (r *Receiver) receive(ctx context.Context, events []indexer.Event) error {
	if len(events) == 0 {
		return nil
	}
	fresh, err := r.config.Receive(ctx, events)
	if err != nil {
		return err
	}
	r.config.Metrics.EventsRepeated.Add(float64(len(events) - fresh))
	if fresh > 0 {
		r.config.Wake()
	}
	return nil
}

// usefulOf returns the events that can be used, and the pulls to count, and logs one line if
// any events are invalid.
func (r *Receiver) usefulOf(ctx context.Context, all []rawEvent) (events []indexer.Event, pulls []rawEvent) {
	var wrong []rawEvent
	for _, raw := range all {
		event, use := eventOf(raw)
		event.By = r.kind(raw)
		r.used(raw)
		if use == useful && raw.Action == "pull" && r.config.Pulls == nil {
			use = ignored
		}
		r.config.Metrics.Events.WithLabelValues(actionLabel(raw.Action), use).Inc()
		switch {
		case use == useful && raw.Action == "pull":
			pulls = append(pulls, raw)
		case use == useful:
			events = append(events, event)
		case use == invalid:
			wrong = append(wrong, raw)
		}
	}
	if len(wrong) > 0 {
		r.config.Log.WarnContext(ctx, "events invalid", "events", len(wrong), "action", cut(wrong[0].Action),
			"repository", cut(wrong[0].Target.Repository), "tag", cut(wrong[0].Target.Tag))
	}
	return events, pulls
}

// used tells who has sent the request of an event.
func (r *Receiver) used(raw rawEvent) {
	if r.config.Used == nil || raw.odd || raw.Actor.Name == "" {
		return
	}
	at, err := time.Parse(time.RFC3339Nano, raw.Timestamp)
	if now := time.Now(); err != nil || at.After(now) {
		at = now
	}
	r.config.Used(cut(raw.Actor.Name), at)
}

// authorized reports whether the request has the token. It compares hashes, so that its
// duration depends on neither the bytes nor the length of the token.
func (r *Receiver) authorized(req *http.Request) bool {
	if r.config.Token == "" {
		return true
	}
	scheme, token, _ := strings.Cut(req.Header.Get("Authorization"), " ")
	got, want := sha256.Sum256([]byte(strings.TrimSpace(token))), sha256.Sum256([]byte(r.config.Token))
	return subtle.ConstantTimeCompare(got[:], want[:]) == 1 && strings.EqualFold(scheme, "Bearer")
}

// refuse answers with an error, logs one line and closes the connection.
func (r *Receiver) refuse(w http.ResponseWriter, req *http.Request, status int, reason string) {
	r.config.Metrics.EventsRefused.Inc()
	r.config.Log.WarnContext(req.Context(), "events refused", "status", status, "reason", reason, "sender", req.RemoteAddr)
	w.Header().Set("Connection", "close")
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="events"`)
	}
	http.Error(w, reason, status)
}

// An envelope is the body of a notification (distribution v3.1.2,
// notifications/event.go), without the fields that we do not use.
type envelope struct {
	Events rawEvents `json:"events"`
}

// rawEvents are decoded one by one: the limit on their number applies before they take
// memory (8 MiB of "{}," would be 0.5 GB), and an event with a field of the wrong type does
// not affect the others.
type rawEvents []rawEvent

func (all *rawEvents) UnmarshalJSON(body []byte) error {
	if bytes.Equal(body, []byte("null")) {
		return nil
	}
	list := json.NewDecoder(bytes.NewReader(body))
	if start, err := list.Token(); err != nil || start != json.Delim('[') {
		return errors.New("the events are not a list")
	}
	for list.More() {
		if len(*all) == maxEvents {
			return fmt.Errorf("more than %d events", maxEvents)
		}
		var e rawEvent
		var typeError *json.UnmarshalTypeError
		if err := list.Decode(&e); errors.As(err, &typeError) {
			e.odd = true
		} else if err != nil {
			return err
		}
		*all = append(*all, e)
	}
	return nil
}

type rawEvent struct {
	odd       bool   // a field has the wrong type
	ID        string `json:"id"`
	Timestamp string `json:"timestamp"`
	Action    string `json:"action"`
	Target    struct {
		MediaType  string `json:"mediaType"`
		Digest     string `json:"digest"`
		Repository string `json:"repository"`
		Tag        string `json:"tag"`
		// Size is read for blobs alone: a strange one does not affect other events.
		Size json.RawMessage `json:"size"`
	} `json:"target"`
	Request struct {
		ID        string `json:"id"`
		Addr      string `json:"addr"`
		Method    string `json:"method"`
		UserAgent string `json:"useragent"`
	} `json:"request"`
	Actor struct {
		Name string `json:"name"`
	} `json:"actor"`
	Source struct {
		InstanceID string `json:"instanceID"`
	} `json:"source"`
}

// The values of the label "use" of Metrics.Events.
const (
	useful  = "stored"
	ignored = "ignored" // of a kind that we do not use
	invalid = "invalid" // names nothing that a registry can hold
)

// eventOf returns the fields of an event that are used, and whether it is useful, ignored
// or invalid.
func eventOf(raw rawEvent) (indexer.Event, string) {
	var e indexer.Event
	if raw.odd {
		return e, invalid
	}
	if raw.Action != "push" && raw.Action != "delete" && raw.Action != "pull" || isBlob(raw) {
		return e, ignored
	}
	d, err := digest.Parse(raw.Target.Digest)
	if err != nil {
		d = "" // the deletion of a tag has none
	}
	tag := raw.Target.Tag
	if raw.ID == "" || len(raw.ID) > maxID || !indexer.IsRepository(raw.Target.Repository) ||
		tag != "" && !indexer.IsTag(tag) || tag == "" && d == "" {
		return e, invalid
	}
	at, _ := time.Parse(time.RFC3339Nano, raw.Timestamp) // the zero time if it is none
	return indexer.Event{
		ID: cut(raw.ID), At: at, Action: raw.Action, Repository: raw.Target.Repository, Tag: tag, Digest: d,
		MediaType: cut(raw.Target.MediaType), Actor: cut(raw.Actor.Name), UserAgent: cut(raw.Request.UserAgent),
		Instance: cut(raw.Source.InstanceID), Source: addressOf(raw.Request.Addr), Request: cut(raw.Request.ID),
	}, useful
}

// addressOf returns the address in request.addr of an event, which may have a port; "" if it
// has none.
func addressOf(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return ""
	}
	return a.Unmap().WithZone("").String()
}

// isBlob reports whether an event is the push or the pull of a blob, by its media type. The
// event of a deletion has no media type, so its digest is looked up instead.
func isBlob(raw rawEvent) bool {
	if raw.Action == "delete" {
		return false
	}
	return !isManifest(raw.Target.MediaType) && raw.Target.Tag == ""
}

// isManifest reports whether a media type is one of manifests.
func isManifest(mediaType string) bool {
	switch mediaType {
	case ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex,
		remote.MediaTypeDockerManifest, remote.MediaTypeDockerList:
		return true
	}
	return false
}

// actionLabel limits the values of the label action, which the sender chooses.
func actionLabel(action string) string {
	switch action {
	case "push", "pull", "delete", "mount":
		return action
	}
	return "other"
}
