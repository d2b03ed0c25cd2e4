package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/postgres/pg"
)

// ownerQuery returns the account of the identity $1, $2.
const ownerQuery = `
	SELECT a.name, a.disabled, a.valid_from, i.groups FROM identity i JOIN account a ON a.id = i.account_id
	WHERE i.issuer = $1 AND i.subject = $2 FOR UPDATE OF i`

// An owner is a row of ownerQuery.
type owner struct {
	Name      string
	Disabled  bool
	ValidFrom time.Time
	Groups    []string
}

// SignIn stores that a person has signed in at an identity provider, with its groups of now, and
// returns the name and ValidFrom of its account; a new one if there is none. It returns ErrInvalid,
// and changes nothing, if the account is disabled, or if it would have the name of another
// one: whoever chooses a name at a provider must not get an account by that.
func (s *Store) SignIn(ctx context.Context, i access.Identity) (account access.Account, err error) {
	err = s.beginPartitioned(ctx, func(tx pgx.Tx, _ cluster) error {
		// As each change of accounts does first, so that neither waits for the other.
		if _, err := tx.Exec(ctx, "SELECT FROM access_version FOR UPDATE"); err != nil {
			return err
		}
		o, changed, err := ownerOf(ctx, tx, i)
		if err != nil {
			return err
		}
		account = access.Account{Name: o.Name, ValidFrom: o.ValidFrom}
		if o.Disabled {
			return indexer.Invalid("the account %q is disabled: an administrator can enable it", o.Name)
		}
		const q = `
			UPDATE identity SET groups = $3, signed_in_at = now() WHERE issuer = $1 AND subject = $2`
		if _, err := tx.Exec(ctx, q, i.Issuer, i.Subject, append([]string{}, i.Groups...)); err != nil {
			return err
		}
		if !changed {
			return nil
		}
		_, err = tx.Exec(ctx, "UPDATE access_version SET v = v + 1")
		return err
	})
	if errors.Is(err, indexer.ErrInvalid) {
		return access.Account{}, err // its text is for the person
	}
	return account, pg.Wrap("sign-in", err)
}

// as returns a context in which an account acts.
func as(ctx context.Context, account string) context.Context {
	a := access.ActorOf(ctx)
	a.Name = account
	return access.WithActor(ctx, a)
}

// ownerOf returns the account of an identity, which it adds if there is none, and whether
// anything changes by the sign-in that others remember.
func ownerOf(ctx context.Context, tx pgx.Tx, i access.Identity) (o owner, changed bool, err error) {
	o, err = one[owner](ctx, tx, "identity", ownerQuery, i.Issuer, i.Subject)
	if err == nil {
		return o, strings.Join(o.Groups, " ") != strings.Join(i.Groups, " "), nil
	}
	if !errors.Is(err, indexer.ErrNotFound) {
		return o, false, err
	}
	if err := addOwner(ctx, tx, i); err != nil {
		return o, false, err
	}
	// If there was an account of that name already, it may be that of the same person, who has
	// signed in twice at once.
	o, err = one[owner](ctx, tx, "identity", ownerQuery, i.Issuer, i.Subject)
	if errors.Is(err, indexer.ErrNotFound) {
		err = taken(i)
	}
	return o, true, err
}

// taken returns the error of a person whose account would have the name of another one.
func taken(i access.Identity) error {
	name, err := access.AccountName(i.Name)
	if err != nil {
		return err
	}
	return indexer.Invalid("there is an account %q already, and nothing says that it is yours. If it is, an administrator"+
		" can link it: %s", name, linkCommand(name, i))
}

// linkCommand returns the command that links an account to an identity, for a shell.
func linkCommand(account string, i access.Identity) string {
	quote := func(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
	return fmt.Sprintf("portbook user link %s --issuer %s --subject %s", account, quote(i.Issuer), quote(i.Subject))
}

// addOwner adds an account for an identity, unless its name is taken.
func addOwner(ctx context.Context, tx pgx.Tx, i access.Identity) error {
	name, err := access.AccountName(i.Name)
	if err != nil {
		return indexer.Invalid("%s calls you %.64q, and an account cannot have such a name: an administrator can make an"+
			" account of another name, and link it: %s", i.Provider, i.Name, linkCommand("NAME", i))
	}
	const account = `
		INSERT INTO account (name, robot) VALUES ($1, false) ON CONFLICT (name) DO NOTHING`
	done, err := tx.Exec(ctx, account, name)
	if err != nil || done.RowsAffected() == 0 {
		return err
	}
	const identity = "INSERT INTO identity (issuer, subject, account_id) SELECT $1, $2, id FROM account WHERE name = $3"
	if _, err := tx.Exec(ctx, identity, i.Issuer, i.Subject, name); err != nil {
		return err
	}
	r := access.Record{Event: access.AccountAdd, Target: name, Detail: "by " + i.Provider}
	return record(as(ctx, name), tx, r)
}

// Link says that the person whom a provider knows owns an account. It returns ErrInvalid if
// that person owns one already, and ErrNotFound if there is no such account of a person.
func (s *Store) Link(ctx context.Context, account, issuer, subject string) error {
	const q = `
		INSERT INTO identity (issuer, subject, account_id) SELECT $2, $3, id FROM account WHERE name = $1 AND NOT robot`
	return s.changeAccess(ctx, fmt.Sprintf("link of account %q to subject %q", account, subject),
		access.Record{Event: access.AccountLink, Target: account, Detail: issuer + " " + subject},
		change{q, []any{account, issuer, subject}})
}

// Unlink takes that back. Sessions of the account end, since the person may have begun them.
func (s *Store) Unlink(ctx context.Context, account, issuer, subject string) error {
	const q = `
		DELETE FROM identity i USING account a
		WHERE a.id = i.account_id AND a.name = $1 AND i.issuer = $2 AND i.subject = $3`
	const end = "UPDATE account SET valid_from = " + later + " WHERE name = $1"
	return s.changeAccess(ctx, fmt.Sprintf("link of account %q to subject %q", account, subject),
		access.Record{Event: access.AccountUnlink, Target: account, Detail: issuer + " " + subject},
		change{q, []any{account, issuer, subject}}, change{end, []any{account}})
}

// A Link is an account and a person who owns it.
type Link struct {
	Account, Issuer, Subject string
	Groups                   []string
	SignedInAt               time.Time // zero: never
}

// Links returns all links of an account, or of all accounts for "".
func (s *Store) Links(ctx context.Context, account string) (all []Link, err error) {
	type row struct {
		Account, Issuer, Subject string
		Groups                   []string
		SignedInAt               *time.Time
	}
	const q = `
		SELECT a.name AS account, i.issuer, i.subject, i.groups, i.signed_in_at
		FROM identity i JOIN account a ON a.id = i.account_id WHERE $1 IN ('', a.name) ORDER BY a.name, i.issuer, i.subject`
	rows, err := pg.Collect[row](ctx, s.pool, q, account)
	for _, r := range rows {
		all = append(all, Link{r.Account, r.Issuer, r.Subject, r.Groups, pg.TimeOrZero(r.SignedInAt)})
	}
	return all, pg.Wrap("links", err)
}
