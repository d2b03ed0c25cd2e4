package api

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/query"
	"github.com/portbook/portbook/indexer/web/answer"
	"github.com/portbook/portbook/indexer/web/login"
)

// operationEndpoints returns the endpoints that change what the registry stores, in the order of
// doc/api.md; none if nobody logs in, because then nobody could be told apart. They have limits of
// their own: who cleans up deletes hundreds of tags at once.
func (s *API) operationEndpoints() []endpoint {
	if s.config.Login == nil {
		return nil
	}
	limit := answer.Parameter{Name: "limit", Doc: "maximum number of elements (default 100)", Max: maxList}
	before := answer.Parameter{Name: "before", Doc: "only elements before the one with this number", Max: query.MaxNumber}
	dryRun := answer.Parameter{Name: "dry_run", Doc: "true: only say what would happen", OneOf: []string{"true", "false"}}
	yes := func(name, doc string) answer.Parameter {
		return answer.Parameter{Name: name, Doc: doc, OneOf: []string{"true", "false"}}
	}
	codes := []int{http.StatusOK, http.StatusAccepted}
	const repository = "/repositories/{name}"
	const tag, operation = repository + "/-/tags/{tag}", "/operations/{operation}"
	return []endpoint{
		{method: "DELETE", path: tag, id: "deleteTag", summary: "Delete a tag; the manifest stays",
			urgent: true, codes: codes, gives: changeAnswer{}, f: s.operating(s.deleteTag), takes: []answer.Parameter{
				{Name: "digest", Doc: "what the tag must still show; otherwise the answer is 409"}, dryRun}},
		{method: "PUT", path: tag, id: "rollback", summary: "Make a tag show what it showed before",
			body: rollbackBody{}, urgent: true, codes: codes, gives: changeAnswer{}, f: s.operating(s.rollback),
			takes: []answer.Parameter{dryRun}},
		{method: "DELETE", path: repository + "/-/manifests/{reference}", id: "deleteManifest",
			summary: "Delete a manifest, by its digest, with the tags that show it",
			urgent:  true, codes: codes, gives: changeAnswer{}, f: s.operating(s.deleteManifest), takes: []answer.Parameter{
				yes("referrers", "whether what refers to it is deleted too"),
				yes("children", "whether the manifests of an index are deleted too, unless something else needs them"),
				{Name: "tags", Doc: "all tags that you know to show it, with commas: if another one does, the answer is 409"},
				dryRun}},
		{method: "DELETE", path: repository, id: "deleteRepository", summary: "Delete all tags and manifests of a repository",
			urgent: true, codes: codes, gives: changeAnswer{}, f: s.operating(s.deleteRepository),
			takes: []answer.Parameter{dryRun}},
		{path: "/trash", id: "trash", summary: "List the deleted manifests that can be restored, the latest first",
			gives: trashAnswer{}, f: s.operating(s.trash), takes: []answer.Parameter{
				{Name: "repository", Doc: "a repository to which you may push; administrators may leave it out"},
				{Name: "operation", Doc: "only what this operation deleted", Max: query.MaxNumber}, before, limit}},
		{method: "POST", path: "/trash/{trash}/restore", id: "restore", summary: "Put a deleted manifest back, with its tags",
			urgent: true, codes: codes, gives: changeAnswer{}, f: s.operating(s.restore), takes: []answer.Parameter{dryRun}},
		{path: "/operations", id: "operations", summary: "List operations, the latest first",
			gives: operationsAnswer{}, f: s.operating(s.operations), takes: []answer.Parameter{
				{Name: "repository", Doc: "a repository to which you may push; without it your own, or for administrators all"},
				{Name: "kind", Doc: "what they change", OneOf: words(indexer.OperationKinds)},
				{Name: "state", Doc: "how far they are", OneOf: words(states)}, before, limit}},
		{path: operation, id: "operation", summary: "Get an operation: how far it is, and what it has changed",
			gives: operationAnswer{}, f: s.operating(s.operation)},
		{method: "POST", path: operation + "/undo", id: "undo", summary: "Put back what an operation has deleted",
			urgent: true, codes: codes, gives: changeAnswer{}, f: s.operating(s.undo), takes: []answer.Parameter{dryRun}},
	}
}

var states = []indexer.OperationState{
	indexer.OperationWaiting, indexer.OperationRunning, indexer.OperationDone, indexer.OperationFailed,
}

