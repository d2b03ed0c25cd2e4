package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
)

// maxDaysShown is the maximum number of days that usage shows: 1,000, as in the API.
const maxDaysShown = 1000

func usageCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "usage REPOSITORY[:TAG|@DIGEST]", Short: "Show who pulls a repository, a tag or a manifest",
		Long: `Shows how often a repository, a tag or a manifest was pulled and pushed: since counting
began, and on each of the last days, by the kind of client. Of a tag it also shows how
often the manifest that it shows was pulled by any name, since some clients find out
what a tag shows and then pull by digest. Pulls before counting began are unknown. Pulls
of scanners are counted apart.`,
		Example: `  portbook usage team/app
  portbook usage team/app:v1.2 --days 30
  portbook usage team/app --json`,
		Args: oneReference("one argument, such as team/app, team/app:v1 or team/app@sha256:…", anyReference),
	}
	days := command.Flags().Int("days", 14, "at most this `number` of days")
	asJSON := command.Flags().Bool("json", false, "write one line of JSON, as /api/v1/repositories/NAME/-/usage")
	command.RunE = withDatabase(func(command *cobra.Command, p *parts) error {
		ref, err := indexer.ParseReference(command.Flags().Arg(0))
		switch {
		case err != nil:
			return err
		case *days < 1 || *days > maxDaysShown:
			return indexer.Invalid("--days %d: write a number from 1 to %d", *days, maxDaysShown)
		case ref.Digest != "":
			ref.Tag = "" // the digest takes precedence, as in docker
		}
		u, shown, err := readUsage(command, p, ref, *days)
		if err != nil {
			return err
		}
		if *asJSON {
			return writeUsage(command.OutOrStdout(), ref, u)
		}
		return showUsage(command.OutOrStdout(), ref, u, shown)
	})
	return command
}

// readUsage reads the usage of ref and, if it has a tag, of the manifest that this shows.
func readUsage(
	command *cobra.Command, p *parts, ref indexer.Reference, days int,
) (u indexer.Usage, shown *indexer.Usage, err error) {
	ctx := command.Context()
	err = p.store.View(ctx, indexer.Everyone, func(v *postgres.View) (err error) {
		q := indexer.UsageQuery{Repository: ref.Repository, Tag: ref.Tag, Digest: ref.Digest, Days: days}
		if u, err = v.Usage(ctx, q); err != nil || ref.Tag == "" {
			return err
		}
		m, err := v.Manifest(ctx, ref)
		if err != nil {
			return err
		}
		of, err := v.Usage(ctx, indexer.UsageQuery{Repository: ref.Repository, Digest: m.Digest})
		shown = &of
		return err
	})
	return u, shown, err
}

// showUsage writes usage for people.
func showUsage(out io.Writer, ref indexer.Reference, u indexer.Usage, shown *indexer.Usage) error {
	if u.Since.IsZero() {
		_, err := fmt.Fprintln(out, "No pull of anything has been reported yet: see doc/registry.md for how to count them.")
		return err
	}
	fmt.Fprintf(out, "%s: %s\n", ref, pullsOf(u))
	if shown != nil {
		fmt.Fprintf(out, "the manifest that it shows, by any tag or its digest: %s\n", pullsOf(*shown))
	}
	fmt.Fprintf(out, "pushed %d times\ncounted since %s: pulls before are unknown\n", u.Pushes, moment(u.Since))
	if !u.StaleSince.IsZero() {
		fmt.Fprintf(out, "pulls since %s are not yet counted: see the job usage on /status\n", moment(u.StaleSince))
	}
	if len(u.Days) == 0 {
		return nil
	}
	fmt.Fprintln(out)
	head := []string{"DAY (UTC)", "PULLS", "ANONYMOUS", "PERSON", "TOKEN", "WORKLOAD", "SCANNER", "PUSHES"}
	var rows [][]string
	for _, d := range u.Days {
		row := []string{day(d.Day), fmt.Sprint(d.Pulls)}
		for _, kind := range indexer.ClientKinds[:4] {
			row = append(row, fmt.Sprint(d.By[kind]))
		}
		rows = append(rows, append(row, fmt.Sprint(d.ScannerPulls), fmt.Sprint(d.Pushes)))
	}
	return table(out, head, rows)
}

// pullsOf describes the pulls of something.
func pullsOf(u indexer.Usage) string {
	text := fmt.Sprintf("%d pulls", u.Pulls)
	if u.Pulls == 1 {
		text = "1 pull"
	}
	if !u.PulledAt.IsZero() {
		text += ", the last at " + moment(u.PulledAt)
	}
	if u.ScannerPulls > 0 {
		text += fmt.Sprintf("; %d of scanners", u.ScannerPulls)
	}
	return text
}

func moment(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// writeUsage writes usage as the API does.
func writeUsage(out io.Writer, ref indexer.Reference, u indexer.Usage) error {
	days := []map[string]any{}
	for _, d := range u.Days {
		days = append(days, map[string]any{
			"day": day(d.Day), "pulls": d.Pulls, "scanner_pulls": d.ScannerPulls, "pushes": d.Pushes, "by": d.By,
		})
	}
	line := map[string]any{
		"repository": ref.Repository, "pulls": u.Pulls, "scanner_pulls": u.ScannerPulls, "pushes": u.Pushes, "days": days,
	}
	if ref.Tag != "" {
		line["tag"] = ref.Tag
	}
	if ref.Digest != "" {
		line["digest"] = ref.Digest
	}
	for name, at := range map[string]time.Time{
		"pulled_at": u.PulledAt, "counted_since": u.Since, "counted_until": u.Until, "heard_at": u.HeardAt,
		"stale_since": u.StaleSince,
	} {
		if !at.IsZero() {
			line[name] = at.UTC()
		}
	}
	return json.NewEncoder(out).Encode(line)
}
