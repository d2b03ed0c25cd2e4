package deliver

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/portbook/portbook/indexer"
)

const (
	// lookEvery is how often a writer looks for deliveries that are due: 500 ms. It is one
	// statement over the webhooks, which are few.
	lookEvery = 500 * time.Millisecond
	// leaseTime is how long a webhook belongs to the writer that has claimed it: 30 s, renewed
	// after each attempt. A writer that may need longer begins no attempt: see leaseMargin.
	leaseTime = 30 * time.Second
	// leaseMargin is how much of a lease is left at least when an attempt begins: more than
	// callTimeout, so that no two writers send at the same time.
	leaseMargin = 15 * time.Second
	// claimSize is the most deliveries that are read at once: 20, of some KiB.
	claimSize = 20
	// storing is the most connections to the database that senders of one process use: 2.
	storing = 2
	// storeTimeout limits one statement: 5 s.
	storeTimeout = 5 * time.Second
)

// A Claim is a webhook that a writer has claimed, and deliveries that are due.
type Claim struct {
	Webhook      Webhook
	Number       int64  // of the claim
	Sealed       []byte // the secret
	SealedOld    []byte // that of before a rotation; nil: there is none, or it has ended
	FailingFor   time.Duration
	Deliveries   []Delivery // the oldest first
	LeasedAtMost time.Time  // by our clock: begun before the claim was made
}

// A Result is what to store after an attempt.
type Result struct {
	Attempt
	State string        // of the delivery
	Next  time.Duration // until the next attempt, if it waits
	Rest  time.Duration // until the next attempt of the webhook
	Pause string        // why the webhook is to be paused; "": it is not
}

// A Store has the deliveries for Senders.
type Store interface {
	// ClaimWebhook claims a webhook with deliveries that are due. It returns ErrNotFound if there
	// is none.
	ClaimWebhook(ctx context.Context, lease time.Duration, limit int) (Claim, error)
	// EndAttempt stores a result and renews the lease. It returns ErrNotFound if the claim is no
	// longer the latest: then another writer sends.
	EndAttempt(ctx context.Context, c Claim, d Delivery, r Result, lease time.Duration) error
	// ReleaseWebhook ends a claim.
	ReleaseWebhook(ctx context.Context, c Claim) error
}

// A Config has the settings of a Sender.
type Config struct {
	Store     Store
	Box       *Box // nil: no secrets can be opened, and nothing is sent
	Source    string
	UserAgent string
	Allow     []netip.Prefix // addresses besides public ones: webhooks.allow_networks
	Log       *slog.Logger
	Metrics   *Metrics

	Roots    *x509.CertPool // nil: those of the system
	Resolver *net.Resolver  // nil: that of the system
	Timeout  time.Duration  // of one attempt; 0: 10 s
}

// A Sender sends what is due. Any number of them may run, in any number of processes.
type Sender struct {
	config Config
	caller *caller
	stores chan struct{} // a place for each connection that may be used
	work   sync.WaitGroup
}

// NewSender returns a sender that does nothing before Run.
func NewSender(c Config) *Sender {
	return &Sender{config: c, caller: newCaller(c), stores: make(chan struct{}, storing)}
}

// Run sends until the context ends.
func (s *Sender) Run(ctx context.Context) error {
	defer s.work.Wait()
	failing := false
	for ctx.Err() == nil {
		found, err := s.Step(ctx)
		if err != nil && !failing && ctx.Err() == nil {
			s.config.Log.WarnContext(ctx, "webhooks are not delivered", "error", err)
		}
		failing = err != nil
		if !found {
			rest(ctx, lookEvery)
		}
	}
	return nil
}

