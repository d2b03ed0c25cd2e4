package sweep

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/storage/driver/factory"
	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
)

const (
	// defaultGrace and defaultKeep are a day each: longer than any push takes.
	defaultGrace = 24 * time.Hour
	defaultKeep  = 24 * time.Hour
	// headerTimeout limits the header of a request: 10 s.
	headerTimeout = 10 * time.Second
	// stopTimeout is how long a shutdown waits for an order to end: 30 s.
	stopTimeout = 30 * time.Second
)

// Command returns the command sweep, for the registry's binary.
func Command() *cobra.Command {
	command := &cobra.Command{
		Use:   "sweep CONFIG",
		Short: "Look at the storage: what no link or no manifest uses",
		Long: `Walks the storage that a configuration of the registry names, and writes what it
sees to standard output, one JSON object to a line. It changes nothing. The registry may
run meanwhile.`,
		Example: `  registry sweep config/filesystem.yml`,
		Args:    cobra.ExactArgs(1),
	}
	command.RunE = withSweeper(&Config{Grace: defaultGrace}, func(ctx context.Context, s *Sweeper) error {
		return toOutput(func(give func(Line) error) error { return s.Look(ctx, give) })
	})
	command.AddCommand(serveCommand(), restoreCommand())
	return command
}

func serveCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "serve CONFIG",
		Short: "Let Portbook's indexer look at the storage, and say what may go",
		Long: `Serves looks to Portbook's indexer, which keeps what it has seen and decides what may
go. Nothing is deleted without --delete. Run one such process for a storage, on an address
that only the indexers reach.`,
		Example: `  registry sweep serve config/filesystem.yml --address 127.0.0.1:5002 --token-file /run/secrets/sweep
  registry sweep serve config/s3.yml --address :5002 --token-file /run/secrets/sweep --delete`,
		Args: cobra.ExactArgs(1),
	}
	config := &Config{}
	flags := command.Flags()
	address := flags.String("address", "127.0.0.1:5002", "`HOST:PORT` to listen on")
	tokenFile := flags.String("token-file", "", "`FILE` with the token that the indexer sends (collect.token)")
	flags.BoolVar(&config.Delete, "delete", false, "let the indexer order deletions")
	flags.DurationVar(&config.Grace, "grace", defaultGrace, "minimum age of the data of a blob that is moved to the trash")
	flags.DurationVar(&config.Keep, "keep", defaultKeep, "minimum time that a blob stays in the trash")
	_ = command.MarkFlagRequired("token-file") // returns an error only if the flag does not exist
	command.RunE = withSweeper(config, func(ctx context.Context, s *Sweeper) error {
		token, err := readToken(*tokenFile)
		if err != nil {
			return err
		}
		return s.serve(ctx, *address, token)
	})
	return command
}

func restoreCommand() *cobra.Command {
	command := &cobra.Command{
		Use:     "restore CONFIG [DIGEST...]",
		Short:   "Put blobs back from the trash of the sweep",
		Long:    `Puts the named blobs back from the trash to their places, or all that are in the trash.`,
		Example: `  registry sweep restore config/filesystem.yml`,
		Args:    cobra.MinimumNArgs(1),
	}
	command.RunE = func(command *cobra.Command, args []string) error {
		return withSweeper(&Config{}, func(ctx context.Context, s *Sweeper) error {
			return toOutput(func(give func(Line) error) error { return s.Restore(ctx, Order{Digests: args[1:]}, give) })
		})(command, args[:1])
	}
	return command
}

// withSweeper returns a command that opens the storage of its configuration. It ends with
// SIGINT or SIGTERM.
func withSweeper(config *Config, f func(context.Context, *Sweeper) error) func(*cobra.Command, []string) error {
	return func(command *cobra.Command, args []string) error {
		command.SilenceUsage = true
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		logrus.SetLevel(logrus.ErrorLevel) // the drivers log what they retry
		config.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
		file, err := os.Open(args[0])
		if err != nil {
			return err
		}
		defer file.Close()
		c, err := configuration.Parse(file)
		if err != nil {
			return fmt.Errorf("%s: %w", args[0], err)
		}
		if config.Driver, err = factory.Create(ctx, c.Storage.Type(), c.Storage.Parameters()); err != nil {
			return fmt.Errorf("storage %s of %s: %w", c.Storage.Type(), args[0], err)
		}
		return f(ctx, New(*config))
	}
}

// readToken reads a token from a file: its first line.
func readToken(name string) (string, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return "", err
	}
	token, _, _ := strings.Cut(string(b), "\n")
	if token = strings.TrimSpace(token); len(token) < 16 {
		return "", fmt.Errorf("%s: the token has %d characters: write at least 16 random ones", name, len(token))
	}
	return token, nil
}

// serve serves until the context ends, and then waits for what runs.
func (s *Sweeper) serve(ctx context.Context, address, token string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	s.config.Log.Info("serving", "address", listener.Addr().String(), "delete", s.config.Delete,
		"grace", s.config.Grace, "keep", s.config.Keep)
	server := &http.Server{
		Handler: s.Handler(token), ReadHeaderTimeout: headerTimeout,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	go func() {
		<-ctx.Done()
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		server.Shutdown(stop)
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	s.turn.Lock() // what runs has ended
	return nil
}

// toOutput writes the lines that f gives to standard output.
func toOutput(f func(give func(Line) error) error) error {
	out := bufio.NewWriter(os.Stdout)
	lines := json.NewEncoder(out)
	err := f(func(l Line) error {
		if l.Progress != nil {
			return nil
		}
		return lines.Encode(l)
	})
	return errors.Join(err, out.Flush())
}
