package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/config"
)

func userCommand() *cobra.Command {
	return group(&cobra.Command{
		Use: "user", Short: "Add, change and list the accounts of people and robots",
		Long: `Changes accounts, which are used with auth.method accounts. A person logs in with a
password or a token; a robot, which is a program, with tokens only. A change is
effective within a few seconds, except that a token which the registry has been shown
already is valid for up to five minutes.`,
		Example: "  portbook user add --admin alice <password.txt\n  portbook user list",
	}, userAddCommand(), userSetCommand(), userPasswordCommand(), userDeleteCommand(), userListCommand(),
		userLinkCommand(), userUnlinkCommand(), userLinksCommand())
}

// oneName is the Args of a command that takes the name of an account.
func oneName(command *cobra.Command, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("%s takes the name of one account, and got %d", command.CommandPath(), len(args))
	}
	return access.CheckName(args[0])
}

func userAddCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "add NAME", Short: "Add an account",
		Long: `Adds an account. The password of a person is one line of standard input; a terminal
asks for it. A robot has none: make a token for it.`,
		Example: `  portbook user add --admin alice <password.txt
  portbook user add --group dev --group ops bob <password.txt
  portbook user add --robot ci-images`,
		Args: oneName,
	}
	var a access.Account
	flags := command.Flags()
	flags.BoolVar(&a.Admin, "admin", false, "it administers accounts and grants, and may do everything")
	flags.BoolVar(&a.Robot, "robot", false, "it is a program, and has no password")
	flags.StringArrayVar(&a.Groups, "group", nil, "a `group` that it is in; may be repeated")
	command.MarkFlagsMutuallyExclusive("admin", "robot")
	command.RunE = withDatabase(func(command *cobra.Command, p *parts) (err error) {
		a.Name = command.Flags().Arg(0)
		if err := checkGroups(a.Groups); err != nil {
			return err
		}
		if !a.Robot {
			if a.Password, err = hashedPassword(command); err != nil {
				return err
			}
		}
		if err := p.store.AddAccount(command.Context(), a); err != nil {
			return err
		}
		fmt.Fprintf(command.OutOrStdout(), "account %q was added\n", a.Name)
		return nil
	})
	return command
}

func checkGroups(groups []string) error {
	for _, g := range groups {
		if err := access.CheckName(g); err != nil {
			return err
		}
	}
	return nil
}

// hashedPassword reads a password and returns its hash.
func hashedPassword(command *cobra.Command) (string, error) {
	password, err := readPassword(command)
	if err != nil {
		return "", err
	}
	return access.HashPassword(command.Context(), password)
}

func userSetCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "set NAME", Short: "Change an account: whether it administers or is disabled, and its groups",
		Example: `  portbook user set --disabled bob
  portbook user set --disabled=false --group dev bob
  portbook user set --no-groups bob`,
		Args: oneName,
	}
	flags := command.Flags()
	admin := flags.Bool("admin", false, "it administers accounts and grants, and may do everything")
	disabled := flags.Bool("disabled", false, "it cannot log in")
	groups := flags.StringArray("group", nil, "a `group` that it is in, instead of those of before; may be repeated")
	none := flags.Bool("no-groups", false, "it is in no group")
	command.MarkFlagsMutuallyExclusive("group", "no-groups")
	command.MarkFlagsOneRequired("admin", "disabled", "group", "no-groups")
	command.RunE = withDatabase(func(command *cobra.Command, p *parts) error {
		if err := checkGroups(*groups); err != nil {
			return err
		}
		a, _, err := p.store.Account(command.Context(), command.Flags().Arg(0))
		if err != nil {
			return err
		}
		if flags.Changed("admin") {
			a.Admin = *admin
		}
		if flags.Changed("disabled") {
			a.Disabled = *disabled
		}
		if *none || len(*groups) > 0 {
			a.Groups = append([]string{}, *groups...)
		}
		if a.Robot && a.Admin {
			return indexer.Invalid("%q is a robot: only a person can be an administrator", a.Name)
		}
		return p.store.SetAccount(command.Context(), a)
	})
	return command
}

