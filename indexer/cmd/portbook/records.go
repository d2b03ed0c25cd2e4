package main

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/config"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/web/login"
)

// reports returns how pushes and deletions are recorded. Their names are proved if they are of
// tokens that we sign, and if nobody but the registry can send events.
func (p *parts) reports() postgres.Reports {
	switch {
	case !p.config.Audit.Pushes:
		return postgres.NoReports
	case !p.namesAreProved():
		return postgres.ClaimedReports
	}
	return postgres.ProvedReports
}

func (p *parts) namesAreProved() bool {
	return p.config.Auth.Keys != "" && p.config.Events.Token != ""
}

// recordInBackground makes what a writer records besides its requests. A reader cannot.
func (p *parts) recordInBackground() {
	if p.config.Role == config.Reader || p.config.Auth.Method == config.NoLogins {
		return
	}
	p.refusals = login.NewRefusals(p.store.RecordAll, p.log)
	if p.config.Auth.Method == config.Accounts {
		p.uses = access.NewUses(p.store.UseTokens, p.log)
	}
}

// startRecords starts to write what recordInBackground has made.
func (p *parts) startRecords(ctx context.Context, group *errgroup.Group) {
	if p.refusals != nil {
		group.Go(func() error { return p.refusals.Run(ctx) })
	}
	if p.uses != nil {
		group.Go(func() error { return p.uses.Run(ctx) })
	}
}

// usedBy returns what is called for each actor in the registry's events: it notes that the
// token was used whose id the name has; nil if the name proves nothing.
func (p *parts) usedBy() func(actor string, at time.Time) {
	if p.uses == nil || !p.namesAreProved() {
		return nil
	}
	return func(actor string, at time.Time) {
		_, id := access.ParseActor(actor)
		p.uses.Note(id, at)
	}
}
