package clients

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/web/answer"
	"github.com/portbook/portbook/indexer/web/login"
)

// The management API of the registry of Deploys.app (github.com/deploys-app/registry). Every
// answer has an envelope. What a client did wrong, and what is not there, is 200 with ok false;
// only another content type is 400, and an error of ours is 500 without a text.

const (
	// maxCall is the maximum size of a request: 64 KiB. The largest that is right has a name of
	// 255 bytes, a project and a tag.
	maxCall = 64 << 10
	// maxHeld is the maximum number of elements of an answer, which has no pages: 200,000, some
	// 30 MB. Beyond that the call is refused.
	maxHeld = 200_000
	// changeTimeout is how long a change is waited for: 30 minutes. It goes on afterwards.
	changeTimeout = 30 * time.Minute
)

// A Changer changes what the registry stores: see manage.Manager.
type Changer interface {
	Do(context.Context, indexer.Operation) (indexer.Operation, error)
	Await(context.Context, indexer.Operation) (indexer.Operation, error)
	// Unlist takes a repository without manifests out of its project.
	Unlist(ctx context.Context, repository string) error
}

// A refused is an error whose text the client sees in the envelope.
type refused string

func (e refused) Error() string { return string(e) }

// The texts of errors are those that clients know.
const (
	forbidden          = refused("iam: forbidden")
	repositoryNotFound = refused("repository not found")
	manifestNotFound   = refused("manifest not found")
	tagNotFound        = refused("tag not found")
)

// The names of these types are those of the registry of Deploys.app, since the errors of
// encoding/json name them to the client.
type (
	apiListRequest struct {
		Project string `json:"project"`
	}
	apiGetRequest struct {
		Project    string `json:"project"`
		Repository string `json:"repository"`
	}
	apiGetTagsRequest           apiGetRequest
	apiGetManifestsRequest      apiGetRequest
	apiGetProjectStorageRequest apiListRequest
	apiDeleteRequest            apiGetRequest
	apiDeleteManifestRequest    struct {
		Project    string `json:"project"`
		Repository string `json:"repository"`
		Digest     string `json:"digest"`
	}
	apiUntagRequest struct {
		Project    string `json:"project"`
		Repository string `json:"repository"`
		Tag        string `json:"tag"`
	}
)

type apiListResult struct {
	Items []apiListItem `json:"items"`
}

type apiListItem struct {
	Name      string    `json:"name"`
	CreatedAt time.Time `json:"createdAt"`
}

type apiGetResult struct {
	Name      string    `json:"name"`
	Size      int64     `json:"size"`
	CreatedAt time.Time `json:"createdAt"`
}

type apiGetTagsResult struct {
	Name  string       `json:"name"`
	Items []apiTagItem `json:"items"`
}

type apiTagItem struct {
	Tag       string    `json:"tag"`
	Digest    string    `json:"digest"`
	CreatedAt time.Time `json:"createdAt"`
}

type apiGetManifestsResult struct {
	Name  string            `json:"name"`
	Items []apiManifestItem `json:"items"`
}

type apiManifestItem struct {
	Digest    string    `json:"digest"`
	CreatedAt time.Time `json:"createdAt"`
}

type apiGetProjectStorageResult struct {
	Size      int64      `json:"size"`
	UpdatedAt *time.Time `json:"updatedAt,omitempty"`
}

// An apiVoidResult is the result of a change.
type apiVoidResult struct{}

// A Route is a route with a pattern of net/http.
type Route struct {
	Pattern string
	Handler http.Handler
}

// Management returns the routes of the management API. Another method than POST is 405 by
// net/http, as are unknown paths 404: so they answer what clients know.
func (s *Clients) Management() []Route {
	return []Route{
		{"POST /api/list", call(s, access.MayList, s.list)},
		{"POST /api/get", call(s, access.MayGet, s.get)},
		{"POST /api/getTags", call(s, access.MayGet, s.getTags)},
		{"POST /api/getManifests", call(s, access.MayGet, s.getManifests)},
		{"POST /api/getProjectStorage", call(s, access.MayGet, s.getProjectStorage)},
		{"POST /api/delete", call(s, access.MayPush, s.delete)},
		{"POST /api/deleteManifest", call(s, access.MayPush, s.deleteManifest)},
		{"POST /api/untag", call(s, access.MayPush, s.untag)},
	}
}

