package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/portbook/portbook/indexer/database"
	"github.com/portbook/portbook/schema"
)

// mostSteps is the maximum number of migrations that one `migrate down` undoes.
const mostSteps = 1000

func migrateCommand() *cobra.Command {
	command := group(&cobra.Command{
		Use: "migrate", Short: "Change the database schema; serve does this at its start",
		Example: `  portbook migrate status --config portbook.yaml
  portbook migrate up --yes --config portbook.yaml`,
	}, &cobra.Command{
		Use: "up", Short: "Apply all pending migrations",
		Example: "  portbook migrate up --yes --config portbook.yaml",
		Args:    noArguments,
		RunE:    withDatabase(migrateUp),
	}, &cobra.Command{
		Use: "down", Short: "Undo the latest migrations, and delete the data of their tables",
		Example: "  portbook migrate down --num-steps 1 --config portbook.yaml",
		Args:    withSteps,
		RunE:    withDatabase(migrateDown),
	}, &cobra.Command{
		Use: "status", Short: "List the migrations",
		Example: "  portbook migrate status --config portbook.yaml",
		Args:    noArguments,
		RunE:    withDatabase(migrateStatus),
	})
	flags := command.PersistentFlags()
	flags.BoolP("yes", "y", false, "do not ask for confirmation")
	flags.IntP("num-steps", "n", 0, "`number` of migrations that down undoes; up ignores it")
	return command
}

// withSteps checks the command line of `migrate down`.
func withSteps(command *cobra.Command, args []string) error {
	if err := noArguments(command, args); err != nil {
		return err
	}
	_, err := steps(command)
	return err
}

func migrateUp(command *cobra.Command, p *parts) error {
	out := command.OutOrStdout()
	if !yes(command) {
		fmt.Fprint(out, "This applies all pending migrations.\nContinue? (yes/no): ")
		answer, err := readAnswer(command.InOrStdin())
		if err != nil {
			return fmt.Errorf("failed to read user input: %w", err)
		}
		if answer != "yes" && answer != "y" {
			fmt.Fprintln(out, "Migration cancelled by user")
			return nil
		}
	}
	done, err := schema.Up(command.Context(), p.database.SchemaConfig())
	list(out, done)
	if err == nil && len(done) == 0 {
		fmt.Fprintln(out, "all migrations are already applied")
	}
	return err
}

func migrateDown(command *cobra.Command, p *parts) error {
	n, err := steps(command)
	if err != nil {
		return err
	}
	all, err := schema.Status(command.Context(), p.database.SchemaConfig())
	if err != nil {
		return err
	}
	if applied := countApplied(all); n > applied {
		return fmt.Errorf("cannot undo %d migrations: only %d are applied; use a smaller --num-steps", n, applied)
	}
	out := command.OutOrStdout()
	if !yes(command) {
		fmt.Fprintf(command.ErrOrStderr(), "WARN: this undoes the latest %d migrations\n", n)
		fmt.Fprintln(command.ErrOrStderr(), "WARN: the data of their tables is deleted, and a scan cannot restore all of it")
		fmt.Fprint(out, "Type 'yes' to proceed: ")
		if answer, err := readAnswer(command.InOrStdin()); err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("failed to read user input: %w", err)
		} else if answer != "yes" {
			fmt.Fprintln(out, "Migration cancelled by user")
			return nil
		}
	}
	done, err := schema.Down(command.Context(), p.database.SchemaConfig(), n)
	list(out, done)
	return err
}

func migrateStatus(command *cobra.Command, p *parts) error {
	all, err := schema.Status(command.Context(), p.database.SchemaConfig())
	list(command.OutOrStdout(), all)
	return err
}

// steps returns --num-steps. It has no default, since each step deletes data.
func steps(command *cobra.Command) (int, error) {
	n, err := command.Flags().GetInt("num-steps")
	switch {
	case err != nil:
		return 0, err
	case n < 1:
		return 0, errors.New("--num-steps flag is required for down migrations (safety measure): the number of" +
			" migrations to undo, at least 1")
	case n > mostSteps:
		return 0, fmt.Errorf("num-steps must be less than %d: got %d", mostSteps, n)
	}
	return n, nil
}

func yes(command *cobra.Command) bool {
	yes, _ := command.Flags().GetBool("yes") // the flag is defined above
	return yes
}

// answerLimit is the maximum number of bytes of an answer that are read.
const answerLimit = 1 << 10

// readAnswer reads one line. It returns io.EOF if there is none.
func readAnswer(from io.Reader) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(from, answerLimit)).ReadString('\n')
	if line != "" && errors.Is(err, io.EOF) {
		err = nil // the last line may lack a newline
	}
	return strings.TrimSpace(line), err
}

func countApplied(all []schema.Migration) (n int) {
	for _, m := range all {
		if m.Applied {
			n++
		}
	}
	return n
}

// list prints one line for each migration.
func list(out io.Writer, all []schema.Migration) {
	newer := false
	for _, m := range all {
		state, name := "not applied", m.Name
		if m.Applied {
			state = "applied"
		}
		if name == "" {
			name, newer = "(unknown to this program)", true
		}
		fmt.Fprintf(out, "%5d  %-12s %s\n", m.Version, state, name)
	}
	if newer {
		fmt.Fprintln(out, "the database is newer than this program and does not work with it: run a newer program")
	}
}

// migrateAgain is the pause between attempts to reach an unavailable database.
const migrateAgain = time.Second

// migrate applies all pending migrations. It waits while the database is unavailable,
// and returns every other error.
func (p *parts) migrate(ctx context.Context) error {
	for {
		done, err := schema.Up(ctx, p.database.SchemaConfig())
		for _, m := range done {
			p.log.InfoContext(ctx, "migrated", "migration", m.Name)
		}
		if err == nil || ctx.Err() != nil {
			return err
		}
		if !database.Away(err) {
			return fmt.Errorf("database: %w", err)
		}
		p.log.WarnContext(ctx, "waiting for the database", "error", database.Explain(err))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(migrateAgain):
		}
	}
}
