package postgres

import (
	"context"
	"fmt"
	"time"

	sq "github.com/Masterminds/squirrel"
	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/postgres/pg"
)

// accountIn reads an account in a transaction.
func accountIn(ctx context.Context, tx pgx.Tx, name string) (access.Account, error) {
	rows, err := pg.Collect[accountRow](ctx, tx, "SELECT "+accountColumns+" FROM account a WHERE a.name = $1", name)
	if err == nil && len(rows) == 0 {
		err = indexer.ErrNotFound
	}
	if err != nil {
		return access.Account{}, err
	}
	return rows[0].account(), nil
}

// permitted returns an ErrForbidden unless the actor of ctx, as it is now, has the permit of
// ctx. Without a permit, as on the command line, everything is allowed.
func permitted(ctx context.Context, tx pgx.Tx) error {
	permit := access.PermitOf(ctx)
	if permit == nil {
		return nil
	}
	s, err := subjectIn(ctx, tx, access.ActorOf(ctx))
	if err != nil {
		return err
	}
	return permit(s)
}

// subjectIn reads the subject of an actor in a transaction: the zero Subject if it could not
// log in any more.
func subjectIn(ctx context.Context, tx pgx.Tx, actor access.Actor) (s access.Subject, err error) {
	rows, err := pg.Collect[accountRow](ctx, tx,
		"SELECT "+accountColumns+" FROM account a WHERE a.name = $1 AND NOT a.disabled", actor.Name)
	if err != nil || len(rows) == 0 {
		return s, err
	}
	rules, err := rulesOf(ctx, tx, grantedTo, rows[0].ID, rows[0].account().AllGroups())
	if err != nil || actor.Token == "" {
		return access.SubjectOf(rows[0].account(), rules, nil), err
	}
	if access.IsWorkload(actor.Token) {
		const q = "SELECT w.id FROM workload w JOIN account a ON a.id = w.account_id WHERE w.id = $1 AND a.name = $2"
		found, err := pg.Column[string](ctx, tx, q, actor.Token, actor.Name)
		if err != nil || len(found) == 0 {
			return s, err
		}
		return access.SubjectOf(rows[0].account(), rules, &access.PersonalToken{ID: actor.Token, Account: actor.Name}), nil
	}
	const valid = tokensQuery + " WHERE t.id = $1 AND a.name = $2 AND (t.expires_at IS NULL OR t.expires_at > now())"
	tokens, err := pg.Collect[tokenRow](ctx, tx, valid, actor.Token, actor.Name)
	if err != nil || len(tokens) == 0 {
		return s, err
	}
	t, err := tokens[0].token()
	return access.SubjectOf(rows[0].account(), rules, &t), err
}

// orNoAdministrator returns an ErrConflict if an account was the last administrator who can
// log in, and is no more.
func orNoAdministrator(ctx context.Context, tx pgx.Tx, before access.Account) error {
	if !before.Admin || before.Disabled {
		return nil
	}
	var left bool
	err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM account WHERE admin AND NOT disabled)").Scan(&left)
	if err == nil && !left {
		err = indexer.Conflict("%q is the last administrator: make another one first", before.Name)
	}
	return err
}

// atMost returns an ErrConflict with text if a query counts more than most; %d in text stands
// for most.
func atMost(ctx context.Context, tx pgx.Tx, most int, text, sql string, args ...any) error {
	var n int
	if err := tx.QueryRow(ctx, sql, args...).Scan(&n); err != nil {
		return err
	}
	if n > most {
		return indexer.Conflict(text, most)
	}
	return nil
}

// AccountPage implements access.Directory.
func (s *Store) AccountPage(ctx context.Context, q access.AccountQuery) (all []access.Account, err error) {
	sel := pg.Builder.Select(accountColumns).From("account a").Where("a.name > ?", q.After).
		OrderBy("a.name").Suffix("LIMIT ?", q.Limit)
	if q.Contains != "" {
		sel = sel.Where("strpos(a.name, ?) > 0", q.Contains)
	}
	if q.Group != "" {
		sel = sel.Where(`(EXISTS (SELECT FROM account_group g WHERE g.account_id = a.id AND g.name = ?)
			OR EXISTS (SELECT FROM identity i WHERE i.account_id = a.id AND ? = ANY(i.groups)))`, q.Group, q.Group)
	}
	rows, err := pg.Selected[accountRow](ctx, s.pool, sel)
	for _, r := range rows {
		all = append(all, r.account())
	}
	return all, pg.Wrap("accounts", err)
}

