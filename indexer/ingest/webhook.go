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
	"net/http"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/remote"
)

const (
	// maxEnvelope is the most bytes of a notification: 8 MiB. The registry sends
	// one event at a time, 750 to 1,850 bytes; a manifest at its limit of 4 MiB
	// is repeated in the event as references, of about the same size.
	maxEnvelope = 8 << 20
	// maxEvents is the most events of one envelope: they become one transaction.
	maxEvents = 10_000
	// receiveTimeout bounds the reading of a notification if the Receiver does
	// not say otherwise. The registry itself gives up after a second or so.
	receiveTimeout = 10 * time.Second
	// maxID bounds an event's id, which the registry makes as a UUID of 36.
	maxID = 128
)

// A Receiver takes the registry's notifications. It answers only when what they
// ask for is stored, since the registry forgets what was answered, and asks for
// nothing more: whoever is slow here holds up the registry's queue.
type Receiver struct{ config ReceiverConfig }

// A ReceiverConfig holds the settings of a Receiver. Receive, Wake, Log and Metrics are
// required.
type ReceiverConfig struct {
	Token   string // bearer token of the sender; "" accepts every sender
	Receive func(ctx context.Context, events []indexer.Event) (fresh int, err error)
	Wake    func()        // called when there is something new to read
	Timeout time.Duration // for reading a notification; 0: 10 s
	Log     *slog.Logger
	Metrics *Metrics
}

// NewReceiver returns a receiver of notifications.
func NewReceiver(c ReceiverConfig) *Receiver {
	c.Timeout = cmp.Or(c.Timeout, receiveTimeout)
	return &Receiver{c}
}

// ServeHTTP answers 200 to whatever can be stored or will never be of use, since
// the registry repeats everything else for ever and sends nothing until it is
// taken: 401 without the token, 413 and 400 for what is no envelope, 503 while
// the database is away.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(r.config.Timeout)) // a writer without deadlines is a test's
	if !r.authorized(req) {
		r.refuse(w, req, http.StatusUnauthorized, "events.token is not what the sender bears")
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxEnvelope))
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		r.refuse(w, req, http.StatusRequestEntityTooLarge, "the body is larger than 8 MiB")
		return
	}
	if err != nil {
		r.refuse(w, req, http.StatusBadRequest, "the body did not arrive")
		return
	}
	var e envelope
	if err := json.Unmarshal(body, &e); err != nil {
		r.refuse(w, req, http.StatusBadRequest, "the body is no envelope of events")
		return
	}
	r.store(w, req, e)
}

func (r *Receiver) store(w http.ResponseWriter, req *http.Request, e envelope) {
	events := r.usefulOf(req.Context(), e.Events)
	if len(events) > 0 {
		fresh, err := r.config.Receive(req.Context(), events)
		if err != nil {
			r.config.Log.WarnContext(req.Context(), "events not stored", "events", len(events), "error", err)
			w.Header().Set("Retry-After", "1")
			http.Error(w, "the database is away: send it again", http.StatusServiceUnavailable)
			return
		}
		r.config.Metrics.EventsRepeated.Add(float64(len(events) - fresh))
		if fresh > 0 {
			r.config.Wake()
		}
	}
	w.WriteHeader(http.StatusOK)
}

// usefulOf gives the events that can be used, and logs one line if there are
// some that should be of use and are not.
func (r *Receiver) usefulOf(ctx context.Context, all []rawEvent) []indexer.Event {
	var events []indexer.Event
	var wrong []rawEvent
	for _, raw := range all {
		event, use := eventOf(raw)
		r.config.Metrics.Events.WithLabelValues(actionLabel(raw.Action), use).Inc()
		switch use {
		case useful:
			events = append(events, event)
		case invalid:
			wrong = append(wrong, raw)
		}
	}
	if len(wrong) > 0 {
		r.config.Log.WarnContext(ctx, "events name nothing", "events", len(wrong), "action", cut(wrong[0].Action),
			"repository", cut(wrong[0].Target.Repository), "tag", cut(wrong[0].Target.Tag))
	}
	return events
}

