package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/plan"
	"github.com/portbook/portbook/indexer/retention"
)

func retentionCommand() *cobra.Command {
	return group(&cobra.Command{
		Use: "retention", Short: "Say which tags and manifests are kept, and delete the others by plans",
		Long: `Rules say which tags and manifests are kept and which may be deleted. All rules that select a
repository apply to it, and keep beats delete. Rules alone delete nothing: a plan lists what
they would delete, and applying it does so, after another look at each tag and manifest.`,
		Example: `  portbook retention add 'team/*' keep --newest 10
  portbook retention add 'team/*' delete --tag 'pr-*' --older-than 30d
  portbook retention plan 'team/*'
  portbook retention apply 1`,
	}, retentionListCommand(), retentionAddCommand(), retentionRemoveCommand(), retentionPlanCommand(), retentionShowCommand(),
		retentionApplyCommand(), retentionUndoCommand(), retentionInUseCommand(), retentionReportCommand())
}

func retentionListCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "list", Short: "List the rules", Example: "  portbook retention list --repository team/app", Args: noArguments,
	}
	repository := command.Flags().String("repository", "", "only rules that select this `repository`")
	command.RunE = withDatabase(func(command *cobra.Command, p *parts) error {
		of := access.Every
		if *repository != "" {
			if !indexer.IsRepository(*repository) {
				return indexer.InvalidRepository(*repository)
			}
			of, _ = access.ParsePattern(*repository)
		}
		rules, err := p.store.RetentionRules(command.Context(), of)
		if err != nil {
			return err
		}
		var rows [][]string
		for _, r := range rules {
			rows = append(rows, []string{strconv.FormatInt(r.ID, 10), r.Pattern.String(), r.Sentence(), r.Note, r.CreatedBy})
		}
		return table(command.OutOrStdout(), []string{"RULE", "PATTERN", "WHAT IT DOES", "NOTE", "BY"}, rows)
	})
	return command
}

func retentionAddCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "add PATTERN ACTION", Short: "Add a rule",
		Long: `Adds a rule for the repositories of a pattern: * for all, team/* for those below team, or one
name. The action is keep or delete. The rule selects that for which all conditions hold.`,
		Example: `  portbook retention add '*' keep --newest 10
  portbook retention add '*' keep --pulled-within 90d
  portbook retention add 'team/*' delete --tag 'pr-*' --older-than 30d
  portbook retention add '*' delete --untagged --older-than 14d`,
		Args: func(command *cobra.Command, args []string) error {
			if len(args) != 2 {
				return fmt.Errorf("%s takes a pattern of repositories and keep or delete, and got %d arguments",
					command.CommandPath(),
					len(args))
			}
			return nil
		},
	}
	var w retention.Words
	flags := command.Flags()
	flags.IntVar(&w.Newest, "newest", 0, "keep: the newest `number` of tags; with --semver, of versions")
	flags.StringVar(&w.By, "by", "", "keep: what --newest counts: `push or pull`")
	flags.StringVar(&w.PushedWithin, "pushed-within", "", "keep: pushed at most this `time` ago, such as 30d")
	flags.StringVar(&w.PulledWithin, "pulled-within", "", "keep: pulled at most this `time` ago")
	flags.StringVar(&w.OlderThan, "older-than", "",
		"pushed longer than this `time` ago; with --untagged: without a tag for longer")
	flags.StringVar(&w.Tag, "tag", "", "tags that match this `glob`, with * and ?")
	flags.StringVar(&w.TagRegexp, "tag-regexp", "", "tags that match this regular `expression` as a whole")
	flags.StringVar(&w.Semver, "semver", "", "keep: the highest version of each `major or minor` version")
	flags.BoolVar(&w.Untagged, "untagged", false, "manifests without a tag, instead of tags")
	flags.StringVar(&w.Label, "label", "", "images with this `key or key=value`")
	note := flags.String("note", "", "what it is for, in a `line`")
	command.RunE = withDatabase(func(command *cobra.Command, p *parts) error {
		args := command.Flags().Args()
		rule, err := w.Rule(args[0], args[1], *note)
		if err != nil {
			return err
		}
		if rule, err = p.store.AddRetentionRule(command.Context(), rule); err != nil {
			return err
		}
		fmt.Fprintf(command.OutOrStdout(), "rule %d (%s): %s\n", rule.ID, rule.Pattern, rule.Sentence())
		return nil
	})
	return command
}

