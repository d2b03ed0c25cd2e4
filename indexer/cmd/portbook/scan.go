package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/portbook/portbook/indexer"
)

func scanCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "scan",
		Short: "Scan the whole registry now, and wait until the book is up to date",
		Long: `Scans the whole registry now, shows its progress, and returns when everything that
the scan found is in the book.

If writers are running, their leader does the scan and this command helps to read
what it finds. Otherwise this command does the scan. The exit status is 1 if a
repository could not be scanned.`,
		Example: "  portbook scan --config portbook.yaml",
		Args:    noArguments,
		RunE: withRegistry(func(command *cobra.Command, p *parts) error {
			return scan(command.Context(), p, newProgress(command.ErrOrStderr()))
		}),
	}
}

// scan requests a scan, runs workers for the tasks that it adds, and waits for its end.
func scan(ctx context.Context, p *parts, out *progress) error {
	if err := p.migrate(ctx); err != nil {
		return err
	}
	if err := p.store.RequestScan(ctx, "command"); err != nil {
		return err
	}
	requested, err := p.store.WaitingScan(ctx)
	if err != nil {
		return err
	}
	helping, stop := context.WithCancel(ctx)
	defer stop()
	var group errgroup.Group
	workers := p.workers()
	group.Go(func() error { return workers.Run(helping) })
	group.Go(func() error {
		scanner := p.scanner(workers)
		return p.store.Lead(helping, func(ctx context.Context) error {
			for {
				ran, err := scanner.Run(ctx)
				if err != nil || !ran {
					return err
				}
			}
		})
	})
	done, err := follow(ctx, p, requested.ID, out)
	stop()
	if lead := group.Wait(); err == nil && lead != nil && !errors.Is(lead, context.Canceled) {
		err = lead
	}
	if err != nil {
		return err
	}
	return out.end(done)
}

// followEvery is the interval between two reads of the progress.
const followEvery = 500 * time.Millisecond

// follow prints the progress of a scan until everything that it found is read.
func follow(ctx context.Context, p *parts, id int64, out *progress) (indexer.Scan, error) {
	for {
		scan, err := p.store.ScanByID(ctx, id)
		if err != nil {
			return scan, err
		}
		due, _, _, err := p.store.Backlog(ctx)
		if err != nil {
			return scan, err
		}
		if !scan.FinishedAt.IsZero() && due == 0 {
			return scan, nil
		}
		out.print(scan, due)
		select {
		case <-ctx.Done():
			return scan, ctx.Err()
		case <-time.After(followEvery):
		}
	}
}

// A progress prints the progress of a scan: on a terminal as a bar that is redrawn,
// elsewhere as a line every lineEvery.
type progress struct {
	out      io.Writer
	terminal bool
	began    time.Time
	printed  time.Time
}

// lineEvery is the interval of lines if the output is not a terminal.
const lineEvery = 5 * time.Second

func newProgress(out io.Writer) *progress {
	p := &progress{out: out, began: time.Now()}
	if file, ok := out.(*os.File); ok {
		info, err := file.Stat()
		p.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return p
}

func (p *progress) print(s indexer.Scan, due int) {
	if !p.terminal && !p.printed.IsZero() && time.Since(p.printed) < lineEvery {
		return
	}
	p.printed = time.Now()
	line := p.line(s, due, time.Since(p.began))
	if p.terminal {
		fmt.Fprint(p.out, "\r\x1b[K"+bar(s, due)+" "+line)
		return
	}
	fmt.Fprintln(p.out, line)
}

// line returns counts, rate and remaining time.
func (p *progress) line(s indexer.Scan, due int, elapsed time.Duration) string {
	if s.StartedAt.IsZero() {
		return "waiting for the scan to start"
	}
	rate := float64(s.Repositories) / max(elapsed.Seconds(), 0.001)
	line := fmt.Sprintf("%d of %d repositories, %d tags, %d changed, %d to read, %d errors, %.0f repositories/s",
		s.Repositories, s.Listed, s.Tags, s.Changed, due, s.Errors, rate)
	if read := s.Changed - due; read > 0 && due > 0 {
		perTask := elapsed.Seconds() / float64(read)
		return line + fmt.Sprintf(", about %s left", seconds(perTask*float64(due)))
	}
	if left := s.Listed - s.Repositories; left > 0 && rate > 0 {
		return line + fmt.Sprintf(", about %s left", seconds(float64(left)/rate))
	}
	return line
}

func seconds(s float64) time.Duration {
	return time.Duration(s * float64(time.Second)).Round(time.Second)
}

// barWidth is the width of the bar in characters. With the line beside it, it fits
// into a terminal of 160 columns.
const barWidth = 20

func bar(s indexer.Scan, due int) string {
	total, done := s.Listed+s.Changed, s.Repositories+max(s.Changed-due, 0)
	filled := 0
	if total > 0 {
		filled = min(barWidth*done/total, barWidth)
	}
	return "[" + strings.Repeat("#", filled) + strings.Repeat(".", barWidth-filled) + "]"
}

// end prints the result of the scan.
func (p *progress) end(s indexer.Scan) error {
	if p.terminal {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
	fmt.Fprintf(p.out, "scanned %d repositories and %d tags in %s: %d changed, %d repositories failed\n",
		s.Repositories, s.Tags, time.Since(p.began).Round(time.Millisecond), s.Changed, s.Errors)
	if s.Errors > 0 {
		return exitStatus(1)
	}
	return nil
}
