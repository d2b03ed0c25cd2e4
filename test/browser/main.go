// Browser takes screenshots of every page of Portbook, in three widths and two themes,
// for review: make screenshots. Its tests check the same pages: whether they are
// valid, accessible and small.
//
// It starts Portbook as make up does, fills it with real clients, and drives Debian's
// Chromium. For the pages about accounts it starts a second indexer on the same database,
// where people sign in.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	cdppage "github.com/chromedp/cdproto/page"
)

// tabs is the number of tabs that are open at the same time: 2. Each keeps a core busy.
const tabs = 2

func main() {
	to := flag.String("to", filepath.Join(clone, "screenshots"), "the `folder` for the pictures")
	only := flag.String("only", "",
		"take pictures of pages with one of these `texts` in their name, separated by commas, and leave others")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	folder, err := filepath.Abs(*to)
	if err == nil {
		err = screenshots(ctx, folder, *only)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "screenshots:", err)
		os.Exit(1)
	}
}

// screenshots empties the folder and takes all pictures. With only, it takes those of
// some pages and keeps the others.
func screenshots(ctx context.Context, folder, only string) (err error) {
	for _, program := range append([]string{chromium}, clients...) {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("%w: deploy/prerequisites.sh lists what to install", err)
		}
	}
	if only == "" {
		if err := os.RemoveAll(folder); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	browser, closeBrowser, err := startBrowser(ctx)
	if err != nil {
		return err
	}
	defer closeBrowser()
	fmt.Println("Starting Portbook (the first build takes some minutes)")
	s, err := startSite(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.takeAll(browser, folder, named(emptyPages, only)); err != nil {
		return err
	}
	fmt.Println("Pushing images")
	if err := s.push(ctx); err != nil {
		return err
	}
	if err := s.openAccounts(ctx, browser); err != nil {
		return err
	}
	all := slices.Concat(pages, accountPages)
	if err := s.takeAll(browser, folder, named(all, only)); err != nil {
		return err
	}
	fmt.Printf("Wrote %d pictures to %s\n", len(named(slices.Concat(emptyPages, all), only))*len(widths)*2, folder)
	return nil
}

// named returns the pages whose name contains one of some parts, which are separated by commas.
func named(list []page, parts string) []page {
	return slices.DeleteFunc(slices.Clone(list), func(p page) bool {
		is := func(part string) bool { return strings.Contains(p.name, part) }
		return !slices.ContainsFunc(strings.Split(parts, ","), is)
	})
}

// takeAll takes pictures of pages in several tabs.
func (s *site) takeAll(browser context.Context, folder string, pages []page) error {
	queue := make(chan page, len(pages))
	for _, p := range pages {
		queue <- p
	}
	close(queue)
	var group sync.WaitGroup
	errs := make([]error, tabs)
	for i := range tabs {
		group.Go(func() {
			for p := range queue {
				if errs[i] = s.take(browser, folder, p); errs[i] != nil {
					return
				}
			}
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

// widths are the widths of pictures in pixels: a phone, a tablet, a desktop.
var widths = []int{320, 800, 1440}

// maxHeight is the maximum height of a picture in pixels. Longer pages repeat
// themselves below.
const maxHeight = 6000

// take takes the pictures of one page.
func (s *site) take(browser context.Context, folder string, p page) error {
	t, err := newTab(browser)
	if err != nil {
		return err
	}
	defer t.close()
	if err := s.visit(t, p.as); err != nil {
		return err
	}
	for _, width := range widths {
		for _, dark := range []bool{false, true} {
			l := look{width: width, dark: dark}
			if err := t.as(l); err != nil {
				return err
			}
			if _, err := s.open(t, p); err != nil {
				return err
			}
			name := fmt.Sprintf("%s-%d-%s.png", p.name, width, l.theme())
			if err := t.picture(filepath.Join(folder, name), width); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return nil
}

// picture writes a picture of the whole page to a file.
func (t *tab) picture(file string, width int) error {
	height, err := evaluate[float64](t, "document.documentElement.scrollHeight")
	if err != nil {
		return err
	}
	whole := true
	shot, err := call(t, cdppage.CaptureScreenshot, cdppage.CaptureScreenshotParams{
		Format: cdppage.CaptureScreenshotFormatPng, CaptureBeyondViewport: &whole, OptimizeForSpeed: &whole,
		Clip: &cdppage.Viewport{Width: float64(width), Height: min(height, maxHeight), Scale: 1},
	})
	if err != nil {
		return err
	}
	return os.WriteFile(file, shot.Data, 0o644)
}
