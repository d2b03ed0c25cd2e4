package main

import (
	"fmt"
	"io"
	"log/slog"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/portbook/portbook/indexer/config"
)

func configCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "config", Short: "Looks at the configuration",
		Args: cobra.NoArgs, // a command that does not exist is an error, not a question for help
		RunE: func(command *cobra.Command, _ []string) error { return command.Help() },
	}
	command.AddCommand(&cobra.Command{
		Use:   "check",
		Short: "Prints each setting and where it comes from, without secrets; exits 1 with all mistakes if there are any",
		Long: `Prints each setting and where it comes from, without secrets: the keys of the
file first, then the variables of libpq that are set. Exits 1 with all mistakes
if there are any. It connects to nothing.`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			c, lines, err := config.Report(source(command))
			if err != nil {
				return fmt.Errorf("configuration:\n%w", err)
			}
			log := slog.New(slog.NewTextHandler(command.ErrOrStderr(), nil))
			cs, err := connectionsOf(c, log)
			if err != nil {
				return fmt.Errorf("configuration:\n%w", err)
			}
			return printSettings(command.OutOrStdout(), lines, cs)
		},
	})
	return command
}

// printSettings writes a line for each setting, in columns.
func printSettings(out io.Writer, lines []config.Line, cs connections) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, line := range lines {
		switch {
		case line.Name == "database.password" && line.Value == "":
			line.Origin = cs.work.password
		case line.Name == "database.migrationPassword" && line.Value == "":
			line.Origin = cs.migrate.password
		}
		if line.Value == "" {
			line.Value = "-"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", line.Name, line.Value, line.Origin)
	}
	return w.Flush()
}
