// Up runs the whole of Portbook on one machine, for trying it out: `make up`.
// See package launch. `up push NAME:TAG` and `up search WORDS` are clients of a
// running one, for machines that have no other.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/portbook/portbook/deploy/launch"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "make up:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	cfg := launch.Config{Environ: os.Environ(), Out: os.Stdout}
	var samples string
	flag.StringVar(&cfg.Addr, "addr", "127.0.0.1:7080", "the `host:port` where Portbook answers")
	flag.StringVar(&cfg.Data, "data", "", "the `folder` that keeps everything; a default that depends on the user if empty")
	flag.StringVar(&samples, "samples", "yes", "push sample images into an empty registry: `yes or no`")
	flag.Parse()
	switch args := flag.Args(); {
	case len(args) == 0:
	case len(args) == 2 && args[0] == "push":
		return launch.Push(ctx, cfg.Addr, args[1], os.Stdout)
	case len(args) == 2 && args[0] == "search":
		return launch.Search(ctx, cfg.Addr, args[1], os.Stdout)
	default:
		return fmt.Errorf("unexpected argument %q: nothing, push NAME:TAG or search WORDS", args[0])
	}
	switch samples {
	case "yes":
		cfg.Samples = true
	case "no":
	default:
		return fmt.Errorf("SAMPLES=%s: say yes or no", samples)
	}
	var err error
	if cfg.Source, err = source(); err != nil {
		return err
	}
	return launch.Run(ctx, cfg)
}

// source is the clone of Portbook that the working directory is in: what is
// built is what was checked out.
func source() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("%s is not in a clone of Portbook: no directory above it has a go.work", start)
		}
	}
}
