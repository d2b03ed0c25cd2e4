package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/web/login"
)

// maxRecords is the maximum number of records that audit reads at once: 1,000.
const maxRecords = 1000

// auditFlags are the flags of audit that select records, and what they mean.
var auditFlags = map[string]string{
	"actor":      "only of this `name`, such as alice or cli:root",
	"target":     "only about this `name`: an account, a token's id, group:NAME, everybody, or team/app:v1",
	"repository": "only about this `repository`",
	"event":      "only this `event`, such as grant.add",
	"outcome":    "only those with this `outcome`: done or refused",
	"since":      "only from this `time` on, such as 2026-11-30 or 2026-11-30T14:00:00Z",
	"until":      "only before this `time`",
}

func auditCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "audit", Short: "Show who changed what, who pushed and deleted, and whose login was refused",
		Long: `Shows the records of what was done to accounts, tokens and grants, of pushes and deletions,
of sign-ins in the browser and of refused logins, the latest first. Records are never
changed. A name in quotes is what a client claimed; it was not verified. With --format
json or ocsf each record is one line; ocsf writes all of them, the earliest first, as
CloudEvents with the fields of OCSF.`,
		Example: `  portbook audit --target alice
  portbook audit --repository team/app --event tag.delete
  portbook audit --event grant.add --limit 1000 --format json
  portbook audit --format ocsf --after 4711`,
		Args: noArguments,
	}
	flags := command.Flags()
	for name, usage := range auditFlags {
		flags.String(name, "", usage)
	}
	before := flags.Int64("before", 0, "only before the record with this `id`")
	after := flags.Int64("after", 0, "with --format ocsf: only after the record with this `id`")
	limit := flags.Int("limit", 50, "at most this `number` of records; not with --format ocsf")
	format := flags.String("format", "text", "`form` of the output: text, json or ocsf")
	asJSON := flags.Bool("json", false, "the same as --format json")
	command.MarkFlagsMutuallyExclusive("json", "format")
	command.RunE = withDatabase(func(command *cobra.Command, p *parts) error {
		q, err := auditQuery(command)
		if err != nil {
			return err
		}
		q.Before, q.Limit = *before, *limit
		switch {
		case *limit < 1 || *limit > maxRecords:
			return indexer.Invalid("--limit %d: write a number from 1 to %d", *limit, maxRecords)
		case *format == "ocsf":
			return exportRecords(command, p, *after, q)
		case *after != 0:
			return indexer.Invalid("--after is for --format ocsf: use --before")
		case *format == "json" || *asJSON:
			return showRecords(command, p, q, writeRecords)
		case *format == "text":
			return showRecords(command, p, q, tableOfRecords)
		}
		return indexer.Invalid("--format %.32q: write text, json or ocsf", *format)
	})
	return command
}

// auditQuery reads the flags that select records.
func auditQuery(command *cobra.Command) (access.AuditQuery, error) {
	values := map[string][]string{}
	for name := range auditFlags {
		if text := command.Flag(name).Value.String(); text != "" {
			values[name] = []string{text}
		}
	}
	return login.ReadAuditQuery(values)
}

// showRecords shows the records of a query.
func showRecords(command *cobra.Command, p *parts, q access.AuditQuery,
	show func(*cobra.Command, []access.Record) error) error {
	records, err := p.store.Audit(command.Context(), q)
	if err != nil {
		return err
	}
	return show(command, records)
}

func tableOfRecords(command *cobra.Command, records []access.Record) error {
	var rows [][]string
	for _, r := range records {
		who := r.Actor.Name
		if r.Actor.Claimed != "" {
			who = fmt.Sprintf("%q", r.Actor.Claimed)
		}
		rows = append(rows, []string{
			fmt.Sprint(r.ID), r.At.UTC().Format("2006-01-02 15:04:05"), string(r.Event), r.Outcome(), who, r.Actor.Token,
			r.Actor.Source, r.Target, r.Detail,
		})
	}
	head := []string{"ID", "TIME (UTC)", "EVENT", "OUTCOME", "ACTOR", "TOKEN", "SOURCE", "TARGET", "DETAIL"}
	return table(command.OutOrStdout(), head, rows)
}

// writeRecords writes each record as a line of JSON.
func writeRecords(command *cobra.Command, records []access.Record) error {
	e := json.NewEncoder(command.OutOrStdout())
	for _, r := range records {
		line := map[string]any{
			"id": r.ID, "time": r.At.UTC(), "event": r.Event, "outcome": r.Outcome(),
			"actor": r.Actor.Name, "claimed": r.Actor.Claimed, "token": r.Actor.Token, "source": r.Actor.Source,
			"target": r.Target, "repository": r.Repository, "detail": r.Detail, "request_id": r.Request,
		}
		if !r.Reported.IsZero() {
			line["reported_at"] = r.Reported.UTC()
		}
		if err := e.Encode(line); err != nil {
			return err
		}
	}
	return nil
}

// exportRecords writes all records of a query as CloudEvents.
func exportRecords(command *cobra.Command, p *parts, after int64, q access.AuditQuery) error {
	q.Limit = maxRecords
	source, out := login.AuditAddress(p.config.Registry.PublicURL), json.NewEncoder(command.OutOrStdout())
	for {
		records, err := p.store.AuditAfter(command.Context(), after, q)
		if err != nil {
			return err
		}
		if err := login.WriteCloudEvents(out, records, source, programVersion()); err != nil {
			return err
		}
		if len(records) < q.Limit {
			return nil
		}
		after = records[len(records)-1].ID
	}
}