func words[T ~string](all []T) []string {
	return answer.Map(all, func(w T) string { return string(w) })
}

// operating returns the handler of an endpoint for clients that say who they are.
func (s *API) operating(f forSubject) func(http.ResponseWriter, asked) error {
	return func(w http.ResponseWriter, r asked) error {
		who, err := s.config.Login.Known(r.Request)
		if err != nil {
			return err
		}
		return f(w, r, who)
	}
}

// A changeAnswer is the answer to a request for a change.
type changeAnswer struct {
	Operation *operationAnswer `json:"operation,omitempty" doc:"what is done or, with the status 202, being done"`
	Effect    *effectAnswer    `json:"effect,omitempty" doc:"with dry_run: what would be done"`
}

// An operationAnswer is an operation in the API.
type operationAnswer struct {
	ID         int64             `json:"id"`
	Kind       string            `json:"kind" doc:"untag, delete-manifest, delete-repository, restore, rollback, apply-plan or put-back"`
	Repository string            `json:"repository,omitempty" doc:"absent: several"`
	Tag        string            `json:"tag,omitempty"`
	Digest     string            `json:"digest,omitempty" doc:"what the tag had to show, what was deleted, or what the tag is to show"`
	Actor      string            `json:"actor" doc:"who asked for it"`
	State      string            `json:"state" doc:"waiting, running, done or failed"`
	Done       int               `json:"done" doc:"how much of it is done"`
	Total      int               `json:"total" doc:"how much there is to do; 0: not known yet"`
	Error      string            `json:"error,omitempty" doc:"why it failed, or why it is tried again"`
	Untagged   int               `json:"untagged" doc:"number of tags that it has deleted"`
	Deleted    int               `json:"deleted" doc:"number of manifests that it has deleted"`
	Restored   int               `json:"restored" doc:"number of manifests that it has put into the registry"`
	Tagged     int               `json:"tagged" doc:"number of tags that it has created or moved"`
	PutBack    int               `json:"put_back" doc:"number of tags and manifests that others pushed meanwhile, and that it has put back"`
	Notes      []string          `json:"notes" doc:"what was different from what was asked for"`
	CreatedAt  answer.Timestamp  `json:"created_at"`
	StartedAt  *answer.Timestamp `json:"started_at,omitempty"`
	EndedAt    *answer.Timestamp `json:"ended_at,omitempty"`
}

func operationOf(o indexer.Operation) operationAnswer {
	return operationAnswer{
		ID: o.ID, Kind: string(o.Kind), Repository: o.Repository, Tag: o.Tag, Digest: o.Digest.String(), Actor: o.Actor,
		State: string(o.State), Done: o.Done, Total: o.Total, Error: o.Error, Untagged: o.Result.Untagged,
		Deleted: o.Result.Deleted, Restored: o.Result.Restored, Tagged: o.Result.Tagged, PutBack: o.Result.PutBack,
		Notes: listOf(o.Result.Notes), CreatedAt: answer.Timestamp{Time: o.CreatedAt}, StartedAt: timestampOf(o.StartedAt),
		EndedAt: timestampOf(o.EndedAt),
	}
}

// listOf returns texts, which JSON writes as a list even if there are none.
func listOf(texts []string) []string {
	if texts == nil {
		return []string{}
	}
	return texts
}

// An effectAnswer says what an operation would do.
type effectAnswer struct {
	Deletes   []effectedAnswer `json:"deletes" doc:"manifests that would be deleted, the first 1,000"`
	Manifests int              `json:"manifests" doc:"number of manifests that would be deleted"`
	Untags    []string         `json:"untags" doc:"tags that would be deleted"`
	Stays     []effectedAnswer `json:"stays" doc:"manifests that belong to it and stay"`
	Puts      []effectedAnswer `json:"puts" doc:"manifests that would be put back"`
	Tags      []tagMoveAnswer  `json:"tags" doc:"tags that would be created or moved"`
	Missing   []missingAnswer  `json:"missing" doc:"what the registry no longer has, and it would take"`
	Refused   []string         `json:"refused" doc:"why it would be refused; empty: it would be done"`
	Own       *int64           `json:"own,omitempty" doc:"bytes that nothing else uses, which garbage collection could free; absent: unknown"`
	Shared    *int64           `json:"shared,omitempty" doc:"bytes that others use too, and that stay; absent: unknown"`
}

