package login

import (
	"context"
	"net/http"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/web/answer"
)

// Operations performs operations, and lists them and the trash. See package manage.
type Operations interface {
	Do(ctx context.Context, o indexer.Operation) (indexer.Operation, error)
	Preview(ctx context.Context, o indexer.Operation) (indexer.Effect, error)
	Operation(ctx context.Context, id int64) (indexer.Operation, error)
	Operations(ctx context.Context, q indexer.OperationQuery) ([]indexer.Operation, error)
	Trash(ctx context.Context, q indexer.TrashQuery) ([]indexer.Trash, error)
	TrashByID(ctx context.Context, ids []int64) ([]indexer.Trash, error)
}

const (
	// maxOperating and maxOperatingEach are how many requests prepare or await an operation at
	// the same time, and of one client: 8 and 2. Each may ask the registry for thousands of blobs.
	maxOperating     = 8
	maxOperatingEach = 2
	// operatingTime limits one of them: 25 s. Clients and fronts wait for 30 s or more.
	operatingTime = 25 * time.Second
)

// Operating runs f for a subject that may do an action with a repository, when its turn comes.
// The actor of its context is the subject, and the store asks for its right again. For a
// subject that may not even see the repository, there is none.
func (l *Login) Operating(
	r *http.Request, who access.Subject, repository string, action access.Actions,
	f func(context.Context, Operations) error,
) error {
	who, err := l.about(r, who, []access.Access{access.ToChange(repository)})
	if err != nil {
		return err
	}
	permit := access.Changers(repository, action)
	if !who.Allowed(repository).Has(access.Pull) {
		return answer.Refuse(http.StatusNotFound, "there is no repository %.255q", repository)
	}
	return l.Forbidden(r, who, l.operating(r, who, permit, f))
}

// Administering is Operating for what is not of one repository: only administrators may.
func (l *Login) Administering(r *http.Request, who access.Subject, f func(context.Context, Operations) error) error {
	return l.Forbidden(r, who, l.operating(r, who, access.Administrators, f))
}

func (l *Login) operating(
	r *http.Request, who access.Subject, permit access.Permit, f func(context.Context, Operations) error,
) error {
	if l.Operations == nil {
		return ErrOnlyReads
	}
	if err := permit(who); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(As(r, who.WithName(r.Context())), operatingTime)
	defer cancel()
	done, err := l.operatingTurns.Take(ctx, "operations", answer.ClientOf(r))
	if err != nil {
		return err
	}
	defer done()
	if l.Accounts != nil {
		ctx = access.WithPermit(ctx, permit)
	}
	m := l.Operations
	if !who.Asker().Visibility().All() {
		m = partly{m}
	}
	return f(ctx, m)
}

type operations = Operations // a name that a struct can embed beside the method Operations

// partly are the Operations for a subject that does not see every repository: what deletions
// free would tell what is in the others.
type partly struct{ operations }

func (p partly) Preview(ctx context.Context, o indexer.Operation) (indexer.Effect, error) {
	e, err := p.operations.Preview(ctx, o)
	e.Own, e.Shared = -1, -1
	return e, err
}

// Watches reports whether a subject may see an operation: an administrator, who asked for it, and
// who may push to its repository.
func (l *Login) Watches(r *http.Request, who access.Subject, o indexer.Operation) (bool, error) {
	if who.Administers() || who.Name != "" && who.Name == o.Actor && !who.Narrowed {
		return true, nil
	}
	return l.MayPush(r, who, o.Repository)
}

// MayPush reports whether a subject may push to a repository; nobody may to "".
func (l *Login) MayPush(r *http.Request, who access.Subject, repository string) (bool, error) {
	if repository == "" {
		return false, nil
	}
	who, err := l.about(r, who, []access.Access{access.ToChange(repository)})
	return err == nil && who.Allowed(repository).Has(access.Push), err
}

// Looking runs f, which reads operations or the trash, when its turn comes.
func (l *Login) Looking(r *http.Request, f func(context.Context, Operations) error) error {
	if l.Operations == nil {
		return ErrOnlyReads
	}
	ctx, cancel := context.WithTimeout(r.Context(), answer.Budget)
	defer cancel()
	done, err := l.operatingTurns.Take(ctx, "operations", answer.ClientOf(r))
	if err != nil {
		return err
	}
	defer done()
	return f(ctx, l.Operations)
}
