package deliver

import (
	"context"
	"encoding/json"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
)

// Limits, so that no user can make us send without an end.
const (
	// MaxWebhooks is the most webhooks in all, and MaxOfNamespace the most whose patterns are in
	// one namespace: who administers one namespace cannot use up all of them.
	MaxWebhooks    = 1000
	MaxOfNamespace = 20
	// MaxWaiting is about the most deliveries that wait for one webhook. Then no more are queued,
	// and the receiver is told later that it has missed some.
	MaxWaiting = 5000
	// MaxLog is the most deliveries that have ended and are kept for one webhook, and LogAge how
	// long they are.
	MaxLog = 1000
	LogAge = 30 * 24 * time.Hour
	// GiveUp is how long a delivery is tried, and how long all attempts of a webhook may fail
	// before it is paused: 3 days, so that a weekend is survived.
	GiveUp = 3 * 24 * time.Hour
	// MaxOverlap is the most time for which an old secret signs too: 30 days; and Overlap how
	// long it does unless somebody says otherwise.
	MaxOverlap = 30 * 24 * time.Hour
	Overlap    = 24 * time.Hour

	maxName = 100  // characters
	maxURL  = 2048 // bytes
)

// A Webhook is a receiver of events.
type Webhook struct {
	ID        int64
	Name      string // for people
	URL       string
	Pattern   access.Pattern // of the repositories that it hears of
	Events    []Type
	Enabled   bool
	Problem   string // why we have paused it; "" if we have not
	CreatedBy string
	CreatedAt time.Time

	Waiting      int       // deliveries, as the leader last counted
	MissingSince time.Time // since when events are not queued; zero: they are
	Failures     int       // attempts that failed since the last that did not
	FailingSince time.Time // zero: the last attempt did not fail
	OldUntil     time.Time // until when the secret of before a rotation signs too; zero: there is none
}

// The states of a webhook.
const (
	StateEnabled  = "enabled"
	StateDisabled = "disabled" // by somebody
	StatePaused   = "paused"   // by us: see Problem
)

// State returns a word for whether events are sent to the webhook.
func (w Webhook) State() string {
	switch {
	case w.Enabled:
		return StateEnabled
	case w.Problem != "":
		return StatePaused
	}
	return StateDisabled
}

// Host returns where the webhook is, without the path, which may be known to few.
func (w Webhook) Host() string {
	u, err := url.Parse(w.URL)
	if err != nil {
		return ""
	}
	return u.Host
}

// Check returns ErrInvalid unless a webhook may be as w is.
func (w Webhook) Check() error {
	switch n := utf8.RuneCountInString(w.Name); {
	case n == 0 || n > maxName || w.Name != indexer.CleanText(w.Name) || strings.TrimSpace(w.Name) != w.Name:
		return indexer.Invalid("%.64q is not a name of a webhook: write 1 to %d characters, without spaces around them",
			w.Name, maxName)
	case strings.ContainsFunc(w.Name, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return indexer.Invalid("%.64q is not a name of a webhook: it contains a control character", w.Name)
	case len(w.Events) == 0:
		return indexer.Invalid("a webhook without events is never called: choose at least one of %s", typeNames())
	}
	for i, t := range w.Events {
		if _, err := ParseType(string(t)); err != nil {
			return err
		}
		if slices.Contains(w.Events[:i], t) {
			return indexer.Invalid("the event %q is given twice: give it once", t)
		}
	}
	return CheckURL(w.URL)
}

// ParseType parses the type of events that a webhook chooses.
func ParseType(text string) (Type, error) {
	if !slices.Contains(Types, Type(text)) {
		return "", indexer.Invalid("%.64q is not an event that a webhook can choose: write one of %s", text, typeNames())
	}
	return Type(text), nil
}

func typeNames() string {
	var names []string
	for _, t := range Types {
		names = append(names, string(t))
	}
	return strings.Join(names, ", ")
}

// CheckURL returns ErrInvalid unless text is a URL that we may call, as far as its text tells.
// Where it leads is checked at each connection: see guard. The error does not quote the URL,
// which may have a secret in its path.
func CheckURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case len(text) > maxURL:
		return indexer.Invalid("the URL has more than %d bytes", maxURL)
	case err != nil, strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
		return indexer.Invalid("the URL cannot be parsed: write https://host/path, and other characters than ASCII as %%XX")
	case u.Scheme != "https" && u.Scheme != "http":
		return indexer.Invalid("the URL begins with neither https:// nor http://")
	case u.User != nil:
		return indexer.Invalid("the URL contains a user: remove it; a receiver knows us by the signature")
	case u.Hostname() == "" || u.Opaque != "" || strings.Contains(u.Hostname(), "%"):
		return indexer.Invalid("the URL has no host: write https://host/path")
	case strings.Contains(text, "#"):
		return indexer.Invalid("the URL has a fragment, which is not sent: remove it")
	}
	if port := u.Port(); port != "" || strings.HasSuffix(u.Host, ":") {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return indexer.Invalid("the URL has a port that is none: write 1 to 65535, or no port")
		}
	}
	if strings.Contains(u.Host, "[") {
		if a, err := netip.ParseAddr(u.Hostname()); err != nil || !a.Is6() {
			return indexer.Invalid("the URL has brackets around what is no IPv6 address")
		}
	}
	return nil
}

