package catalogue

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/web/answer"
	"github.com/portbook/portbook/indexer/web/login"
)

// changeFields are the fields that say which operation a page is about, in its address and in
// its form.
var changeFields = []string{
	"kind", "repository", "tag", "digest", "tags", "shows", "move", "trash", "undo", "referrers", "children",
}

// maxChangeForm is the maximum size of the form of an operation: 512 KiB. It has all tags that show
// a manifest, of which there are thousands if every build is tagged.
const maxChangeForm = 512 << 10

// A changeView asks whether a person is sure of an operation, and shows all that would happen.
type changeView struct {
	Operation     indexer.Operation
	Effect        indexer.Effect
	Title, Button string
	Fields        url.Values // of the form that performs it
	Options       bool       // whether it can be chosen what goes too
	Wrong         string
	Back          string // an address
	DigestOf      string // the repository of the digests
	Known, Danger bool   // whether the bytes are known, and whether something is deleted
}

// changeOf returns the operation that the fields of a page say. There are pages of the kinds in
// changeTexts only.
func changeOf(form url.Values) (o indexer.Operation, err error) {
	field := func(name string) string { return cleanField(form, name) }
	o = indexer.Operation{
		Kind: indexer.OperationKind(field("kind")), Repository: field("repository"), Tag: field("tag"),
		Digest: digest.Digest(field("digest")),
	}
	if _, has := changeTexts[o.Kind]; !has {
		return o, answer.ErrNothingHere
	}
	o.Options.Shows = digest.Digest(field("shows"))
	o.Options.Referrers, o.Options.Children = field("referrers") != "", field("children") != ""
	if tags := field("tags"); tags != "" {
		o.Options.Tags = strings.Split(tags, ",")
	}
	for name, to := range map[string]*int64{"move": &o.Options.Move, "undo": &o.Options.Undo} {
		if *to, err = numberIn(field(name)); err != nil {
			return o, err
		}
	}
	if id, err := numberIn(field("trash")); err != nil {
		return o, err
	} else if id > 0 {
		o.Options.Trash = []int64{id}
	}
	if !indexer.IsRepository(o.Repository) && o.Options.Undo == 0 {
		return o, indexer.InvalidRepository(o.Repository)
	}
	return o, nil
}

// numberIn parses a number of a form; 0 for "".
func numberIn(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 1 {
		return 0, indexer.Invalid("%.20q is not a number", text)
	}
	return n, nil
}

// actionOf returns the action that an operation takes.
func actionOf(o indexer.Operation) access.Actions {
	if o.Kind == indexer.Restore || o.Kind == indexer.Rollback {
		return access.Push
	}
	return access.Delete
}

// changeTexts are the titles and the buttons of the pages of operations.
var changeTexts = map[indexer.OperationKind][2]string{
	indexer.Untag:            {"Delete the tag", "Delete the tag"},
	indexer.DeleteManifest:   {"Delete the manifest", "Delete"},
	indexer.DeleteRepository: {"Delete the repository", "Delete the repository"},
	indexer.Restore:          {"Restore", "Restore"},
	indexer.Rollback:         {"Put back the tag", "Put back"},
}

// Change serves the page that shows what an operation would do, and asks whether to do it.
func (s *Catalogue) Change(w http.ResponseWriter, r *http.Request) error {
	who, err := s.operator(w, r)
	if err != nil || who.Name == "" {
		return err
	}
	return s.showChange(w, r, who, http.StatusOK, r.URL.Query(), "")
}

// operator returns the person who is signed in. Who is not is sent to do so, and then back.
func (s *Catalogue) operator(w http.ResponseWriter, r *http.Request) (access.Subject, error) {
	if s.config.Login.Operations == nil {
		return access.Subject{}, login.ErrOnlyReads
	}
	who, err := s.config.Login.Person(r)
	if err == nil && who.Name == "" {
		seeOther(w, "/account?next="+url.QueryEscape(r.URL.RequestURI()))
	}
	return who, err
}

