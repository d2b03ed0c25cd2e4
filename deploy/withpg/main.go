// Withpg runs a command with a private PostgreSQL server for tests, and passes its
// address in PORTBOOK_TEST_DATABASE_URL. All packages share it, so none needs its own
// initdb.
//
//	withpg go test ./...
//
// It exits with the command's status. Without PostgreSQL it runs the command too, and
// tests that need a database are skipped.
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
	// A terminal sends Ctrl-C to the command too; wait for it, then remove the server.
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
	// Shared uses the server of the environment, or starts one, which ends with this
	// process and is removed with its files.
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
		return max(exit.ExitCode(), 1), nil // ExitCode is -1 after a signal
	}
	return 0, err
}
