// Up runs all of Portbook on one machine to try it out: see `make up` and package
// launch. `up push NAME:TAG` and `up search WORDS` are clients for machines that have
// no other.
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
	flag.StringVar(&cfg.Addr, "addr", "127.0.0.1:7080", "`host:port` of Portbook")
	flag.StringVar(&cfg.Data, "data", "", "`folder` for all data; the default depends on the user")
	flag.StringVar(&samples, "samples", "yes", "whether to push sample images to an empty registry: `yes or no`")
	var auth string
	flag.StringVar(&auth, "auth", "no", "whether clients log in: `yes or no`")
	login := launch.Login{Password: os.Getenv("PASSWORD")}
	flag.StringVar(&login.User, "user", "",
		"`name` to log in with, for push and search; the variable PASSWORD has the password")
	flag.Parse()
	switch args := flag.Args(); {
	case len(args) == 0:
	case len(args) == 2 && args[0] == "push":
		return launch.Push(ctx, cfg.Addr, login, args[1], os.Stdout)
	case len(args) == 2 && args[0] == "search":
		return launch.Search(ctx, cfg.Addr, login, args[1], os.Stdout)
	default:
		return fmt.Errorf("unexpected argument %q: write push NAME:TAG, search WORDS or no argument", args[0])
	}
	var err error
	if cfg.Samples, err = truth("SAMPLES", samples); err != nil {
		return err
	}
	if cfg.Auth, err = truth("AUTH", auth); err != nil {
		return err
	}
	if cfg.Source, err = source(); err != nil {
		return err
	}
	return launch.Run(ctx, cfg)
}

// truth parses the value of a variable of make.
func truth(name, value string) (bool, error) {
	if value != "yes" && value != "no" {
		return false, fmt.Errorf("%s=%s: write yes or no", name, value)
	}
	return value == "yes", nil
}

// source returns the clone of Portbook that contains the working directory.
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