// oneNumber is the Args of a command that takes the number of something.
func oneNumber(what string) cobra.PositionalArgs {
	return func(command *cobra.Command, args []string) error {
		if len(args) != 1 {
			return fmt.Errorf("%s takes the number of a %s, and got %d arguments", command.CommandPath(), what, len(args))
		}
		if n, err := strconv.ParseInt(args[0], 10, 64); err != nil || n < 1 {
			return indexer.Invalid("%.32q is no number of a %s", args[0], what)
		}
		return nil
	}
}

// numberOf returns the argument of oneNumber.
func numberOf(command *cobra.Command) int64 {
	n, _ := strconv.ParseInt(command.Flags().Arg(0), 10, 64) // oneNumber has checked it
	return n
}

func retentionRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use: "remove RULE", Short: "Remove a rule", Example: "  portbook retention remove 3", Args: oneNumber("rule"),
		RunE: withDatabase(func(command *cobra.Command, p *parts) error {
			r, err := p.store.RetentionRule(command.Context(), numberOf(command))
			if err != nil {
				return err
			}
			return p.store.RemoveRetentionRule(command.Context(), r)
		}),
	}
}

func retentionPlanCommand() *cobra.Command {
	return &cobra.Command{
		Use: "plan PATTERN", Short: "Make a plan: what the rules would delete now; it deletes nothing",
		Long: `Makes a plan of the repositories of a pattern (* for all), and shows it. It lists what the
rules would delete, and deletes nothing.`,
		Example: "  portbook retention plan '*'\n  portbook retention plan team/app",
		Args: func(command *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("%s takes one pattern of repositories, and got %d", command.CommandPath(), len(args))
			}
			_, err := access.ParsePattern(args[0])
			return err
		},
		RunE: withDatabase(func(command *cobra.Command, p *parts) error {
			scope, _ := access.ParsePattern(command.Flags().Arg(0)) // Args has checked it
			made, err := makePlan(command.Context(), p, scope)
			if err != nil {
				return err
			}
			return writePlan(command.Context(), command.OutOrStdout(), p, made, showing{limit: 20})
		}),
	}
}

// makePlan makes a plan, in case no writer runs.
func makePlan(ctx context.Context, p *parts, scope access.Pattern) (made retention.Plan, err error) {
	planner := plan.NewPlanner(p.store, p.log)
	if made, err = planner.AskPlan(ctx, scope, retention.ByRequest); err != nil {
		return made, err
	}
	ctx, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- planner.Run(ctx) }()
	made, err = planner.WaitPlan(ctx, made)
	stop()
	<-ended
	if err == nil && made.State == retention.PlanFailed {
		err = fmt.Errorf("plan %d failed: %s", made.ID, made.Error)
	}
	return made, err
}

// showing says what of a plan is written.
type showing struct {
	repository, find string
	stays            bool
	limit            int
}

func retentionShowCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "show [PLAN]", Short: "Show a plan, or list the latest plans",
		Example: `  portbook retention show
  portbook retention show 7 --repository team/app
  portbook retention show 7 --stays --limit 1000`,
		Args: func(command *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return oneNumber("plan")(command, args)
		},
	}
	var what showing
	flags := command.Flags()
	flags.StringVar(&what.repository, "repository", "", "only tags and manifests of this `repository`")
	flags.StringVar(&what.find, "find", "", "only tags and digests with this `text`")
	flags.BoolVar(&what.stays, "stays", false, "what stays, instead of what is deleted")
	flags.IntVar(&what.limit, "limit", 50, "at most this `number` of tags and manifests")
	command.RunE = withDatabase(func(command *cobra.Command, p *parts) error {
		if what.limit < 1 || what.limit > maxRecords {
			return indexer.Invalid("--limit %d: write a number from 1 to %d", what.limit, maxRecords)
		}
		if command.Flags().NArg() == 0 {
			return listPlans(command, p, what.limit)
		}
		found, err := p.store.Plan(command.Context(), numberOf(command))
		if err != nil {
			return err
		}
		return writePlan(command.Context(), command.OutOrStdout(), p, found, what)
	})
	return command
}

func listPlans(command *cobra.Command, p *parts, limit int) error {
	all, err := p.store.Plans(command.Context(), retention.PlanQuery{Within: []access.Pattern{access.Every}, Limit: limit})
	if err != nil {
		return err
	}
	var rows [][]string
	for _, v := range all {
		rows = append(rows, []string{
			strconv.FormatInt(v.ID, 10), v.Scope.String(), stateOf(v), fmt.Sprint(v.TagsDeleted), fmt.Sprint(v.ManifestsDeleted),
			second(v.CreatedAt), v.CreatedBy,
		})
	}
	return table(command.OutOrStdout(), []string{"PLAN", "SCOPE", "STATE", "TAGS", "MANIFESTS", "ASKED FOR", "BY"}, rows)
}

