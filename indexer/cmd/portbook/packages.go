package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/portbook/portbook/indexer/config"
	"github.com/portbook/portbook/indexer/ingest"
	"github.com/portbook/portbook/indexer/packages"
	"github.com/portbook/portbook/indexer/web/clients"
)

func packagesCommand() *cobra.Command {
	return group(&cobra.Command{
		Use: "packages", Short: "Manage the registry of packages of pesde",
		Long: `Manages the registry of packages of pesde. Packages are published by its client, and yanked
and deprecated by those who own their scope.`,
		Example: `  portbook packages config
  portbook packages rebuild`,
	}, packagesConfigCommand(), packagesRebuildCommand())
}

func packagesConfigCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "config", Short: "Print or replace the config.toml of the index",
		Long: `Prints the config.toml of the index of packages, or replaces it by a file. It counts from
the next publish on. If the index is in a repository elsewhere, the change is pushed there.`,
		Example: `  portbook packages config
  portbook packages config --set config.toml`,
		Args: noArguments,
	}
	file := command.Flags().String("set", "", "the `file` that replaces it")
	command.RunE = withRegistry(func(command *cobra.Command, p *parts) error {
		s, err := p.packagesOf(command.Context())
		if err != nil {
			return err
		}
		if *file != "" {
			text, err := os.ReadFile(*file)
			if err != nil {
				return err
			}
			return s.Configure(command.Context(), text)
		}
		if err := s.Ensure(command.Context()); err != nil {
			return err
		}
		text, err := s.ConfigFile(command.Context())
		if err == nil {
			_, err = command.OutOrStdout().Write(text)
		}
		return err
	})
	return command
}

func packagesRebuildCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "rebuild", Short: "Add to the index what the registry has and it lacks",
		Long: `Reads all packages in the registry, and adds to the index those that it lacks, such as after
the loss of the database. Who owned a scope, and what was yanked or deprecated, the registry
does not know: scopes that are not in the index get the owner of --owner.`,
		Example: `  portbook packages rebuild --owner 583231`,
		Args:    noArguments,
	}
	owner := command.Flags().Uint64("owner", 0,
		"the `number` of the owner of new scopes: an id of GitHub, or of an account")
	command.RunE = withRegistry(func(command *cobra.Command, p *parts) error {
		s, err := p.packagesOf(command.Context())
		if err != nil {
			return err
		}
		added, skipped, err := s.Rebuild(command.Context(), *owner)
		for _, id := range added {
			fmt.Fprintln(command.OutOrStdout(), "added", id)
		}
		for _, why := range skipped {
			fmt.Fprintln(command.ErrOrStderr(), "left out", oneLine(why))
		}
		if err == nil && len(skipped) > 0 {
			err = fmt.Errorf("%d tags are not as they were published, or are no packages", len(skipped))
		}
		return err
	})
	return command
}

// packagesOf returns the registry of packages for a command.
func (p *parts) packagesOf(ctx context.Context) (*packages.Service, error) {
	if !p.config.Packages.Enabled {
		return nil, errors.New("there is no registry of packages: set packages.enabled to true")
	}
	return p.newPackages(ctx, nil)
}

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