// authorized compares digests, so that the time it takes tells neither the
// token's bytes nor its length.
func (r *Receiver) authorized(req *http.Request) bool {
	if r.config.Token == "" {
		return true
	}
	scheme, token, _ := strings.Cut(req.Header.Get("Authorization"), " ")
	got, want := sha256.Sum256([]byte(strings.TrimSpace(token))), sha256.Sum256([]byte(r.config.Token))
	return subtle.ConstantTimeCompare(got[:], want[:]) == 1 && strings.EqualFold(scheme, "Bearer")
}

// refuse answers and logs one line; the body is not read further.
func (r *Receiver) refuse(w http.ResponseWriter, req *http.Request, status int, reason string) {
	r.config.Metrics.EventsRefused.Inc()
	r.config.Log.WarnContext(req.Context(), "events refused", "status", status, "reason", reason, "sender", req.RemoteAddr)
	w.Header().Set("Connection", "close")
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="events"`)
	}
	http.Error(w, reason, status)
}

// An envelope is what the registry posts (distribution v3.1.2,
// notifications/event.go); fields that we do not use are left out.
type envelope struct {
	Events rawEvents `json:"events"`
}

// rawEvents are read one by one: their number is bounded before they take
// memory (8 MiB of "{}," would be 0.5 GB), and one with a field of another type
// than ours spoils no other.
type rawEvents []rawEvent

func (all *rawEvents) UnmarshalJSON(body []byte) error {
	if bytes.Equal(body, []byte("null")) {
		return nil
	}
	list := json.NewDecoder(bytes.NewReader(body))
	if start, err := list.Token(); err != nil || start != json.Delim('[') {
		return errors.New("the events are no list")
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
	odd       bool   // a field of it has another type
	ID        string `json:"id"`
	Timestamp string `json:"timestamp"`
	Action    string `json:"action"`
	Target    struct {
		MediaType  string `json:"mediaType"`
		Digest     string `json:"digest"`
		Repository string `json:"repository"`
		Tag        string `json:"tag"`
	} `json:"target"`
	Request struct {
		UserAgent string `json:"useragent"`
	} `json:"request"`
	Actor struct {
		Name string `json:"name"`
	} `json:"actor"`
	Source struct {
		InstanceID string `json:"instanceID"`
	} `json:"source"`
}

// What became of an event: the label "use" of its metric.
const (
	useful  = "stored"
	ignored = "ignored" // of a kind that tells us nothing
	invalid = "invalid" // names nothing that a registry can hold
)

// eventOf gives what we use of an event, and whether it is of use.
func eventOf(raw rawEvent) (indexer.Event, string) {
	var e indexer.Event
	if raw.odd {
		return e, invalid
	}
	// Pulls are dropped here. What counts them will get an indexer.Pull from this place.
	if raw.Action != "push" && raw.Action != "delete" || isBlob(raw) {
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
		ID: raw.ID, At: at, Action: raw.Action, Repository: raw.Target.Repository, Tag: tag, Digest: d,
		MediaType: cut(raw.Target.MediaType), Actor: cut(raw.Actor.Name), UserAgent: cut(raw.Request.UserAgent),
		Instance: cut(raw.Source.InstanceID),
	}, useful
}

// isBlob reports whether a push is one of a blob, which the registry tells only
// by the media type. A deletion has none; there it is the digest that is looked
// up.
func isBlob(raw rawEvent) bool {
	if raw.Action != "push" {
		return false
	}
	switch raw.Target.MediaType {
	case ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex, remote.MediaTypeDockerManifest, remote.MediaTypeDockerList:
		return false
	}
	return raw.Target.Tag == ""
}

// actionLabel keeps strangers from making metrics.
func actionLabel(action string) string {
	switch action {
	case "push", "pull", "delete", "mount":
		return action
	}
	return "other"
}
