package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
	"oras.land/oras-go/v2/registry/remote/retry"

	"github.com/portbook/portbook/indexer/imports"
)

func importCommand() *cobra.Command {
	return group(&cobra.Command{
		Use: "import", Short: "Take over what other systems have",
		Long: `Takes over what other systems have. An import that was interrupted goes on when it is run
again, and one that is run twice does no harm.`,
		Example: `  portbook import registry https://registry.example.com --include 'team/*'
  portbook import bucket --from old.yml --to registry.yml`,
	}, importRegistryCommand(), importBucketCommand(), importD1Command(), importHistoryCommand())
}

func importHistoryCommand() *cobra.Command {
	return &cobra.Command{
		Use: "history FILE", Short: "Take over the history of tags from the dump of an older book",
		Long: `Takes over what only an older book knows from its dump (GET /api/v1/dump): the moves of tags,
and when it first saw manifests and what tags show. The history of this book must be empty:
run it on a new database, before its first scan. Then start the indexer, which scans the
registry. FILE is - for standard input. Either all moves are taken over, or none; so after an
interruption run it again.`,
		Example: `  curl -sf --compressed 'https://old.example.com/api/v1/dump' > book.ndjson
  portbook import history book.ndjson`,
		Args: cobra.ExactArgs(1),
		RunE: withDatabase(func(command *cobra.Command, p *parts) error {
			dump := command.InOrStdin()
			if name := command.Flags().Arg(0); name != "-" {
				file, err := os.Open(name)
				if err != nil {
					return err
				}
				defer file.Close()
				dump = file
			}
			moves, times, err := imports.History(command.Context(), dump, imports.HistoryConfig{
				Times: p.store.ImportTimes, Moves: p.store.ImportMoves,
			})
			if err == nil {
				fmt.Fprintf(command.OutOrStdout(), "%d moves and %d times are taken over\n", moves, times)
			}
			return err
		}),
	}
}

// d1Database is the database that the importer of the registry of Deploys.app reads if
// D1_DATABASE_ID is not set.
const d1Database = "67b907e7-9d0d-4846-851e-8e7da80acbad"

func importD1Command() *cobra.Command {
	return &cobra.Command{
		Use: "d1", Short: "Take over times of creation from a database of Cloudflare D1",
		Long: `Reads when repositories, manifests and tags were created from the database of a registry of
Deploys.app in Cloudflare D1. What is in the registry keeps these times: in the API of
Deploys.app, in pages and in searches. A tag does as long as it shows the same image and is
not pushed again. Run it when the images are in the registry, or once more then: a copy is
a push. The leader gives the times to what is scanned later, too.

The environment says what to read: CLOUDFLARE_API_TOKEN, CLOUDFLARE_ACCOUNT_ID, and
D1_DATABASE_ID (default: ` + d1Database + `).
CLOUDFLARE_API_URL is another address than that of Cloudflare. It may be run again.`,
		Example: "  portbook import d1",
		Args:    noArguments,
		RunE: withDatabase(func(command *cobra.Command, p *parts) error {
			c := imports.D1Config{
				API:     cmp.Or(os.Getenv("CLOUDFLARE_API_URL"), "https://api.cloudflare.com/client/v4"),
				Account: os.Getenv("CLOUDFLARE_ACCOUNT_ID"), Token: os.Getenv("CLOUDFLARE_API_TOKEN"),
				Database: cmp.Or(os.Getenv("D1_DATABASE_ID"), d1Database), Keep: p.store.ImportTimes,
				Progress: func(table string, rows int) { fmt.Fprintf(command.ErrOrStderr(), "%s: %d rows\n", table, rows) },
			}
			if c.Account == "" || c.Token == "" {
				return errors.New("set CLOUDFLARE_ACCOUNT_ID and CLOUDFLARE_API_TOKEN in the environment: they say which" +
					" database to read, and let us")
			}
			counts, err := imports.D1(command.Context(), c)
			for _, t := range counts {
				fmt.Fprintf(command.OutOrStdout(), "%s: %d rows, %d new times\n", t.Name, t.Rows, t.Fresh)
			}
			if err != nil {
				return fmt.Errorf("%s: run the command again to go on", importError(err))
			}
			n, err := p.store.GiveTimes(command.Context())
			fmt.Fprintf(command.OutOrStdout(), "%d rows of the book have the times now\n", n)
			return err
		}),
	}
}

