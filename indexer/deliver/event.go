package deliver

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
)

// A Type says what happened. Webhooks, the API and the command line use it as it is; a
// CloudEvent has it after typePrefix.
type Type string

// The types of events.
const (
	Pushed      Type = "pushed"       // a tag is new
	Moved       Type = "moved"        // a tag shows another manifest than before
	Deleted     Type = "deleted"      // a tag, a manifest or a repository is gone
	Restored    Type = "restored"     // a manifest that was deleted is back
	PlanApplied Type = "plan.applied" // what a retention plan lists was done
	Missed      Type = "missed"       // events were not queued for this webhook
	Ping        Type = "ping"         // somebody tests the webhook
)

// Types are those that a webhook can choose, in the order in which they are documented. Missed
// and Ping are sent to every webhook.
var Types = []Type{Pushed, Moved, Deleted, Restored, PlanApplied}

// typePrefix makes types unique in the world, as CloudEvents asks for: the name of the project
// at its host, reversed.
const typePrefix = "io.github.portbook."

// An Event is something that happened.
type Event struct {
	ID    string // from NewEvent: the same in all deliveries, and never that of another event
	Type  Type
	Scope access.Pattern // the repositories that it tells of; a webhook hears of it if its pattern includes them
	At    time.Time      // when it happened, as far as known
	Data  Data
}

// Data is the data of the CloudEvent: event.schema.json describes it.
type Data struct {
	Repository string        `json:"repository,omitempty"`
	Tag        string        `json:"tag,omitempty"`
	Digest     digest.Digest `json:"digest,omitempty"`
	Previous   digest.Digest `json:"previous_digest,omitempty"`
	Move       int64         `json:"move,omitempty"`    // the id of the move in the history of tags
	SeenBy     string        `json:"seen_by,omitempty"` // how the move was noticed: event or scan
	Operation  int64         `json:"operation,omitempty"`
	Actor      string        `json:"actor,omitempty"` // who asked for the operation
	Plan       int64         `json:"plan,omitempty"`
	Pattern    string        `json:"pattern,omitempty"`   // of the plan
	Tags       int           `json:"tags,omitempty"`      // number of tags that were untagged
	Manifests  int           `json:"manifests,omitempty"` // number of manifests that were deleted
	Since      *time.Time    `json:"since,omitempty"`     // of Missed: what happened since then may be missing
	Webhook    int64         `json:"webhook,omitempty"`
}

// NewEvent returns an event of now about one repository.
func NewEvent(t Type, d Data) Event {
	scope, err := access.ParsePattern(d.Repository)
	if err != nil {
		scope = access.Every // only who hears of everything may hear of what is about nothing in particular
	}
	return Event{ID: newID(), Type: t, Scope: scope, At: time.Now(), Data: d}
}

// NewPlanEvent returns the event of a plan that was applied to the repositories of a pattern.
func NewPlanEvent(pattern access.Pattern, d Data) Event {
	d.Pattern = pattern.String()
	return Event{ID: newID(), Type: PlanApplied, Scope: pattern, At: time.Now(), Data: d}
}

// newID returns a random UUID (RFC 9562, version 4).
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// Subject returns what the event is about: a reference, a repository or a pattern.
func (e Event) Subject() string {
	d := e.Data
	switch {
	case d.Tag != "" || d.Digest != "" && d.Repository != "":
		ref := indexer.Reference{Repository: d.Repository, Tag: d.Tag}
		if d.Tag == "" {
			ref.Digest = d.Digest
		}
		return ref.String()
	case d.Repository != "":
		return d.Repository
	}
	return d.Pattern
}

// A cloudEvent is an event in the JSON format of CloudEvents 1.0.
type cloudEvent struct {
	SpecVersion     string          `json:"specversion"`
	ID              string          `json:"id"`
	Source          string          `json:"source"`
	Type            string          `json:"type"`
	Subject         string          `json:"subject,omitempty"`
	Time            time.Time       `json:"time"`
	DataContentType string          `json:"datacontenttype"`
	Data            json.RawMessage `json:"data"`
}

// body returns the CloudEvent of a delivery. It is the same at each attempt.
func (d Delivery) body(source string) ([]byte, error) {
	return json.Marshal(cloudEvent{
		SpecVersion: "1.0", ID: d.Event, Source: source, Type: typePrefix + string(d.Type), Subject: d.Subject,
		Time: d.HappenedAt.UTC(), DataContentType: "application/json", Data: d.Data,
	})
}
