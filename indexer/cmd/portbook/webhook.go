package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/config"
	"github.com/portbook/portbook/indexer/deliver"
)

// assembleWebhooks creates what manages webhooks, and the settings of what sends.
func (p *parts) assembleWebhooks() error {
	var box *deliver.Box
	if key := p.config.Webhooks.Key; key != "" {
		var err error
		if box, err = deliver.NewBox(key); err != nil {
			return fmt.Errorf("webhooks.key: %w", err)
		}
	}
	networks, err := p.config.Webhooks.Networks()
	if err != nil {
		return err // config has checked it
	}
	p.webhooks = deliver.NewWebhooks(p.store, box)
	p.sending = deliver.Config{
		Store: p.store, Box: box, Source: p.config.Registry.PublicURL, UserAgent: "Portbook/" + programVersion(),
		Allow: networks, Log: p.log, Metrics: deliver.NewMetrics(p.registry),
	}
	return nil
}

// sender returns what sends to webhooks.
func (p *parts) sender() *deliver.Sender { return deliver.NewSender(p.sending) }

func webhookCommand() *cobra.Command {
	return group(&cobra.Command{
		Use: "webhook", Short: "Send events of repositories to other programs",
		Long: `Changes webhooks: receivers of events, such as a push, as signed CloudEvents by HTTP.
The writers of the indexer send them. A webhook is known by its number.`,
		Example: `  portbook webhook add deploys --url https://deploys.example.org/hooks --pattern 'team/*' --events pushed,moved
  portbook webhook list`,
	}, webhookAddCommand(), webhookListCommand(), webhookShowCommand(), webhookChangeCommand(), webhookRemoveCommand(),
		webhookRotateCommand(), webhookTestCommand(), webhookDeliveriesCommand(), webhookRedeliverCommand())
}

// withWebhook returns the RunE of a command whose first argument is the number of a webhook.
func withWebhook(f func(*cobra.Command, *parts, deliver.Webhook) error) func(*cobra.Command, []string) error {
	return withDatabase(func(command *cobra.Command, p *parts) error {
		id, err := strconv.ParseInt(command.Flags().Arg(0), 10, 64)
		if err != nil {
			return err // Args has checked it
		}
		w, err := p.webhooks.Webhook(command.Context(), id)
		if errors.Is(err, indexer.ErrNotFound) {
			return fmt.Errorf("there is no webhook %d: `portbook webhook list` shows the numbers", id)
		}
		if err != nil {
			return err
		}
		return f(command, p, w)
	})
}

// numbers returns Args that takes numbers, with names.
func numbers(names ...string) cobra.PositionalArgs {
	return func(command *cobra.Command, args []string) error {
		if len(args) != len(names) {
			return fmt.Errorf("%s takes %s: `portbook webhook list` shows the numbers of webhooks",
				command.CommandPath(), strings.Join(names, " and "))
		}
		for i, a := range args {
			if n, err := strconv.ParseInt(a, 10, 64); err != nil || n < 1 {
				return fmt.Errorf("%q is not %s", a, names[i])
			}
		}
		return nil
	}
}

const webhookNumber = "the number of a webhook"

func parseTypes(texts []string) (types []deliver.Type, err error) {
	for _, text := range texts {
		t, err := deliver.ParseType(text)
		if err != nil {
			return nil, err
		}
		types = append(types, t)
	}
	return types, nil
}

func webhookAddCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "add NAME", Short: "Add a webhook, and print its secret",
		Long: `Adds a webhook and prints its number and its secret, which is shown only now: the
receiver checks signatures with it, by a library of the Standard Webhooks specification.

The URL has to be https, and its address public, unless webhooks.allow_networks allows it.
It may be known to whoever reads the database: a secret does not belong into it.`,
		Example: `  portbook webhook add deploys --url https://deploys.example.org/hooks --pattern 'team/*'
  portbook webhook add all --url http://10.0.0.7:8080/events --pattern '*' --events pushed,moved,deleted,restored,plan.applied`,
		Args: oneName,
	}
	flags := command.Flags()
	to := flags.String("url", "", "`URL` of the receiver")
	pattern := flags.String("pattern", "", "`repositories` that it hears of: *, team/* or team/app")
	events := flags.StringSlice("events", []string{"pushed", "moved", "deleted"},
		"`events` that are sent, with commas between them")
	for _, name := range []string{"url", "pattern"} {
		_ = command.MarkFlagRequired(name) // returns an error only if the flag does not exist
	}
	command.RunE = withDatabase(func(command *cobra.Command, p *parts) (err error) {
		w := deliver.Webhook{Name: command.Flags().Arg(0), URL: *to, Enabled: true}
		if w.Pattern, err = access.ParsePattern(*pattern); err != nil {
			return err
		}
		if w.Events, err = parseTypes(*events); err != nil {
			return err
		}
		w, secret, err := p.webhooks.Add(command.Context(), w)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(command.OutOrStdout(), "webhook %d\nsecret %s\n", w.ID, secret.Text())
		return err
	})
	return command
}

func webhookListCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "list", Short: "List webhooks",
		Long: `Lists all webhooks. With --json each is one line.`,
		Example: `  portbook webhook list
  portbook webhook list --json`,
		Args: noArguments,
	}
	asJSON := command.Flags().Bool("json", false, "write JSON, one webhook to a line")
	command.RunE = withDatabase(func(command *cobra.Command, p *parts) error {
		all, err := p.webhooks.WebhookPage(command.Context(), deliver.Query{
			Within: []access.Pattern{access.Every}, Limit: deliver.MaxWebhooks + 1,
		})
		if err != nil {
			return err
		}
		if *asJSON {
			return writeLines(command, all, webhookLine)
		}
		var rows [][]string
		for _, w := range all {
			rows = append(rows, []string{strconv.FormatInt(w.ID, 10), w.Name, w.Host(), w.Pattern.String(),
				strings.Join(typeTexts(w.Events), ","), w.State(), strconv.Itoa(w.Waiting), w.CreatedBy})
		}
		return table(command.OutOrStdout(),
			[]string{"ID", "NAME", "HOST", "PATTERN", "EVENTS", "STATE", "WAITING", "CREATED BY"}, rows)
	})
	return command
}

func typeTexts(types []deliver.Type) (texts []string) {
	for _, t := range types {
		texts = append(texts, string(t))
	}
	return texts
}

// writeLines writes each element as a line of JSON.
func writeLines[T any](command *cobra.Command, all []T, line func(T) map[string]any) error {
	e := json.NewEncoder(command.OutOrStdout())
	for _, x := range all {
		if err := e.Encode(line(x)); err != nil {
			return err
		}
	}
	return nil
}

// webhookLine returns a webhook as JSON. It has the fields of the API.
func webhookLine(w deliver.Webhook) map[string]any {
	line := map[string]any{
		"id": w.ID, "name": w.Name, "url": w.URL, "pattern": w.Pattern.String(), "events": typeTexts(w.Events),
		"state": w.State(), "waiting": w.Waiting, "failures": w.Failures, "created_by": w.CreatedBy,
		"created_at": w.CreatedAt.UTC(),
	}
	if w.Problem != "" {
		line["problem"] = w.Problem
	}
	for name, at := range map[string]time.Time{
		"failing_since": w.FailingSince, "missing_since": w.MissingSince, "old_secret_until": w.OldUntil,
	} {
		if !at.IsZero() {
			line[name] = at.UTC()
		}
	}
	return line
}

func webhookShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Short: "Show a webhook", Long: "Shows what is known of a webhook, as JSON. Its secret is not.",
		Example: "  portbook webhook show 3",
		Args:    numbers(webhookNumber),
		RunE: withWebhook(func(command *cobra.Command, _ *parts, w deliver.Webhook) error {
			return writeLines(command, []deliver.Webhook{w}, webhookLine)
		}),
	}
}

func webhookChangeCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "change ID", Short: "Change, enable or disable a webhook",
		Long: `Changes a webhook. What is not given stays. While a webhook is not enabled, no events are
queued for it; when it is enabled again, its receiver is told since when it has missed some.`,
		Example: `  portbook webhook change 3 --enabled=false
  portbook webhook change 3 --url https://new.example.org/hooks --events pushed`,
		Args: numbers(webhookNumber),
	}
	flags := command.Flags()
	name, to := flags.String("name", "", "`name`, for people"), flags.String("url", "", "`URL` of the receiver")
	pattern := flags.String("pattern", "", "`repositories` that it hears of")
	events := flags.StringSlice("events", nil, "`events` that are sent")
	enabled := flags.Bool("enabled", true, "whether events are sent")
	command.RunE = withWebhook(func(command *cobra.Command, p *parts, w deliver.Webhook) error {
		var e deliver.Edit
		given := command.Flags().Changed
		if given("name") {
			e.Name = name
		}
		if given("url") {
			e.URL = to
		}
		if given("enabled") {
			e.Enabled = enabled
		}
		if given("pattern") {
			parsed, err := access.ParsePattern(*pattern)
			if err != nil {
				return err
			}
			e.Pattern = &parsed
		}
		if given("events") {
			types, err := parseTypes(*events)
			if err != nil {
				return err
			}
			e.Events = &types
		}
		return p.webhooks.ChangeWebhook(command.Context(), w, e)
	})
	return command
}

func webhookRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use: "remove ID", Short: "Remove a webhook",
		Long:    "Removes a webhook with what waits for it and its log.",
		Example: "  portbook webhook remove 3",
		Args:    numbers(webhookNumber),
		RunE: withWebhook(func(command *cobra.Command, p *parts, w deliver.Webhook) error {
			return p.webhooks.RemoveWebhook(command.Context(), w)
		}),
	}
}

func webhookRotateCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "rotate ID", Short: "Give a webhook another secret, and print it",
		Long: `Gives a webhook another secret and prints it. Until the overlap is over, deliveries have
two signatures, by the old secret too, so that there is time to change the receiver.`,
		Example: `  portbook webhook rotate 3
  portbook webhook rotate 3 --overlap 0s`,
		Args: numbers(webhookNumber),
	}
	overlap := command.Flags().String("overlap", "1d", "`time` for which the old secret signs too, at most 30d")
	command.RunE = withWebhook(func(command *cobra.Command, p *parts, w deliver.Webhook) error {
		d, err := config.ParseDuration(*overlap)
		if err != nil {
			return fmt.Errorf("--overlap: %q is not a duration: write 1h or 7d", *overlap)
		}
		secret, err := p.webhooks.Rotate(command.Context(), w, d)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(command.OutOrStdout(), secret.Text())
		return err
	})
	return command
}

// testPatience is how long `webhook test` waits for a writer to send: 20 s, longer than an
// attempt takes.
const testPatience = 20 * time.Second

func webhookTestCommand() *cobra.Command {
	return &cobra.Command{
		Use: "test ID", Short: "Send an event that says nothing, and say what the receiver answered",
		Long: `Sends the event ping to a webhook, even if it is not enabled, and waits for the answer.
A writer of the indexer sends it. If the receiver does not accept it, the exit status is 1.`,
		Example: "  portbook webhook test 3",
		Args:    numbers(webhookNumber),
		RunE: withWebhook(func(command *cobra.Command, p *parts, w deliver.Webhook) error {
			id, err := p.webhooks.PingWebhook(command.Context(), w)
			if err != nil {
				return err
			}
			d, err := p.awaitDelivery(command.Context(), w.ID, id)
			switch {
			case err != nil:
				return err
			case d.State == deliver.Waiting:
				return fmt.Errorf("delivery %d still waits after %v: is a writer of the indexer running?", id, testPatience)
			case d.State == deliver.Failed:
				return fmt.Errorf("delivery %d failed: %s", id, d.Reason)
			}
			_, err = fmt.Fprintf(command.OutOrStdout(), "the receiver answered %d after %v\n", d.Status, d.Took)
			return err
		}),
	}
}

