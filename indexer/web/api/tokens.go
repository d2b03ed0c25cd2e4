package api

import (
	"cmp"
	"context"
	"net/http"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/web/answer"
	"github.com/portbook/portbook/indexer/web/login"
)

// A tokenAnswer is what is known of a token.
type tokenAnswer struct {
	ID        string            `json:"id"`
	Account   string            `json:"account"`
	Note      string            `json:"note" doc:"what it is for"`
	Limited   bool              `json:"limited" doc:"whether it is limited to the rules"`
	Rules     []string          `json:"rules" doc:"PATTERN:ACTIONS"`
	CreatedAt answer.Timestamp  `json:"created_at"`
	ExpiresAt *answer.Timestamp `json:"expires_at,omitempty" doc:"when it ends; absent: never"`
}

func tokenOf(t access.PersonalToken) tokenAnswer {
	return tokenAnswer{
		t.ID, t.Account, t.Note, t.Narrowed, answer.Map(t.Rules, access.Rule.String),
		answer.Timestamp{Time: t.CreatedAt}, timestampOf(t.ExpiresAt),
	}
}

// timestampOf returns nil for a time that is zero.
func timestampOf(t time.Time) *answer.Timestamp {
	if t.IsZero() {
		return nil
	}
	return &answer.Timestamp{Time: t}
}

type tokensAnswer struct {
	Items []tokenAnswer `json:"items" doc:"all of them: an account has at most 100"`
}

func (s *API) tokens(w http.ResponseWriter, r asked, who access.Subject) error {
	account := cmp.Or(r.values.Get("account"), who.Name)
	if err := access.OwnerOf(account)(who); err != nil {
		return err
	}
	var list []access.PersonalToken
	err := s.look(r, func(ctx context.Context, c login.Changer) (err error) {
		if _, _, err = c.Account(ctx, account); err == nil {
			list, err = c.Tokens(ctx, account)
		}
		return err
	})
	if err != nil {
		return orNone(err, "account %.64q", account)
	}
	return answer.WriteJSON(w, http.StatusOK, tokensAnswer{answer.Map(list, tokenOf)})
}

// A newToken is the body of a request for a token.
type newToken struct {
	Account   string           `json:"account,omitempty" doc:"a robot (default yourself)"`
	Note      string           `json:"note,omitempty" doc:"what it is for: at most 100 characters"`
	Rules     []string         `json:"rules,omitempty" doc:"what it is limited to: 1 to 100 of PATTERN:ACTIONS; absent: what the account may do"`
	ExpiresAt answer.Timestamp `json:"expires_at,omitzero" doc:"when it ends; your own in at most 366 days, a robot's never if it is absent"`
}

// token returns the token that is wanted by a subject.
func (n newToken) token(who access.Subject) (t access.PersonalToken, err error) {
	t = access.PersonalToken{
		Account: cmp.Or(n.Account, who.Name), Note: answer.OneLine(n.Note, access.MaxNote), ExpiresAt: n.ExpiresAt.Time,
		Narrowed: n.Rules != nil,
	}
	switch {
	case n.Rules != nil && len(n.Rules) == 0:
		return t, answer.Invalid("the field", "\"rules\" is empty: write at least one rule, or leave it out")
	case !t.ExpiresAt.IsZero() && !t.ExpiresAt.After(time.Now()):
		return t, answer.Invalid("the field", "\"expires_at\" is not in the future")
	}
	for _, text := range n.Rules {
		r, err := access.ParseRule(text)
		if err != nil {
			return t, err
		}
		t.Rules = append(t.Rules, r)
	}
	return t, nil
}

// A madeToken is a new token. This is the only time that it is shown.
type madeToken struct {
	Token     string            `json:"token" doc:"what programs send instead of a password; it is shown only now"`
	ID        string            `json:"id"`
	Account   string            `json:"account"`
	ExpiresAt *answer.Timestamp `json:"expires_at,omitempty" doc:"when it ends; absent: never"`
}

func writeMade(w http.ResponseWriter, t access.PersonalToken, token access.Token) error {
	return created(w, answer.APIPrefix+"/tokens/"+t.ID, madeToken{token.Text(), t.ID, t.Account, timestampOf(t.ExpiresAt)})
}