// A target is what a call is about.
type target struct {
	project, repository string
	missing             string // the first field that is needed and empty; "": none
}

// name returns the name of the repository.
func (t target) name() string { return t.project + "/" + t.repository }

// targetOf returns the target of a call with the fields that it needs, by name.
func targetOf(project string, needs ...string) target {
	t := target{project: project}
	if project == "" {
		t.missing = "project"
	}
	for i := 0; i+1 < len(needs); i += 2 {
		if needs[i] == "repository" {
			t.repository = needs[i+1]
		}
		if needs[i+1] == "" && t.missing == "" {
			t.missing = needs[i]
		}
	}
	return t
}

func (q apiListRequest) target() target {
	return targetOf(q.Project)
}

func (q apiGetRequest) target() target {
	return targetOf(q.Project, "repository", q.Repository)
}

func (q apiGetTagsRequest) target() target           { return apiGetRequest(q).target() }
func (q apiGetManifestsRequest) target() target      { return apiGetRequest(q).target() }
func (q apiGetProjectStorageRequest) target() target { return apiListRequest(q).target() }
func (q apiDeleteRequest) target() target            { return apiGetRequest(q).target() }

func (q apiDeleteManifestRequest) target() target {
	return targetOf(q.Project, "repository", q.Repository, "digest", q.Digest)
}

func (q apiUntagRequest) target() target {
	return targetOf(q.Project, "repository", q.Repository, "tag", q.Tag)
}

// A caller is a client that has the permission for its call.
type caller struct {
	*http.Request
	target
	subject access.Subject
}

// call returns the handler of a method of the API: it decodes the request, checks that no field
// is missing, then that the client has the permission, and then calls f.
func call[Q interface{ target() target }, A any](
	s *Clients, p access.Permission, f func(caller, Q) (A, error),
) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q Q
		if media, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); media != "application/json" {
			writeRefusal(w, http.StatusBadRequest, "unsupported content type")
			return
		}
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxCall)).Decode(&q); err != nil {
			writeRefusal(w, http.StatusOK, decodeError(err))
			return
		}
		t := q.target()
		if t.missing != "" {
			writeRefusal(w, http.StatusOK, t.missing+" required")
			return
		}
		if p == access.MayPush {
			// What a client asked for is done, even if it does not wait for the answer.
			answer.SetDeadline(w, changeTimeout+answer.Timeout)
			r = r.WithContext(context.WithoutCancel(r.Context()))
		}
		subject, may, err := s.config.Login.May(r, p, t.project, t.repository)
		if err == nil && !may {
			err = forbidden
		}
		var result A
		if err == nil {
			result, err = f(caller{r, t, subject}, q)
		}
		s.writeEnvelope(w, r, result, err)
	})
}

// decodeError returns the text of an error of encoding/json, in which the types are those of
// package main.
func decodeError(err error) string {
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) && wrong.Struct == "" && wrong.Field == "" {
		return "json: cannot unmarshal " + wrong.Value + " into Go value of type main." + wrong.Type.Name()
	}
	return err.Error()
}

func writeRefusal(w http.ResponseWriter, code int, text string) {
	writeEnvelope(w, code, struct {
		OK    bool `json:"ok"`
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}{Error: struct {
		Message string `json:"message"`
	}{text}})
}

func writeEnvelope(w http.ResponseWriter, code int, v any) {
	h := w.Header()
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	body, err := json.Marshal(v)
	if err != nil {
		panic(err) // our own types
	}
	w.WriteHeader(code)
	_, _ = w.Write(append(body, '\n'))
}

