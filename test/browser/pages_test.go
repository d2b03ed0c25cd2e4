package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// All pages must pass the checks: first those of an empty registry, then those of a
// registry with content. Then the journeys follow links from page to page.
func TestBrowser(t *testing.T) {
	needPrograms(t)
	needPackages(t)
	s, err := startSite(context.WithoutCancel(t.Context())) // stopped below
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	browser, closeBrowser, err := startBrowser(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(closeBrowser)

	c := newChecker(t, s, browser)
	t.Run("empty", func(t *testing.T) { c.pages(t, emptyPages) })
	if err := s.push(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Run("pages", func(t *testing.T) { c.pages(t, pages) })
	if err := s.openAccounts(t.Context(), browser); err != nil {
		t.Fatal(err)
	}
	t.Run("accounts", func(t *testing.T) { c.pages(t, accountPages) })
	t.Run("all", c.all)
	t.Run("known", func(t *testing.T) {
		if len(c.seen) < len(emptyPages)+len(pages)+len(accountPages) {
			t.Skip("not all pages were checked")
		}
		c.fixed(t)
	})
}

// all checks what was collected from all pages, and makes the journeys, at the same time.
func (c *checker) all(t *testing.T) {
	for _, check := range []struct {
		name string
		f    func(*testing.T)
	}{{"html", c.valid}, {"commands", c.commandsWork}, {"links", c.leadSomewhere}, {"journeys", c.journeys}} {
		t.Run(check.name, func(t *testing.T) {
			t.Parallel()
			check.f(t)
		})
	}
}

// A checker checks all pages.
type checker struct {
	*site
	browser context.Context
	html    string // a directory with the HTML of all pages

	faults

	mu       sync.Mutex
	links    map[link]string   // each with a page that has it
	commands map[string]string // commands to copy, each with a page that shows it
	seen     []page
}

// A link is a path of this site, for a visitor.
type link struct{ as, path string }

func newChecker(t *testing.T, s *site, browser context.Context) *checker {
	return &checker{site: s, browser: browser, html: t.TempDir(), faults: faults{known: map[fault]bool{}}, links: map[link]string{}, commands: map[string]string{}}
}

// pages checks each page, several at the same time.
func (c *checker) pages(t *testing.T, list []page) {
	for _, p := range list {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			found, err := c.page(p)
			if err != nil {
				t.Fatal(err)
			}
			c.judge(t, found)
		})
	}
}

// page runs the checks of one page.
func (c *checker) page(p page) (found []fault, err error) {
	tab, err := newTab(c.browser)
	if err != nil {
		return nil, err
	}
	defer tab.close()
	if err := errors.Join(c.visit(tab, p.as), tab.as(looks[0])); err != nil {
		return nil, err
	}
	address := c.address(p)
	first, err := c.open(tab, p)
	if err != nil {
		return nil, err
	}
	body, err := tab.source(first)
	if err != nil {
		return nil, err
	}
	for _, check := range []struct {
		name string
		find func() ([]string, error)
	}{
		{checkConsole, func() ([]string, error) { return first.console(p, address), nil }},
		{checkOrigin, func() ([]string, error) { return first.origin(c.base(p.as)), nil }},
		{checkWeight, func() ([]string, error) { return first.weight(), nil }},
		{checkAgain, func() ([]string, error) { return tab.viewAgain(p, address, first) }},
		{checkShows, func() ([]string, error) { return tab.shows(p, first, c.site) }},
		{checkHostile, tab.hostile},
		{checkLinks, tab.deadAnchors},
		{checkAxe, tab.axeInAllLooks},
		{checkOverflow, tab.overflow}, // the last look is that of a phone
	} {
		says, err := check.find()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", check.name, err)
		}
		for _, s := range says {
			found = append(found, fault{p.name, check.name, s})
		}
	}
	return found, c.collect(tab, p, body)
}

// collect collects what is checked for all pages together: links, commands and HTML.
func (c *checker) collect(tab *tab, p page, body []byte) error {
	links, err := tab.links(c.base(p.as))
	if err != nil {
		return err
	}
	if err := c.addCommands(tab, p); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(c.html, p.name+".html"), body, 0o644); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = append(c.seen, p)
	for _, path := range links {
		c.links[link{p.as, path}] = p.name
	}
	return nil
}

// No link may lead to an error.
func (c *checker) leadSomewhere(t *testing.T) {
	found, err := c.deadLinks(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(c.links) == 0 {
		t.Error("got no links on any page")
	}
	c.judge(t, found)
}

func (c *checker) deadLinks(ctx context.Context) (found []fault, err error) {
	for link, from := range c.links {
		if strings.HasPrefix(link.path, "/account/sign-in/") { // to a provider, and none answers
			continue
		}
		code, _, err := c.get(ctx, link.as, link.path)
		if err != nil {
			return nil, err
		}
		if code >= http.StatusBadRequest {
			found = append(found, fault{from, checkLinks, fmt.Sprintf("%s leads to status %d", link.path, code)})
		}
	}
	return found, nil
}

// vnu is the HTML checker of the W3C and the WHATWG, from the package vnu-jar.
// html-validate needs no Java, but does not find an unknown attribute of an SVG, an
// invalid <time>, a <dl> without a <dt>, or ARIA where it is not allowed. Our pages have
// many of the first three.
const vnu = "node_modules/vnu-jar/build/dist/vnu.jar"

// Every page must be valid HTML.
func (c *checker) valid(t *testing.T) {
	found, err := c.invalid(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c.judge(t, found)
}

// invalid returns errors and warnings. The detection of the language is off, because
// much of a page is names.
func (c *checker) invalid(ctx context.Context) (found []fault, err error) {
	out, err := exec.CommandContext(ctx, "java", "-jar", vnu, "--stdout", "--exit-zero-always", "--no-langdetect", "--format", "json", c.html).Output()
	if err != nil {
		return nil, fmt.Errorf("vnu: %w: %s", err, out)
	}
	var result struct {
		Messages []struct {
			Type, SubType, URL, Message, Extract string
			LastLine                             int
		}
	}
	if err := json.Unmarshal(out, &result); err != nil {
		return nil, fmt.Errorf("vnu: %w: %s", err, out)
	}
	for _, m := range result.Messages {
		if m.Type == "info" && m.SubType != "warning" {
			continue
		}
		name := strings.TrimSuffix(path.Base(m.URL), ".html")
		found = append(found, fault{name, checkHTML, fmt.Sprintf("line %d: %s: %q", m.LastLine, m.Message, m.Extract)})
	}
	return found, nil
}
