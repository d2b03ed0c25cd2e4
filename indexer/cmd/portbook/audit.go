package main

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
)

// maxRecords is the maximum number of records that audit reads at once: 1,000.
const maxRecords = 1000

func auditCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "audit", Short: "Show who changed accounts, tokens and grants, and who signed in",
		Long: `Shows the records of what was done to accounts, tokens and grants, and of sign-ins in
the browser, done and refused, the latest first. Records are never changed. With --json
each is one line.`,
		Example: `  portbook audit --target alice
  portbook audit --event grant.add --limit 1000 --json`,
		Args: noArguments,
	}
	var q access.AuditQuery
	flags := command.Flags()
	flags.StringVar(&q.Actor, "actor", "", "only of this `name`, such as alice or cli:root")
	flags.StringVar(&q.Target, "target", "", "only about this `name`: an account, a token's id, group:NAME or everybody")
	flags.StringVar((*string)(&q.Event), "event", "", "only this `event`, such as grant.add")
	flags.Int64Var(&q.Before, "before", 0, "only before the record with this `id`")
	flags.IntVar(&q.Limit, "limit", 50, "at most this `number` of records")
	asJSON := flags.Bool("json", false, "write JSON, one record to a line")
	command.RunE = withDatabase(func(command *cobra.Command, p *parts) error {
		if q.Limit < 1 || q.Limit > maxRecords {
			return indexer.Invalid("--limit %d: write a number from 1 to %d", q.Limit, maxRecords)
		}
		records, err := p.store.Audit(command.Context(), q)
		if err != nil {
			return err
		}
		if *asJSON {
			return writeRecords(command, records)
		}
		var rows [][]string
		for _, r := range records {
			rows = append(rows, []string{
				fmt.Sprint(r.ID), r.At.UTC().Format(time.DateTime), string(r.Event), r.Outcome(),
				r.Actor.Name, r.Actor.Source, r.Target, r.Detail,
			})
		}
		head := []string{"ID", "TIME (UTC)", "EVENT", "OUTCOME", "ACTOR", "SOURCE", "TARGET", "DETAIL"}
		return table(command.OutOrStdout(), head, rows)
	})
	return command
}

// writeRecords writes each record as a line of JSON.
func writeRecords(command *cobra.Command, records []access.Record) error {
	e := json.NewEncoder(command.OutOrStdout())
	for _, r := range records {
		line := map[string]any{
			"id": r.ID, "time": r.At.UTC(), "event": r.Event, "outcome": r.Outcome(),
			"actor": r.Actor.Name, "token": r.Actor.Token, "source": r.Actor.Source,
			"target": r.Target, "detail": r.Detail, "request_id": r.Request,
		}
		if err := e.Encode(line); err != nil {
			return err
		}
	}
	return nil
}
