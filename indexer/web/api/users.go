package api

import (
	"context"
	"net/http"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/web/answer"
	"github.com/portbook/portbook/indexer/web/login"
)

// A userAnswer is an account in the API.
type userAnswer struct {
	Name          string           `json:"name"`
	Robot         bool             `json:"robot" doc:"whether it is a program, which logs in with tokens only"`
	Administrator bool             `json:"administrator"`
	Disabled      bool             `json:"disabled" doc:"whether it cannot log in"`
	Groups        []string         `json:"groups"`
	Provided      []string         `json:"provider_groups" doc:"groups besides, as its identity provider said at the last sign-in"`
	CreatedAt     answer.Timestamp `json:"created_at"`
}

func userOf(a access.Account) userAnswer {
	groups, provided := append([]string{}, a.Groups...), append([]string{}, a.ProviderGroups...)
	return userAnswer{a.Name, a.Robot, a.Admin, a.Disabled, groups, provided, answer.Timestamp{Time: a.CreatedAt}}
}

type usersAnswer struct {
	Items []userAnswer `json:"items"`
	Next  string       `json:"next,omitempty" doc:"the address of the next page"`
}

func (s *API) users(w http.ResponseWriter, r asked, who access.Subject) error {
	if err := access.Administrators(who); err != nil {
		return err
	}
	n := r.number("limit", defaultList)
	q := access.AccountQuery{
		Contains: indexer.CleanText(r.values.Get("q")), Group: r.values.Get("group"), After: r.values.Get("after"),
		Limit: n + 1,
	}
	var list []access.Account
	err := s.look(r, func(ctx context.Context, c login.Changer) (err error) {
		list, err = c.AccountPage(ctx, q)
		return err
	})
	if err != nil {
		return err
	}
	list, next := turn(w, r, list, n, func(a access.Account) string { return a.Name })
	return answer.WriteJSON(w, http.StatusOK, usersAnswer{answer.Map(list, userOf), next})
}

// A newUser is the body of a request to add an account.
type newUser struct {
	Name          string   `json:"name" doc:"lower-case letters and digits, and single . _ - between them; at most 64 bytes"`
	Robot         bool     `json:"robot,omitempty" doc:"whether it is a program, which has no password"`
	Administrator bool     `json:"administrator,omitempty"`
	Groups        []string `json:"groups,omitempty" doc:"at most 100"`
	Password      string   `json:"password,omitempty" doc:"of a person: 10 to 256 bytes"`
}

func (s *API) addUser(w http.ResponseWriter, r asked, who access.Subject) error {
	if err := access.Administrators(who); err != nil {
		return err
	}
	var n newUser
	if err := r.read(w, &n); err != nil {
		return err
	}
	a := access.Account{Name: n.Name, Robot: n.Robot, Admin: n.Administrator, Groups: n.Groups}
	a, err := a.WithPassword(r.Context(), n.Password)
	if err != nil {
		return err
	}
	err = s.change(r, who, access.Administrators, func(ctx context.Context, c login.Changer) (err error) {
		if err = c.AddAccount(ctx, a); err == nil {
			a, _, err = c.Account(ctx, a.Name)
		}
		return err
	})
	if err != nil {
		return err
	}
	return created(w, answer.APIPrefix+"/users/"+a.Name, userOf(a))
}

// accountIn returns the name of the account in the path, if the one who asks may know of it: an
// account of another answers as one that does not exist, except to administrators.
func (s *API) accountIn(r asked, who access.Subject) (string, error) {
	name := r.PathValue("account")
	if who.Narrowed || who.Name == name {
		return name, access.OwnerOf(name)(who)
	}
	if access.CheckName(name) != nil || s.config.Login.Forbidden(r.Request, who, access.Administrators(who)) != nil {
		return "", orNone(indexer.ErrNotFound, "account %.64q", name)
	}
	return name, nil
}

func (s *API) user(w http.ResponseWriter, r asked, who access.Subject) error {
	name, err := s.accountIn(r, who)
	if err != nil {
		return err
	}
	return s.writeUser(w, r, name)
}

func (s *API) writeUser(w http.ResponseWriter, r asked, name string) error {
	var a access.Account
	err := s.look(r, func(ctx context.Context, c login.Changer) (err error) {
		a, _, err = c.Account(ctx, name)
		return err
	})
	if err != nil {
		return orNone(err, "account %q", name)
	}
	return answer.WriteJSON(w, http.StatusOK, userOf(a))
}

// A userChange is the body of a request to change an account. What is absent stays.
type userChange struct {
	Administrator *bool     `json:"administrator,omitempty"`
	Disabled      *bool     `json:"disabled,omitempty"`
	Groups        *[]string `json:"groups,omitempty" doc:"all groups that it is in; at most 100"`
}

func (s *API) changeUser(w http.ResponseWriter, r asked, who access.Subject) error {
	name, err := s.accountIn(r, who)
	if err == nil {
		err = access.Administrators(who)
	}
	if err != nil {
		return err
	}
	var n userChange
	if err := r.read(w, &n); err != nil {
		return err
	}
	edit := access.AccountEdit{Admin: n.Administrator, Disabled: n.Disabled, Groups: n.Groups}
	err = s.change(r, who, access.Administrators, func(ctx context.Context, c login.Changer) error {
		return c.ChangeAccount(ctx, name, edit)
	})
	if err != nil {
		return orNone(err, "account %q", name)
	}
	return s.writeUser(w, r, name)
}

func (s *API) deleteUser(w http.ResponseWriter, r asked, who access.Subject) error {
	name, err := s.accountIn(r, who)
	if err == nil {
		err = access.Administrators(who)
	}
	if err != nil {
		return err
	}
	err = s.change(r, who, access.Administrators, func(ctx context.Context, c login.Changer) error {
		return c.DeleteAccount(ctx, name)
	})
	if err != nil {
		return orNone(err, "account %q", name)
	}
	return noContent(w)
}

// A newPassword is the body of a request to set a password.
type newPassword struct {
	Password string `json:"password" doc:"10 to 256 bytes"`
	Current  string `json:"current_password,omitempty" doc:"required for your own"`
}

func (s *API) setPassword(w http.ResponseWriter, r asked, who access.Subject) error {
	name, err := s.accountIn(r, who)
	if err != nil {
		return err
	}
	var n newPassword
	if err := r.read(w, &n); err != nil {
		return err
	}
	if who.Name == name {
		if err := s.config.Login.CheckPassword(r.Request, who, n.Current); err != nil {
			return err
		}
	}
	hash, err := access.HashPassword(r.Context(), n.Password)
	if err != nil {
		return err
	}
	err = s.change(r, who, access.OwnerOf(name), func(ctx context.Context, c login.Changer) error {
		return c.SetPassword(ctx, name, hash)
	})
	if err != nil {
		return orNone(err, "account %q", name)
	}
	return noContent(w)
}
