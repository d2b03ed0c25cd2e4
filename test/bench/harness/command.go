package harness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

// Main runs a program's command until it returns or a signal ends it. An error is
// printed after the program's name.
func Main(name string, command func(ctx context.Context, args []string, out, progress io.Writer) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, name+":", err)
		stop()
		os.Exit(1)
	}
}

// Below makes a relative path relative to the root of the clone, where make runs,
// instead of the program's folder.
func Below(file string) (string, error) {
	if file == "" || filepath.IsAbs(file) {
		return file, nil
	}
	root, err := clone()
	return filepath.Join(root, file), err
}

// clone returns the root of the repository: the first folder above the working
// directory that holds go.work.
func clone() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("no go.work above the working directory: run this in a clone of Portbook")
		}
	}
}
