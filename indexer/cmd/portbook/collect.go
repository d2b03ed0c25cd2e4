package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/collect"
)

// collector returns a step of the garbage collection of blobs, nil if it is not configured.
func (p *parts) collector() (func(context.Context) error, error) {
	c := p.config.Collect
	if c.Sweep == "" {
		return nil, nil
	}
	client, err := collect.NewClient(c.Sweep, c.Token)
	if err != nil {
		return nil, err
	}
	return collect.New(collect.Config{
		Store: p.store, Client: client, Log: p.log, Look: c.Look,
		Policy: indexer.CollectPolicy{Delete: c.Delete, Observe: c.Observe, Delay: c.Delay, Trash: c.Trash},
	}).Step, nil
}

func collectCommand() *cobra.Command {
	return group(&cobra.Command{
		Use: "collect", Short: "Show, pause and resume the garbage collection of blobs",
		Long: `Shows what the garbage collection of blobs has seen and done, and stops it at once. It
works if collect.sweep is set: see doc/manage.md.`,
		Example: `  portbook collect status
  portbook collect pause`,
	}, collectStatusCommand(), collectListCommand(), collectPauseCommand(), collectResumeCommand(), collectRetryCommand())
}

func collectStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show what is stored, what nothing uses, and why it is not deleted",
		Long: `Shows the last look at the storage compared with the book, the blobs that nothing uses,
after which time blobs were needed again, and what the collection does.`,
		Example: "  portbook collect status",
		Args:    noArguments,
		RunE: withDatabase(func(command *cobra.Command, p *parts) error {
			c, err := p.store.Collection(command.Context())
			if err != nil {
				return err
			}
			return writeCollection(command.OutOrStdout(), c)
		}),
	}
}

// writeCollection writes the state of the collection for people.
func writeCollection(w io.Writer, c indexer.Collection) error {
	fmt.Fprintf(w, "%s\n", cmp.Or(c.Does, "the collection has not begun: set collect.sweep"))
	if c.Paused {
		fmt.Fprintf(w, "paused by %s at %s: portbook collect resume\n", c.PausedBy, c.PausedAt.UTC().Format(time.RFC3339))
	}
	fmt.Fprintln(w)
	l := c.Look
	if !l.Begin.IsZero() {
		fmt.Fprintf(w, "last look          %s, in %.1f s; %d looks, for %s\n", l.Begin.UTC().Format(time.RFC3339), l.Seconds,
			c.Looks, c.Observed.Round(time.Second))
		for _, n := range lookNumbers(l) {
			fmt.Fprintf(w, "%-18s %s\n", n.name, n.text)
		}
		for _, text := range append(l.Examples, l.Problems...) {
			fmt.Fprintf(w, "  %s\n", text)
		}
	}
	for _, s := range c.Sums {
		fmt.Fprintf(w, "%-18s %d blobs, %d bytes\n", s.State, s.Blobs, s.Bytes)
	}
	fmt.Fprintf(w, "deleted so far     %d blobs, %d bytes\n", c.Deleted, c.DeletedBytes)
	if len(c.Returns) == 0 {
		fmt.Fprintln(w, "\nNo blob was needed again after a look had seen it unused.")
		return nil
	}
	fmt.Fprintf(w, "\nBlobs that were needed again after looks had seen them unused, the latest after %s:\n",
		c.Longest.Round(time.Millisecond))
	var rows [][]string
	for _, r := range c.Returns {
		rows = append(rows, []string{upTo(r.UpTo), fmt.Sprint(r.Used), fmt.Sprint(r.Linked)})
	}
	return table(w, []string{"AFTER AT MOST", "USED", "LINKED"}, rows)
}

func upTo(d time.Duration) string {
	if d == 0 {
		return "longer"
	}
	return d.String()
}

// A lookNumber is a number of a look, with its name.
type lookNumber struct{ name, text string }

// lookNumbers returns the numbers of a look for people. If some manifests or links could not be
// read, numbers that depend on them are only bounds.
func lookNumbers(l indexer.StorageLook) []lookNumber {
	bound := ""
	if l.Unreadable > 0 {
		bound = fmt.Sprintf(" (not exact: %d manifests or links could not be read)", l.Unreadable)
	}
	return []lookNumber{
		{"storage", fmt.Sprintf("%d blobs, %d bytes, %d manifests", l.Blobs, l.Bytes, l.Manifests)},
		{"book", fmt.Sprintf("%d bytes, %d manifests", l.BookBytes, l.BookManifests)},
		{"unused", fmt.Sprintf("%d blobs, %d bytes%s", l.Unused, l.UnusedBytes, bound)},
		{"unlinked", fmt.Sprintf("%d blobs, %d bytes%s", l.Unlinked, l.UnlinkedBytes, bound)},
		{"trash", fmt.Sprintf("%d blobs, %d bytes", l.Trashed, l.TrashedBytes)},
		{"abandoned uploads", fmt.Sprintf("%d, %d bytes; %d more are active",
			l.AbandonedUploads, l.AbandonedBytes, l.ActiveUploads)},
		{"only in the book", fmt.Sprintf("%d manifests", l.OnlyBook)},
		{"only in storage", fmt.Sprintf("%d manifests", l.OnlyStorage)},
		{"needed, missing", fmt.Sprintf("%d blobs", l.Missing)},
		{"needed, not linked", fmt.Sprintf("%d blobs%s", l.Cut, bound)},
	}
}

func collectListCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "list", Short: "List the blobs that nothing uses, or that were deleted",
		Long: `Lists blobs that no manifest uses, in order of digest, one JSON object to a line: those
that wait, are in the trash, are stuck because the storage refused to move or delete them, or
were deleted in the last 90 days.`,
		Example: `  portbook collect list
  portbook collect list --state stuck`,
		Args: noArguments,
	}
	state := command.Flags().String("state", "", "only `waiting`, trashed, stuck or deleted ones")
	command.RunE = withDatabase(func(command *cobra.Command, p *parts) error {
		wanted, err := indexer.ParseCandidateState(*state)
		if err != nil {
			return err
		}
		e := json.NewEncoder(command.OutOrStdout())
		for after := digest.Digest(""); ; {
			some, err := p.store.Candidates(command.Context(), wanted, after, listedAtOnce)
			if err != nil || len(some) == 0 {
				return err
			}
			for _, c := range some {
				if err := e.Encode(candidateLine(c)); err != nil {
					return err
				}
			}
			after = some[len(some)-1].Digest
		}
	})
	return command
}

// listedAtOnce is how many candidates are read at once: 1,000.
const listedAtOnce = 1000

func candidateLine(c indexer.Candidate) map[string]any {
	line := map[string]any{
		"digest": c.Digest, "size": c.Size, "state": c.State, "unused_at": c.UnusedAt.UTC(), "changed_at": c.ChangedAt.UTC(),
	}
	if !c.UnlinkedAt.IsZero() {
		line["unlinked_at"] = c.UnlinkedAt.UTC()
	}
	if c.Failures > 0 {
		line["failures"] = c.Failures
	}
	if c.Problem != "" {
		line["problem"] = c.Problem
	}
	return line
}

func collectPauseCommand() *cobra.Command {
	return &cobra.Command{
		Use: "pause", Short: "Delete nothing any more, at once",
		Long: `Stops the garbage collection of blobs, also in the middle of a run: within a second
nothing further is moved to the trash or deleted. It goes on looking, and puts back what is
needed. ` + "`portbook collect resume`" + ` lets it delete again.`,
		Example: "  portbook collect pause",
		Args:    noArguments,
		RunE: withDatabase(func(command *cobra.Command, p *parts) error {
			return p.store.PauseCollection(command.Context(), true)
		}),
	}
}

func collectResumeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "resume", Short: "Let the collection delete again after a pause",
		Long:    `Ends a pause of the garbage collection of blobs.`,
		Example: "  portbook collect resume",
		Args:    noArguments,
		RunE: withDatabase(func(command *cobra.Command, p *parts) error {
			return p.store.PauseCollection(command.Context(), false)
		}),
	}
}

func collectRetryCommand() *cobra.Command {
	return &cobra.Command{
		Use: "retry", Short: "Try blobs again that are stuck or wait after a failure",
		Long: `Lets the collection try at once what the storage has refused to move or delete, also what
has failed so often that it is not tried any more. It prints how many blobs these are.`,
		Example: "  portbook collect retry",
		Args:    noArguments,
		RunE: withDatabase(func(command *cobra.Command, p *parts) error {
			n, err := p.store.RetryCollection(command.Context())
			if err == nil {
				_, err = fmt.Fprintln(command.OutOrStdout(), n)
			}
			return err
		}),
	}
}

// A collection collects the metrics of the garbage collection of blobs, which are read from the
// database. Without collect.sweep there are none.
type collection struct {
	parts                                                   *parts
	blobs, bytes, paused, look, deleted, longest, differing *prometheus.Desc
}

func registerCollection(p *parts) {
	if p.config.Collect.Sweep == "" {
		return
	}
	gauge := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("portbook_"+name, help, labels, nil)
	}
	p.registry.MustRegister(&collection{
		parts:   p,
		blobs:   gauge("collect_blobs", "Blobs that no manifest uses.", "state"),
		bytes:   gauge("collect_bytes", "Bytes of blobs that no manifest uses.", "state"),
		paused:  gauge("collect_paused", "1 if the collection is paused."),
		look:    gauge("collect_last_look_timestamp_seconds", "Begin of the last look at the storage."),
		deleted: gauge("collect_deleted_bytes_total", "Bytes that the collection has deleted."),
		longest: gauge("collect_longest_return_seconds",
			"Longest time after which a blob that looks had seen unused was needed again."),
		differing: gauge("storage_differences",
			"Differences between the book and the storage in the last look.", "kind"),
	})
}

func (c *collection) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.blobs, c.bytes, c.paused, c.look, c.deleted, c.longest, c.differing} {
		ch <- d
	}
}

func (c *collection) Collect(ch chan<- prometheus.Metric) {
	if !c.parts.open.Load() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), backlogTimeout)
	defer cancel()
	s, err := c.parts.store.Collection(ctx)
	if err != nil {
		return
	}
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	for _, state := range []indexer.CandidateState{indexer.Waiting, indexer.Trashed, indexer.Stuck} {
		gauge(c.blobs, float64(s.Of(state).Blobs), string(state))
		gauge(c.bytes, float64(s.Of(state).Bytes), string(state))
	}
	paused := 0.0
	if s.Paused {
		paused = 1
	}
	gauge(c.paused, paused)
	gauge(c.longest, s.Longest.Seconds())
	ch <- prometheus.MustNewConstMetric(c.deleted, prometheus.CounterValue, float64(s.DeletedBytes))
	if s.Look.Begin.IsZero() {
		return
	}
	gauge(c.look, float64(s.Look.Begin.UnixMilli())/1000)
	for kind, n := range map[string]int64{
		"only_book": s.Look.OnlyBook, "only_storage": s.Look.OnlyStorage, "missing": s.Look.Missing, "not_linked": s.Look.Cut,
	} {
		gauge(c.differing, float64(n), kind)
	}
}
