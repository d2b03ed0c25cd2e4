package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/portbook/portbook/indexer"
)

func deleteCommand() *cobra.Command {
	return group(&cobra.Command{
		Use: "delete", Short: "Delete a tag, a manifest or a repository from the registry",
		Long: `Deletes from the registry, and waits until the book has followed. What was deleted can
be restored for the time of manage.trash, while the registry has its blobs. With --dry-run
it only says what would happen.`,
		Example: `  portbook delete tag team/app:v1
  portbook delete manifest --dry-run team/app@sha256:4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945
  portbook delete repository team/app`,
	}, deleteTagCommand(), deleteManifestCommand(), deleteRepositoryCommand())
}

// oneReference is the Args of a command that takes one reference, with a tag, a digest, or
// neither.
func oneReference(what string, fits func(indexer.Reference) bool) cobra.PositionalArgs {
	return func(command *cobra.Command, args []string) error {
		if len(args) != 1 {
			return fmt.Errorf("%s takes %s, and got %d arguments", command.CommandPath(), what, len(args))
		}
		ref, err := indexer.ParseReference(args[0])
		if err == nil && !fits(ref) {
			err = indexer.Invalid("%q is not %s", args[0], what)
		}
		return err
	}
}

func anyReference(indexer.Reference) bool { return true }
func isTagged(r indexer.Reference) bool   { return r.Tag != "" }
func isDigested(r indexer.Reference) bool { return r.Digest != "" && r.Tag == "" }
func isBare(r indexer.Reference) bool     { return r.Digest == "" && r.Tag == "" }

// referenceOf returns the argument of oneReference.
func referenceOf(command *cobra.Command) indexer.Reference {
	ref, _ := indexer.ParseReference(command.Flags().Arg(0)) // oneReference has checked it
	return ref
}

// dryRunFlag adds the flag --dry-run.
func dryRunFlag(command *cobra.Command) *bool {
	return command.Flags().Bool("dry-run", false, "only say what would happen")
}

func deleteTagCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "tag NAME:TAG[@DIGEST]", Short: "Delete a tag; the manifest stays",
		Long:    "Deletes a tag. The manifest stays. With a digest, only if the tag still shows it.",
		Example: "  portbook delete tag team/app:v1",
		Args:    oneReference("a reference with a tag, such as team/app:v1", isTagged),
	}
	dry := dryRunFlag(command)
	command.RunE = withRegistry(func(command *cobra.Command, p *parts) error {
		ref := referenceOf(command)
		o := indexer.Operation{Kind: indexer.Untag, Repository: ref.Repository, Tag: ref.Tag, Digest: ref.Digest}
		return operate(command, p, o, *dry)
	})
	return command
}

func deleteManifestCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "manifest NAME@DIGEST", Short: "Delete a manifest with the tags that show it",
		Long: `Deletes a manifest with the tags that show it. It is refused while an index names the
manifest, or a tag is protected.`,
		Example: `  portbook delete manifest team/app@sha256:4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945
  portbook delete manifest --children --referrers team/app@sha256:4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945`,
		Args: oneReference("a reference with a digest, such as team/app@sha256:…", isDigested),
	}
	dry := dryRunFlag(command)
	var options indexer.OperationOptions
	command.Flags().BoolVar(&options.Referrers, "referrers", false, "delete what refers to it too, such as signatures")
	command.Flags().BoolVar(&options.Children, "children", false,
		"delete the manifests of an index too, unless something else needs them")
	command.RunE = withRegistry(func(command *cobra.Command, p *parts) error {
		ref := referenceOf(command)
		o := indexer.Operation{
			Kind: indexer.DeleteManifest, Repository: ref.Repository, Digest: ref.Digest, Options: options,
		}
		return operate(command, p, o, *dry)
	})
	return command
}

func deleteRepositoryCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "repository NAME", Short: "Delete all tags and manifests of a repository",
		Long: `Deletes all tags and manifests of one repository; those below it, such as team/app/deep
of team/app, stay. What is pushed meanwhile stays too.`,
		Example: "  portbook delete repository --dry-run team/app",
		Args:    oneReference("the name of a repository, such as team/app", isBare),
	}
	dry := dryRunFlag(command)
	command.RunE = withRegistry(func(command *cobra.Command, p *parts) error {
		o := indexer.Operation{Kind: indexer.DeleteRepository, Repository: referenceOf(command).Repository}
		return operate(command, p, o, *dry)
	})
	return command
}

func rollbackCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "rollback NAME:TAG", Short: "Make a tag show what it showed before",
		Long: `Makes a tag show a manifest that it showed before: that of an entry of its history, or
any of the repository by its digest. It is refused if the registry no longer has a blob of it.`,
		Example: `  portbook rollback team/app:stable --to sha256:4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945
  portbook rollback team/app:stable --move 4711`,
		Args: oneReference("a reference with a tag, such as team/app:stable", isTagged),
	}
	dry := dryRunFlag(command)
	to := command.Flags().String("to", "", "the `digest` that the tag is to show")
	move := command.Flags().Int64("move", 0, "the `id` of the entry of its history whose digest it is to show")
	command.MarkFlagsOneRequired("to", "move")
	command.MarkFlagsMutuallyExclusive("to", "move")
	command.RunE = withRegistry(func(command *cobra.Command, p *parts) error {
		ref := referenceOf(command)
		o := indexer.Operation{
			Kind: indexer.Rollback, Repository: ref.Repository, Tag: ref.Tag, Digest: digest.Digest(*to),
			Options: indexer.OperationOptions{Move: *move, Shows: ref.Digest},
		}
		return operate(command, p, o, *dry)
	})
	return command
}

// trashNumbers is the Args of a command that takes numbers of the trash.
func trashNumbers(_ *cobra.Command, args []string) error {
	for _, arg := range args {
		if id, err := strconv.ParseInt(arg, 10, 64); err != nil || id < 1 {
			return indexer.Invalid("%.32q is no number of the trash: portbook trash list shows them", arg)
		}
	}
	return nil
}

func restoreCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "restore [ID...]", Short: "Put deleted manifests back, with their tags",
		Long: `Puts manifests of the trash back, by their numbers in portbook trash list, or all that an
operation has deleted. A tag that shows something else now stays as it is.`,
		Example: `  portbook restore 17 18
  portbook restore --operation 12`,
		Args: trashNumbers,
	}
	dry := dryRunFlag(command)
	undo := command.Flags().Int64("operation", 0, "all that the operation with this `number` has deleted")
	command.RunE = withRegistry(func(command *cobra.Command, p *parts) error {
		o := indexer.Operation{Kind: indexer.Restore, Options: indexer.OperationOptions{Undo: *undo}}
		for _, arg := range command.Flags().Args() {
			id, _ := strconv.ParseInt(arg, 10, 64) // trashNumbers has checked it
			o.Options.Trash = append(o.Options.Trash, id)
		}
		if (len(o.Options.Trash) == 0) == (*undo == 0) {
			return indexer.Invalid("write numbers of the trash, or --operation with the number of an operation")
		}
		return operate(command, p, o, *dry)
	})
	return command
}

// operate performs an operation, or says what it would do. It helps to read what has changed,
// in case no writer runs.
func operate(command *cobra.Command, p *parts, o indexer.Operation, dry bool) error {
	ctx, stop := context.WithCancel(command.Context())
	defer stop()
	workers := p.workers()
	m := p.newManager(workers, 0)
	if dry {
		e, err := m.Preview(ctx, o)
		if err == nil {
			writeEffect(command.OutOrStdout(), e)
		}
		if err == nil && len(e.Refused) > 0 {
			err = exitStatus(1)
		}
		return err
	}
	var group errgroup.Group
	group.Go(func() error { return workers.Run(ctx) })
	group.Go(func() error { return m.Run(ctx) })
	done, err := m.Do(ctx, o)
	interrupted := ctx.Err() != nil
	stop()
	if stopped := group.Wait(); err == nil && !errors.Is(stopped, context.Canceled) {
		err = stopped
	}
	if done.ID != 0 {
		writeOperation(command.OutOrStdout(), done)
	}
	if err == nil && interrupted {
		err = fmt.Errorf("interrupted: a writer goes on with operation %d", done.ID)
	}
	return err
}

