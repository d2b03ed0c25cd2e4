package main

import (
	"context"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer/config"
	"github.com/portbook/portbook/indexer/ingest"
	"github.com/portbook/portbook/indexer/packages"
	"github.com/portbook/portbook/indexer/web/clients"
)

// newPackages returns the registry of packages. workers read what is published; nil on a reader.
func (p *parts) newPackages(ctx context.Context, workers *ingest.Workers) (*packages.Service, error) {
	c := p.config.Packages
	s := packages.Config{
		Reads: p.reads, Log: p.log, Dir: p.config.DataDir, Prefix: c.Prefix, API: c.API,
		ClientID:      p.config.Auth.GitHub.ClientID,
		Upstream:      packages.Upstream{URL: c.IndexURL, Username: c.GitUsername, Password: c.GitPassword},
		CommitterName: c.CommitterName, CommitterEmail: c.CommitterEmail,
	}
	if p.config.Role == config.Writer {
		s.Store, s.Remote = p.store, p.remote
	}
	if workers != nil {
		s.Wake = workers.Wake
	}
	return packages.New(ctx, s)
}

// servePackages returns what serves the registry of packages; its zero value serves none.
func (p *parts) servePackages(ctx context.Context, workers *ingest.Workers) (c clients.PackageConfig, err error) {
	if !p.config.Packages.Enabled {
		return c, nil
	}
	if p.packages, err = p.newPackages(ctx, workers); err != nil {
		return c, err
	}
	c = clients.PackageConfig{Packages: p.packages, Prefix: p.config.Packages.Prefix}
	if p.config.Role == config.Writer {
		c.Writes, c.UseRate = true, p.store.UseRate
	}
	if p.remote != nil {
		c.Blob = func(ctx context.Context, repository, d string, limit int64) ([]byte, error) {
			return p.remote.Blob(ctx, repository, digest.Digest(d), limit)
		}
		c.Manifest = func(ctx context.Context, repository, d string) ([]byte, error) {
			body, _, err := p.remote.Manifest(ctx, repository, d)
			return body, err
		}
	}
	return c, nil
}

// ensureAgain is how long it takes until the index of packages is tried again, if its repository
// does not answer: 10 s.
const ensureAgain = 10 * time.Second

// ensurePackages makes the index of packages, so that it can be cloned before something is
// published. Its repository may be away for long, which stops nothing else.
func (p *parts) ensurePackages(ctx context.Context) {
	for p.packages != nil {
		err := p.packages.Ensure(ctx)
		if err == nil || ctx.Err() != nil {
			break
		}
		p.log.WarnContext(ctx, "index of packages", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(ensureAgain):
		}
	}
}
