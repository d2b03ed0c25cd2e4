package catalogue

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/web/answer"
	"github.com/portbook/portbook/indexer/web/login"
)

// An accountView is the page of an account, or the form to sign in if nobody has.
type accountView struct {
	Name   string // "": nobody is signed in
	Admin  bool
	Rules  []access.Rule
	Tokens []access.PersonalToken
	Lives  []tokenLife
	Writes bool   // whether anything can be changed here
	Next   string // where to go after signing in
	Typed  string // the name that was typed before
	Wrong  string // what is wrong with the request before
	Made   string // the new token, which is shown once
	Now    time.Time

	Providers []login.Provider // where a person can sign in besides
	Done      string           // what was done by the request before
	tabs
}

// A tokenLife is a choice of how long a token is valid.
type tokenLife struct {
	Days int
	Text string
}

var tokenLives = []tokenLife{{7, "7 days"}, {30, "30 days"}, {90, "90 days"}, {365, "a year"}}

// maxAccountForm is the maximum size of a form about an account: 16 KiB.
const maxAccountForm = 16 << 10

// Account serves the page of the person who is signed in, or the form to sign in.
func (s *Catalogue) Account(w http.ResponseWriter, r *http.Request) error {
	v := accountView{Next: r.URL.Query().Get("next")}
	if r.URL.Query().Get("done") == "password" {
		v.Done = "Your password is changed. Programs that use the old one must log in again."
	}
	return s.account(w, r, http.StatusOK, v)
}

// account answers with the page of an account; v has what is special about this answer.
func (s *Catalogue) account(w http.ResponseWriter, r *http.Request, code int, v accountView) error {
	who, err := s.config.Login.Person(r)
	if err != nil {
		return err
	}
	title := "Sign in"
	v.Providers = s.config.Login.Providers
	if v.Next = localPath(v.Next); who.Name != "" {
		title = "Account"
		v.Name, v.Admin, v.Rules, v.Lives, v.Now = who.Name, who.Admin, who.Rules, tokenLives, time.Now()
		v.tabs = tabsOf(who, "account")
		if changer := s.config.Login.Changer; changer != nil {
			v.Writes = true
			if v.Tokens, err = changer.Tokens(r.Context(), who.Name); err != nil {
				return err
			}
		}
	}
	return s.unstored(w, code, "account", page{Title: title, Account: true, Main: v})
}

// localPath returns an address of this site to go to, "/" if text is none.
func localPath(text string) string {
	if !strings.HasPrefix(text, "/") || strings.HasPrefix(text, "//") || strings.ContainsAny(text, "\\\r\n\t") {
		return "/"
	}
	return text
}

// readForm parses the form of a request.
func readForm(w http.ResponseWriter, r *http.Request) error { return readFormOf(w, r, maxAccountForm) }

// readFormOf parses the form of a request that has at most so many bytes.
func readFormOf(w http.ResponseWriter, r *http.Request, most int64) error {
	r.Body = http.MaxBytesReader(w, r.Body, most)
	if err := r.ParseForm(); err != nil {
		return answer.Refuse(http.StatusBadRequest, "the form cannot be read, or it has more than %d bytes", most)
	}
	return nil
}

// SignIn begins a session.
func (s *Catalogue) SignIn(w http.ResponseWriter, r *http.Request) error {
	if err := readForm(w, r); err != nil {
		return err
	}
	name := r.PostForm.Get("name")
	err := s.config.Login.SignIn(w, r, name, r.PostForm.Get("password"))
	if code, refused := answer.RefusedWith(err); refused {
		v := accountView{Next: r.PostForm.Get("next"), Typed: answer.Cut(name, 64), Wrong: answer.ErrorText(err)}
		return s.account(w, r, code, v)
	}
	if err != nil {
		return err
	}
	seeOther(w, localPath(r.PostForm.Get("next")))
	return nil
}

// seeOther redirects after a form, so that going back or loading again does not send it
// again.
func seeOther(w http.ResponseWriter, path string) {
	w.Header().Set("Location", path)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusSeeOther)
}

// SignOut ends the session.
func (s *Catalogue) SignOut(w http.ResponseWriter, r *http.Request) error {
	if s.config.Login.Changer == nil {
		return login.ErrOnlyReads
	}
	if err := s.config.Login.SignOut(w, r); err != nil {
		return err
	}
	seeOther(w, "/")
	return nil
}

// changing returns the person who is signed in, for a request that changes the account.
func (s *Catalogue) changing(w http.ResponseWriter, r *http.Request) (access.Subject, error) {
	return s.changingBy(w, r, maxAccountForm)
}

