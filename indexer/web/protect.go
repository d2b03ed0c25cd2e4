package web

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/web/answer"
)

// A Protection is what a front needs to refuse what must not be pushed or deleted.
type Protection struct {
	// Keeper has the protections.
	Keeper *access.Keeper
	// Shows returns the digest that a tag shows now, or ErrNotFound.
	Shows func(ctx context.Context, repository, tag string) (digest.Digest, error)
	// Registry is the registry; nil if it is not known.
	Registry *url.URL
	// Needs returns why a manifest or a blob must not be deleted; "" if it may be.
	Needs func(ctx context.Context, repository string, d digest.Digest) (string, error)
	// FrontToken is what a front sends that asks before it passes requests on; "": none asks.
	FrontToken string
}

const (
	// maxManifest is the most bytes of a manifest: 4 MiB. The stock registry takes no larger
	// one (distribution v3.1.2, registry/handlers/manifests.go).
	maxManifest = 4 << 20
	// Manifests for protected tags are held in memory: 32 at once, which is 128 MiB, and 8 of
	// one client. Others wait.
	maxHeld     = 32
	maxHeldEach = 8
	// holdTime is how long a manifest may take to arrive, or wait for its place: 30 s. docker
	// pushes one of some KB in a few milliseconds.
	holdTime = 30 * time.Second
	// holdPause is the pause between two looks for a place.
	holdPause = 20 * time.Millisecond
	// lanes is the number of locks for protected tags: two of them may share one, and then
	// their pushes wait for each other.
	lanes = 64
)

// A protector passes requests to the registry, except those that would change what is
// protected.
type protector struct {
	Protection
	config   Config
	registry http.Handler
	held     *answer.Places
	seed     maphash.Seed
	lane     [lanes]chan struct{} // each has an element while a manifest is pushed to its tags
	probe    *http.Client

	asked      atomic.Int64 // when a front last asked, in seconds since 1970; 0: never
	wrongToken sync.Once    // logs that somebody asked with another token
}

// newProtector returns a protector that passes no requests on yet.
func newProtector(c Config) *protector {
	k := &protector{Protection: c.Protection, config: c,
		held: answer.NewPlaces(maxHeld, maxHeldEach), seed: maphash.MakeSeed(),
		probe: &http.Client{Transport: registryTransport(), Timeout: holdTime}}
	for i := range k.lane {
		k.lane[i] = make(chan struct{}, 1)
	}
	return k
}

// A write is a request that changes what the registry stores.
type write struct {
	repository string
	deletes    bool
	tag        string        // whose manifest is pushed, or which is deleted; "": none
	digest     digest.Digest // of what is deleted; "": nothing
}

// writeOf returns what a request for a path below /v2/ writes. Uploads that are under way may
// be cancelled, also in a frozen repository.
func writeOf(method, path string) (w write, writes bool) {
	parts := strings.Split(strings.TrimPrefix(strings.TrimSuffix(path, "/"), "/v2/"), "/")
	n := len(parts)
	if n < 3 {
		return w, false
	}
	upload := parts[n-1] == "uploads" && parts[n-2] == "blobs" // which begins
	last := parts[n-1]
	switch {
	case upload && method == http.MethodPost:
		w.repository = strings.Join(parts[:n-2], "/")
		return w, true
	case n > 3 && parts[n-2] == "uploads" && parts[n-3] == "blobs":
		w.repository = strings.Join(parts[:n-3], "/")
		return w, method == http.MethodPut || method == http.MethodPatch
	}
	w.repository = strings.Join(parts[:n-2], "/")
	w.deletes = method == http.MethodDelete
	reference := indexer.TagOrDigest(last)
	switch {
	case parts[n-2] == "manifests" && (w.deletes || method == http.MethodPut):
		if w.tag = reference.Tag(); w.deletes {
			w.digest = reference.Digest()
		}
		return w, true
	case parts[n-2] == "blobs" && w.deletes:
		w.digest = reference.Digest()
		return w, true
	}
	return w, false
}

