package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/postgres/pg"
)

// AccessVersion implements access.Store.
func (s *Store) AccessVersion(ctx context.Context) (v indexer.Version, err error) {
	const q = "SELECT COALESCE((SELECT epoch::text FROM catalogue_epoch), ''), v FROM access_version"
	err = s.pool.QueryRow(ctx, q).Scan(&v.Epoch, &v.Number)
	return v, pg.Wrap("version of access", err)
}

// An accountRow is a row of account.
type accountRow struct {
	ID                     int64
	Name                   string
	Robot, Admin, Disabled bool
	Password               string
	Groups, ProviderGroups []string
	ValidFrom, CreatedAt   time.Time
}

const accountColumns = `a.id, a.name, a.robot, a.admin, a.disabled, COALESCE(a.password, '') AS password, ARRAY(
	SELECT g.name FROM account_group g WHERE g.account_id = a.id ORDER BY g.name) AS groups, ARRAY(
	SELECT DISTINCT unnest(i.groups) AS name FROM identity i WHERE i.account_id = a.id ORDER BY name) AS provider_groups,
	a.valid_from, a.created_at`

func (r accountRow) account() access.Account {
	return access.Account{
		Name: r.Name, Robot: r.Robot, Admin: r.Admin, Disabled: r.Disabled, Password: r.Password, Groups: r.Groups,
		ProviderGroups: r.ProviderGroups, ValidFrom: r.ValidFrom, CreatedAt: r.CreatedAt,
	}
}

// one returns the only row of a query, or ErrNotFound.
func one[T any](ctx context.Context, db pg.Querier, what, sql string, args ...any) (T, error) {
	rows, err := pg.Collect[T](ctx, db, sql, args...)
	if err == nil && len(rows) == 0 {
		err = indexer.ErrNotFound
	}
	if err != nil {
		var none T
		return none, pg.Wrap(what, err)
	}
	return rows[0], nil
}

// Account implements access.Store.
func (s *Store) Account(ctx context.Context, name string) (access.Account, access.Rules, error) {
	what := fmt.Sprintf("account %q", name)
	r, err := one[accountRow](ctx, s.pool, what, "SELECT "+accountColumns+" FROM account a WHERE a.name = $1", name)
	if err != nil {
		return access.Account{}, nil, err
	}
	rules, err := rulesOf(ctx, s.pool, grantedTo, r.ID, r.account().AllGroups())
	return r.account(), rules, pg.Wrap(what, err)
}

// grantedTo selects the rules of an account, by its id and its groups.
const grantedTo = `
	SELECT pattern, actions FROM access_grant
	WHERE account_id = $1 OR group_name = ANY($2) OR account_id IS NULL AND group_name IS NULL`

// RulesOfEverybody implements access.Store.
func (s *Store) RulesOfEverybody(ctx context.Context) (access.Rules, error) {
	const q = "SELECT pattern, actions FROM access_grant WHERE account_id IS NULL AND group_name IS NULL"
	rules, err := rulesOf(ctx, s.pool, q)
	return rules, pg.Wrap("rules of everybody", err)
}

func rulesOf(ctx context.Context, db pg.Querier, sql string, args ...any) (rules access.Rules, err error) {
	type row struct{ Pattern, Actions string }
	rows, err := pg.Collect[row](ctx, db, sql, args...)
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		rule, err := access.ParseRule(r.Pattern + ":" + r.Actions)
		if err != nil {
			return nil, fmt.Errorf("a stored grant: %s", err) // not ErrInvalid: it is not the client's
		}
		rules = append(rules, rule)
	}
	return rules, nil
}

// Accounts returns all accounts in order of name.
func (s *Store) Accounts(ctx context.Context) (all []access.Account, err error) {
	rows, err := pg.Collect[accountRow](ctx, s.pool, "SELECT "+accountColumns+" FROM account a ORDER BY a.name")
	for _, r := range rows {
		all = append(all, r.account())
	}
	return all, pg.Wrap("accounts", err)
}

