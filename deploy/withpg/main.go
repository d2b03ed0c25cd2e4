// Withpg runs a command beside a private PostgreSQL server for tests, which the
// command finds in PORTBOOK_TEST_DATABASE_URL. One server for all packages
// saves each of them an initdb.
//
//	withpg go test ./...
//
// It exits with the command's status. Without PostgreSQL it runs the command
// all the same, and tests that need a database skip themselves.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/portbook/portbook/schema/localpg"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: withpg command [argument ...]")
		os.Exit(2)
	}
	// The command gets a terminal's Ctrl-C too; we wait for it, then tidy up.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	status, err := run(ctx, os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "withpg:", err)
		status = 1
	}
	os.Exit(status)
}

func run(ctx context.Context, args []string) (status int, err error) {
	// Shared uses the server that the environment names, if it names one. Ours
	// goes, with its files, when this process does.
	url, err := localpg.Shared()
	if err != nil && !errors.Is(err, localpg.ErrNotInstalled) {
		return 0, err
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.Env = append(os.Environ(), localpg.SharedVariable+"="+url)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return max(exit.ExitCode(), 1), nil // -1 if a signal ended it
	}
	return 0, err
}
