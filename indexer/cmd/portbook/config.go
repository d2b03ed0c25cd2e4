package main

import (
	"fmt"
	"io"
	"log/slog"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/portbook/portbook/indexer/config"
	"github.com/portbook/portbook/indexer/database"
)

func configCommand() *cobra.Command {
	return group(&cobra.Command{
		Use: "config", Short: "Check the configuration",
		Example: "  portbook config check --config portbook.yaml",
	}, &cobra.Command{
		Use:   "check",
		Short: "Print each setting and its source, or all mistakes",
		Long: `Prints each setting and its source, without secrets: first the keys of the
configuration file, then the PG... variables that are set. If there are mistakes,
it prints all of them, and the exit status is 1. It does not connect to anything.`,
		Example: `  portbook config check --config portbook.yaml
  PGHOST=db1 portbook config check --config portbook.yaml --role reader`,
		Args: noArguments,
		RunE: func(command *cobra.Command, _ []string) error {
			c, lines, err := config.Report(source(command))
			if err != nil {
				return fmt.Errorf("configuration:\n%w", err)
			}
			log := slog.New(slog.NewTextHandler(command.ErrOrStderr(), nil))
			cs, err := database.Parse(c, log)
			if err != nil {
				return fmt.Errorf("configuration:\n%w", err)
			}
			return printSettings(command.OutOrStdout(), lines, cs)
		},
	})
}

// printSettings prints one line for each setting, in columns.
func printSettings(out io.Writer, lines []config.Line, cs *database.Connections) error {
	work, migrate := cs.PasswordSources()
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, line := range lines {
		switch {
		case line.Name == "database.password" && line.Value == "":
			line.Origin = work
		case line.Name == "database.migrationPassword" && line.Value == "":
			line.Origin = migrate
		}
		if line.Value == "" {
			line.Value = "-"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", line.Name, line.Value, line.Origin)
	}
	return w.Flush()
}
