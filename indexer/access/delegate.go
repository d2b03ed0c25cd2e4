package access

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/portbook/portbook/indexer/cache"
)

// A DelegateConfig says which API decides what clients may do.
type DelegateConfig struct {
	// URL is the address of the API, such as https://api.deploys.app.
	URL string
	// Anonymous says that the API is asked about clients without credentials too. Otherwise
	// they may do nothing.
	Anonymous bool
	// Namespaces returns the namespaces of the book, each once, at most limit of them.
	Namespaces func(ctx context.Context, limit int) ([]string, error)
	Log        *slog.Logger
}

const (
	// delegateTime limits one call of the API, with the wait for a turn: 5 s.
	delegateTime = 5 * time.Second
	// delegateAge is how long an answer is used: 30 s, as the registry of Deploys.app did. So
	// a right that was taken away ends after that, and what a token for the registry lasts.
	delegateAge = 30 * time.Second
	// namespacesAge is how long the list of namespaces is used: 1 s.
	namespacesAge = time.Second
	// delegateCalls is how many calls run at once: 32. A token needs one or two.
	delegateCalls = 32
	// callsAtOnce is how many of them may be for one client: 8. So to read a book of 200
	// namespaces takes 25 times as long as a call, once in 30 s.
	callsAtOnce = 8
	// delegateBytes limits the memory of answers: 16 MB, some 50,000 of them.
	delegateBytes = 16 << 20
	// maxDelegateAnswer is the largest answer that is read: 64 KiB. One of the API has a few
	// hundred bytes.
	maxDelegateAnswer = 64 << 10
	// maxAuthorization is the longest Authorization field that is sent on: 8 KiB. A front
	// usually allows no longer header.
	maxAuthorization = 8 << 10
	// maxProjects is how many projects one request for a token may be about: 8. A client
	// needs two, to mount a layer of another project. It gets nothing in further ones.
	maxProjects = 8
	// MaxNamespaces is how many namespaces a book may have for clients to read it: 200. Each
	// costs one or two calls of the API every 30 s for each client.
	MaxNamespaces = 200
	// maxEmail is the longest name of a client: 254 bytes, as RFC 5321 allows for an address.
	maxEmail = 254
)

// ErrUnsure is the error if the API does not say what a client may do.
var ErrUnsure = errors.New("what you may do could not be found out, because the service that decides it does not" +
	" answer as it should: try again")

// ErrTooManyNamespaces says that the book has too many namespaces to ask about each.
var ErrTooManyNamespaces = fmt.Errorf("the book cannot be read with this login: it has more than %d namespaces,"+
	" and the service that decides what you may see has to be asked about each; the registry itself can be used",
	MaxNamespaces)

// MaxSeen is how many projects a token for the catalogue may name: 40. With the 25 bytes of
// usual names it then has 4 KB, half of what a front usually allows of a header.
const MaxSeen = 40

// ErrTooManySeen says that a client may see too many projects for a token to name them.
var ErrTooManySeen = fmt.Errorf("the catalogue cannot be listed with this login: a token cannot name more than %d"+
	" projects that you may see; docker search and the pages show them", MaxSeen)

// A Delegate asks an API what clients may do, in the form of api.deploys.app: it sends on what
// they send in Authorization. The API decides about projects, the first parts of the names of
// repositories; nobody may do anything with a repository without one. The answers are
// remembered. It is safe for concurrent use.
type Delegate struct {
	config DelegateConfig
	client *http.Client
	known  *cache.Versioned[verdict]
	turns  *turns
	now    func() time.Time
	silent atomic.Bool // the last call had no answer
}

// A verdict is what is remembered: an answer of the API, or the namespaces of the book.
type verdict struct {
	yes   bool
	email string   // of the client
	names []string // namespaces
	err   error    // there is no answer; it is only for those who wait for it
	until time.Time
}

func (v verdict) bytes() int {
	n := 128 + len(v.email)
	for _, name := range v.names {
		n += 16 + len(name)
	}
	return n
}

// NewDelegate returns a Delegate.
func NewDelegate(c DelegateConfig) *Delegate {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.URL = strings.TrimRight(c.URL, "/")
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = delegateCalls
	// A redirect is not followed: the credentials are for this address only.
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Delegate{
		config: c, client: &http.Client{Transport: transport, CheckRedirect: stay},
		known: cache.New(delegateBytes, maxDelegateAnswer, verdict.bytes),
		turns: newTurns(delegateCalls, callsAtOnce), now: time.Now,
	}
}

// delegated begins the name of every subject of a Delegate.
const delegated = "delegated"

// Verify returns a subject without rules: the API is asked when it is known about which
// repositories (About, AboutAll), and decides then whether the credentials are right.
func (d *Delegate) Verify(_ context.Context, c Credentials) (Subject, error) {
	field := c.Field
	if field == "" {
		field = "Basic " + base64.StdEncoding.EncodeToString([]byte(c.Name+":"+c.Secret))
	}
	if len(field) > maxAuthorization {
		return Subject{}, ErrDenied
	}
	return Subject{Name: delegated, Asks: &Delegation{d, field}}, nil
}

// Anonymous returns the subject of a client without credentials, or ErrDenied.
func (d *Delegate) Anonymous(context.Context) (Subject, error) {
	if !d.config.Anonymous {
		return Subject{}, ErrDenied
	}
	return Subject{Asks: &Delegation{d, ""}}, nil
}

// Named returns the subject of a token for the registry, which limits it to what the client was
// allowed when it was signed. Such a token is always for repositories: see Grant.
func (d *Delegate) Named(ctx context.Context, actor string) (Subject, error) {
	if actor == "" && d.config.Anonymous {
		return Subject{Rules: everything}, nil
	}
	if actor == "" {
		return Subject{}, nil // by a token from before that was configured otherwise
	}
	if actor != delegated && !strings.HasPrefix(actor, delegated+"/") {
		return Subject{}, ErrDenied // by a token from before another method was configured
	}
	return Subject{Name: actor, Rules: everything}, nil
}

// namespaces returns the namespaces of the book.
func (d *Delegate) namespaces(ctx context.Context) ([]string, error) {
	v, err := d.verdict(ctx, "namespaces", namespacesAge, func(ctx context.Context) verdict {
		names, err := d.config.Namespaces(ctx, MaxNamespaces+1)
		return verdict{names: names, err: err}
	})
	if err == nil && len(v.names) > MaxNamespaces {
		err = ErrTooManyNamespaces
	}
	return v.names, err
}

// verdict returns the answer to a question. It is found out once for all who need it at the
// same time, even if the first one does not wait for it, and used for an age. That there was no
// answer is not remembered.
func (d *Delegate) verdict(
	ctx context.Context, question string, age time.Duration, find func(context.Context) verdict,
) (verdict, error) {
	good := func(v verdict) bool { return v.err == nil && d.now().Before(v.until) }
	v, err := d.known.GetWhile(ctx, cache.Key{Question: question}, good, func() (verdict, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), delegateTime)
		defer cancel()
		begin := d.now()
		v := find(ctx)
		v.until = begin.Add(age)
		return v, nil
	})
	if err != nil {
		return v, err
	}
	return v, v.err
}