type effectedAnswer struct {
	Digest    string   `json:"digest"`
	Kind      string   `json:"kind,omitempty"`
	MediaType string   `json:"media_type,omitempty"`
	Tags      []string `json:"tags" doc:"that show it"`
	Why       string   `json:"why" doc:"why it is in the list"`
}

type tagMoveAnswer struct {
	Tag  string `json:"tag"`
	From string `json:"from,omitempty" doc:"absent: there is no such tag now"`
	To   string `json:"to"`
}

type missingAnswer struct {
	Digest string `json:"digest"`
	Of     string `json:"of" doc:"the manifest that needs it"`
	What   string `json:"what" doc:"blob or manifest"`
}

func effectOf(e indexer.Effect) *effectAnswer {
	effected := func(x indexer.Effected) effectedAnswer {
		return effectedAnswer{x.Digest.String(), string(x.Kind), x.MediaType, listOf(x.Tags), x.Why}
	}
	return &effectAnswer{
		Deletes: answer.Map(e.Deletes, effected), Manifests: e.Manifests, Untags: listOf(e.Untags),
		Stays: answer.Map(e.Stays, effected), Puts: answer.Map(e.Puts, effected),
		Tags: answer.Map(e.Tags, func(m indexer.TagMove) tagMoveAnswer {
			return tagMoveAnswer{m.Tag, m.From.String(), m.To.String()}
		}),
		Missing: answer.Map(e.Missing, func(m indexer.Missing) missingAnswer {
			return missingAnswer{m.Digest.String(), m.Of.String(), m.What}
		}),
		Refused: listOf(e.Refused), Own: bytesOrUnknown(e.Own), Shared: bytesOrUnknown(e.Shared),
	}
}

func bytesOrUnknown(n int64) *int64 {
	if n < 0 {
		return nil
	}
	return &n
}

// perform performs an operation of a subject that may do an action with its repository, or with
// dry_run says what it would do.
func (s *API) perform(
	w http.ResponseWriter, r asked, who access.Subject, o indexer.Operation, action access.Actions,
) error {
	do := func(ctx context.Context, m login.Operations) error { return s.do(ctx, w, r, m, o) }
	if o.Repository == "" {
		return s.config.Login.Administering(r.Request, who, do)
	}
	return s.config.Login.Operating(r.Request, who, o.Repository, action, do)
}

func (s *API) do(ctx context.Context, w http.ResponseWriter, r asked, m login.Operations, o indexer.Operation) error {
	if r.values.Get("dry_run") == "true" {
		e, err := m.Preview(ctx, o)
		if err != nil {
			return orSaid(err)
		}
		return answer.WriteJSON(w, http.StatusOK, changeAnswer{Effect: effectOf(e)})
	}
	o, err := m.Do(ctx, o)
	if err != nil {
		return orSaid(err)
	}
	done := operationOf(o)
	code := http.StatusOK
	if !o.Ended() {
		code = http.StatusAccepted
		w.Header().Set("Location", answer.APIPrefix+"/operations/"+strconv.FormatInt(o.ID, 10))
	}
	return answer.WriteJSON(w, code, changeAnswer{Operation: &done})
}

// orSaid returns the refusal for an ErrNotFound of an operation, whose text says what there is
// none of.
func orSaid(err error) error {
	if errors.Is(err, indexer.ErrNotFound) {
		return answer.Refuse(http.StatusNotFound, "%s", err)
	}
	return err
}

// tagOf returns the repository and the tag in the path.
func (r asked) tagOf() (repository, tag string, err error) {
	if repository, err = r.repository(); err != nil {
		return "", "", err
	}
	if tag = r.PathValue("tag"); !indexer.IsTag(tag) {
		err = indexer.InvalidTag(tag)
	}
	return repository, tag, err
}

func (s *API) deleteTag(w http.ResponseWriter, r asked, who access.Subject) error {
	repository, tag, err := r.tagOf()
	if err != nil {
		return err
	}
	o := indexer.Operation{Kind: indexer.Untag, Repository: repository, Tag: tag}
	o.Digest = digest.Digest(r.values.Get("digest"))
	return s.perform(w, r, who, o, access.Delete)
}

