package catalogue

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/web/answer"
	"github.com/portbook/portbook/indexer/web/login"
)

// A usersView is the page of all accounts.
type usersView struct {
	Accounts   []access.Account
	Contains   string // a part of the names
	Group      string
	Back, More string // addresses of other pages
	Wrong      string // what is wrong with the request before
	Typed      access.Account
	tabs
}

// Users serves the list of accounts to administrators.
func (s *Catalogue) Users(w http.ResponseWriter, r *http.Request) error {
	return s.users(w, r, http.StatusOK, usersView{})
}

func (s *Catalogue) users(w http.ResponseWriter, r *http.Request, code int, v usersView) error {
	form := r.URL.Query()
	v.Contains, v.Group = cleanField(form, "q"), cleanField(form, "group")
	q := access.AccountQuery{Contains: v.Contains, Group: v.Group, After: cleanField(form, "after"), Limit: pageSize + 1}
	show := func(ctx context.Context, c login.Changer, who access.Subject) (err error) {
		if v.Accounts, err = c.AccountPage(ctx, q); err != nil {
			return err
		}
		address := func(after string) string {
			return addressWith("/account/users", "q", v.Contains, "group", v.Group, "after", after)
		}
		if q.After != "" {
			v.Back = address("")
		}
		if len(v.Accounts) > pageSize {
			v.Accounts = v.Accounts[:pageSize]
			v.More = address(v.Accounts[pageSize-1].Name)
		}
		v.tabs = tabsOf(who, "users")
		return s.unstored(w, code, "users", page{Title: "Users", Account: true, Main: v})
	}
	return s.manage(w, r, access.Administrators, show)
}

// cleanField returns a field of a form without what PostgreSQL cannot store.
func cleanField(form url.Values, name string) string {
	return strings.TrimSpace(indexer.CleanText(form.Get(name)))
}

// addressWith returns a path with those parameters that have a value.
func addressWith(path string, pairs ...string) string {
	v := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			v.Set(pairs[i], pairs[i+1])
		}
	}
	if len(v) == 0 {
		return path
	}
	return path + "?" + v.Encode()
}

// AddUser adds the account of a person or a robot.
func (s *Catalogue) AddUser(w http.ResponseWriter, r *http.Request) error {
	who, err := s.changing(w, r)
	if err != nil {
		return err
	}
	a := access.Account{
		Name: cleanField(r.PostForm, "name"), Robot: r.PostForm.Get("kind") == "robot",
		Admin: r.PostForm.Get("kind") == "administrator", Groups: strings.Fields(cleanField(r.PostForm, "groups")),
	}
	err = s.addUser(r, who, a)
	if code, text := wrong(err); text != "" {
		return s.users(w, r, code, usersView{Wrong: text, Typed: a})
	}
	if err != nil {
		return err
	}
	seeOther(w, "/account/users/"+a.Name)
	return nil
}

func (s *Catalogue) addUser(r *http.Request, who access.Subject, a access.Account) error {
	if err := s.config.Login.Forbidden(r, who, access.Administrators(who)); err != nil {
		return err
	}
	a, err := a.WithPassword(r.Context(), r.PostForm.Get("password"))
	if err != nil {
		return err
	}
	return s.change(r, who, access.Administrators, func(ctx context.Context, c login.Changer) error {
		return c.AddAccount(ctx, a)
	})
}

// A userView is the page of an account, for administrators.
type userView struct {
	access.Account
	Self   bool // whether it is that of the one who looks
	Grants []access.Grant
	Tokens []access.PersonalToken
	Lives  []tokenLife
	Made   string // the new token, which is shown once
	Wrong  string
	Done   string
	Now    time.Time
	tabs
}

// maxShownGrants is the maximum number of grants on the page of an account: 1,000.
const maxShownGrants = answer.MaxShown

// User serves the page of an account to administrators.
func (s *Catalogue) User(w http.ResponseWriter, r *http.Request) error {
	return s.user(w, r, http.StatusOK, userView{})
}

func (s *Catalogue) user(w http.ResponseWriter, r *http.Request, code int, v userView) error {
	name := indexer.CleanText(r.PathValue("account"))
	show := func(ctx context.Context, c login.Changer, who access.Subject) (err error) {
		if v.Account, _, err = c.Account(ctx, name); err != nil {
			return noAccount(err, name)
		}
		q := access.GrantQuery{Within: who.Overseen(), Account: &v.Account, Limit: maxShownGrants}
		if v.Grants, err = c.GrantPage(ctx, q); err != nil {
			return err
		}
		if v.Tokens, err = c.Tokens(ctx, name); err != nil {
			return err
		}
		v.Self, v.Lives, v.Now, v.tabs = who.Name == name, tokenLives, time.Now(), tabsOf(who, "users")
		return s.unstored(w, code, "user", page{Title: name, Account: true, Main: v})
	}
	return s.manage(w, r, access.Administrators, show)
}

