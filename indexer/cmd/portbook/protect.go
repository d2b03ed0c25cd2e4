package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/portbook/portbook/indexer/access"
)

// aPattern says in help texts how a pattern of repositories is written.
const aPattern = "a pattern of repositories: * for all, team/* for those below team, or one name"

func protectCommand() *cobra.Command {
	return group(&cobra.Command{
		Use: "protect", Short: "Keep tags from being moved and deleted",
		Long: `Keeps tags from being moved and deleted, in the repositories of ` + aPattern + `.
TAGS is a tag, or has * for any characters and ? for one. The first push of a tag is always
allowed, and so is a push of the digest that it shows. /status says at which level that holds.`,
		Example: `  portbook protect add --reason 'releases stay' 'team/*' 'v*'
  portbook protect remove 'team/*' 'v*'
  portbook protect list`,
	}, addProtection("add PATTERN TAGS", "Protect tags", "  portbook protect add 'team/*' 'v*'", access.Protect),
		removeProtection("remove PATTERN TAGS", "Stop protecting tags", "  portbook protect remove 'team/*' 'v*'",
			access.Protect),
		listProtections("List protected tags", "  portbook protect list", access.Protect))
}

func freezeCommand() *cobra.Command {
	return group(&cobra.Command{
		Use: "freeze", Short: "Keep repositories as they are: nothing is pushed or deleted",
		Long: `Keeps the repositories of ` + aPattern + `
as they are. Nobody pushes to them or deletes from them, administrators and retention rules
included. A token of the registry that was given before is valid for up to five minutes.`,
		Example: `  portbook freeze add --reason 'release week' 'team/*'
  portbook freeze remove 'team/*'
  portbook freeze list`,
	}, addProtection("add PATTERN", "Freeze repositories", "  portbook freeze add 'team/*'", access.Freeze),
		removeProtection("remove PATTERN", "Let repositories change again", "  portbook freeze remove 'team/*'", access.Freeze),
		listProtections("List what is frozen", "  portbook freeze list", access.Freeze))
}

func quotaCommand() *cobra.Command {
	return group(&cobra.Command{
		Use: "quota", Short: "Limit the bytes of repositories",
		Long: `Limits the bytes of all repositories (*), of a namespace (team/*) or of one repository. Above
its quota nothing is pushed; deletions stay allowed. The bytes are those of the last count of
storage, in which each blob counts once: so a quota can be exceeded until the next count.`,
		Example: `  portbook quota add 'team/*' 500GB
  portbook quota remove 'team/*'
  portbook quota list`,
	}, addProtection("add PATTERN BYTES", "Set a quota", "  portbook quota add 'team/*' 500GB", access.Quota),
		removeProtection("remove PATTERN", "Remove a quota", "  portbook quota remove 'team/*'", access.Quota),
		listProtections("List quotas with what is used", "  portbook quota list", access.Quota))
}

// parseProtection parses the arguments of a command with a use, such as "add PATTERN TAGS".
func parseProtection(use string, kind access.ProtectionKind, args []string) (p access.Protection, err error) {
	names := strings.Fields(use)[1:]
	if len(args) != len(names) {
		return p, fmt.Errorf("%s takes %s, and got %d arguments", use, strings.Join(names, " and "), len(args))
	}
	p.Kind = kind
	if p.Pattern, err = access.ParsePattern(args[0]); err != nil || len(args) < 2 {
		return p, err
	}
	if kind == access.Quota {
		p.Bytes, err = access.ParseQuota(args[1])
		return p, err
	}
	p.Tags, err = access.ParseTags(args[1])
	return p, err
}

func addProtection(use, short, example string, kind access.ProtectionKind) *cobra.Command {
	command := &cobra.Command{
		Use: use, Short: short, Example: example,
		Args: func(_ *cobra.Command, args []string) error {
			_, err := parseProtection(use, kind, args)
			return err
		},
	}
	reason := command.Flags().String("reason", "", "`text` for people who are refused")
	command.RunE = withDatabase(func(command *cobra.Command, p *parts) error {
		protection, err := parseProtection(use, kind, command.Flags().Args())
		if err != nil {
			return err
		}
		protection.Reason = *reason
		return p.store.AddProtection(command.Context(), protection)
	})
	return command
}

func removeProtection(use, short, example string, kind access.ProtectionKind) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Example: example,
		Args: func(_ *cobra.Command, args []string) error {
			_, err := parseProtection(use, kind, args)
			return err
		},
		RunE: withDatabase(func(command *cobra.Command, p *parts) error {
			protection, err := parseProtection(use, kind, command.Flags().Args())
			if err != nil {
				return err
			}
			return p.store.RemoveProtection(command.Context(), protection)
		}),
	}
}

func listProtections(short, example string, kind access.ProtectionKind) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: short, Example: example, Args: noArguments,
		RunE: withDatabase(func(command *cobra.Command, p *parts) error {
			all, err := p.store.ProtectionPage(command.Context(), access.ProtectionQuery{
				Within: []access.Pattern{access.Every}, Kind: kind, Limit: access.MaxProtections,
			})
			if err != nil {
				return err
			}
			var rows [][]string
			for _, a := range all {
				rows = append(rows, append(append([]string{a.Pattern.String()}, shownLimits(a)...), a.Actor, day(a.CreatedAt),
					a.Reason))
			}
			head := map[access.ProtectionKind][]string{access.Protect: {"TAGS"},
				access.Quota: {"BYTES", "USED", "COUNTED"}}[kind]
			return table(command.OutOrStdout(), append(append([]string{"PATTERN"}, head...), "BY", "SET", "REASON"), rows)
		}),
	}
}

// shownLimits returns the columns of a protection that others do not have.
func shownLimits(p access.Protection) []string {
	switch {
	case p.Kind == access.Protect:
		return []string{p.Tags}
	case p.Kind == access.Freeze:
		return nil
	case p.CountedAt.IsZero():
		return []string{fmt.Sprint(p.Bytes), "", ""}
	}
	return []string{fmt.Sprint(p.Bytes), fmt.Sprint(p.Used), p.CountedAt.UTC().Format("2006-01-02 15:04")}
}