func userPasswordCommand() *cobra.Command {
	return &cobra.Command{
		Use: "password NAME", Short: "Set the password of a person",
		Long: `Sets the password of a person to one line of standard input; a terminal asks for it.
Clients that were logged in with the old password must log in again; tokens stay.`,
		Example: "  portbook user password bob <password.txt",
		Args:    oneName,
		RunE: withDatabase(func(command *cobra.Command, p *parts) error {
			hash, err := hashedPassword(command)
			if err != nil {
				return err
			}
			return p.store.SetPassword(command.Context(), command.Flags().Arg(0), hash)
		}),
	}
}

func userDeleteCommand() *cobra.Command {
	return &cobra.Command{
		Use: "delete NAME", Short: "Delete an account with its tokens and grants",
		Example: "  portbook user delete bob",
		Args:    oneName,
		RunE: withDatabase(func(command *cobra.Command, p *parts) error {
			return p.store.DeleteAccount(command.Context(), command.Flags().Arg(0))
		}),
	}
}

func userListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List all accounts",
		Example: "  portbook user list",
		Args:    noArguments,
		RunE: withDatabase(func(command *cobra.Command, p *parts) error {
			all, err := p.store.Accounts(command.Context())
			if err != nil {
				return err
			}
			var rows [][]string
			for _, a := range all {
				rows = append(rows, []string{a.Name, kindOf(a), groupsOf(a), day(a.CreatedAt)})
			}
			return table(command.OutOrStdout(), []string{"NAME", "KIND", "GROUPS", "CREATED"}, rows)
		}),
	}
}

// groupsOf returns the groups of an account, also those of its provider.
func groupsOf(a access.Account) string {
	all := slices.Concat(a.Groups, a.ProviderGroups)
	slices.Sort(all)
	return strings.Join(slices.Compact(all), ",")
}

// kindOf describes an account in a few words.
func kindOf(a access.Account) string {
	kind := "person"
	switch {
	case a.Admin:
		kind = "administrator"
	case a.Robot:
		kind = "robot"
	}
	if a.Disabled {
		kind += ", disabled"
	}
	return kind
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// table writes rows below a head, in columns. A cell without a text has a dash.
func table(out io.Writer, head []string, rows [][]string) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{head}, rows...) {
		row = slices.Clone(row)
		for i := range row {
			if row[i] = oneLine(row[i]); row[i] == "" {
				row[i] = "-"
			}
		}
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	return w.Flush()
}

func grantCommand() *cobra.Command {
	const to = "the name of an account, group:NAME, or everybody"
	return group(&cobra.Command{
		Use: "grant", Short: "Say who may do what with which repositories",
		Long: `Changes grants, which are used with auth.method accounts. A grant is to ` + to + `.
It has a pattern of repositories (* for all, team/* for those below team, or one name) and
actions: pull, push, delete and admin, each of which includes pull. Who may pull a
repository also sees it in searches. A grant of pull to everybody makes it public.`,
		Example: `  portbook grant add everybody library/*:pull
  portbook grant add group:dev team/*:push,delete
  portbook grant remove group:dev team/*
  portbook grant list`,
	}, &cobra.Command{
		Use: "add TO PATTERN:ACTIONS", Short: "Grant actions on repositories",
		Long:    "Grants actions on repositories, instead of those granted on the same pattern before.",
		Example: "  portbook grant add group:dev team/*:push,delete",
		Args: func(_ *cobra.Command, args []string) error {
			_, _, err := parseGrant(args)
			return err
		},
		RunE: withDatabase(func(command *cobra.Command, p *parts) error {
			to, rule, err := parseGrant(command.Flags().Args())
			if err != nil {
				return err
			}
			return p.store.Grant(command.Context(), to, rule)
		}),
	}, &cobra.Command{
		Use: "remove TO PATTERN", Short: "Take a grant back",
		Example: "  portbook grant remove group:dev team/*",
		Args: func(_ *cobra.Command, args []string) error {
			_, _, err := parseRemoved(args)
			return err
		},
		RunE: withDatabase(func(command *cobra.Command, p *parts) error {
			to, pattern, err := parseRemoved(command.Flags().Args())
			if err != nil {
				return err
			}
			return p.store.Revoke(command.Context(), to, pattern)
		}),
	}, grantListCommand())
}

