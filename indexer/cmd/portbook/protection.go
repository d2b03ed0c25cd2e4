package main

import (
	"context"
	"net/url"

	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/web"
)

// protection returns what a front needs to keep what is protected. Whether a tag shows a digest
// is asked of the registry, which knows it first; a process without registry.url asks the book.
func (p *parts) protection() web.Protection {
	c := web.Protection{Keeper: access.NewKeeper(p.protections, p.log), Shows: p.reads.Shown,
		Needs: p.reads.ProtectedNeeds, FrontToken: p.config.Front.Token}
	if u, err := url.Parse(p.config.Registry.URL); err == nil && u.Host != "" {
		c.Registry = u
	}
	if p.remote != nil {
		c.Shows = func(ctx context.Context, repository, tag string) (digest.Digest, error) {
			return p.remote.Shows(ctx, repository, tag, "")
		}
	}
	return c
}

// protections reads the protections.
func (p *parts) protections(ctx context.Context) (access.Protections, error) {
	if !p.open.Load() {
		return access.Protections{}, errNotOpen
	}
	return p.reads.Protections(ctx)
}
