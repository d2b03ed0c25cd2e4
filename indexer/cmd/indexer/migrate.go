package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/spf13/cobra"

	"github.com/portbook/portbook/schema"
)

func migrateCommand() *cobra.Command {
	command := &cobra.Command{Use: "migrate", Short: "Changes the database's schema by hand; serve does it by itself"}
	command.AddCommand(
		migration("up", "Applies every migration that is not applied yet", func(ctx context.Context, p *parts, _ int) ([]schema.Migration, error) {
			return schema.Up(ctx, p.connConfig())
		}),
		migration("status", "Lists the migrations", func(ctx context.Context, p *parts, _ int) ([]schema.Migration, error) {
			return schema.Status(ctx, p.connConfig())
		}),
		downCommand(),
	)
	return command
}

func downCommand() *cobra.Command {
	command := migration("down", "Takes back the latest migrations, and what they hold", func(ctx context.Context, p *parts, steps int) ([]schema.Migration, error) {
		if steps < 1 {
			return nil, fmt.Errorf("--num-steps is required and at least 1: it says how many migrations to take back")
		}
		return schema.Down(ctx, p.connConfig(), steps)
	})
	command.Flags().IntP("num-steps", "n", 0, "how many migrations to take back")
	return command
}

// migration is a command that works on migrations and lists them.
func migration(use, short string, f func(context.Context, *parts, int) ([]schema.Migration, error)) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: cobra.NoArgs,
		RunE: with(func(command *cobra.Command, p *parts) error {
			steps, _ := command.Flags().GetInt("num-steps") // 0 where there is no such flag
			list, err := f(command.Context(), p, steps)
			for _, m := range list {
				state := "not applied"
				if m.Applied {
					state = "applied"
				}
				fmt.Fprintf(command.OutOrStdout(), "%5d  %-12s %s\n", m.Version, state, m.Name)
			}
			return err
		}),
	}
}

// migrateAgain is the pause before a database that is away is tried again.
const migrateAgain = time.Second

// migrate brings the schema up to date, waiting for a database that is away. An
// error of another kind ends it: what Postgres refuses once it refuses again.
func (p *parts) migrate(ctx context.Context) error {
	for {
		done, err := schema.Up(ctx, p.pool.Config().ConnConfig)
		for _, m := range done {
			p.log.InfoContext(ctx, "migrated", "migration", m.Name)
		}
		if err == nil || ctx.Err() != nil {
			return err
		}
		if !away(err) {
			return fmt.Errorf("database: %w", err)
		}
		p.log.WarnContext(ctx, "waiting for the database", "error", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(migrateAgain):
		}
	}
}

// away reports whether the database does not answer, or not yet.
func away(err error) bool {
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		return refused.Code == "57P03" || refused.Code == "53300" // cannot_connect_now, too_many_connections
	}
	var connect *pgconn.ConnectError
	return errors.As(err, &connect)
}