// changingBy is changing with a form of at most so many bytes.
func (s *Catalogue) changingBy(w http.ResponseWriter, r *http.Request, most int64) (access.Subject, error) {
	if s.config.Login.Changer == nil {
		return access.Subject{}, login.ErrOnlyReads
	}
	who, err := s.config.Login.Person(r)
	if err == nil && who.Name == "" {
		err = answer.Refuse(http.StatusUnauthorized, "nobody is signed in: sign in again")
	}
	if err != nil {
		return access.Subject{}, err
	}
	return who, readFormOf(w, r, most)
}

// AddToken makes a personal token, and shows it.
func (s *Catalogue) AddToken(w http.ResponseWriter, r *http.Request) error {
	who, err := s.changing(w, r)
	if err != nil {
		return err
	}
	text, err := s.makeToken(r, who, who.Name, false)
	if code, wrong := answer.RefusedWith(err); wrong {
		return s.account(w, r, code, accountView{Wrong: answer.ErrorText(err)})
	}
	if err != nil {
		return err
	}
	return s.account(w, r, http.StatusOK, accountView{Made: text})
}

// makeToken makes the token that a form asks for, and returns its text.
func (s *Catalogue) makeToken(r *http.Request, who access.Subject, account string, robot bool) (string, error) {
	p, err := tokenOf(r, account)
	if err != nil {
		return "", err
	}
	token := access.NewToken()
	p.ID = token.ID()
	return token.Text(), s.change(r, who, access.MakersOf(p, robot), func(ctx context.Context, c login.Changer) error {
		return c.AddToken(ctx, p, token.Hash())
	})
}

// ChangePassword sets the password of the person who is signed in, who stays so.
func (s *Catalogue) ChangePassword(w http.ResponseWriter, r *http.Request) error {
	who, err := s.changing(w, r)
	if err != nil {
		return err
	}
	err = s.changePassword(r, who)
	if code, wrong := answer.RefusedWith(err); wrong {
		return s.account(w, r, code, accountView{Wrong: answer.ErrorText(err)})
	}
	if err != nil {
		return err
	}
	if err := s.config.Login.Renew(w, r, who); err != nil {
		return err
	}
	seeOther(w, "/account?done=password") // with the new session
	return nil
}

func (s *Catalogue) changePassword(r *http.Request, who access.Subject) error {
	if err := s.config.Login.CheckPassword(r, who, r.PostForm.Get("current")); err != nil {
		return err
	}
	hash, err := access.HashPassword(r.Context(), r.PostForm.Get("password"))
	if err != nil {
		return err
	}
	return s.change(r, who, access.OwnerOf(who.Name), func(ctx context.Context, c login.Changer) error {
		return c.SetPassword(ctx, who.Name, hash)
	})
}

// tokenOf reads the form of a new token.
func tokenOf(r *http.Request, account string) (p access.PersonalToken, err error) {
	p = access.PersonalToken{Account: account, Note: answer.OneLine(r.PostForm.Get("note"), access.MaxNote)}
	days, err := strconv.Atoi(r.PostForm.Get("days"))
	if err != nil || days < 1 || days > 365 {
		return p, indexer.Invalid("a token is valid for 1 to 365 days")
	}
	p.ExpiresAt = time.Now().Add(time.Duration(days) * 24 * time.Hour)
	for text := range strings.FieldsSeq(r.PostForm.Get("rules")) {
		rule, err := access.ParseRule(text)
		if err != nil {
			return p, err
		}
		p.Narrowed, p.Rules = true, append(p.Rules, rule)
	}
	return p, nil
}

// RevokeToken makes a token of the person who is signed in void.
func (s *Catalogue) RevokeToken(w http.ResponseWriter, r *http.Request) error {
	who, err := s.changing(w, r)
	if err != nil {
		return err
	}
	return s.revokeToken(w, r, who, who.Name, "/account")
}

// revokeToken makes a token of an account void, once the person is sure, and goes back. It
// does so too if the token is gone already, or is another's.
func (s *Catalogue) revokeToken(w http.ResponseWriter, r *http.Request, who access.Subject,
	account, back string) error {
	id := r.PathValue("id")
	if !isSure(r) {
		return s.confirm(w, r, confirmView{Question: "Revoke the token " + answer.Cut(id, 8) + " of " + account + "?",
			Advice: "Programs that use it are refused within a second or so.", Button: "Revoke", Back: back})
	}
	err := s.change(r, who, access.OwnerOf(account), func(ctx context.Context, c login.Changer) error {
		t, err := c.Token(ctx, indexer.CleanText(id))
		if err != nil || t.Account != account {
			return err
		}
		return c.DeleteToken(ctx, t.ID)
	})
	if err != nil && !errors.Is(err, indexer.ErrNotFound) {
		return err
	}
	seeOther(w, back)
	return nil
}