func importRegistryCommand() *cobra.Command {
	var c imports.RegistryConfig
	command := &cobra.Command{
		Use: "registry URL", Short: "Copy repositories of another registry into ours",
		Long: `Copies repositories of another registry into the one of registry.url, with their image
indexes and referrers, each image before its tag. What is there already is not copied again,
so a copy that was interrupted goes on when the command is run again; nothing is deleted.

It logs in to the other registry as IMPORT_USERNAME with IMPORT_PASSWORD, if they are set in
the environment, and else as docker does. The exit status is 1 if something was not copied.`,
		Example: `  portbook import registry https://registry.example.com --include 'team/*'
  portbook import registry https://ghcr.io --include team/app --to mirror/ --dry-run`,
		Args: func(command *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("%s takes one URL, and got %d arguments", command.CommandPath(), len(args))
			}
			return checkRegistryURL(args[0])
		},
	}
	flags := command.Flags()
	flags.StringArrayVar(&c.Include, "include", nil, "`glob` of names to copy, such as team/*; may be repeated")
	flags.StringArrayVar(&c.Exclude, "exclude", nil, "`glob` of names to leave out; may be repeated")
	flags.StringVar(&c.Prefix, "to", "", "`begin` of the names here, such as mirror/")
	flags.BoolVar(&c.DryRun, "dry-run", false, "only say how many tags would be copied")
	command.RunE = withRegistry(func(command *cobra.Command, p *parts) (err error) {
		c.From, c.To = strings.TrimRight(command.Flags().Arg(0), "/"), p.config.Registry.URL
		if c.FromClient, err = importClient(c.From); err != nil {
			return err
		}
		c.ToClient = p.registryClient()
		return runImport(command.Context(), command.OutOrStdout(), command.ErrOrStderr(), imports.NewRegistry(c))
	})
	return command
}

// checkRegistryURL checks the URL of another registry.
func checkRegistryURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Host == "", strings.Trim(u.Path, "/") != "":
		return fmt.Errorf("%q is not the URL of a registry: write one such as https://registry.example.com", text)
	case u.User != nil:
		return errors.New("the URL has a login in it (not shown): set IMPORT_USERNAME and IMPORT_PASSWORD instead")
	}
	return nil
}

// importClient returns a client that logs in to another registry.
func importClient(address string) (remote.Client, error) {
	client := &auth.Client{Client: retry.DefaultClient, Cache: auth.NewCache()}
	client.SetUserAgent(userAgent)
	name, password := os.Getenv("IMPORT_USERNAME"), os.Getenv("IMPORT_PASSWORD")
	if name != "" || password != "" {
		u, err := url.Parse(address)
		if err != nil {
			return nil, err
		}
		client.Credential = auth.StaticCredential(u.Host, auth.Credential{Username: name, Password: password})
		return client, nil
	}
	store, err := credentials.NewStoreFromDocker(credentials.StoreOptions{})
	if err != nil {
		return nil, fmt.Errorf("the configuration of docker cannot be read: %w: mend it, or set DOCKER_CONFIG to another"+
			" folder", err)
	}
	client.Credential = credentials.Credential(store)
	return client, nil
}

// registryClient returns a client that logs in to our registry, as remote.Client does.
func (p *parts) registryClient() remote.Client {
	if token := p.ownToken(); token != nil {
		return imports.Tokens{Client: retry.DefaultClient, Token: token, UserAgent: userAgent}
	}
	client := &auth.Client{Client: retry.DefaultClient, Cache: auth.NewCache()}
	client.SetUserAgent(userAgent)
	c := p.config.Registry
	if u, err := url.Parse(c.URL); err == nil && c.Username+c.Password != "" {
		client.Credential = auth.StaticCredential(u.Host, auth.Credential{Username: c.Username, Password: c.Password})
	}
	return client
}

// runImport runs an import of a registry, and prints how far it is.
func runImport(ctx context.Context, out, progress io.Writer, x *imports.Registry) error {
	ended := make(chan struct{})
	printed := make(chan struct{})
	go func() {
		defer close(printed)
		for {
			select {
			case <-ended:
				return
			case <-time.After(lineEvery):
				fmt.Fprintln(progress, countsLine(x.Counts(), time.Now()))
			}
		}
	}()
	err := x.Run(ctx)
	close(ended)
	<-printed
	for _, f := range x.Failures() {
		fmt.Fprintf(progress, "not copied: %s: %s\n", oneLine(f.What), importError(f.Err))
	}
	c := x.Counts()
	fmt.Fprintf(out, "%d repositories, %d tags: %d copied, %d were there, %d failed; %d referrers copied\n",
		c.Repositories, c.Tags, c.Copied, c.There, c.Failed, c.Referrers)
	if err == nil && c.Failed > 0 {
		err = fmt.Errorf("%d repositories or tags were not copied: run the command again to try them again", c.Failed)
	}
	return err
}

// countsLine returns how far an import is, its rate and the time left.
func countsLine(c imports.Counts, now time.Time) string {
	ended := c.Copied + c.There + c.Failed
	rate := float64(ended) / max(now.Sub(c.Began).Seconds(), 0.001)
	line := fmt.Sprintf("%d of %d tags in %d repositories, %d failed, %.1f a second", ended, c.Tags, c.Repositories,
		c.Failed, rate)
	switch {
	case !c.Done:
		line += "; more may be found"
	case rate > 0:
		line += fmt.Sprintf("; %v left", time.Duration(float64(c.Tags-ended)/rate*float64(time.Second)).Round(time.Second))
	}
	return line
}

// importError returns an error without what may be secret, or do something to a terminal: a registry
// may send clients to a signed address, which net/http quotes, and answer anything.
func importError(err error) string {
	var failed *url.Error
	if errors.As(err, &failed) {
		if u, errParse := url.Parse(failed.URL); errParse == nil {
			return oneLine(fmt.Sprintf("%s %s://%s%s: %s", failed.Op, u.Scheme, u.Host, u.Path, failed.Err))
		}
	}
	return oneLine(err.Error())
}