// stateOf returns the state of a plan, in a word.
func stateOf(p retention.Plan) string {
	switch {
	case p.Undo > 0:
		return "undone"
	case p.Operation > 0:
		return "applied"
	case p.Stale != "":
		return "stale"
	}
	return string(p.State)
}

// writePlan writes a plan for people.
func writePlan(ctx context.Context, out io.Writer, p *parts, v retention.Plan, what showing) error {
	line := func(format string, a ...any) { fmt.Fprintln(out, oneLine(fmt.Sprintf(format, a...))) }
	line("plan %d for %s, %s: it deletes %d of %d tags and %d of %d manifests", v.ID, v.Scope, stateOf(v), v.TagsDeleted,
		v.Tags,
		v.ManifestsDeleted, v.Manifests)
	switch f := v.Freed; {
	case f == nil:
		line("the bytes that it frees are not counted")
	case f.Unknown > 0:
		line("it frees at least %d bytes; %d more are used by others too", f.Frees, f.Shared)
	default:
		line("it frees %d bytes; %d more are used by others too", f.Frees, f.Shared)
	}
	line("the largest share is %d %%, of %s; up to %d %% is applied without --accept-percent", v.Percent,
		plan.Whole(v.PercentOf),
		p.config.Plans.Cap)
	for _, rule := range v.Rules {
		line("%s", rule)
	}
	for _, note := range v.Notes {
		line("%s", note)
	}
	if err := writeLeftOut(ctx, out, p, v); err != nil {
		return err
	}
	if v.Stale != "" && v.Operation == 0 {
		line("it cannot be applied any more: %s", v.Stale)
	}
	return writeItems(ctx, out, p, v, what)
}

// writeLeftOut writes which repositories were left out of a plan, and why: the first ten.
func writeLeftOut(ctx context.Context, out io.Writer, p *parts, v retention.Plan) error {
	if v.LeftOut == 0 {
		return nil
	}
	fmt.Fprintf(out, "%d repositories were left out, because something of them is not known\n", v.LeftOut)
	all, err := p.store.PlanRepositories(ctx, retention.RepositoryQuery{Plan: v.ID, LeftOut: true, Limit: 10})
	for _, r := range all {
		fmt.Fprintln(out, oneLine(r.Name+": "+r.LeftOut))
	}
	return err
}

// writeItems writes the tags and manifests of a plan.
func writeItems(ctx context.Context, out io.Writer, p *parts, v retention.Plan, what showing) error {
	deleted := !what.stays
	items, err := p.store.PlanItems(ctx, retention.ItemQuery{
		Plan: v.ID, Repository: what.repository, Contains: what.find, Deleted: &deleted, Limit: what.limit + 1,
	})
	if err != nil || len(items) == 0 {
		return err
	}
	var rows [][]string
	for _, i := range items[:min(len(items), what.limit)] {
		name := i.Repository + "@" + i.Digest.String()
		if i.Tag != "" {
			name = i.Repository + ":" + i.Tag
		}
		rows = append(rows, []string{name, i.Reason.Text, strings.TrimSuffix(i.Outcome+": "+i.Skipped, ": ")})
	}
	err = table(out, []string{"WHAT", "WHY", "DONE"}, rows)
	if err == nil && len(items) > what.limit {
		fmt.Fprintf(out, "and more: portbook retention show %d --limit %d\n", v.ID, maxRecords)
	}
	return err
}

func retentionApplyCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "apply PLAN", Short: "Delete what a plan lists, after another look at each tag and manifest",
		Long: `Deletes what a plan lists. Each tag and manifest is looked at again: what moved, was pulled, was
protected or is reported to run since stays. All of it can be put back: portbook retention undo.`,
		Example: "  portbook retention apply 7\n  portbook retention apply 7 --accept-percent 45",
		Args:    oneNumber("plan"),
	}
	accept := command.Flags().Int("accept-percent", 0,
		"the `share` up to which it deletes, if that is more than plans.cap")
	command.RunE = withRegistry(func(command *cobra.Command, p *parts) error {
		if *accept < 0 || *accept > 100 {
			return indexer.Invalid("--accept-percent %d: write a number from 1 to 100", *accept)
		}
		return operate(command, p, plan.Applying(numberOf(command), *accept), false)
	})
	return command
}