// A tokenRow is a row of token with the name of its account.
type tokenRow struct {
	ID, Account, Note string
	Rules             []string
	CreatedAt         time.Time
	ExpiresAt         *time.Time
	LastUsed          *time.Time
}

const tokensQuery = `
	SELECT t.id, a.name AS account, t.note, t.rules, t.created_at, t.expires_at, t.last_used
	FROM token t JOIN account a ON a.id = t.account_id`

func (r tokenRow) token() (access.PersonalToken, error) {
	t := access.PersonalToken{
		ID: r.ID, Account: r.Account, Note: r.Note, Narrowed: r.Rules != nil, CreatedAt: r.CreatedAt,
		ExpiresAt: pg.TimeOrZero(r.ExpiresAt), LastUsed: pg.TimeOrZero(r.LastUsed),
	}
	for _, text := range r.Rules {
		rule, err := access.ParseRule(text)
		if err != nil {
			return t, fmt.Errorf("a stored rule of token %s: %s", r.ID, err) // not ErrInvalid: it is not the client's
		}
		t.Rules = append(t.Rules, rule)
	}
	return t, nil
}

// TokenByHash implements access.Store.
func (s *Store) TokenByHash(ctx context.Context, hash []byte) (access.PersonalToken, error) {
	r, err := one[tokenRow](ctx, s.pool, "token", tokensQuery+" WHERE t.hash = $1", hash)
	if err != nil {
		return access.PersonalToken{}, err
	}
	return r.token()
}

// Token implements access.Store.
func (s *Store) Token(ctx context.Context, id string) (access.PersonalToken, error) {
	r, err := one[tokenRow](ctx, s.pool, fmt.Sprintf("token %q", id), tokensQuery+" WHERE t.id = $1", id)
	if err != nil {
		return access.PersonalToken{}, err
	}
	return r.token()
}

type tokenUse struct {
	ID string
	At time.Time
}

var useTokens = `
	UPDATE token t SET last_used = used.at FROM ` + pg.Unnest[tokenUse]("used", 1) + `
	WHERE t.id = used.id AND (t.last_used IS NULL OR t.last_used < used.at - interval '1 hour')`

// UseTokens stores when tokens were last used, by id. A time that is less than an hour after
// the stored one is not: so a token that is always used is written once an hour. It does not
// change the version of access.
func (s *Store) UseTokens(ctx context.Context, last map[string]time.Time) error {
	var used []tokenUse
	for _, id := range slices.Sorted(maps.Keys(last)) { // in one order, against deadlocks
		used = append(used, tokenUse{id, last[id]})
	}
	err := s.begin(ctx, func(tx pgx.Tx, _ cluster) error {
		_, err := tx.Exec(ctx, useTokens, pg.Arrays(used)...)
		return err
	})
	return pg.Wrap("uses of tokens", err)
}