func (s *API) addToken(w http.ResponseWriter, r asked, who access.Subject) error {
	if err := access.OwnerOf(who.Name)(who); err != nil {
		return err
	}
	var n newToken
	if err := r.read(w, &n); err != nil {
		return err
	}
	t, err := n.token(who)
	if err != nil {
		return err
	}
	robot, err := s.isRobot(r, who, t.Account)
	if err != nil {
		return err
	}
	token := access.NewToken()
	t.ID = token.ID()
	err = s.change(r, who, access.MakersOf(t, robot), func(ctx context.Context, c login.Changer) error {
		return c.AddToken(ctx, t, token.Hash())
	})
	if err != nil {
		return orNone(err, "account %.64q", t.Account)
	}
	return writeMade(w, t, token)
}

// isRobot reports whether an account is a robot. Only administrators may ask about others.
func (s *API) isRobot(r asked, who access.Subject, account string) (robot bool, err error) {
	if err := access.OwnerOf(account)(who); err != nil {
		return false, err
	}
	err = s.look(r, func(ctx context.Context, c login.Changer) error {
		a, _, err := c.Account(ctx, account)
		robot = a.Robot
		return err
	})
	return robot, orNone(err, "account %.64q", account)
}

// tokenIn returns the token whose id is in the path. One of another account answers as one
// that does not exist, except to administrators.
func (s *API) tokenIn(r asked, who access.Subject) (t access.PersonalToken, err error) {
	if err := access.OwnerOf(who.Name)(who); err != nil {
		return t, err
	}
	id := r.PathValue("id")
	err = s.look(r, func(ctx context.Context, c login.Changer) (err error) {
		t, err = c.Token(ctx, indexer.CleanText(id))
		return err
	})
	if err == nil && s.config.Login.Forbidden(r.Request, who, access.OwnerOf(t.Account)(who)) != nil {
		err = indexer.ErrNotFound
	}
	return t, orNone(err, "token with the id %.64q", id)
}

func (s *API) token(w http.ResponseWriter, r asked, who access.Subject) error {
	t, err := s.tokenIn(r, who)
	if err != nil {
		return err
	}
	return answer.WriteJSON(w, http.StatusOK, tokenOf(t))
}

func (s *API) revokeToken(w http.ResponseWriter, r asked, who access.Subject) error {
	t, err := s.tokenIn(r, who)
	if err != nil {
		return err
	}
	err = s.change(r, who, access.OwnerOf(t.Account), func(ctx context.Context, c login.Changer) error {
		return c.DeleteToken(ctx, t.ID)
	})
	if err != nil {
		return orNone(err, "token with the id %q", t.ID)
	}
	return noContent(w)
}

// A rotation is the body of a request to replace a token.
type rotation struct {
	Overlap *int `json:"overlap_seconds,omitempty" doc:"how long the old token stays valid, at most 30 days (default 3600); 0: it is void at once"`
}

// maxOverlap is the most time for which a token that was replaced stays valid: 30 days.
const maxOverlap = 30 * 24 * time.Hour

func (n rotation) overlap() (time.Duration, error) {
	if n.Overlap == nil {
		return time.Hour, nil
	}
	const most = int(maxOverlap / time.Second)
	if *n.Overlap < 0 || *n.Overlap > most {
		return 0, answer.Invalid("the field", "\"overlap_seconds\" is %d: write 0 to %d", *n.Overlap, most)
	}
	return time.Duration(*n.Overlap) * time.Second, nil
}

func (s *API) rotateToken(w http.ResponseWriter, r asked, who access.Subject) error {
	t, err := s.tokenIn(r, who)
	if err != nil {
		return err
	}
	var n rotation
	if err := r.read(w, &n); err != nil {
		return err
	}
	overlap, err := n.overlap()
	if err != nil {
		return err
	}
	robot, err := s.isRobot(r, who, t.Account)
	if err != nil {
		return err
	}
	token := access.NewToken()
	turned := t.Rotate(who, token, overlap)
	err = s.change(r, who, access.MakersOf(turned.Next, robot), func(ctx context.Context, c login.Changer) error {
		return c.RotateToken(ctx, turned)
	})
	if err != nil {
		return orNone(err, "token with the id %q", t.ID)
	}
	return writeMade(w, turned.Next, token)
}
