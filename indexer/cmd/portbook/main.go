// Portbook indexes a container registry and serves searches: see `portbook help`.
// This package has the commands: it reads the configuration and connects the other
// packages.
package main

import (
	"context"
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

// version is set in releases (-ldflags "-X main.version=1.2.3"). Other builds show
// their commit.
var version = ""

func main() {
	// net/http logs unsolicited bytes of a registry to the standard logger, which cannot
	// be turned off otherwise. They may contain secrets. We log with slog.
	log.SetOutput(io.Discard)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	command := root()
	command.SetArgs(arguments(os.Args[1:]))
	err := command.ExecuteContext(ctx)
	stop()
	os.Exit(status(err, os.Stderr))
}

// arguments replaces "-config FILE" with "--config FILE": unit files of flagstate
// have the former.
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
	command := group(&cobra.Command{
		Use:   "portbook",
		Short: "Index and search a container registry",
		Long: `Portbook indexes a container registry: it records in PostgreSQL what is pushed
and deleted, and serves searches, an API and a catalogue.

Exit status: 0 on success, 1 if the command failed or found differences, 2 if the
command line is wrong.`,
		Example: `  portbook serve --config portbook.yaml
  portbook help migrate`,
		Version:       programVersion(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}, serveCommand(), scanCommand(), verifyCommand(), jobCommand(), migrateCommand(), primeCommand(), userCommand(),
		tokenCommand(),
		workloadCommand(), webhookCommand(), collectCommand(),
		grantCommand(), protectCommand(), freezeCommand(), quotaCommand(), yankCommand(), deprecateCommand(),
		deleteCommand(), trashCommand(), restoreCommand(), rollbackCommand(), operationCommand(), retentionCommand(),
		packagesCommand(), importCommand(),
		auditCommand(), storageCommand(), usageCommand(), keysCommand(), registryConfigCommand(), configCommand(),
		versionCommand())
	addSettings(command)
	command.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	completeCobra(command)
	refuseWrongUsage(command)
	return command
}

// addSettings adds the flags that are settings. config.Load reads and checks them.
func addSettings(command *cobra.Command) {
	flags := command.PersistentFlags()
	flags.String("config", "", "configuration `file` (YAML); default: $PORTBOOK_CONFIG")
	flags.String("role", "", "writer or reader")
	flags.String("registry-url", "", "`URL` of the registry")
	flags.String("http-address", "", "address to serve on, as `host:port`")
	flags.String("http-operations-address", "", "address to serve /healthz, /readyz and /metrics on, as `host:port`")
	flags.String("scan-parallelism", "", "`number` of repositories that a scan reads at the same time")
	flags.String("log-level", "", "debug, info, warn or error")
	flags.String("log-format", "", "text or json")
	// These return an error only if the flag does not exist.
	_ = command.MarkPersistentFlagFilename("config", "yaml", "yml")
	for flag, values := range map[string][]string{
		"role": {"writer", "reader"}, "log-level": {"debug", "info", "warn", "error"}, "log-format": {"text", "json"},
	} {
		_ = command.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	}
}

// source returns the sources of a command's settings.
func source(command *cobra.Command) config.Source {
	source := config.Source{Environ: os.Environ(), Flags: map[string]string{}}
	source.Dir, _ = os.Getwd() // without one, paths stay relative
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

// load reads the configuration of a command and creates its log. onlyDatabase means
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

// programVersion returns the release, 12 digits of the commit, or "devel".
func programVersion() string {
	if version != "" {
		return version
	}
	if revision := programRevision(); len(revision) >= 12 {
		return revision[:12]
	}
	return "devel"
}

// programRevision returns the commit that the program was built from, or "".
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
