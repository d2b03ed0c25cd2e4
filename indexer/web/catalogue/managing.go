package catalogue

import (
	"context"
	"net/http"
	"net/url"
	"slices"

	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/web/answer"
	"github.com/portbook/portbook/indexer/web/login"
)

// tabs are the pages about accounts and about what is stored that a person may open, and which one
// this is.
type tabs struct {
	Here                        string // the last part of the address, such as users or operations
	ManagesUsers, ManagesGrants bool   // not Users and Grants, which are what pages with tabs list
	Operates                    bool   // whether there is something that the person may push to or delete
}

func tabsOf(who access.Subject, here string) tabs {
	t := tabs{Here: here, ManagesUsers: who.Administers(), ManagesGrants: access.Overseers(who) == nil}
	t.Operates = slices.ContainsFunc(who.Effective(), func(r access.Rule) bool {
		return r.Actions.Has(access.Push) || r.Actions.Has(access.Delete)
	})
	return t
}

// A managed shows a page to a person who manages accounts or grants.
type managed func(ctx context.Context, c login.Changer, who access.Subject) error

// manage runs f for the person who is signed in, if permit lets it. Who is not signed in is
// sent to do so, and then back.
func (s *Catalogue) manage(w http.ResponseWriter, r *http.Request, permit access.Permit, f managed) error {
	l := s.config.Login
	if l.Changer == nil {
		return login.ErrOnlyReads
	}
	who, err := l.Person(r)
	switch {
	case err != nil:
		return err
	case who.Name == "":
		seeOther(w, "/account?next="+url.QueryEscape(r.URL.RequestURI()))
		return nil
	}
	if err := l.Forbidden(r, who, permit(who)); err != nil {
		return err
	}
	return l.Managing(r, func(ctx context.Context) error { return f(ctx, l.Changer, who) })
}

// change runs f, which changes accounts, when its turn comes, if permit lets the subject.
func (s *Catalogue) change(r *http.Request, who access.Subject, permit access.Permit,
	f func(context.Context, login.Changer) error) error {
	l := s.config.Login
	ctx, err := l.Changing(r, who, permit)
	if err == nil {
		err = l.Managing(r.WithContext(ctx), func(ctx context.Context) error { return f(ctx, l.Changer) })
	}
	return l.Forbidden(r, who, err)
}

// A confirmView asks whether a person is sure.
type confirmView struct {
	Question, Advice string
	Button           string
	Action, Back     string     // addresses
	Fields           url.Values // of the form that is sent again
}

// sure is the field of a form that says that its sender is sure.
const sure = "sure"

func isSure(r *http.Request) bool { return r.PostForm.Get(sure) == "yes" }

// confirm asks whether the person who sent a form is sure. The answer sends it again.
func (s *Catalogue) confirm(w http.ResponseWriter, r *http.Request, v confirmView) error {
	v.Action, v.Fields = r.URL.EscapedPath(), r.PostForm
	v.Fields.Set(sure, "yes")
	return s.unstored(w, http.StatusOK, "confirm", page{Title: "Are you sure?", Account: true, Main: v})
}

// wrong returns the status code and the text with which a page is shown again after a form
// that cannot be done; "" if err is none that its sender can act on.
func wrong(err error) (code int, text string) {
	if code, refused := answer.RefusedWith(err); refused {
		return code, answer.ErrorText(err)
	}
	return 0, ""
}