// Step claims one webhook and begins to send what is due to it, each webhook aside: so one whose
// receiver hangs delays no other. It reports whether it found one.
func (s *Sender) Step(ctx context.Context) (found bool, err error) {
	var c Claim
	begun := time.Now()
	err = s.stored(ctx, func(ctx context.Context) (err error) {
		c, err = s.config.Store.ClaimWebhook(ctx, leaseTime, claimSize)
		return err
	})
	if errors.Is(err, indexer.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	c.LeasedAtMost = begun.Add(leaseTime)
	s.work.Go(func() { s.send(ctx, c) })
	return true, nil
}

// Wait returns when what was begun by Step has ended.
func (s *Sender) Wait() { s.work.Wait() }

// stored runs f, which uses the database, when there is a place.
func (s *Sender) stored(ctx context.Context, f func(context.Context) error) error {
	select {
	case s.stores <- struct{}{}:
		defer func() { <-s.stores }()
	case <-ctx.Done():
		return ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return f(ctx)
}

// send sends the deliveries of a claim, one after the other, until one fails. Those that are left
// wait until the webhook may be called again.
func (s *Sender) send(ctx context.Context, c Claim) {
	for _, d := range c.Deliveries {
		if time.Until(c.LeasedAtMost) < leaseMargin || ctx.Err() != nil {
			break
		}
		r := s.attempt(ctx, c, d)
		if ctx.Err() != nil {
			break // it may have been our end that made it fail: it is tried again
		}
		begun := time.Now()
		err := s.stored(ctx, func(ctx context.Context) error {
			return s.config.Store.EndAttempt(ctx, c, d, r, leaseTime)
		})
		if err != nil {
			if !errors.Is(err, indexer.ErrNotFound) && ctx.Err() == nil {
				s.config.Log.WarnContext(ctx, "delivery not stored: it is sent again", "webhook", c.Webhook.ID, "error", err)
			}
			return
		}
		c.LeasedAtMost = begun.Add(leaseTime)
		if r.Rest > 0 || r.Pause != "" {
			break
		}
	}
	ctx = context.WithoutCancel(ctx) // a claim that is released need not run out
	_ = s.stored(ctx, func(ctx context.Context) error { return s.config.Store.ReleaseWebhook(ctx, c) })
}

// attempt sends a delivery once, and decides what becomes of it.
func (s *Sender) attempt(ctx context.Context, c Claim, d Delivery) Result {
	a := Attempt{Reason: "the secret of the webhook cannot be read: webhooks.key is missing or is another one than when" +
		" the secret was made"}
	if secrets, ok := s.secrets(c); ok {
		a = s.caller.call(ctx, c.Webhook.URL, d, secrets...)
	}
	r := resultOf(c, d, a)
	s.config.Metrics.attempted(d, r)
	if r.Pause != "" {
		s.config.Log.WarnContext(ctx, "webhook paused", "webhook", c.Webhook.ID, "host", c.Webhook.Host(), "reason", r.Pause)
	}
	return r
}

// secrets returns those that sign, the newest first.
func (s *Sender) secrets(c Claim) (all []Secret, ok bool) {
	if s.config.Box == nil {
		return nil, false
	}
	secret, err := s.config.Box.Open(c.Sealed)
	if err != nil {
		return nil, false
	}
	all = append(all, secret)
	if old, err := s.config.Box.Open(c.SealedOld); c.SealedOld != nil && err == nil {
		all = append(all, old)
	}
	return all, true
}

// resultOf decides what becomes of a delivery after an attempt.
func resultOf(c Claim, d Delivery, a Attempt) Result {
	r := Result{Attempt: a, State: Waiting}
	if a.Reason == "" {
		r.State = Delivered
		return r
	}
	r.Next = max(backoff(5*time.Second, 3, 8*time.Hour, d.Attempts), a.RetryAfter)
	if d.Type == Ping {
		r.State = Failed // who tests is there to see it, and to test again
		return r
	}
	if d.Age+r.Next > GiveUp {
		r.State = Failed
	}
	r.Rest = max(backoff(time.Second, 2, 5*time.Minute, c.Webhook.Failures), a.RetryAfter)
	switch {
	case a.Gone:
		r.State, r.Pause = Failed, a.Reason
	case c.FailingFor > GiveUp:
		r.Pause = "the receiver has accepted nothing for three days. The last time " + a.Reason
	}
	return r
}

// backoff returns the wait after the attempt with the number n, which begins with 0: first, then
// factor times as long each time, at most for most, and up to a fifth less or more, so that what
// failed together is not tried together again.
func backoff(first time.Duration, factor, most time.Duration, n int) time.Duration {
	d := first
	for range min(n, 30) {
		d = min(factor*d, most)
	}
	return d*4/5 + rand.N(d*2/5)
}

func rest(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