// parseGrant parses the arguments of grant add.
func parseGrant(args []string) (to access.Grantee, r access.Rule, err error) {
	if len(args) != 2 {
		return to, r, fmt.Errorf("grant add takes TO and PATTERN:ACTIONS, and got %d arguments", len(args))
	}
	if to, err = access.ParseGrantee(args[0]); err != nil {
		return to, r, err
	}
	r, err = access.ParseRule(args[1])
	return to, r, err
}

// parseRemoved parses the arguments of grant remove.
func parseRemoved(args []string) (to access.Grantee, p access.Pattern, err error) {
	if len(args) != 2 {
		return to, p, fmt.Errorf("grant remove takes TO and PATTERN, and got %d arguments", len(args))
	}
	if to, err = access.ParseGrantee(args[0]); err != nil {
		return to, p, err
	}
	p, err = access.ParsePattern(args[1])
	return to, p, err
}

func grantListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List all grants",
		Example: "  portbook grant list",
		Args:    noArguments,
		RunE: withDatabase(func(command *cobra.Command, p *parts) error {
			all, err := p.store.Grants(command.Context())
			if err != nil {
				return err
			}
			var rows [][]string
			for _, g := range all {
				rows = append(rows, []string{g.To.String(), g.Rule.Pattern.String(), g.Rule.Actions.String(), day(g.CreatedAt)})
			}
			return table(command.OutOrStdout(), []string{"TO", "REPOSITORIES", "ACTIONS", "GRANTED"}, rows)
		}),
	}
}

func tokenCommand() *cobra.Command {
	return group(&cobra.Command{
		Use: "token", Short: "Make, list and revoke personal tokens",
		Long: `Changes personal tokens, which clients send instead of a password. The database has only
a hash of a token, so it is shown once, when it is made.`,
		Example: "  portbook token create --expires 90d ci-images\n  portbook token list",
	}, tokenCreateCommand(), tokenRotateCommand(), tokenRevokeCommand(), tokenListCommand())
}

func tokenCreateCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "create ACCOUNT", Short: "Make a token, and print it",
		Long: `Makes a token for an account, and prints it: this is the only time that it is shown. With
--rule, the token allows no more than the rules, even if its account may do more.`,
		Example: `  portbook token create --expires 90d --note build-7 ci-images
  portbook token create --rule team/app:pull --rule team/base:push alice`,
		Args: oneName,
	}
	flags := command.Flags()
	note := flags.String("note", "", "what it is for")
	expires := flags.String("expires", "", "`time` after which it is void, such as 90d; default: never")
	rules := flags.StringArray("rule", nil, "a `rule`, PATTERN:ACTIONS, that limits it; may be repeated")
	command.RunE = withDatabase(func(command *cobra.Command, p *parts) error {
		t := access.PersonalToken{Account: command.Flags().Arg(0), Note: *note, Narrowed: len(*rules) > 0}
		for _, text := range *rules {
			r, err := access.ParseRule(text)
			if err != nil {
				return err
			}
			t.Rules = append(t.Rules, r)
		}
		if *expires != "" {
			after, err := durationOf("expires", *expires)
			if err != nil {
				return err
			}
			t.ExpiresAt = time.Now().Add(after)
		}
		return makeToken(command, p, t)
	})
	return command
}

// durationOf parses the value of a flag.
func durationOf(flag, text string) (time.Duration, error) {
	d, err := config.ParseDuration(text)
	if err != nil || d <= 0 {
		return 0, indexer.Invalid("--%s: %.32q is not a time: write 30s, 5m, 1h or 90d", flag, text)
	}
	return d, nil
}