// writeEnvelope writes the answer to a call, or its error.
func (s *Clients) writeEnvelope(w http.ResponseWriter, r *http.Request, result any, err error) {
	var text refused
	code, known := answer.RefusedWith(err)
	switch {
	case err == nil:
		writeEnvelope(w, http.StatusOK, struct {
			OK     bool `json:"ok"`
			Result any  `json:"result"`
		}{true, result})
	case errors.As(err, &text):
		writeRefusal(w, http.StatusOK, string(text))
	case errors.Is(err, indexer.ErrForbidden):
		writeRefusal(w, http.StatusOK, string(forbidden))
	case errors.Is(err, indexer.ErrConflict), errors.Is(err, indexer.ErrInvalid):
		writeRefusal(w, http.StatusOK, answer.ErrorText(err))
	case known: // too many requests, or a reader
		writeRefusal(w, code, answer.ErrorText(err))
	default:
		level := slog.LevelError
		if errors.Is(err, indexer.ErrUnavailable) || r.Context().Err() != nil {
			level = slog.LevelWarn
		}
		s.log.Log(r.Context(), level, "management call failed", "path", answer.LoggedPath(r), "error", err)
		writeEnvelope(w, http.StatusInternalServerError, struct {
			OK    bool     `json:"ok"`
			Error struct{} `json:"error"`
		}{})
	}
}

// read reads the book of the project, as the caller sees it.
func (s *Clients) read(c caller, f func(context.Context, answer.Book) error) error {
	ctx, cancel := context.WithTimeout(c.Context(), answer.Budget)
	defer cancel()
	read := func(b answer.Book) error { return f(ctx, b) }
	if s.config.Login == nil {
		return s.answerer.Read(ctx, c.Request, read)
	}
	return s.answerer.ReadAs(ctx, c.Request, c.subject.AskerIn(c.project), read)
}

// short returns the name of a repository within its project.
func (t target) short(name string) string { return strings.TrimPrefix(name, t.project+"/") }

// orRefused returns a refusal for an ErrNotFound.
func orRefused(err error, text refused) error {
	if errors.Is(err, indexer.ErrNotFound) {
		return text
	}
	return err
}

// tooMany returns a refusal if an answer would have more than maxHeld elements.
func tooMany(n int) error {
	if n > maxHeld {
		return refused("there are more than 200000: ask /api/v1, which has pages")
	}
	return nil
}

func (s *Clients) list(c caller, _ apiListRequest) (result apiListResult, err error) {
	var list []indexer.HeldRepository
	err = s.read(c, func(ctx context.Context, b answer.Book) (err error) {
		list, err = b.Project(ctx, c.project, maxHeld+1)
		return err
	})
	result.Items = answer.Map(list, func(r indexer.HeldRepository) apiListItem {
		return apiListItem{c.short(r.Name), r.CreatedAt.UTC()}
	})
	return result, errors.Join(err, tooMany(len(list)))
}

func (s *Clients) get(c caller, _ apiGetRequest) (result apiGetResult, err error) {
	err = s.read(c, func(ctx context.Context, b answer.Book) error {
		r, err := b.Held(ctx, c.name())
		result = apiGetResult{c.short(r.Name), r.Size, r.CreatedAt.UTC()}
		return err
	})
	return result, orRefused(err, repositoryNotFound)
}

func (s *Clients) getTags(c caller, _ apiGetTagsRequest) (result apiGetTagsResult, err error) {
	var list []indexer.HeldTag
	err = s.read(c, func(ctx context.Context, b answer.Book) (err error) {
		list, err = b.HeldTags(ctx, c.name(), maxHeld+1)
		return err
	})
	result.Name = c.repository
	result.Items = answer.Map(list, func(t indexer.HeldTag) apiTagItem {
		return apiTagItem{t.Tag, t.Digest.String(), t.CreatedAt.UTC()}
	})
	return result, errors.Join(orRefused(err, repositoryNotFound), tooMany(len(list)))
}

