package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/config"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/web"
)

// serveJobs sets what a writer needs to change the registry and to run jobs for clients.
func (p *parts) serveJobs(c *web.Config) {
	c.Changes, c.Jobs = p.manager, p.store
	c.InternalSecret = p.config.Internal.Secret
	switch {
	case c.InternalSecret != "":
	case config.IsLoopback(p.config.HTTP.Address):
		c.InternalOpen = true
		p.log.Warn("internal.secret is empty: anybody on this machine can request jobs by /internal/")
	default:
		p.log.Warn("internal.secret is empty, and other machines can reach http.address: requests for jobs by /internal/"+
			" are refused", "remedy", "set INTERNAL_SECRET if a scheduler requests jobs")
	}
}

// receiveBlobs stores events of blobs. If it fails, the registry sends them again.
func (p *parts) receiveBlobs(ctx context.Context, events []indexer.BlobEvent) error {
	if !p.open.Load() {
		return errNotOpen
	}
	return p.store.ReceiveBlobs(ctx, events)
}

func jobCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "job",
		Short: "List the jobs of the leader, and run one now",
		Long:  "Lists the jobs of the leader, and has it run one now. The jobs are described in doc/manage.md.",
		Example: `  portbook job list
  portbook job run runAll`,
	}, jobListCommand(), jobRunCommand())
}

func jobListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the jobs of the leader, as it last reported them",
		Example: "  portbook job list --config portbook.yaml",
		Args:    noArguments,
		RunE: withDatabase(func(command *cobra.Command, p *parts) error {
			var report indexer.JobReport
			err := p.store.View(command.Context(), indexer.Everyone, func(v *postgres.View) (err error) {
				report, err = v.Jobs(command.Context())
				return err
			})
			if err != nil {
				return err
			}
			return printJobs(command.OutOrStdout(), report)
		}),
	}
}

func printJobs(out io.Writer, report indexer.JobReport) error {
	if !report.IsCurrent() {
		fmt.Fprintln(out, "no leader reports: start a writer")
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "JOB\tSTATE\tPROGRESS\tLAST END\tLAST ERROR")
	for _, j := range report.Jobs {
		state, part, ended := "waits", "", ""
		if j.Running {
			state = "runs"
		}
		if j.Total > 0 {
			part = fmt.Sprintf("%d of %d", j.Done, j.Total)
		}
		if !j.LastEnd.IsZero() {
			ended = j.LastEnd.UTC().Format(time.RFC3339)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", j.Name, state, part, ended, j.LastError)
	}
	return w.Flush()
}

func jobRunCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "run NAME",
		Short: "Have the leader run a job now, and wait until it has ended",
		Long: `Has the leader run a job now, and waits until it has ended. A writer must be running.
The jobs are ` + strings.Join(indexer.JobNames, ", ") + `.`,
		Example:   "  portbook job run runAll --config portbook.yaml",
		Args:      cobra.ExactArgs(1),
		ValidArgs: indexer.JobNames,
		RunE: func(command *cobra.Command, args []string) error {
			if !slices.Contains(indexer.JobNames, args[0]) {
				return fmt.Errorf("there is no job %.64q: write one of %s", args[0], strings.Join(indexer.JobNames, ", "))
			}
			return withDatabase(func(command *cobra.Command, p *parts) error {
				return runJob(command.Context(), p, args[0], command.OutOrStdout())
			})(command, args)
		},
	}
}

// noLeader is how long a run waits to begin before `portbook job run` says that no leader does it:
// 10 s. Another leader takes over within seconds.
const noLeader = 10 * time.Second

func runJob(ctx context.Context, p *parts, name string, out io.Writer) error {
	run, err := p.store.RequestJob(ctx, name)
	if err != nil {
		return err
	}
	for warned := false; !run.Ended(); {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(followEvery):
		}
		if run, err = p.store.JobRun(ctx, run.ID); err != nil {
			return err
		}
		if !warned && run.StartedAt.IsZero() && time.Since(run.AskedAt) > noLeader {
			warned = true
			fmt.Fprintln(out, "no leader has begun the run yet: is a writer running?")
		}
	}
	if run.Error != "" {
		return errors.New(run.Error)
	}
	fmt.Fprintf(out, "%s has run in %s\n", name, run.EndedAt.Sub(run.StartedAt).Round(time.Millisecond))
	return nil
}
