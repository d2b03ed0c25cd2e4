package copier

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/factory"
	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
)

const (
	// lineEvery is the interval of lines about the progress: 5 s.
	lineEvery = 5 * time.Second
	// maxTold is how many failures are told one by one: 100. All are counted.
	maxTold = 100
	// maxWorkers is how many objects may be copied at the same time: 256. A worker needs some
	// 20 MB on S3.
	maxWorkers = 256
)

// Command returns the command copy, for the registry's binary.
func Command() *cobra.Command {
	command := &cobra.Command{
		Use:   "copy --from CONFIG CONFIG",
		Short: "Copy the content of a registry from one storage to another",
		Long: `Copies the content of the storage that the configuration of --from names to the storage
that the other configuration names. Both registries may run meanwhile. What is there is not
copied again, so an interrupted copy goes on when it is run again. Nothing is deleted, and
uploads are left out. The digests of blobs are checked.

Variables REGISTRY_* override only the second configuration. The exit status is 1 if something
was not copied.`,
		Example: `  registry copy --from old.yml config/s3.yml`,
		Args:    cobra.ExactArgs(1),
	}
	var c Config
	flags := command.Flags()
	from := flags.String("from", "", "`CONFIG` of the registry to copy from")
	flags.IntVar(&c.Workers, "workers", defaultWorkers, "how many objects are copied at the same time")
	flags.BoolVar(&c.KeepTags, "keep-tags", false, "leave tags as they are that show another manifest there")
	_ = command.MarkFlagRequired("from") // returns an error only if the flag does not exist
	command.RunE = func(command *cobra.Command, args []string) (err error) {
		command.SilenceUsage = true
		if c.Workers < 1 || c.Workers > maxWorkers {
			return fmt.Errorf("--workers is %d: set it to 1 to %d", c.Workers, maxWorkers)
		}
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		logrus.SetLevel(logrus.ErrorLevel) // the drivers log what they retry
		if c.To, err = open(ctx, args[0]); err != nil {
			return fmt.Errorf("the destination: %w", err)
		}
		withoutVariables()
		if c.From, err = open(ctx, *from); err != nil {
			return fmt.Errorf("the source: %w", err)
		}
		return run(ctx, c, os.Stdout, os.Stderr)
	}
	return command
}

// withoutVariables removes the settings of the destination from the environment, which would
// override those of the source too.
func withoutVariables() {
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "REGISTRY_") {
			os.Unsetenv(name)
		}
	}
}

// open opens the storage of a configuration.
func open(ctx context.Context, name string) (driver.StorageDriver, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	c, err := configuration.Parse(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	d, err := factory.Create(ctx, c.Storage.Type(), c.Storage.Parameters())
	if err != nil {
		return nil, fmt.Errorf("storage %s of %s: %w", c.Storage.Type(), name, err)
	}
	return d, nil
}

// run copies, and writes how far it is, failures, and a sum at the end.
func run(ctx context.Context, config Config, out, progress io.Writer) error {
	var told atomic.Int64
	config.Failed = func(name string, err error) {
		if told.Add(1) <= maxTold {
			fmt.Fprintf(progress, "not copied: %s: %s\n", name, plain(err))
		}
	}
	c := New(config)
	ended, printed := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(printed)
		c.tell(progress, ended)
	}()
	err := c.Run(ctx)
	close(ended)
	<-printed
	n := c.Counts()
	fmt.Fprintf(out, "%d files: %d copied (%d blobs, %d bytes), %d were there, %d tags were left as they are, "+
		"%d lead nowhere or were deleted meanwhile, %d failed\n",
		n.Ended(), n.Copied, n.Blobs, n.Bytes, n.There, n.Kept, n.Gone, n.Failed)
	switch {
	case ctx.Err() != nil:
		return errors.New("interrupted: run the command again to go on")
	case err != nil:
		return errors.New(plain(err))
	case n.Failed > 0:
		return fmt.Errorf("%d files were not copied: run the command again to try them again", n.Failed)
	}
	return nil
}

// tell writes a line about the progress from time to time.
func (c *Copier) tell(progress io.Writer, ended <-chan struct{}) {
	again := time.NewTicker(lineEvery)
	defer again.Stop()
	for {
		select {
		case <-ended:
			return
		case now := <-again.C:
			fmt.Fprintln(progress, c.Counts().Line(now))
		}
	}
}

// query is the part of an address that may have a signature.
var query = regexp.MustCompile(`\?[^\s"]*`)

// plain returns an error on one line, without the queries of addresses.
func plain(err error) string {
	return strings.Join(strings.Fields(query.ReplaceAllString(err.Error(), "")), " ")
}