func (s *Clients) getManifests(c caller, _ apiGetManifestsRequest) (result apiGetManifestsResult, err error) {
	var list []indexer.HeldManifest
	err = s.read(c, func(ctx context.Context, b answer.Book) (err error) {
		list, err = b.HeldManifests(ctx, c.name(), maxHeld+1)
		return err
	})
	result.Name = c.repository
	result.Items = answer.Map(list, func(m indexer.HeldManifest) apiManifestItem {
		return apiManifestItem{m.Digest.String(), m.CreatedAt.UTC()}
	})
	return result, errors.Join(orRefused(err, repositoryNotFound), tooMany(len(list)))
}

func (s *Clients) getProjectStorage(
	c caller, _ apiGetProjectStorageRequest,
) (result apiGetProjectStorageResult, err error) {
	err = s.read(c, func(ctx context.Context, b answer.Book) error {
		storage, err := b.ProjectStorage(ctx, c.project)
		result.Size = storage.Size
		if at := storage.UpdatedAt.UTC(); !storage.UpdatedAt.IsZero() {
			result.UpdatedAt = &at
		}
		return err
	})
	return result, orRefused(err, forbidden)
}

func (s *Clients) delete(c caller, _ apiDeleteRequest) (apiVoidResult, error) {
	err := s.read(c, func(ctx context.Context, b answer.Book) error {
		_, err := b.Held(ctx, c.name())
		return err
	})
	if err == nil {
		err = s.change(c, indexer.Operation{Kind: indexer.DeleteRepository})
		if errors.Is(err, indexer.ErrNotFound) { // it has blobs of deleted manifests only
			err = s.config.Changes.Unlist(c.Context(), c.name())
		}
	}
	return apiVoidResult{}, orRefused(err, repositoryNotFound)
}

func (s *Clients) deleteManifest(c caller, q apiDeleteManifestRequest) (apiVoidResult, error) {
	d, err := digest.Parse(q.Digest)
	if err != nil {
		return apiVoidResult{}, manifestNotFound
	}
	err = s.change(c, indexer.Operation{Kind: indexer.DeleteManifest, Digest: d})
	return apiVoidResult{}, orRefused(err, manifestNotFound)
}

func (s *Clients) untag(c caller, q apiUntagRequest) (apiVoidResult, error) {
	if !indexer.IsTag(q.Tag) {
		return apiVoidResult{}, tagNotFound
	}
	err := s.change(c, indexer.Operation{Kind: indexer.Untag, Tag: q.Tag})
	return apiVoidResult{}, orRefused(err, tagNotFound)
}

// change performs an operation for the caller, and waits for its end.
func (s *Clients) change(c caller, o indexer.Operation) error {
	switch {
	case s.config.Login == nil: // nobody can be told apart
		return forbidden
	case s.config.Changes == nil:
		return login.ErrOnlyReads
	case !indexer.IsRepository(c.name()):
		return indexer.ErrNotFound
	}
	leave, entered := s.changing.Take(c.Request)
	if !entered {
		return answer.Refuse(http.StatusServiceUnavailable, "too many changes wait, from your address or in all: try again")
	}
	defer leave()
	o.Repository = c.name()
	ctx, cancel := context.WithTimeout(c.actor(s.config.Login), changeTimeout)
	defer cancel()
	o, err := s.config.Changes.Do(ctx, o)
	if err == nil && !o.Ended() {
		o, err = s.config.Changes.Await(ctx, o)
	}
	if err == nil && !o.Ended() {
		err = indexer.Conflict("it is not done yet, and goes on: it is operation %d", o.ID)
	}
	return err
}

// actor returns the context for a change that the caller makes. If it is an account, the store
// asks for the permission again, in the transaction that records the change.
func (c caller) actor(l *login.Login) context.Context {
	s := c.subject.WithName(c.Context())
	ctx := login.As(c.Request, s)
	if l.Accounts == nil {
		return ctx
	}
	return access.WithPermit(ctx, func(s access.Subject) error {
		if !access.MayPush.Of(s.Allowed(c.name())) {
			return indexer.Forbidden("you may not change %s", c.name())
		}
		return nil
	})
}
