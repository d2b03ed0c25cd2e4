package main

import (
	"fmt"
	"math"
	"strings"

	"github.com/spf13/cobra"

	"github.com/portbook/portbook/indexer"
)

func yankCommand() *cobra.Command {
	return group(&cobra.Command{
		Use: "yank", Short: "Take a tag, an image or a repository out of searches",
		Long: `Takes a tag (team/app:v1), an image (team/app@sha256:...) or a repository (team/app) back
without deleting it: searches and flatpak's index leave it out, and it can still be pulled.
Searches with is:yanked find it.`,
		Example: `  portbook yank add --reason 'loses data, use v1.1' team/app:v1
  portbook yank remove team/app:v1
  portbook yank list`,
	}, addYank("Yank a tag, an image or a repository", "  portbook yank add team/app:v1", "REFERENCE", false),
		removeYank("Give back what was yanked", "  portbook yank remove team/app:v1", "REFERENCE", false),
		listYanks("List what is yanked", "  portbook yank list", false))
}

func deprecateCommand() *cobra.Command {
	return group(&cobra.Command{
		Use: "deprecate", Short: "Take a repository out of searches, with a message",
		Long: `Says that a repository should not be used any more. Its page shows the message, and searches
leave it out; it can still be pulled. Searches with is:deprecated find it.`,
		Example: `  portbook deprecate add --reason 'use team/app2' team/app
  portbook deprecate remove team/app
  portbook deprecate list`,
	}, addYank("Deprecate a repository", "  portbook deprecate add --reason 'use team/app2' team/app", "REPOSITORY", true),
		removeYank("Take the message back", "  portbook deprecate remove team/app", "REPOSITORY", true),
		listYanks("List deprecated repositories", "  portbook deprecate list", true))
}

// parseYank parses the argument of a command: a repository, a tag or a digest.
func parseYank(command *cobra.Command, args []string, deprecated bool) (y indexer.Yank, err error) {
	if len(args) != 1 {
		return y, fmt.Errorf("%s takes one %s, and got %d arguments", command.CommandPath(),
			strings.Fields(command.Use)[1], len(args))
	}
	y = indexer.Yank{Repository: args[0], Deprecated: deprecated}
	if strings.ContainsAny(args[0], ":@") {
		ref, err := indexer.ParseReference(args[0])
		if err != nil {
			return y, err
		}
		y.Repository, y.Tag, y.Digest = ref.Repository, ref.Tag, ref.Digest
		if y.Digest != "" {
			y.Tag = ""
		}
	}
	check := y
	if deprecated {
		check.Reason = "not known yet"
	}
	return y, check.Check()
}

func addYank(short, example, argument string, deprecated bool) *cobra.Command {
	command := &cobra.Command{
		Use: "add " + argument, Short: short, Example: example,
		Args: func(command *cobra.Command, args []string) error {
			_, err := parseYank(command, args, deprecated)
			return err
		},
	}
	reason := command.Flags().String("reason", "", "`text` for people who look at it")
	command.RunE = withDatabase(func(command *cobra.Command, p *parts) error {
		y, err := parseYank(command, command.Flags().Args(), deprecated)
		if err != nil {
			return err
		}
		y.Reason = *reason
		return p.store.Yank(command.Context(), y)
	})
	return command
}

func removeYank(short, example, argument string, deprecated bool) *cobra.Command {
	return &cobra.Command{
		Use: "remove " + argument, Short: short, Example: example,
		Args: func(command *cobra.Command, args []string) error {
			_, err := parseYank(command, args, deprecated)
			return err
		},
		RunE: withDatabase(func(command *cobra.Command, p *parts) error {
			y, err := parseYank(command, command.Flags().Args(), deprecated)
			if err != nil {
				return err
			}
			return p.store.Unyank(command.Context(), y)
		}),
	}
}

func listYanks(short, example string, deprecated bool) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: short, Example: example, Args: noArguments,
		RunE: withDatabase(func(command *cobra.Command, p *parts) error {
			all, err := p.store.Yanks(command.Context(), math.MaxInt32)
			if err != nil {
				return err
			}
			var rows [][]string
			for _, y := range all {
				if y.Deprecated == deprecated {
					rows = append(rows, []string{y.Target(), y.Actor, day(y.CreatedAt), y.Reason})
				}
			}
			return table(command.OutOrStdout(), []string{"WHAT", "BY", "SINCE", "REASON"}, rows)
		}),
	}
}