// operate runs f for a person who may do what an operation takes.
func (s *Catalogue) operate(
	r *http.Request, who access.Subject, o indexer.Operation, f func(context.Context, login.Operations) error,
) error {
	if o.Repository == "" {
		return s.config.Login.Administering(r, who, f)
	}
	return s.config.Login.Operating(r, who, o.Repository, actionOf(o), f)
}

func (s *Catalogue) showChange(
	w http.ResponseWriter, r *http.Request, who access.Subject, code int, form url.Values, problem string,
) error {
	o, err := changeOf(form)
	if err != nil {
		return err
	}
	texts := changeTexts[o.Kind]
	v := changeView{
		Operation: o, Title: texts[0], Button: texts[1], Wrong: problem, Options: o.Kind == indexer.DeleteManifest,
		DigestOf: o.Repository, Danger: actionOf(o) == access.Delete, Back: "/manage/operations",
	}
	if o.Options.Undo > 0 {
		v.Title = fmt.Sprintf("Restore what operation %d has deleted", o.Options.Undo)
		v.Back = fmt.Sprintf("/manage/operations/%d", o.Options.Undo)
	} else if o.Repository != "" {
		v.Back = "/r/" + o.Repository
	}
	err = s.operate(r, who, o, func(ctx context.Context, m login.Operations) (err error) {
		v.Effect, err = m.Preview(ctx, o)
		return err
	})
	if err != nil {
		return orNothing(err)
	}
	v.Known = v.Effect.Own >= 0
	v.Fields = fieldsOfChange(form, v.Effect)
	return s.unstored(w, code, "change", page{Title: v.Title, Account: true, Main: v})
}

// fieldsOfChange returns the fields that the form sends to do what the page shows: with all tags
// that it shows, so that no other tag goes.
func fieldsOfChange(form url.Values, e indexer.Effect) url.Values {
	fields := url.Values{}
	for _, name := range changeFields {
		if text := cleanField(form, name); text != "" {
			fields.Set(name, text)
		}
	}
	switch e.Operation.Kind {
	case indexer.DeleteManifest:
		for _, d := range e.Deletes {
			if d.Digest == e.Operation.Digest {
				fields.Set("tags", strings.Join(d.Tags, ","))
			}
		}
	case indexer.Untag:
		if len(e.Stays) > 0 {
			fields.Set("digest", e.Stays[0].Digest.String())
		}
	case indexer.Rollback:
		if len(e.Tags) > 0 && e.Tags[0].From != "" {
			fields.Set("shows", e.Tags[0].From.String())
		}
	}
	return fields
}

// orNothing returns the refusal for an ErrNotFound of an operation.
func orNothing(err error) error {
	if errors.Is(err, indexer.ErrNotFound) {
		return answer.Refuse(http.StatusNotFound, "%s", answer.ErrorText(err))
	}
	return err
}

// MakeChange performs the operation of a page, and shows how far it is.
func (s *Catalogue) MakeChange(w http.ResponseWriter, r *http.Request) error {
	if s.config.Login.Operations == nil {
		return login.ErrOnlyReads
	}
	who, err := s.changingBy(w, r, maxChangeForm)
	if err != nil {
		return err
	}
	o, err := changeOf(r.PostForm)
	if err != nil {
		return err
	}
	var done indexer.Operation
	err = s.operate(r, who, o, func(ctx context.Context, m login.Operations) (err error) {
		done, err = m.Do(ctx, o)
		return err
	})
	switch {
	case done.ID != 0:
		seeOther(w, "/manage/operations/"+strconv.FormatInt(done.ID, 10))
		return nil
	case errors.Is(err, indexer.ErrConflict):
		return s.showChange(w, r, who, http.StatusConflict, r.PostForm, answer.ErrorText(err))
	}
	return orNothing(err)
}

// An operationsView lists operations, the latest first.
type operationsView struct {
	Repository string
	State      indexer.OperationState // only those; "": all
	States     []indexer.OperationState
	All        bool // whether those of everybody are listed
	List       []indexer.Operation
	Back, More string
	tabs
}