// writeEffect says what an operation would do.
func writeEffect(out io.Writer, e indexer.Effect) {
	line := func(format string, a ...any) { fmt.Fprintln(out, oneLine(fmt.Sprintf(format, a...))) }
	for _, x := range e.Deletes {
		line("delete %s %s: %s", x.Digest, strings.Join(x.Tags, ","), x.Why)
	}
	if n := e.Manifests - len(e.Deletes); n > 0 {
		line("delete %d more manifests", n)
	}
	for _, tag := range e.Untags {
		line("delete tag %s", tag)
	}
	for _, x := range e.Puts {
		line("put back %s %s: %s", x.Digest, strings.Join(x.Tags, ","), x.Why)
	}
	for _, m := range e.Tags {
		if m.From == "" {
			line("tag %s shows %s, and does not exist now", m.Tag, m.To)
			continue
		}
		line("tag %s shows %s instead of %s", m.Tag, m.To, m.From)
	}
	for _, x := range e.Stays {
		line("keep %s %s: %s", x.Digest, strings.Join(x.Tags, ","), x.Why)
	}
	for _, m := range e.Missing {
		line("missing: the %s %s of %s", m.What, m.Digest, m.Of)
	}
	if e.Own >= 0 {
		line("%d bytes are used by nothing else, %d bytes by others too", e.Own, e.Shared)
	}
	for _, reason := range e.Refused {
		line("refused: %s", reason)
	}
}

// writeOperation says how an operation ended, or how far it is.
func writeOperation(out io.Writer, o indexer.Operation) {
	fmt.Fprintf(out, "operation %d %s: %s\n", o.ID, o.State, changesOf(o.Result))
	for _, note := range o.Result.Notes {
		fmt.Fprintln(out, oneLine(note))
	}
}

// changesOf says what an operation has changed.
func changesOf(r indexer.OperationResult) string {
	var said []string
	for _, n := range []struct {
		n    int
		what string
	}{
		{r.Untagged, "tags deleted"}, {r.Deleted, "manifests deleted"}, {r.Restored, "manifests put back"},
		{r.Tagged, "tags set"}, {r.PutBack, "put back because they were pushed meanwhile"},
	} {
		if n.n > 0 {
			said = append(said, fmt.Sprintf("%d %s", n.n, n.what))
		}
	}
	if said == nil {
		return "nothing was changed"
	}
	return strings.Join(said, ", ")
}

func trashCommand() *cobra.Command {
	return group(&cobra.Command{
		Use: "trash", Short: "Show the deleted manifests that can be restored",
		Example: "  portbook trash list --repository team/app",
	}, trashListCommand())
}

func trashListCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "list", Short: "List the deleted manifests that can be restored, the latest first",
		Example: "  portbook trash list --repository team/app",
		Args:    noArguments,
	}
	var q indexer.TrashQuery
	flags := command.Flags()
	flags.StringVar(&q.Repository, "repository", "", "only of this `repository`")
	flags.Int64Var(&q.Operation, "operation", 0, "only what the operation with this `number` deleted")
	flags.Int64Var(&q.Before, "before", 0, "only before this `number`")
	flags.IntVar(&q.Limit, "limit", 50, "at most this `number` of manifests")
	command.RunE = withDatabase(func(command *cobra.Command, p *parts) error {
		if q.Limit < 1 || q.Limit > maxRecords {
			return indexer.Invalid("--limit %d: write a number from 1 to %d", q.Limit, maxRecords)
		}
		all, err := p.store.Trash(command.Context(), q)
		if err != nil {
			return err
		}
		var rows [][]string
		for _, t := range all {
			tags := strings.Join(t.Tags, ",")
			if t.TagsOnly {
				tags = "only " + tags
			}
			rows = append(rows, []string{
				fmt.Sprint(t.ID), fmt.Sprint(t.Operation), second(t.DeletedAt), t.Repository + "@" + t.Digest.String(), tags,
			})
		}
		return table(command.OutOrStdout(), []string{"ID", "OPERATION", "DELETED", "MANIFEST", "TAGS"}, rows)
	})
	return command
}