// A rollbackBody is the body of a request to make a tag show what it showed before.
type rollbackBody struct {
	Digest string `json:"digest,omitempty" doc:"what the tag is to show; or move"`
	Move   int    `json:"move,omitempty" doc:"the id of an entry of the tag's history, whose digest the tag is to show"`
	Shows  string `json:"shows,omitempty" doc:"what the tag must still show now; otherwise the answer is 409"`
}

func (s *API) rollback(w http.ResponseWriter, r asked, who access.Subject) error {
	repository, tag, err := r.tagOf()
	if err != nil {
		return err
	}
	var b rollbackBody
	if err := r.read(w, &b); err != nil {
		return err
	}
	o := indexer.Operation{Kind: indexer.Rollback, Repository: repository, Tag: tag, Digest: digest.Digest(b.Digest)}
	o.Options.Move, o.Options.Shows = int64(b.Move), digest.Digest(b.Shows)
	return s.perform(w, r, who, o, access.Push)
}

func (s *API) deleteManifest(w http.ResponseWriter, r asked, who access.Subject) error {
	ref, err := r.reference()
	if err != nil {
		return err
	}
	if ref.Digest == "" {
		return answer.Invalid("the reference", "%q is a tag: delete the tag, or write the digest of the manifest", ref.Tag)
	}
	o := indexer.Operation{Kind: indexer.DeleteManifest, Repository: ref.Repository, Digest: ref.Digest}
	o.Options.Referrers, o.Options.Children = r.values.Get("referrers") == "true", r.values.Get("children") == "true"
	if tags := r.values.Get("tags"); tags != "" {
		o.Options.Tags = strings.Split(tags, ",")
	}
	return s.perform(w, r, who, o, access.Delete)
}

func (s *API) deleteRepository(w http.ResponseWriter, r asked, who access.Subject) error {
	repository, err := r.repository()
	if err != nil {
		return err
	}
	return s.perform(w, r, who, indexer.Operation{Kind: indexer.DeleteRepository, Repository: repository}, access.Delete)
}

// A trashedAnswer is a manifest of the trash in the API.
type trashedAnswer struct {
	ID         int64            `json:"id"`
	Operation  int64            `json:"operation" doc:"number of the operation that deleted it"`
	Repository string           `json:"repository"`
	Digest     string           `json:"digest"`
	MediaType  string           `json:"media_type,omitempty"`
	Tags       []string         `json:"tags" doc:"that showed it and were deleted with it"`
	TagsOnly   bool             `json:"tags_only" doc:"whether only the tags are gone, and the manifest is there"`
	Size       int64            `json:"size" doc:"bytes of the manifest"`
	DeletedAt  answer.Timestamp `json:"deleted_at"`
}

type trashAnswer struct {
	Items []trashedAnswer `json:"items"`
	Next  string          `json:"next,omitempty" doc:"the address of the next page"`
}

// visibly returns an ErrForbidden unless a subject may push to the repository that a list is
// about, or is an administrator.
func (s *API) visibly(r asked, who access.Subject) error {
	repository := r.values.Get("repository")
	if who.Administers() {
		return nil
	}
	if repository == "" {
		return answer.Invalid("the parameter", "\"repository\" is missing: only administrators may leave it out")
	}
	may, err := s.config.Login.MayPush(r.Request, who, repository)
	if err == nil && !may {
		err = indexer.Forbidden("you may not push to %.255q: that takes a grant of the action push on it", repository)
	}
	return s.config.Login.Forbidden(r.Request, who, err)
}

func (s *API) trash(w http.ResponseWriter, r asked, who access.Subject) error {
	if err := s.visibly(r, who); err != nil {
		return err
	}
	n := r.number("limit", defaultList)
	q := indexer.TrashQuery{
		Repository: r.values.Get("repository"), Operation: int64(r.number("operation", 0)),
		Before: int64(r.number("before", 0)), Limit: n + 1,
	}
	var list []indexer.Trash
	err := s.config.Login.Looking(r.Request, func(ctx context.Context, m login.Operations) (err error) {
		list, err = m.Trash(ctx, q)
		return err
	})
	if err != nil {
		return err
	}
	list, next := older(w, r, list, n, func(t indexer.Trash) int64 { return t.ID })
	items := answer.Map(list, func(t indexer.Trash) trashedAnswer {
		return trashedAnswer{
			ID: t.ID, Operation: t.Operation, Repository: t.Repository, Digest: t.Digest.String(), MediaType: t.MediaType,
			Tags: listOf(t.Tags), TagsOnly: t.TagsOnly, Size: t.Size, DeletedAt: answer.Timestamp{Time: t.DeletedAt},
		}
	})
	return answer.WriteJSON(w, http.StatusOK, trashAnswer{items, next})
}

