package access

import (
	"context"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/portbook/portbook/indexer"
)

// A delegation is a client about whom an API decides.
type delegation struct {
	api   *Delegate
	field string // its Authorization field; "": none
}

// Delegated reports whether About may have to ask an API.
func (s Subject) Delegated() bool { return s.asks != nil }

// About returns s with its rules for what it wants. For most subjects that is s itself: only a
// Delegate has to be asked. If s may do nothing of it, About returns ErrDenied if its
// credentials are wrong; if nobody knows now, ErrUnsure.
func (s Subject) About(ctx context.Context, wanted []Access) (Subject, error) {
	if s.asks == nil {
		return s, nil
	}
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
	return s.ask(ctx, all)
}

// AboutAll returns s with its rules for all repositories of the book. Errors are those of About,
// and ErrTooManyNamespaces.
func (s Subject) AboutAll(ctx context.Context) (Subject, error) {
	if s.asks == nil {
		return s, nil
	}
	names, err := s.asks.api.namespaces(ctx)
	if err != nil {
		return s, err
	}
	all := map[string]Actions{}
	for _, name := range names {
		all[name] = Pull
	}
	return s.ask(ctx, all)
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
	granted, err := s.asks.granted(ctx, wanted)
	if err != nil {
		return s, err
	}
	s.Rules = nil
	for project, actions := range granted {
		s.Rules = append(s.Rules, Rule{Pattern{project + "/*"}, actions})
	}
	if len(s.Rules) == 0 && s.asks.field != "" {
		_, err = s.asks.email(ctx)
	}
	return s, err
}

// granted returns what the API allows in projects, where that is anything.
func (c *delegation) granted(ctx context.Context, wanted map[string]Actions) (map[string]Actions, error) {
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
func (c *delegation) may(ctx context.Context, project string, wanted Actions) (Actions, error) {
	order := []Permission{MayPull, MayPush}
	if wanted != Pull {
		slices.Reverse(order)
	}
	for _, p := range order {
		question := "may\x00" + c.field + "\x00" + project + "\x00" + string(p)
		v, err := c.api.verdict(ctx, question, delegateAge, func(ctx context.Context) verdict {
			return c.api.authorized(ctx, c.field, project, p)
		})
		if err != nil || v.yes {
			return p.Allows(), err
		}
	}
	return 0, nil
}

// WithName returns s with the name that the registry's events repeat: who it is for the API, if
// that tells.
func (s Subject) WithName(ctx context.Context) Subject {
	if s.asks == nil || s.asks.field == "" {
		return s
	}
	if email, err := s.asks.email(ctx); err == nil && email != "" {
		s.Name = delegated + "/" + email
	}
	return s
}

// email returns the address of a client, or ErrDenied if its credentials are wrong.
func (c *delegation) email(ctx context.Context) (string, error) {
	v, err := c.api.verdict(ctx, "me\x00"+c.field, delegateAge, func(ctx context.Context) verdict {
		return c.api.me(ctx, c.field)
	})
	if err == nil && !v.yes {
		err = ErrDenied
	}
	return v.email, err
}
