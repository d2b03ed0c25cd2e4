package access

import (
	"context"
	"slices"
	"strings"

	"github.com/portbook/portbook/indexer"
)

// A Permission is a right in all repositories of a project, by the name that the API of
// Deploys.app has for it. A project is the first part of a repository's name, before the slash;
// a repository without a slash belongs to none.
type Permission string

// The permissions.
const (
	MayPull Permission = "registry.pull"
	MayPush Permission = "registry.push"
	MayList Permission = "registry.list"
	MayGet  Permission = "registry.get"
)

// permissions are all permissions, with what a client who has one may do in the registry, and
// with what a client must be allowed by rules to have it. To list and to get concern the API
// only: by rules, who may pull may also see.
var permissions = []struct {
	name          Permission
	allows, needs Actions
}{
	{MayPull, Pull, Pull},
	{MayPush, Push | Delete, Push | Delete},
	{MayList, 0, Pull},
	{MayGet, 0, Pull},
}

// Allows returns what a client with the permission may do in the registry; 0 for a name that is
// not a permission.
func (p Permission) Allows() Actions {
	for _, x := range permissions {
		if x.name == p {
			return x.allows
		}
	}
	return 0
}

// Of reports whether rules that allow actions include the permission.
func (p Permission) Of(allowed Actions) bool {
	for _, x := range permissions {
		if x.name == p {
			return allowed.Has(x.needs)
		}
	}
	return false
}

// May reports whether s has a permission in a project; for an empty repository in the project as
// a whole, and by rules also if it has it in a part of the project. If an API decides, it is
// asked for exactly this permission; errors are ErrUnsure, and ErrDenied for wrong credentials.
func (s Subject) May(ctx context.Context, p Permission, project, repository string) (bool, error) {
	if strings.Contains(project, "/") {
		return false, nil // it would be asked about a project and be used in another one
	}
	if s.Asks != nil {
		may, err := s.Asks.has(ctx, project, p)
		if err == nil && !may && s.Asks.field != "" {
			_, err = s.Asks.email(ctx)
		}
		return may, err
	}
	if s.OnlyWrites && p != MayPush {
		return false, nil
	}
	if repository != "" {
		return p.Of(s.Allowed(repository)), nil
	}
	within := Pattern{project + "/*"}
	return slices.ContainsFunc(s.rules(), func(r Rule) bool {
		_, some := r.Pattern.and(within)
		return some && p.Of(r.Actions)
	}), nil
}

// AskerIn returns the asker who sees what s may see in a project. If an API decides, that is all
// of it: the caller must have asked May.
func (s Subject) AskerIn(project string) indexer.Asker {
	if s.Asks != nil {
		return indexer.AskerOf(indexer.VisibleNames(project + "/*"))
	}
	return s.Asker()
}

// has asks the API whether a client has a permission in a project.
func (c *Delegation) has(ctx context.Context, project string, p Permission) (bool, error) {
	question := "may\x00" + c.field + "\x00" + project + "\x00" + string(p)
	v, err := c.api.verdict(ctx, question, delegateAge, func(ctx context.Context) verdict {
		return c.api.authorized(ctx, c.field, project, p)
	})
	return v.yes, err
}