// Tokens returns the tokens of an account, or of all accounts for "", the newest first.
func (s *Store) Tokens(ctx context.Context, account string) (all []access.PersonalToken, err error) {
	const q = tokensQuery + " WHERE $1 IN ('', a.name) ORDER BY t.created_at DESC, t.id"
	rows, err := pg.Collect[tokenRow](ctx, s.pool, q, account)
	if err != nil {
		return nil, pg.Wrap("tokens", err)
	}
	for _, r := range rows {
		t, err := r.token()
		if err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	return all, nil
}

// inAccess runs f in a transaction that changes the version of access, one such transaction
// at a time: so f sees what the change before has made, and of two changes that are allowed
// only alone the second one is refused. The actor of ctx must have its permit.
func (s *Store) inAccess(ctx context.Context, what string, f func(pgx.Tx) error) error {
	return s.inAccessOf(ctx, what, func(tx pgx.Tx, _ cluster) error { return f(tx) })
}

// inAccessOf is inAccess for what needs the cluster of the connection.
func (s *Store) inAccessOf(ctx context.Context, what string, f func(pgx.Tx, cluster) error) error {
	err := s.beginPartitioned(ctx, func(tx pgx.Tx, c cluster) error {
		if _, err := tx.Exec(ctx, "UPDATE access_version SET v = v + 1"); err != nil {
			return err
		}
		if err := permitted(ctx, tx); err != nil {
			return err
		}
		return f(tx, c)
	})
	var failed *pgconn.PgError
	switch {
	case errors.As(err, &failed) && failed.Code == "23505": // unique_violation
		return indexer.Conflict("%s: it exists already", what)
	case errors.Is(err, indexer.ErrForbidden), errors.Is(err, indexer.ErrConflict), errors.Is(err, indexer.ErrInvalid):
		return err
	}
	return pg.Wrap(what, err)
}

// changeAccess runs statements in one transaction that changes the version of access and
// records what was done. The first one must change a row, or the error is ErrNotFound.
func (s *Store) changeAccess(ctx context.Context, what string, r access.Record, changes ...change) error {
	return s.inAccess(ctx, what, func(tx pgx.Tx) error { return makeChanges(ctx, tx, r, changes...) })
}

func makeChanges(ctx context.Context, tx pgx.Tx, r access.Record, changes ...change) error {
	for i, c := range changes {
		done, err := tx.Exec(ctx, c.sql, c.args...)
		if err != nil {
			return err
		}
		if i == 0 && done.RowsAffected() == 0 {
			return indexer.ErrNotFound
		}
	}
	return record(ctx, tx, r)
}

// A change is a statement of changeAccess.
type change struct {
	sql  string
	args []any
}

// joinGroups adds the account $1 to the groups $2.
const joinGroups = `
	INSERT INTO account_group (account_id, name)
	SELECT id, unnest($2::text[]) FROM account WHERE name = $1 ON CONFLICT DO NOTHING`

// accountRecord returns the record of an account that was added or changed.
func accountRecord(e access.Event, a access.Account) access.Record {
	words := []string{"no groups"}
	if len(a.Groups) > 0 {
		words[0] = "groups: " + strings.Join(a.Groups, ",")
	}
	for word, is := range map[string]bool{"administrator": a.Admin, "robot": a.Robot, "disabled": a.Disabled} {
		if is {
			words = append(words, word)
		}
	}
	slices.Sort(words)
	return access.Record{Event: e, Target: a.Name, Detail: strings.Join(words, ", ")}
}

// AddAccount adds an account. It returns ErrConflict if there is one of its name.
func (s *Store) AddAccount(ctx context.Context, a access.Account) error {
	if err := a.Check(); err != nil {
		return err
	}
	const q = "INSERT INTO account (name, robot, admin, password) VALUES ($1, $2, $3, NULLIF($4, ''))"
	return s.changeAccess(ctx, fmt.Sprintf("account %q", a.Name), accountRecord(access.AccountAdd, a),
		change{q, []any{a.Name, a.Robot, a.Admin, a.Password}}, change{joinGroups, []any{a.Name, a.Groups}})
}

// SetAccount changes an account: whether it administers and is disabled, and its groups.
// It keeps the password.
func (s *Store) SetAccount(ctx context.Context, a access.Account) error {
	return s.ChangeAccount(ctx, a.Name, access.AccountEdit{Admin: &a.Admin, Disabled: &a.Disabled, Groups: &a.Groups})
}

// ChangeAccount changes an account. Logins that were made to last become void when it is
// disabled. It returns ErrConflict if no administrator would be left.
func (s *Store) ChangeAccount(ctx context.Context, name string, e access.AccountEdit) error {
	const q = `
		UPDATE account SET admin = $2, disabled = $3,
			valid_from = CASE WHEN $3 AND NOT disabled THEN ` + later + ` ELSE valid_from END WHERE name = $1`
	const leave = `
		DELETE FROM account_group g USING account a WHERE a.id = g.account_id AND a.name = $1 AND g.name <> ALL($2)`
	what := fmt.Sprintf("account %q", name)
	return s.inAccess(ctx, what, func(tx pgx.Tx) error {
		before, err := accountIn(ctx, tx, name)
		if err != nil {
			return err
		}
		a, err := e.Of(before)
		if err != nil {
			return err
		}
		groups := append([]string{}, a.Groups...)
		err = makeChanges(ctx, tx, accountRecord(access.AccountChange, a), change{q, []any{name, a.Admin, a.Disabled}},
			change{leave, []any{name, groups}}, change{joinGroups, []any{name, groups}})
		if err != nil {
			return err
		}
		return orNoAdministrator(ctx, tx, before)
	})
}

// later is the new valid_from of an account whose lasting logins become void: later than any
// before, also if two changes follow at once.
const later = "GREATEST(now(), valid_from + interval '1 microsecond')"

// SetPassword sets the hash of a person's password. Logins of before that were made to last
// become void. It returns ErrConflict for a robot.
func (s *Store) SetPassword(ctx context.Context, name, hash string) error {
	const q = "UPDATE account SET password = $2, valid_from = " + later + " WHERE name = $1"
	return s.inAccess(ctx, fmt.Sprintf("account %q", name), func(tx pgx.Tx) error {
		a, err := accountIn(ctx, tx, name)
		if err == nil && a.Robot {
			err = indexer.Conflict("%q is a robot, which has no password: make a token for it", name)
		}
		if err != nil {
			return err
		}
		return makeChanges(ctx, tx, access.Record{Event: access.AccountPassword, Target: name}, change{q, []any{name, hash}})
	})
}

// DeleteAccount deletes an account with its tokens and grants. It returns ErrConflict if no
// administrator would be left.
func (s *Store) DeleteAccount(ctx context.Context, name string) error {
	const q = "DELETE FROM account WHERE name = $1"
	return s.inAccess(ctx, fmt.Sprintf("account %q", name), func(tx pgx.Tx) error {
		before, err := accountIn(ctx, tx, name)
		if err != nil {
			return err
		}
		r := access.Record{Event: access.AccountDelete, Target: name}
		if err := makeChanges(ctx, tx, r, change{q, []any{name}}); err != nil {
			return err
		}
		return orNoAdministrator(ctx, tx, before)
	})
}

// AddToken adds a token to the account that t names. It returns ErrConflict if the account has
// access.MaxTokens.
func (s *Store) AddToken(ctx context.Context, t access.PersonalToken, hash []byte) error {
	return s.inAccess(ctx, fmt.Sprintf("token of %q", t.Account), func(tx pgx.Tx) error {
		return addToken(ctx, tx, t, hash)
	})
}

// addToken adds a token. It forgets tokens of the account that ended a day ago: until then
// their owner sees why they are refused.
func addToken(ctx context.Context, tx pgx.Tx, t access.PersonalToken, hash []byte) error {
	const q = `
		INSERT INTO token (id, account_id, hash, note, rules, expires_at)
		SELECT $1, a.id, $3, $4, $5, $6 FROM account a WHERE a.name = $2`
	const forget = `
		DELETE FROM token t USING account a
		WHERE a.id = t.account_id AND a.name = $1 AND t.expires_at < now() - interval '1 day' AND t.id <> $2`
	if len(t.Rules) > access.MaxRules {
		return indexer.Invalid("the token has %d rules: it may have at most %d", len(t.Rules), access.MaxRules)
	}
	var rules []string
	if t.Narrowed {
		rules = []string{}
	}
	for _, r := range t.Rules {
		rules = append(rules, r.String())
	}
	detail := "token " + t.ID + " " + strings.Join(rules, " ")
	r := access.Record{Event: access.TokenAdd, Target: t.Account, Detail: strings.TrimSpace(detail)}
	err := makeChanges(ctx, tx, r, change{q, []any{t.ID, t.Account, hash, t.Note, rules, pg.TimeOrNull(t.ExpiresAt)}},
		change{forget, []any{t.Account, t.ID}})
	if err != nil {
		return err
	}
	const count = "SELECT count(*) FROM token t JOIN account a ON a.id = t.account_id WHERE a.name = $1"
	full := fmt.Sprintf("%q has %%d tokens, which is the most: revoke one first", t.Account)
	return atMost(ctx, tx, access.MaxTokens, full, count, t.Account)
}

// ExpireToken makes a token expire at a time, unless it does earlier.
func (s *Store) ExpireToken(ctx context.Context, id string, at time.Time) error {
	return s.changeAccess(ctx, fmt.Sprintf("token %q", id), expiry(id, at), expire(id, at))
}

// DeleteToken revokes a token.
func (s *Store) DeleteToken(ctx context.Context, id string) error {
	return s.changeAccess(ctx, fmt.Sprintf("token %q", id), access.Record{Event: access.TokenRevoke, Target: id},
		change{"DELETE FROM token WHERE id = $1", []any{id}})
}

// SessionEnded implements access.Store.
func (s *Store) SessionEnded(ctx context.Context, id string) (bool, error) {
	found, err := pg.Column[string](ctx, s.pool, "SELECT id FROM ended_session WHERE id = $1", id)
	return len(found) > 0, pg.Wrap("session", err)
}

// EndSession ends a signed session, and forgets those that would have ended by now.
func (s *Store) EndSession(ctx context.Context, session access.Session) error {
	const end = "INSERT INTO ended_session (id, expires_at) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET expires_at = $2"
	const forget = "DELETE FROM ended_session WHERE expires_at < now() - interval '1 hour'"
	return s.changeAccess(ctx, "session", access.Record{Event: access.SessionEnd, Target: session.Actor},
		change{end, []any{session.ID, session.Expires}}, change{forget, nil})
}

// Grant grants a rule. It replaces the grant of other actions on the same pattern. It returns
// ErrConflict if the grantee has access.MaxGrants.
func (s *Store) Grant(ctx context.Context, to access.Grantee, r access.Rule) error {
	const q = `
		INSERT INTO access_grant (account_id, group_name, pattern, actions)
		SELECT a.id, NULLIF($2, ''), $3, $4 FROM (VALUES (1)) AS once LEFT JOIN account a ON a.name = $1
		WHERE $1 = '' OR a.id IS NOT NULL
		ON CONFLICT (COALESCE(account_id, 0), COALESCE(group_name, ''), pattern)
		DO UPDATE SET actions = EXCLUDED.actions, created_at = now()`
	const count = `
		SELECT count(*) FROM access_grant g LEFT JOIN account a ON a.id = g.account_id
		WHERE COALESCE(a.name, '') = $1 AND COALESCE(g.group_name, '') = $2`
	return s.inAccess(ctx, fmt.Sprintf("account %q", to.Account), func(tx pgx.Tx) error {
		err := makeChanges(ctx, tx, access.Record{Event: access.GrantAdd, Target: to.String(), Detail: r.String()},
			change{q, []any{to.Account, to.Group, r.Pattern.String(), r.Actions.String()}})
		if err != nil {
			return err
		}
		full := fmt.Sprintf("%s has %%d grants, which is the most: remove one, or grant a wider pattern", to)
		return atMost(ctx, tx, access.MaxGrants, full, count, to.Account, to.Group)
	})
}

// Revoke takes a grant back.
func (s *Store) Revoke(ctx context.Context, to access.Grantee, p access.Pattern) error {
	const q = `
		DELETE FROM access_grant g WHERE pattern = $3 AND COALESCE(group_name, '') = $2
			AND COALESCE((SELECT a.name FROM account a WHERE a.id = g.account_id), '') = $1`
	return s.changeAccess(ctx, fmt.Sprintf("grant of %s to %s", p, to),
		access.Record{Event: access.GrantRemove, Target: to.String(), Detail: p.String()},
		change{q, []any{to.Account, to.Group, p.String()}})
}