// noAccount returns the refusal for an ErrNotFound.
func noAccount(err error, name string) error {
	if errors.Is(err, indexer.ErrNotFound) {
		return answer.Refuse(http.StatusNotFound, "there is no account %.64q", name)
	}
	return err
}

// ChangeUser changes whether an account administers and is disabled, and its groups.
func (s *Catalogue) ChangeUser(w http.ResponseWriter, r *http.Request) error {
	return s.changeUser(w, r, "The account is changed.", func(ctx context.Context, c login.Changer, name string) error {
		admin, disabled := r.PostForm.Get("administrator") == "yes", r.PostForm.Get("disabled") == "yes"
		groups := strings.Fields(cleanField(r.PostForm, "groups"))
		return c.ChangeAccount(ctx, name, access.AccountEdit{Admin: &admin, Disabled: &disabled, Groups: &groups})
	})
}

// changeUser runs f, which changes an account for an administrator, and shows the page of the
// account with what was done or what is wrong.
func (s *Catalogue) changeUser(w http.ResponseWriter, r *http.Request, done string,
	f func(ctx context.Context, c login.Changer, name string) error) error {
	who, err := s.changing(w, r)
	if err != nil {
		return err
	}
	name := indexer.CleanText(r.PathValue("account"))
	err = s.change(r, who, access.Administrators, func(ctx context.Context, c login.Changer) error {
		return f(ctx, c, name)
	})
	err = noAccount(err, name)
	if code, text := wrong(err); text != "" && code != http.StatusNotFound {
		return s.user(w, r, code, userView{Wrong: text})
	}
	if err != nil {
		return err
	}
	return s.user(w, r, http.StatusOK, userView{Done: done})
}

// SetUserPassword sets the password of another person.
func (s *Catalogue) SetUserPassword(w http.ResponseWriter, r *http.Request) error {
	const done = "The password is changed. Whoever was logged in with the old one must log in again."
	return s.changeUser(w, r, done, func(ctx context.Context, c login.Changer, name string) error {
		if name == access.ActorOf(ctx).Name {
			return answer.Refuse(http.StatusForbidden, "change your own password on the page of your account")
		}
		hash, err := access.HashPassword(ctx, r.PostForm.Get("password"))
		if err != nil {
			return err
		}
		return c.SetPassword(ctx, name, hash)
	})
}

// administering returns the administrator who is signed in, for a request that changes accounts.
func (s *Catalogue) administering(w http.ResponseWriter, r *http.Request) (access.Subject, error) {
	who, err := s.changing(w, r)
	if err == nil {
		err = s.config.Login.Forbidden(r, who, access.Administrators(who))
	}
	return who, err
}

// DeleteUser deletes an account, once the administrator is sure.
func (s *Catalogue) DeleteUser(w http.ResponseWriter, r *http.Request) error {
	who, err := s.administering(w, r)
	if err != nil {
		return err
	}
	name := indexer.CleanText(r.PathValue("account"))
	if !isSure(r) {
		return s.confirm(w, r, confirmView{Question: "Delete the account " + answer.Cut(name, 64) + "?",
			Advice: "Its tokens and its grants are deleted with it. To keep them, disable the account instead.",
			Button: "Delete", Back: "/account/users/" + url.PathEscape(name)})
	}
	err = s.change(r, who, access.Administrators, func(ctx context.Context, c login.Changer) error {
		return c.DeleteAccount(ctx, name)
	})
	if code, text := wrong(err); text != "" {
		return s.user(w, r, code, userView{Wrong: text})
	}
	if err != nil {
		return noAccount(err, name)
	}
	seeOther(w, "/account/users")
	return nil
}

// AddUserToken makes a token for a robot, and shows it.
func (s *Catalogue) AddUserToken(w http.ResponseWriter, r *http.Request) error {
	who, err := s.administering(w, r)
	if err != nil {
		return err
	}
	name, robot, text := indexer.CleanText(r.PathValue("account")), false, ""
	err = s.manage(w, r, access.Administrators, func(ctx context.Context, c login.Changer, _ access.Subject) error {
		a, _, err := c.Account(ctx, name)
		robot = a.Robot
		return err
	})
	if err == nil {
		text, err = s.makeToken(r, who, name, robot)
	}
	if code, problem := wrong(err); problem != "" {
		return s.user(w, r, code, userView{Wrong: problem})
	}
	if err != nil {
		return noAccount(err, name)
	}
	return s.user(w, r, http.StatusOK, userView{Made: text})
}

// RevokeUserToken makes a token of an account void.
func (s *Catalogue) RevokeUserToken(w http.ResponseWriter, r *http.Request) error {
	who, err := s.administering(w, r)
	if err != nil {
		return err
	}
	name := indexer.CleanText(r.PathValue("account"))
	return s.revokeToken(w, r, who, name, "/account/users/"+url.PathEscape(name))
}