// operationStates are the states by which operations can be selected.
var operationStates = []indexer.OperationState{
	indexer.OperationWaiting, indexer.OperationRunning, indexer.OperationDone, indexer.OperationFailed,
}

// Operations serves the operations that a person may see.
func (s *Catalogue) Operations(w http.ResponseWriter, r *http.Request) error {
	who, err := s.operator(w, r)
	if err != nil || who.Name == "" {
		return err
	}
	form := r.URL.Query()
	before, err := numberIn(cleanField(form, "before"))
	if err != nil {
		return err
	}
	v := operationsView{
		Repository: cleanField(form, "repository"), States: operationStates, All: who.Administers(),
		tabs: tabsOf(who, "operations"),
	}
	if state := indexer.OperationState(form.Get("state")); slices.Contains(operationStates, state) {
		v.State = state
	}
	q := indexer.OperationQuery{Repository: v.Repository, State: v.State, Before: before, Limit: pageSize + 1}
	if v.Repository == "" && !v.All {
		q.Actor = who.Name
	} else if err := s.mayPush(r, who, v.Repository); err != nil {
		return err
	}
	err = s.config.Login.Looking(r, func(ctx context.Context, m login.Operations) (err error) {
		v.List, err = m.Operations(ctx, q)
		return err
	})
	if err != nil {
		return err
	}
	address := func(before string) string {
		return addressWith("/manage/operations", "repository", v.Repository, "state", string(v.State), "before", before)
	}
	if before > 0 {
		v.Back = address("")
	}
	if len(v.List) > pageSize {
		v.List = v.List[:pageSize]
		v.More = address(strconv.FormatInt(v.List[pageSize-1].ID, 10))
	}
	return s.unstored(w, http.StatusOK, "operations", page{Title: "Operations", Account: true, Main: v})
}

// mayPush returns an ErrForbidden unless a person may push to a repository, or is an
// administrator.
func (s *Catalogue) mayPush(r *http.Request, who access.Subject, repository string) error {
	if who.Administers() {
		return nil
	}
	may, err := s.config.Login.MayPush(r, who, repository)
	if err == nil && !may {
		err = indexer.Forbidden("you may not push to %.255q: that takes a grant of the action push on it", repository)
	}
	return s.config.Login.Forbidden(r, who, err)
}

// A performedView is the page of one operation.
type performedView struct {
	indexer.Operation
	Undoable bool
	Trash    []indexer.Trash // what it has deleted and can be restored, the latest first
	More     string
	tabs
}

// Operation serves the page of one operation. While it is not over, the browser asks again.
func (s *Catalogue) Operation(w http.ResponseWriter, r *http.Request) error {
	who, err := s.operator(w, r)
	if err != nil || who.Name == "" {
		return err
	}
	id, err := numberIn(r.PathValue("operation"))
	if err != nil {
		return err
	}
	v := performedView{tabs: tabsOf(who, "")}
	err = s.config.Login.Looking(r, func(ctx context.Context, m login.Operations) (err error) {
		if v.Operation, err = m.Operation(ctx, id); err == nil {
			v.Trash, err = m.Trash(ctx, indexer.TrashQuery{Operation: id, Limit: pageSize + 1})
		}
		return err
	})
	if err == nil {
		var may bool
		if may, err = s.config.Login.Watches(r, who, v.Operation); err == nil && !may {
			err = indexer.ErrNotFound
		}
	}
	if errors.Is(err, indexer.ErrNotFound) {
		err = answer.Refuse(http.StatusNotFound, "there is no operation %d", id)
	}
	if err != nil {
		return err
	}
	v.Undoable = v.Ended() && len(v.Trash) > 0
	if len(v.Trash) > pageSize {
		v.Trash, v.More = v.Trash[:pageSize], addressWith("/manage/trash", "operation", strconv.FormatInt(id, 10))
	}
	if !v.Ended() {
		w.Header().Set("Refresh", "2")
	}
	return s.unstored(w, http.StatusOK, "operation", page{Title: "Operation", Account: true, Main: v})
}

