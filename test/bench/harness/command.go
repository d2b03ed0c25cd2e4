package harness

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

// clone is the root of the repository, as seen from the folders of the programs,
// in which they run.
const clone = "../../.."

// Main runs a program's command until it is done or a signal ends it. An error
// is shown under the program's name.
func Main(name string, command func(ctx context.Context, args []string, out, progress io.Writer) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, name+":", err)
		stop()
		os.Exit(1)
	}
}

// Below makes a relative name relative to the clone, where make runs, and not to
// the program's folder.
func Below(file string) (string, error) {
	if file == "" || filepath.IsAbs(file) {
		return file, nil
	}
	return filepath.Abs(filepath.Join(clone, file))
}