func second(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func operationCommand() *cobra.Command {
	return group(&cobra.Command{
		Use: "operation", Short: "Show the changes of the registry that were asked for",
		Example: "  portbook operation list --state failed\n  portbook operation show 12",
	}, operationListCommand(), operationShowCommand())
}

func operationListCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "list", Short: "List operations, the latest first",
		Example: "  portbook operation list --repository team/app",
		Args:    noArguments,
	}
	var q indexer.OperationQuery
	flags := command.Flags()
	flags.StringVar(&q.Repository, "repository", "", "only of this `repository`")
	flags.StringVar(&q.Actor, "actor", "", "only of this `name`, such as alice or cli:root")
	kind := flags.String("kind", "", "only of this `kind`, such as delete-repository")
	state := flags.String("state", "", "only in this `state`: waiting, running, done or failed")
	flags.Int64Var(&q.Before, "before", 0, "only before this `number`")
	flags.IntVar(&q.Limit, "limit", 50, "at most this `number` of operations")
	command.RunE = withDatabase(func(command *cobra.Command, p *parts) error {
		if q.Limit < 1 || q.Limit > maxRecords {
			return indexer.Invalid("--limit %d: write a number from 1 to %d", q.Limit, maxRecords)
		}
		q.Kind, q.State = indexer.OperationKind(*kind), indexer.OperationState(*state)
		all, err := p.store.Operations(command.Context(), q)
		if err != nil {
			return err
		}
		var rows [][]string
		for _, o := range all {
			rows = append(rows, []string{
				fmt.Sprint(o.ID), second(o.CreatedAt), string(o.Kind), o.Target(), o.Actor, string(o.State), progressOf(o), o.Error,
			})
		}
		return table(command.OutOrStdout(), []string{"ID", "ASKED", "KIND", "OF", "BY", "STATE", "DONE", "ERROR"}, rows)
	})
	return command
}

// progressOf says how much of an operation is done; "" if that is not known.
func progressOf(o indexer.Operation) string {
	if o.Total == 0 {
		return ""
	}
	return fmt.Sprintf("%d/%d", o.Done, o.Total)
}

func operationShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show NUMBER", Short: "Show one operation: how far it is, and what it has changed",
		Example: "  portbook operation show 12",
		Args: func(command *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("%s takes the number of one operation, and got %d", command.CommandPath(), len(args))
			}
			if id, err := strconv.ParseInt(args[0], 10, 64); err != nil || id < 1 {
				return indexer.Invalid("%.32q is no number of an operation", args[0])
			}
			return nil
		},
		RunE: withDatabase(func(command *cobra.Command, p *parts) error {
			id, err := strconv.ParseInt(command.Flags().Arg(0), 10, 64)
			if err != nil {
				return err // Args has checked it
			}
			o, err := p.store.Operation(command.Context(), id)
			if err != nil {
				return err
			}
			out := command.OutOrStdout()
			writeOperation(out, o)
			fmt.Fprintf(out, "%s %s, asked by %s at %s\n", o.Kind, o.Target(), oneLine(o.Actor), second(o.CreatedAt))
			if p := progressOf(o); p != "" {
				fmt.Fprintf(out, "%s done\n", p)
			}
			if o.Error != "" {
				fmt.Fprintln(out, oneLine(o.Error))
			}
			return nil
		}),
	}
}