// A trashView lists what can be restored, the latest first.
type trashView struct {
	Repository string
	List       []indexer.Trash
	Asked      bool // whether a repository was named, or all may be seen
	Back, More string
	tabs
}

// Trash serves what can be restored.
func (s *Catalogue) Trash(w http.ResponseWriter, r *http.Request) error {
	who, err := s.operator(w, r)
	if err != nil || who.Name == "" {
		return err
	}
	form := r.URL.Query()
	before, err := numberIn(cleanField(form, "before"))
	if err != nil {
		return err
	}
	operation, err := numberIn(cleanField(form, "operation"))
	if err != nil {
		return err
	}
	v := trashView{Repository: cleanField(form, "repository"), tabs: tabsOf(who, "trash")}
	if v.Asked = v.Repository != "" || who.Administers(); v.Asked {
		if err := s.mayPush(r, who, v.Repository); err != nil {
			return err
		}
		q := indexer.TrashQuery{Repository: v.Repository, Operation: operation, Before: before, Limit: pageSize + 1}
		err = s.config.Login.Looking(r, func(ctx context.Context, m login.Operations) (err error) {
			v.List, err = m.Trash(ctx, q)
			return err
		})
		if err != nil {
			return err
		}
	}
	address := func(before string) string {
		return addressWith("/manage/trash", "repository", v.Repository, "operation", cleanField(form, "operation"),
			"before", before)
	}
	if before > 0 {
		v.Back = address("")
	}
	if len(v.List) > pageSize {
		v.List = v.List[:pageSize]
		v.More = address(strconv.FormatInt(v.List[pageSize-1].ID, 10))
	}
	return s.unstored(w, http.StatusOK, "trash", page{Title: "Trash", Account: true, Main: v})
}

// A historyView lists the moves of a tag, the latest first.
type historyView struct {
	Repository, Tag string
	Now             digest.Digest // what the tag shows in the book; "": it does not exist
	List            []indexer.Move
	Back, More      string
}

// TagHistory serves the history of a tag, with what puts it back.
func (s *Catalogue) TagHistory(w http.ResponseWriter, r *http.Request) error {
	form := r.URL.Query()
	v := historyView{Repository: cleanField(form, "repository"), Tag: cleanField(form, "tag")}
	before, err := numberIn(cleanField(form, "before"))
	switch {
	case err != nil:
		return err
	case !indexer.IsRepository(v.Repository):
		return indexer.InvalidRepository(v.Repository)
	case !indexer.IsTag(v.Tag):
		return indexer.InvalidTag(v.Tag)
	}
	return s.html(w, r, "history", func(b answer.Book) (page, error) {
		err := v.read(r.Context(), b, before)
		return page{Title: "History of " + v.Repository + ":" + v.Tag, Account: true, Main: v}, err
	})
}

func (v *historyView) read(ctx context.Context, b answer.Book, before int64) (err error) {
	if v.List, err = b.History(ctx, v.Repository, v.Tag, before, pageSize+1); err != nil {
		return err
	}
	m, err := b.Manifest(ctx, indexer.Reference{Repository: v.Repository, Tag: v.Tag})
	if err != nil && !errors.Is(err, indexer.ErrNotFound) {
		return err
	}
	v.Now = m.Digest
	if len(v.List) == 0 && before == 0 && v.Now == "" {
		return answer.Refuse(http.StatusNotFound, "there is no history of %s:%s", v.Repository, v.Tag)
	}
	address := func(before string) string {
		return addressWith("/manage/history", "repository", v.Repository, "tag", v.Tag, "before", before)
	}
	if before > 0 {
		v.Back = address("")
	}
	if len(v.List) > pageSize {
		v.List = v.List[:pageSize]
		v.More = address(strconv.FormatInt(v.List[pageSize-1].ID, 10))
	}
	return nil
}