// older returns the first limit elements of a list that was read with one more, and the address
// of the next page; "" if there is none. It also sets the field Link.
func older[T any](w http.ResponseWriter, r asked, list []T, limit int, id func(T) int64) (page []T, next string) {
	if len(list) <= limit {
		return list, ""
	}
	next = r.page("before", strconv.FormatInt(id(list[limit-1]), 10))
	w.Header().Set("Link", "<"+next+`>; rel="next"`)
	return list[:limit], next
}

// number64 returns a number of the path.
func (r asked) number64(name string) (int64, error) {
	n, err := strconv.ParseInt(r.PathValue(name), 10, 64)
	if err != nil || n < 1 {
		return 0, answer.Refuse(http.StatusNotFound, "there is no %s %.20q", name, r.PathValue(name))
	}
	return n, nil
}

func (s *API) restore(w http.ResponseWriter, r asked, who access.Subject) error {
	id, err := r.number64("trash")
	if err != nil {
		return err
	}
	var found []indexer.Trash
	err = s.config.Login.Looking(r.Request, func(ctx context.Context, m login.Operations) (err error) {
		found, err = m.TrashByID(ctx, []int64{id})
		return err
	})
	if err != nil {
		return err
	}
	none := answer.Refuse(http.StatusNotFound, "the trash has no %d: it was restored, or the time is over", id)
	if len(found) == 0 {
		return none
	}
	if may, err := s.config.Login.MayPush(r.Request, who, found[0].Repository); err != nil || !may {
		if err == nil {
			err = none
		}
		return err
	}
	o := indexer.Operation{Kind: indexer.Restore, Repository: found[0].Repository}
	o.Options.Trash = []int64{id}
	return s.perform(w, r, who, o, access.Push)
}

type operationsAnswer struct {
	Items []operationAnswer `json:"items"`
	Next  string            `json:"next,omitempty" doc:"the address of the next page"`
}

func (s *API) operations(w http.ResponseWriter, r asked, who access.Subject) error {
	n := r.number("limit", defaultList)
	q := indexer.OperationQuery{
		Repository: r.values.Get("repository"), Kind: indexer.OperationKind(r.values.Get("kind")),
		State: indexer.OperationState(r.values.Get("state")), Before: int64(r.number("before", 0)), Limit: n + 1,
	}
	if q.Repository == "" && !who.Administers() {
		q.Actor = who.WithName(r.Context()).Name
	} else if err := s.visibly(r, who); err != nil {
		return err
	}
	var list []indexer.Operation
	err := s.config.Login.Looking(r.Request, func(ctx context.Context, m login.Operations) (err error) {
		list, err = m.Operations(ctx, q)
		return err
	})
	if err != nil {
		return err
	}
	list, next := older(w, r, list, n, func(o indexer.Operation) int64 { return o.ID })
	return answer.WriteJSON(w, http.StatusOK, operationsAnswer{answer.Map(list, operationOf), next})
}

// watched returns the operation in the path, if the subject may see it.
func (s *API) watched(r asked, who access.Subject) (o indexer.Operation, err error) {
	id, err := r.number64("operation")
	if err != nil {
		return o, err
	}
	err = s.config.Login.Looking(r.Request, func(ctx context.Context, m login.Operations) (err error) {
		o, err = m.Operation(ctx, id)
		return err
	})
	if err == nil {
		var may bool
		if may, err = s.config.Login.Watches(r.Request, who.WithName(r.Context()), o); err == nil && !may {
			err = indexer.ErrNotFound
		}
	}
	return o, orNone(err, "operation %d", id)
}

func (s *API) operation(w http.ResponseWriter, r asked, who access.Subject) error {
	o, err := s.watched(r, who)
	if err != nil {
		return err
	}
	return answer.WriteJSON(w, http.StatusOK, operationOf(o))
}

func (s *API) undo(w http.ResponseWriter, r asked, who access.Subject) error {
	done, err := s.watched(r, who)
	if err != nil {
		return err
	}
	o := indexer.Operation{Kind: indexer.Restore, Repository: done.Repository}
	o.Options.Undo = done.ID
	return s.perform(w, r, who, o, access.Push)
}