func (k *protector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	change, writes := writeOf(r.Method, r.URL.Path)
	if !writes {
		k.registry.ServeHTTP(w, r)
		return
	}
	all, err := k.Keeper.Now(r.Context())
	if err != nil {
		k.unavailable(w, r, err)
		return
	}
	ask, err := k.concerned(r, all, change)
	switch {
	case err != nil:
		k.unavailable(w, r, err)
	case !ask: // it may be done, or the registry refuses it
		k.registry.ServeHTTP(w, r)
	case change.pushes() && refused(all, change) == "":
		k.push(w, r, change, all)
	default:
		why, err := k.why(r.Context(), all, change)
		k.finish(w, r, change, why, err)
	}
}

// pushes reports whether a manifest is pushed to a tag.
func (c write) pushes() bool { return c.tag != "" && !c.deletes }

// concerned reports whether a protection may be about a change, and the client may know of the
// repository. Strangers are left to the registry before anything is looked up or read for them.
func (k *protector) concerned(r *http.Request, all access.Protections, c write) (bool, error) {
	_, tag := all.Tag(c.repository, c.tag)
	if refused(all, c) == "" && !(tag && c.tag != "") && !(c.digest != "" && len(all.Of(c.repository)) > 0) {
		return false, nil
	}
	return k.mayKnow(r, c.repository)
}

// refused returns why nobody may make a change, as far as its repository says; "" if it does
// not.
func refused(all access.Protections, c write) string {
	actions, why := all.Withheld(c.repository)
	needs := access.Push &^ access.Pull
	if c.deletes {
		needs = access.Delete &^ access.Pull
	}
	if !actions.Has(needs) {
		return ""
	}
	return why
}

// why returns why a change must not be made, without a look at what is pushed; "" if it may be.
func (k *protector) why(ctx context.Context, all access.Protections, c write) (string, error) {
	if why := refused(all, c); why != "" {
		return why, nil
	}
	if p, is := all.Tag(c.repository, c.tag); is && c.tag != "" {
		_, err := k.Shows(ctx, c.repository, c.tag)
		if errors.Is(err, indexer.ErrNotFound) {
			return "", nil
		}
		return p.Text(), err
	}
	if c.digest != "" && len(all.Of(c.repository)) > 0 {
		return k.Needs(ctx, c.repository, c.digest)
	}
	return "", nil
}

// finish passes a request on, or refuses it.
func (k *protector) finish(w http.ResponseWriter, r *http.Request, c write, why string, err error) {
	switch {
	case err != nil:
		k.unavailable(w, r, err)
	case why != "":
		k.deny(w, r, c, why)
	default:
		k.registry.ServeHTTP(w, r)
	}
}

// push pushes a manifest to a protected tag, unless the tag shows another one. One push at a
// time looks at a tag and passes its manifest on, so of two that come first one is refused.
func (k *protector) push(w http.ResponseWriter, r *http.Request, c write, all access.Protections) {
	leave, err := k.place(r)
	if err != nil {
		writeRegistryError(w, http.StatusTooManyRequests, "TOOMANYREQUESTS",
			"too many manifests for protected tags are pushed at once: try again")
		return
	}
	defer leave()
	body, err := readManifest(w, r)
	switch {
	case errors.Is(err, errLarge):
		writeRegistryError(w, http.StatusRequestEntityTooLarge, "MANIFEST_INVALID", errLarge.Error())
		return
	case err != nil:
		writeRegistryError(w, http.StatusBadRequest, "MANIFEST_INVALID", "the manifest did not arrive whole, or within 30 s")
		return
	}
	lane := k.lane[maphash.String(k.seed, c.repository+":"+c.tag)%lanes]
	select {
	case lane <- struct{}{}:
		defer func() { <-lane }()
	case <-r.Context().Done():
		panic(http.ErrAbortHandler) // the client has gone
	}
	shows, err := k.Shows(r.Context(), c.repository, c.tag)
	why := ""
	switch {
	case errors.Is(err, indexer.ErrNotFound):
		err = nil
	case err == nil && shows != shows.Algorithm().FromBytes(body):
		p, _ := all.Tag(c.repository, c.tag)
		why = p.Text()
	}
	r.Body, r.ContentLength, r.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
	k.finish(w, r, c, why, err)
}

