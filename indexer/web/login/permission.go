package login

import (
	"context"
	"net/http"

	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/web/answer"
)

// May returns the subject of a request if it has a permission in a project, or in a repository
// of it: see access.Subject.May. Otherwise, and if that could not be found out, may is false.
// Without a Login, everybody may read and nobody may push.
func (l *Login) May(
	r *http.Request, p access.Permission, project, repository string,
) (s access.Subject, may bool, err error) {
	if l == nil {
		everyone := access.Subject{Rules: access.Rules{{Pattern: access.Every, Actions: access.Pull}}}
		may, err = everyone.May(r.Context(), p, project, repository)
		return everyone, may, err
	}
	if s, err = l.Subject(r); err != nil || p != access.MayPush && s.Name == "" && l.ToRead {
		return s, false, unlessRefused(err)
	}
	_, err = l.asked(r, s, func(ctx context.Context) (_ access.Subject, err error) {
		may, err = s.May(ctx, p, project, repository)
		return s, err
	})
	if s.Asks == nil {
		may, err = s.May(r.Context(), p, project, repository)
	}
	if err != nil {
		return s, false, unlessRefused(err)
	}
	return s, may, nil
}

// unlessRefused returns nil for an error that says that the client may not do something.
func unlessRefused(err error) error {
	if _, refused := answer.RefusedWith(err); refused {
		return nil
	}
	return err
}
