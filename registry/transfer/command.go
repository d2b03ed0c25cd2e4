package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/factory"
	"github.com/spf13/cobra"
)

// lineEvery is the time between two lines about the progress: 5 s.
const lineEvery = 5 * time.Second

// Command returns the command copy, for the registry's binary.
func Command() *cobra.Command {
	var from string
	var workers int
	command := &cobra.Command{
		Use:   "copy --from CONFIG CONFIG",
		Short: "Copy the storage of one configuration into that of another",
		Long: `Copies what the storage of one configuration has into the storage of another: the data of
blobs first, then links, and tags last, so that a registry may run on the destination. What
is there is not copied again, so a copy that was interrupted goes on when it is run again.
Nothing is deleted, and unfinished uploads are left out. Do not push to the source meanwhile.

The exit status is 1 if something was not copied. Variables REGISTRY_STORAGE_... are refused,
because they would change both configurations.`,
		Example:       `  registry copy --from old.yml config/filesystem.yml`,
		Args:          cobra.ExactArgs(1),
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(command *cobra.Command, args []string) error {
			err := run(command.OutOrStdout(), command.ErrOrStderr(), from, args[0], workers)
			if err != nil {
				fmt.Fprintln(command.ErrOrStderr(), "registry copy:", err)
			}
			return err
		},
	}
	command.Flags().StringVar(&from, "from", "", "the `configuration` to copy from")
	command.Flags().IntVar(&workers, "workers", defaultWorkers, "`number` of objects copied at the same time, at most 64")
	if err := command.MarkFlagRequired("from"); err != nil {
		panic(err) // the flag is there
	}
	return command
}

func run(out, progress io.Writer, from, to string, workers int) error {
	if workers < 1 || workers > maxWorkers {
		return fmt.Errorf("--workers is %d: write 1 to %d", workers, maxWorkers)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "REGISTRY_STORAGE_") {
			return fmt.Errorf("%s is set, and would change both configurations: write it into the files", name)
		}
	}
	c := &Copy{Workers: workers}
	var err error
	if c.From, err = open(ctx, from); err != nil {
		return err
	}
	if c.To, err = open(ctx, to); err != nil {
		return err
	}
	ended := make(chan struct{})
	printed := make(chan struct{})
	began := time.Now()
	go func() {
		defer close(printed)
		for {
			select {
			case <-ended:
				return
			case <-time.After(lineEvery):
				fmt.Fprintln(progress, line(c.Counts(), time.Since(began)))
			}
		}
	}()
	err = c.Run(ctx)
	close(ended)
	<-printed
	for _, f := range c.Failures() {
		fmt.Fprintf(progress, "not copied: %s: %s\n", f.Path, public(f.Err))
	}
	n := c.Counts()
	fmt.Fprintf(out, "%d objects copied (%d bytes), %d were there, %d failed\n", n.Copied, n.Bytes, n.There, n.Failed)
	if err == nil && n.Failed > 0 {
		err = fmt.Errorf("%d objects were not copied: run the command again to try them again", n.Failed)
	}
	return err
}

// open returns the storage of a configuration.
func open(ctx context.Context, name string) (driver.StorageDriver, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	c, err := configuration.Parse(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	d, err := factory.Create(ctx, c.Storage.Type(), c.Storage.Parameters())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return d, nil
}

// line returns how far a copy is, its rate and the time left.
func line(n Counts, took time.Duration) string {
	ended := n.Copied + n.There + n.Failed
	rate := float64(ended) / max(took.Seconds(), 0.001)
	text := fmt.Sprintf("%d objects copied (%.1f MB), %d were there, %d failed, %.1f a second",
		n.Copied, float64(n.Bytes)/1e6, n.There, n.Failed, rate)
	if n.Objects == 0 || rate == 0 {
		return text + "; still counting"
	}
	left := time.Duration(float64(max(n.Objects-ended, 0)) / rate * float64(time.Second))
	return text + fmt.Sprintf(" of %d; %v left", n.Objects, left.Round(time.Second))
}

// public returns the text of an error without the query of an address, which may be signed.
func public(err error) string {
	var failed *url.Error
	if errors.As(err, &failed) {
		if u, errParse := url.Parse(failed.URL); errParse == nil {
			return fmt.Sprintf("%s %s://%s%s: %s", failed.Op, u.Scheme, u.Host, u.Path, failed.Err)
		}
	}
	return err.Error()
}