// place waits for a place to hold a manifest.
func (k *protector) place(r *http.Request) (leave func(), err error) {
	ctx, cancel := context.WithTimeout(r.Context(), holdTime)
	defer cancel()
	for {
		if leave, ok := k.held.Take(r); ok {
			return leave, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(holdPause):
		}
	}
}

var errLarge = errors.New("a manifest has at most 4 MiB")

// readManifest reads the body of a request within holdTime.
func readManifest(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.ContentLength > maxManifest {
		return nil, errLarge
	}
	control := http.NewResponseController(w)
	if err := control.SetReadDeadline(time.Now().Add(holdTime)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxManifest+1))
	_ = control.SetReadDeadline(time.Time{})
	if err == nil && len(body) > maxManifest {
		err = errLarge
	}
	return body, err
}

// mayKnow reports whether the client of a request may know of a repository: the registry lets
// it in, and its token is for that repository. If not, the registry refuses the request, in its
// own words, and a client without a token is sent for one.
func (k *protector) mayKnow(r *http.Request, repository string) (bool, error) {
	field := r.Header.Get("Authorization")
	if k.Registry == nil {
		return true, nil
	}
	v2 := url.URL{Scheme: k.Registry.Scheme, Host: k.Registry.Host, Path: "/v2/"}
	ask, err := http.NewRequestWithContext(r.Context(), http.MethodGet, v2.String(), nil)
	if err != nil {
		return false, err
	}
	if field != "" {
		ask.Header.Set("Authorization", field)
	}
	resp, err := k.probe.Do(ask)
	if err != nil {
		return false, errors.Join(indexer.ErrUnavailable, err)
	}
	resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusUnauthorized, http.StatusForbidden:
		return false, nil
	default: // it may let the client in at its next request
		return false, fmt.Errorf("the registry answers %s: %w", resp.Status, indexer.ErrUnavailable)
	}
	token, bearer := access.BareToken(field)
	if l := k.config.Login; bearer && l != nil && l.Signer != nil {
		_, allowed, err := l.Signer.Registry(token, time.Now())
		return err != nil || access.Concern(allowed, repository), nil
	}
	return true, nil
}

// deny refuses a change because of a protection.
func (k *protector) deny(w http.ResponseWriter, r *http.Request, c write, why string) {
	k.recordDenied(r, c, why)
	writeRegistryError(w, http.StatusForbidden, "DENIED", why)
}

func (k *protector) recordDenied(r *http.Request, c write, why string) {
	if l := k.config.Login; l != nil {
		l.RefusedPush(r, c.repository, c.tag, why)
	}
	k.config.Log.InfoContext(r.Context(), "refused by a protection", "repository", c.repository, "tag", c.tag, "reason",
		why)
}

func (k *protector) unavailable(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		panic(http.ErrAbortHandler) // the client has gone; returning would send 200
	}
	k.config.Log.WarnContext(r.Context(), "protections cannot be looked up", "path", answer.LoggedPath(r), "error", err)
	w.Header().Set("Retry-After", "1")
	writeRegistryError(w, http.StatusServiceUnavailable, "UNAVAILABLE",
		"it cannot be looked up now whether this is protected: try again")
}

// writeRegistryError writes an error in the format of a registry (distribution-spec 1.1, "Error
// Codes").
func writeRegistryError(w http.ResponseWriter, status int, code, text string) {
	_ = answer.WriteJSON(w, status, answer.RegistryErrors{Errors: []answer.RegistryError{{Code: code, Message: text}}})
}
