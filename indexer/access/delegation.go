package access

import (
	"context"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/portbook/portbook/indexer"
)

// A Delegation is a client about whom an API decides.
type Delegation struct {
	api   *Delegate
	field string // its Authorization field; "": none
}

// About returns s with its rules for what it wants, and with those for all repositories of the
// book if it wants to see the catalogue. For most subjects that is s itself: only a Delegate
// asks its API. If s may do nothing of what it wants and its credentials are wrong, About returns
// ErrDenied. It returns ErrUnsure if the API does not answer. For the catalogue it may also return
// ErrTooManySeen and the errors of AboutAll.
func (s Subject) About(ctx context.Context, wanted []Access) (Subject, error) {
	if s.Asks == nil {
		return s, nil
	}
	all := projectsOf(wanted)
	if !slices.ContainsFunc(wanted, Access.isCatalogue) {
		return s.ask(ctx, all)
	}
	s, err := s.askBook(ctx, all)
	// A token has to name the projects, and a part of them would look like all.
	if err == nil && len(s.Rules) > MaxSeen {
		return Subject{}, ErrTooManySeen
	}
	return s, err
}

// projectsOf returns what a client wants to do in projects, in at most maxProjects of them.
func projectsOf(wanted []Access) map[string]Actions {
	all := map[string]Actions{}
	for _, w := range wanted {
		project, _, below := strings.Cut(w.Name, "/")
		if w.Type != typeRepository || !below || !indexer.IsRepository(w.Name) {
			continue
		}
		actions := actionsOf(w.Actions)
		if _, known := all[project]; actions != 0 && (known || len(all) < maxProjects) {
			all[project] |= actions
		}
	}
	return all
}

// AboutAll returns s with its rules for all repositories of the book, as far as it takes to see
// them. Errors are those of About, and ErrTooManyNamespaces.
func (s Subject) AboutAll(ctx context.Context) (Subject, error) {
	if s.Asks == nil {
		return s, nil
	}
	return s.askBook(ctx, map[string]Actions{})
}

// askBook returns s with rules for what it wants to do in projects, and to see all others of
// the book.
func (s Subject) askBook(ctx context.Context, wanted map[string]Actions) (Subject, error) {
	names, err := s.Asks.api.namespaces(ctx)
	if err != nil {
		return s, err
	}
	for _, name := range names {
		wanted[name] |= Pull
	}
	return s.ask(ctx, wanted)
}

// actionsOf returns what a client wants by names of actions; unknown ones are left out.
func actionsOf(names []string) (all Actions) {
	for _, a := range actionNames {
		if slices.Contains(names, a.name) || slices.Contains(names, "*") {
			all |= a.is
		}
	}
	return all
}

// ask returns s with rules for what it wants to do in projects.
func (s Subject) ask(ctx context.Context, wanted map[string]Actions) (Subject, error) {
	granted, err := s.Asks.granted(ctx, wanted)
	if err != nil {
		return s, err
	}
	s.Rules = nil
	for _, project := range slices.Sorted(maps.Keys(granted)) {
		s.Rules = append(s.Rules, Rule{Pattern{project + "/*"}, granted[project]})
	}
	if len(s.Rules) == 0 && s.Asks.field != "" {
		_, err = s.Asks.email(ctx)
	}
	return s, err
}

// granted returns what the API allows in projects, where that is anything.
func (c *Delegation) granted(ctx context.Context, wanted map[string]Actions) (map[string]Actions, error) {
	type answer struct {
		project string
		actions Actions
	}
	answers := make(chan answer, len(wanted))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(callsAtOnce)
	for project, actions := range wanted {
		group.Go(func() error {
			if ctx.Err() != nil { // another call has failed
				return ctx.Err()
			}
			may, err := c.may(ctx, project, actions)
			answers <- answer{project, may}
			return err
		})
	}
	err := group.Wait()
	close(answers)
	granted := map[string]Actions{}
	for a := range answers {
		if a.actions != 0 {
			granted[a.project] = a.actions
		}
	}
	return granted, err
}

// may returns what a client may do in a project, as far as it wants to. Who may push may also
// pull. The permission that is more likely to be enough is asked for first.
func (c *Delegation) may(ctx context.Context, project string, wanted Actions) (Actions, error) {
	order := []Permission{MayPull, MayPush}
	if wanted != Pull {
		slices.Reverse(order)
	}
	for _, p := range order {
		yes, err := c.has(ctx, project, p)
		if err != nil || yes {
			return p.Allows(), err
		}
	}
	return 0, nil
}

// WithName returns s with the name that the registry's events repeat: who it is for the API, if
// that tells.
func (s Subject) WithName(ctx context.Context) Subject {
	if s.Asks == nil || s.Asks.field == "" {
		return s
	}
	if email, err := s.Asks.email(ctx); err == nil && email != "" {
		s.Name = delegated + "/" + email
	}
	return s
}

// email returns the address of a client, or ErrDenied if its credentials are wrong.
func (c *Delegation) email(ctx context.Context) (string, error) {
	v, err := c.api.verdict(ctx, "me\x00"+c.field, delegateAge, func(ctx context.Context) verdict {
		return c.api.me(ctx, c.field)
	})
	if err == nil && !v.yes {
		err = ErrDenied
	}
	return v.email, err
}