// makeToken makes a token and prints it, alone on standard output.
func makeToken(command *cobra.Command, p *parts, t access.PersonalToken) error {
	token := access.NewToken()
	t.ID = token.ID()
	if err := p.store.AddToken(command.Context(), t, token.Hash()); err != nil {
		return err
	}
	fmt.Fprintf(command.ErrOrStderr(), "token %s of %q; it is shown only now:\n", t.ID, t.Account)
	fmt.Fprintln(command.OutOrStdout(), token.Text())
	return nil
}

// oneToken is the Args of a command that takes the id of a token.
func oneToken(command *cobra.Command, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("%s takes the id of one token, and got %d arguments", command.CommandPath(), len(args))
	}
	if access.LooksLikeToken(args[0]) {
		return errors.New("write the id of the token, and not the token itself: `portbook token list` shows the ids")
	}
	return nil
}

func tokenRotateCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "rotate ID", Short: "Make a token like another one, which becomes void after a time",
		Example: "  portbook token rotate --overlap 1d 7f3a12bc",
		Args:    oneToken,
	}
	overlap := command.Flags().String("overlap", "1h", "`time` for which the old token stays valid")
	command.RunE = withDatabase(func(command *cobra.Command, p *parts) error {
		stays, err := durationOf("overlap", *overlap)
		if err != nil {
			return err
		}
		old, err := p.store.Token(command.Context(), command.Flags().Arg(0))
		if err != nil {
			return err
		}
		next := old
		if !old.ExpiresAt.IsZero() {
			next.ExpiresAt = time.Now().Add(old.ExpiresAt.Sub(old.CreatedAt))
		}
		if err := makeToken(command, p, next); err != nil {
			return err
		}
		return p.store.ExpireToken(command.Context(), old.ID, time.Now().Add(stays))
	})
	return command
}

func tokenRevokeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "revoke ID", Short: "Make a token void",
		Example: "  portbook token revoke 7f3a12bc",
		Args:    oneToken,
		RunE: withDatabase(func(command *cobra.Command, p *parts) error {
			return p.store.DeleteToken(command.Context(), command.Flags().Arg(0))
		}),
	}
}

func tokenListCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "list", Short: "List tokens",
		Long: `Lists tokens. One was used at least at the time shown: a use within the next hour is not
shown, nor one that only a reader has seen.`,
		Example: "  portbook token list --account ci-images",
		Args:    noArguments,
	}
	account := command.Flags().String("account", "", "only those of this `account`")
	command.RunE = withDatabase(func(command *cobra.Command, p *parts) error {
		all, err := p.store.Tokens(command.Context(), *account)
		if err != nil {
			return err
		}
		var rows [][]string
		for _, t := range all {
			rows = append(rows, []string{
				t.ID, t.Account, limits(t), expiry(t, time.Now()), lastUse(t), day(t.CreatedAt), t.Note,
			})
		}
		head := []string{"ID", "ACCOUNT", "LIMITED TO", "EXPIRES", "LAST USED", "CREATED", "NOTE"}
		return table(command.OutOrStdout(), head, rows)
	})
	return command
}

// lastUse returns when a token was last used, "" if no writer has seen that.
func lastUse(t access.PersonalToken) string {
	if t.LastUsed.IsZero() {
		return ""
	}
	return t.LastUsed.UTC().Format("2006-01-02 15:04")
}

func limits(t access.PersonalToken) string {
	if t.Narrowed && len(t.Rules) == 0 {
		return "nothing"
	}
	var texts []string
	for _, r := range t.Rules {
		texts = append(texts, r.String())
	}
	return strings.Join(texts, " ")
}

func expiry(t access.PersonalToken, now time.Time) string {
	switch {
	case t.ExpiresAt.IsZero():
		return "never"
	case now.After(t.ExpiresAt):
		return "has expired"
	}
	return t.ExpiresAt.UTC().Format("2006-01-02 15:04")
}
