// Portbook keeps the book of a container registry: see serve, scan, verify,
// migrate, prime-db and config. This package reads the configuration and wires
// the others together; it holds no rule of its own.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/portbook/portbook/indexer/config"
)

// version is set when a release is built (-ldflags "-X main.version=1.2.3");
// other builds tell the commit they were made from.
var version = ""

// gcPercent lets the heap grow to five times what lives before it is collected:
// some 25 MB more while scanning, for a tenth less processor time (measured).
// GOGC in the environment says otherwise.
const gcPercent = 400

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	// net/http writes unsolicited bytes of a registry to the standard log, and has no
	// setting against it. They may hold secrets. Our own log is slog's.
	log.SetOutput(io.Discard)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	command := root()
	command.SetArgs(arguments(os.Args[1:]))
	err := command.ExecuteContext(ctx)
	var quiet exitStatus
	switch {
	case err == nil:
	case errors.As(err, &quiet):
		os.Exit(int(quiet))
	default:
		fmt.Fprintln(os.Stderr, "portbook:", refusal(err))
		os.Exit(1)
	}
}

// An exitStatus ends the program without a message: all has been said.
type exitStatus int

func (s exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// arguments takes flagstate's "-config FILE" for "--config FILE", so that its
// users' unit files work.
func arguments(args []string) []string {
	var taken []string
	for _, a := range args {
		if a == "-config" || strings.HasPrefix(a, "-config=") {
			a = "-" + a
		}
		taken = append(taken, a)
	}
	return taken
}

func root() *cobra.Command {
	command := &cobra.Command{
		Use:           "portbook",
		Short:         "Keeps the book of a container registry: what is in it, searchable",
		Version:       programVersion(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	flags := command.PersistentFlags()
	flags.String("config", "", "configuration `file` (YAML); also PORTBOOK_CONFIG")
	flags.String("role", "", "writer or reader")
	flags.String("registry-url", "", "where the registry answers")
	flags.String("http-address", "", "where to serve, as `host:port`")
	flags.String("http-operations-address", "", "where to serve /healthz, /readyz and /metrics, as `host:port`")
	flags.String("scan-parallelism", "", "repositories that a scan looks at at once")
	flags.String("log-level", "", "debug, info, warn or error")
	flags.String("log-format", "", "text or json")
	command.AddCommand(serveCommand(), scanCommand(), verifyCommand(), migrateCommand(), primeCommand(), configCommand())
	return command
}

// source is where a command's settings are read from.
func source(command *cobra.Command) config.Source {
	source := config.Source{Environ: os.Environ(), Flags: map[string]string{}}
	command.Flags().Visit(func(f *pflag.Flag) {
		switch {
		case f.Name == "config":
			source.File = f.Value.String()
		case command.Root().PersistentFlags().Lookup(f.Name) != nil:
			source.Flags[f.Name] = f.Value.String()
		}
	})
	return source
}

// load reads the configuration for a command and makes its log. onlyDatabase says
// that the command needs no registry.
func load(command *cobra.Command, onlyDatabase bool) (config.Config, *slog.Logger, error) {
	from := source(command)
	from.OnlyDatabase = onlyDatabase
	c, err := config.Load(from)
	if err != nil {
		return c, nil, fmt.Errorf("configuration:\n%w", err)
	}
	return c, logger(c.Log), nil
}

func logger(c config.Log) *slog.Logger {
	options := &slog.HandlerOptions{Level: c.Level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, options))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, options))
}

// programVersion is the release, or the commit, or "devel".
func programVersion() string {
	if version != "" {
		return version
	}
	if revision := programRevision(); len(revision) >= 12 {
		return revision[:12]
	}
	return "devel"
}

// programRevision is the commit that the program was built from, "" if it does
// not know.
func programRevision() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return ""
}
