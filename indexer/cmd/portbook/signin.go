package main

import (
	"errors"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/config"
	"github.com/portbook/portbook/indexer/provider"
	"github.com/portbook/portbook/indexer/redissession"
	"github.com/portbook/portbook/indexer/web/login"
)

// providers returns the identity providers at which people sign in.
func (p *parts) providers() (all []login.Provider) {
	o, g := p.config.Auth.OIDC, p.config.Auth.GitHubLogin
	if o.Issuer != "" {
		all = append(all, provider.NewOIDC(provider.OIDCConfig{
			Title: o.Title, Issuer: o.Issuer, ClientID: o.ClientID, ClientSecret: o.ClientSecret, Redirect: o.RedirectURL,
			Scopes: o.Scopes, NameClaim: o.NameClaim, GroupsClaim: o.GroupsClaim, Log: p.log,
		}))
	}
	if g.ClientID != "" {
		all = append(all, provider.NewGitHub(provider.GitHubConfig{
			URL: g.URL, API: g.API, ClientID: g.ClientID, ClientSecret: g.ClientSecret, Redirect: g.RedirectURL,
			Organizations: g.Organizations, Log: p.log,
		}))
	}
	return all
}

// sessions returns the sessions of browsers.
func (p *parts) sessions(a *access.Accounts, c login.Changer) (access.Sessions, error) {
	switch s := p.config.Auth.Sessions; s.Store {
	case config.MemorySessions:
		return access.RecordedSessions{Sessions: access.NewMemorySessions(), Record: p.store.Record}, nil
	case config.RedisSessions:
		in, err := redissession.New(s.Redis, s.Prefix)
		return access.RecordedSessions{Sessions: in, Record: p.store.Record}, err
	case config.PostgresSessions:
		return a.StoredSessions(c), nil
	}
	return a.SignedSessions(c), nil
}

// linkFlags adds the flags of an identity to a command.
func linkFlags(command *cobra.Command) (issuer, subject *string) {
	f := command.Flags()
	issuer = f.String("issuer", "", "the `URL` of the provider: auth.oidc.issuer or auth.github_login.url")
	subject = f.String("subject", "", "the `id` of the person there: the claim sub, or the number of the GitHub user")
	return issuer, subject
}

func userLinkCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "link NAME", Short: "Let a person at an identity provider sign in to an account",
		Long: `Says that a person, whom an identity provider knows, owns an account. A person who signs
in at a provider without that gets a new account; if there is one of the same name, the page
of the sign-in is refused and shows this command with its flags.`,
		Example: `  portbook user link alice --issuer https://github.com --subject 583231
  portbook user link alice --issuer https://id.example.org --subject 8c0b6f6e`,
		Args: oneName,
	}
	issuer, subject := linkFlags(command)
	command.RunE = withDatabase(func(command *cobra.Command, p *parts) error {
		if err := access.CheckIdentity(*issuer, *subject); err != nil {
			return err
		}
		return p.store.Link(command.Context(), command.Flags().Arg(0), *issuer, *subject)
	})
	return command
}

func userUnlinkCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "unlink NAME", Short: "Take a link to an identity provider back",
		Long: `Takes a link back, with the groups that the provider gave. All sessions of the account end.
Its tokens and its password stay: disable the account to make all void.`,
		Example: "  portbook user unlink alice --issuer https://github.com --subject 583231",
		Args:    oneName,
	}
	issuer, subject := linkFlags(command)
	command.RunE = withDatabase(func(command *cobra.Command, p *parts) error {
		if *issuer == "" || *subject == "" {
			return errors.New("--issuer and --subject are required: `portbook user links` shows them")
		}
		return p.store.Unlink(command.Context(), command.Flags().Arg(0), *issuer, *subject)
	})
	return command
}

func userLinksCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "links", Short: "List the people at identity providers, and their accounts",
		Example: "  portbook user links --account alice",
		Args:    noArguments,
	}
	account := command.Flags().String("account", "", "only those of this `account`")
	command.RunE = withDatabase(func(command *cobra.Command, p *parts) error {
		all, err := p.store.Links(command.Context(), *account)
		if err != nil {
			return err
		}
		var rows [][]string
		for _, l := range all {
			last := ""
			if !l.SignedInAt.IsZero() {
				last = l.SignedInAt.UTC().Format(time.DateTime)
			}
			rows = append(rows, []string{l.Account, l.Issuer, l.Subject, strings.Join(l.Groups, ","), last})
		}
		return table(command.OutOrStdout(), []string{"ACCOUNT", "ISSUER", "SUBJECT", "GROUPS", "LAST SIGN-IN"}, rows)
	})
	return command
}