func retentionUndoCommand() *cobra.Command {
	return &cobra.Command{
		Use: "undo PLAN", Short: "Put back all that applying a plan has deleted", Example: "  portbook retention undo 7",
		Args: oneNumber("plan"),
		RunE: withRegistry(func(command *cobra.Command, p *parts) error {
			found, err := p.store.Plan(command.Context(), numberOf(command))
			if err != nil {
				return err
			}
			o, err := plan.Undoing(found)
			if err != nil {
				return err
			}
			err = operate(command, p, o, false)
			return errors.Join(err, noteUndo(context.WithoutCancel(command.Context()), p, found))
		}),
	}
}

// noteUndo stores which operation puts back what a plan has deleted: the latest one.
func noteUndo(ctx context.Context, p *parts, of retention.Plan) error {
	const looked = 50 // others may have restored something meanwhile
	all, err := p.store.Operations(ctx, indexer.OperationQuery{Kind: indexer.Restore, Limit: looked})
	for _, o := range all {
		if o.Options.Plan == of.ID {
			return p.store.SetUndo(ctx, of.ID, o.ID)
		}
	}
	return err
}

func retentionInUseCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "in-use", Short: "List what clusters have reported to run",
		Example: "  portbook retention in-use --repository team/app",
		Args:    noArguments,
	}
	q := retention.UseQuery{Within: []access.Pattern{access.Every}}
	command.Flags().StringVar(&q.Repository, "repository", "", "only of this `repository`")
	command.Flags().IntVar(&q.Limit, "limit", 50, "at most this `number` of reports")
	command.RunE = withDatabase(func(command *cobra.Command, p *parts) error {
		if q.Limit < 1 || q.Limit > maxRecords {
			return indexer.Invalid("--limit %d: write a number from 1 to %d", q.Limit, maxRecords)
		}
		all, err := p.store.Uses(command.Context(), q)
		if err != nil {
			return err
		}
		var rows [][]string
		for _, u := range all {
			rows = append(rows, []string{u.Repository + "@" + u.Digest.String(), u.Cluster, u.Reporter, second(u.ExpiresAt)})
		}
		return table(command.OutOrStdout(), []string{"MANIFEST", "CLUSTER", "REPORTER", "UNTIL"}, rows)
	})
	return command
}

func retentionReportCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "report-in-use CLUSTER", Short: "Report the manifests that run in a cluster: no rule deletes them",
		Long:    "Reads references with digests from standard input, one on a line, and stores that they run.",
		Example: "  portbook retention report-in-use prod <images.txt",
		Args: func(command *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("%s takes the name of one cluster, and got %d", command.CommandPath(), len(args))
			}
			return retention.CheckCluster(args[0])
		},
	}
	within := command.Flags().String("for", "1d", "how `long` it counts, at most 30d")
	command.RunE = withDatabase(func(command *cobra.Command, p *parts) error {
		d, err := retention.ParseDuration(*within)
		if err != nil || d > retention.MaxUse {
			return errors.Join(err, indexer.Invalid("--for %s: write a duration of at most 30d", *within))
		}
		uses, err := readUses(command.InOrStdin(), command.Flags().Arg(0), time.Now().Add(d))
		if err == nil {
			err = p.store.ReportUse(command.Context(), uses)
		}
		if err == nil {
			fmt.Fprintf(command.OutOrStdout(), "%d manifests run in %s\n", len(uses), command.Flags().Arg(0))
		}
		return err
	})
	return command
}

// readUses reads what runs, one reference on a line.
func readUses(in io.Reader, cluster string, until time.Time) (uses []retention.Use, err error) {
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		text := strings.TrimSpace(lines.Text())
		if text == "" {
			continue
		}
		ref, err := indexer.ParseReference(text)
		if err != nil {
			return nil, err
		}
		if ref.Digest == "" {
			return nil, indexer.Invalid("%.64q has no digest: write REPOSITORY@DIGEST", text)
		}
		if uses = append(uses, retention.Use{Repository: ref.Repository, Digest: ref.Digest, Cluster: cluster,
			ExpiresAt: until}); len(uses) > retention.MaxUses {
			return nil, indexer.Invalid("there are more than %d lines", retention.MaxUses)
		}
	}
	return uses, lines.Err()
}