// awaitDelivery returns a delivery when it has ended, or as it is after testPatience.
func (p *parts) awaitDelivery(ctx context.Context, webhook, id int64) (d deliver.Delivery, err error) {
	ctx, cancel := context.WithTimeout(ctx, testPatience)
	defer cancel()
	for {
		if d, err = p.webhooks.Delivery(context.WithoutCancel(ctx), webhook, id); err != nil || d.State != deliver.Waiting {
			return d, err
		}
		select {
		case <-ctx.Done():
			return d, nil
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func webhookDeliveriesCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "deliveries ID", Short: "List what was sent to a webhook lately, and what waits",
		Long: `Lists the deliveries to a webhook, the latest first. Those that have ended are kept for 30
days, at most 1,000 of a webhook. With --json each is one line.`,
		Example: `  portbook webhook deliveries 3
  portbook webhook deliveries 3 --limit 1000 --json`,
		Args: numbers(webhookNumber),
	}
	limit := command.Flags().Int("limit", 20, "`number` of deliveries")
	before := command.Flags().Int64("before", 0, "only those older than the one with this `number`")
	asJSON := command.Flags().Bool("json", false, "write JSON, one delivery to a line")
	command.RunE = withWebhook(func(command *cobra.Command, p *parts, w deliver.Webhook) error {
		if *limit < 1 {
			return fmt.Errorf("--limit: %d is less than one", *limit)
		}
		all, err := p.webhooks.Deliveries(command.Context(), w.ID, *before, *limit)
		if err != nil {
			return err
		}
		if *asJSON {
			return writeLines(command, all, deliveryLine)
		}
		var rows [][]string
		for _, d := range all {
			status := ""
			if d.Status != 0 {
				status = strconv.Itoa(d.Status)
			}
			rows = append(rows, []string{strconv.FormatInt(d.ID, 10), d.HappenedAt.UTC().Format(time.RFC3339), string(d.Type),
				d.Subject, d.State, strconv.Itoa(d.Attempts), status, d.Reason})
		}
		return table(command.OutOrStdout(),
			[]string{"ID", "HAPPENED", "EVENT", "SUBJECT", "STATE", "ATTEMPTS", "STATUS", "REASON"}, rows)
	})
	return command
}

// deliveryLine returns a delivery as JSON. It has the fields of the API.
func deliveryLine(d deliver.Delivery) map[string]any {
	line := map[string]any{
		"id": d.ID, "event": d.Type, "event_id": d.Event, "subject": d.Subject, "time": d.HappenedAt.UTC(), "state": d.State,
		"attempts": d.Attempts,
	}
	if d.Attempts > 0 {
		line["status"], line["reason"] = d.Status, d.Reason
		line["took_ms"], line["tried_at"] = d.Took.Milliseconds(), d.TriedAt.UTC()
	}
	if d.State == deliver.Waiting {
		line["next_at"] = d.NextAt.UTC()
	}
	return line
}

func webhookRedeliverCommand() *cobra.Command {
	return &cobra.Command{
		Use: "redeliver ID DELIVERY", Short: "Send a delivery again",
		Long:    `Sends an event again whose delivery has ended. It has the same id and a new signature.`,
		Example: "  portbook webhook redeliver 3 4711",
		Args:    numbers(webhookNumber, "the number of a delivery"),
		RunE: withWebhook(func(command *cobra.Command, p *parts, w deliver.Webhook) error {
			id, err := strconv.ParseInt(command.Flags().Arg(1), 10, 64)
			if err != nil {
				return err // Args has checked it
			}
			err = p.webhooks.Redeliver(command.Context(), w, id)
			if errors.Is(err, indexer.ErrNotFound) {
				return fmt.Errorf("webhook %d has no delivery %d: `portbook webhook deliveries %d` shows them", w.ID, id, w.ID)
			}
			return err
		}),
	}
}
