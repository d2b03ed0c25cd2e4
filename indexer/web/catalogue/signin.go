package catalogue

import (
	"net/http"

	"github.com/portbook/portbook/indexer/web/answer"
	"github.com/portbook/portbook/indexer/web/login"
)

// BeginSignIn sends the browser to an identity provider.
func (s *Catalogue) BeginSignIn(w http.ResponseWriter, r *http.Request) error {
	if s.config.Login.Changer == nil {
		return login.ErrOnlyReads
	}
	next := localPath(r.URL.Query().Get("next"))
	address, err := s.config.Login.Begin(w, r, next)
	if err != nil {
		return s.notSignedIn(w, r, next, err)
	}
	seeOther(w, address)
	return nil
}

// CompleteSignIn begins a session of a person who comes back from an identity provider.
func (s *Catalogue) CompleteSignIn(w http.ResponseWriter, r *http.Request) error {
	if s.config.Login.Changer == nil {
		return login.ErrOnlyReads
	}
	next, err := s.config.Login.Complete(w, r)
	if err != nil {
		return s.notSignedIn(w, r, next, err)
	}
	seeOther(w, localPath(next))
	return nil
}

// notSignedIn answers with the form to sign in again if the person can act on an error.
func (s *Catalogue) notSignedIn(w http.ResponseWriter, r *http.Request, next string, err error) error {
	code, refused := answer.RefusedWith(err)
	if !refused || code == http.StatusNotFound {
		return err
	}
	return s.account(w, r, code, accountView{Next: next, Wrong: answer.ErrorText(err)})
}