// An Edit is what to change of a webhook; nil: nothing.
type Edit struct {
	Name, URL *string
	Pattern   *access.Pattern
	Events    *[]Type
	Enabled   *bool
}

// Of returns the webhook that w becomes. It returns ErrInvalid if that cannot be.
func (e Edit) Of(w Webhook) (Webhook, error) {
	if e.Name != nil {
		w.Name = *e.Name
	}
	if e.URL != nil {
		w.URL = *e.URL
	}
	if e.Pattern != nil {
		w.Pattern = *e.Pattern
	}
	if e.Events != nil {
		w.Events = *e.Events
	}
	if e.Enabled != nil {
		w.Enabled, w.Problem = *e.Enabled, ""
	}
	return w, w.Check()
}

// ChangersOf permits who may make a change of a webhook: who administers its pattern, and the one
// that it gets.
func ChangersOf(w Webhook, e Edit) access.Permit {
	return func(s access.Subject) error {
		if e.Pattern != nil {
			if err := access.OverseersOf(*e.Pattern)(s); err != nil {
				return err
			}
		}
		return access.OverseersOf(w.Pattern)(s)
	}
}

// The states of a delivery.
const (
	Waiting   = "waiting"
	Delivered = "delivered"
	Failed    = "failed"
)

// A Delivery is an event that is sent to one webhook.
type Delivery struct {
	ID, Webhook int64
	Event       string // its id
	Type        Type
	Subject     string
	Data        json.RawMessage
	HappenedAt  time.Time
	QueuedAt    time.Time
	State       string
	NextAt      time.Time // when the next attempt may be, while it waits
	Attempts    int
	TriedAt     time.Time // zero: not yet
	Status      int       // of the last answer; 0: there was none
	Reason      string    // why the last attempt failed, in our own words
	Took        time.Duration
	EndedAt     time.Time     // zero: it waits
	Age         time.Duration // since QueuedAt
}

// A Query selects webhooks, in order of id.
type Query struct {
	Within []access.Pattern // only those for patterns within these
	After  int64
	Limit  int
}

// A Directory has the webhooks, for those who manage them. A change is recorded with the actor
// of its context, and made only if the context's Permit allows it. The webhook that is given to
// it must have the pattern that it has in the directory, or the error is ErrConflict: the permit
// was about that pattern.
//
// Methods return ErrNotFound for what does not exist.
type Directory interface {
	WebhookPage(context.Context, Query) ([]Webhook, error)
	Webhook(ctx context.Context, id int64) (Webhook, error)
	AddWebhook(ctx context.Context, w Webhook, sealed []byte) (id int64, err error)
	ChangeWebhook(ctx context.Context, w Webhook, e Edit) error
	RemoveWebhook(ctx context.Context, w Webhook) error
	RotateWebhook(ctx context.Context, w Webhook, sealed []byte, overlap time.Duration) error
	// PingWebhook queues an event that says nothing, even if the webhook is not enabled, and returns the
	// id of its delivery.
	PingWebhook(ctx context.Context, w Webhook) (int64, error)
	// Redeliver queues a delivery that has ended again.
	Redeliver(ctx context.Context, w Webhook, delivery int64) error
	// Deliveries returns those of a webhook, the latest first, with an id below before (0: all).
	Deliveries(ctx context.Context, webhook, before int64, limit int) ([]Delivery, error)
	Delivery(ctx context.Context, webhook, id int64) (Delivery, error)
}

// Webhooks are the webhooks of a directory, with the means to make their secrets.
type Webhooks struct {
	Directory
	box *Box // nil without webhooks.key
}

// NewWebhooks returns the webhooks of a directory. A nil box can make no secrets.
func NewWebhooks(d Directory, box *Box) *Webhooks { return &Webhooks{d, box} }

// errNoKey refuses to make a secret.
func errNoKey() error {
	return indexer.Conflict("webhooks need webhooks.key in the configuration of the indexer, which encrypts their" +
		" secrets: set it to at least 32 random characters")
}

// Add adds a webhook, and returns it with its secret.
func (s *Webhooks) Add(ctx context.Context, w Webhook) (Webhook, Secret, error) {
	if s.box == nil {
		return w, Secret{}, errNoKey()
	}
	if err := w.Check(); err != nil {
		return w, Secret{}, err
	}
	secret := NewSecret()
	id, err := s.AddWebhook(ctx, w, s.box.Seal(secret))
	if err != nil {
		return w, Secret{}, err
	}
	w, err = s.Webhook(ctx, id)
	return w, secret, err
}

// Rotate gives a webhook another secret, and returns it. The old one signs too for a time.
func (s *Webhooks) Rotate(ctx context.Context, w Webhook, overlap time.Duration) (Secret, error) {
	switch {
	case s.box == nil:
		return Secret{}, errNoKey()
	case overlap < 0 || overlap > MaxOverlap:
		return Secret{}, indexer.Invalid("the old secret can sign for at most 30 days more, and not for less than none")
	}
	secret := NewSecret()
	return secret, s.RotateWebhook(ctx, w, s.box.Seal(secret), overlap)
}