// GroupPage implements access.Directory.
func (s *Store) GroupPage(ctx context.Context, after string, limit int) ([]access.Group, error) {
	const q = `
		SELECT name, sum(members)::int AS members, sum(grants)::int AS grants FROM (
			SELECT name, 1 AS members, 0 AS grants FROM (
				SELECT account_id, name FROM account_group UNION SELECT account_id, unnest(groups) FROM identity
			) AS member WHERE name > $1
			UNION ALL SELECT group_name, 0, 1 FROM access_grant WHERE group_name > $1
		) AS each GROUP BY name ORDER BY name LIMIT $2`
	all, err := pg.Collect[access.Group](ctx, s.pool, q, after, limit)
	return all, pg.Wrap("groups", err)
}

// RotateToken implements access.Directory.
func (s *Store) RotateToken(ctx context.Context, r access.Rotation) error {
	return s.inAccess(ctx, fmt.Sprintf("token %q", r.Old.ID), func(tx pgx.Tx) error {
		if err := makeChanges(ctx, tx, expiry(r.Old.ID, r.Until), expire(r.Old.ID, r.Until)); err != nil {
			return err
		}
		return addToken(ctx, tx, r.Next, r.Hash)
	})
}

// expire makes a token end at a time, unless it does earlier, and expiry is the record of that.
func expire(id string, at time.Time) change {
	return change{"UPDATE token SET expires_at = LEAST(expires_at, $2) WHERE id = $1", []any{id, at}}
}

func expiry(id string, at time.Time) access.Record {
	return access.Record{Event: access.TokenExpire, Target: id, Detail: at.UTC().Format(time.RFC3339)}
}

// Columns of a grant's order.
const (
	grantAccount = "COALESCE(a.name, '')"
	grantGroup   = "COALESCE(g.group_name, '')"
)

// Grants returns all grants, those to everybody first, then those to groups.
func (s *Store) Grants(ctx context.Context) ([]access.Grant, error) {
	return s.GrantPage(ctx, access.GrantQuery{Within: []access.Pattern{access.Every}, Limit: 1 << 31})
}

// GrantPage implements access.Directory.
func (s *Store) GrantPage(ctx context.Context, q access.GrantQuery) (all []access.Grant, err error) {
	sel := pg.Builder.
		Select(grantAccount+" AS account", grantGroup+" AS group_name", "g.pattern", "g.actions", "g.created_at").
		From("access_grant g").LeftJoin("account a ON a.id = g.account_id").
		OrderBy("account", "group_name", "g.pattern").Suffix("LIMIT ?", q.Limit)
	for _, condition := range grantConditions(q) {
		sel = sel.Where(condition)
	}
	type row struct {
		Account, GroupName, Pattern, Actions string
		CreatedAt                            time.Time
	}
	rows, err := pg.Selected[row](ctx, s.pool, sel)
	if err != nil {
		return nil, pg.Wrap("grants", err)
	}
	for _, r := range rows {
		rule, err := access.ParseRule(r.Pattern + ":" + r.Actions)
		if err != nil {
			return nil, fmt.Errorf("a stored grant: %s", err) // not ErrInvalid: it is not the client's
		}
		to := access.Grantee{Account: r.Account, Group: r.GroupName}
		all = append(all, access.Grant{To: to, Rule: rule, CreatedAt: r.CreatedAt})
	}
	return all, nil
}

// grantConditions returns the conditions of a query for grants.
func grantConditions(q access.GrantQuery) (all []sq.Sqlizer) {
	// As access.Pattern.Includes: what ends in * includes all that begins as it does.
	const within = `EXISTS (SELECT FROM unnest(?::text[]) AS own WHERE CASE WHEN right(own, 1) = '*'
		THEN starts_with(g.pattern, left(own, -1)) ELSE g.pattern = own END)`
	all = append(all, sq.Expr(within, texts(q.Within)))
	if q.To != nil {
		all = append(all, sq.Expr("("+grantAccount+", "+grantGroup+") = (?, ?)", q.To.Account, q.To.Group))
	}
	if q.Patterns != nil {
		all = append(all, sq.Expr("g.pattern = ANY(?)", texts(q.Patterns)))
	}
	if a := q.Account; a != nil {
		const has = "(" + grantAccount + " = ? OR g.group_name = ANY(?) OR g.account_id IS NULL AND g.group_name IS NULL)"
		all = append(all, sq.Expr(has, a.Name, append([]string{}, a.AllGroups()...)))
	}
	if g := q.After; g != nil {
		all = append(all, sq.Expr("("+grantAccount+", "+grantGroup+", g.pattern) > (?, ?, ?)",
			g.To.Account, g.To.Group, g.Rule.Pattern.String()))
	}
	return all
}

func texts(patterns []access.Pattern) []string {
	all := make([]string, len(patterns))
	for i, p := range patterns {
		all[i] = p.String()
	}
	return all
}
