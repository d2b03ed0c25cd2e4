package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/chromedp/cdproto/network"

	"github.com/portbook/portbook/schema/localpg"
	"github.com/portbook/portbook/schema/localpg/process"
)

// Who opens a page. Nobody opens it at the indexer of make up, where nobody logs in. The
// others do so at a second indexer of the same book, which has accounts.
const (
	nobody        = ""
	stranger      = "stranger"      // has not signed in
	administrator = "harbourmaster" // may do everything
	lead          = "lead"          // administers team/*
	newcomer      = "newcomer"      // has no rights of its own
)

// password is that of all accounts.
const password = "correct horse battery"

// A withAccounts is an indexer on the book of a site where people have accounts.
type withAccounts struct {
	url      string
	server   *process.Process
	sessions map[string]*network.Cookie // of those who have signed in
}

// base returns the address of the indexer at which a visitor opens pages.
func (s *site) base(visitor string) string {
	if visitor == nobody {
		return s.url
	}
	return s.accounts.url
}

// openAccounts starts the indexer with accounts, fills it, and signs in those who do.
func (s *site) openAccounts(ctx, browser context.Context) error {
	if err := s.startAccounts(ctx); err != nil {
		return err
	}
	if _, err := s.portbook(ctx, password+"\n", "user", "add", "--admin", administrator); err != nil {
		return err
	}
	if err := s.fillAccounts(ctx); err != nil {
		return err
	}
	return s.signInAll(browser)
}

// webhooksKey is the setting of both indexers, which send to webhooks.
const webhooksKey = "PORTBOOK_WEBHOOKS_KEY=0123456789abcdef0123456789abcdef"

// startAccounts starts the indexer with accounts. The providers at which people can sign in
// do not answer: one is at an address of the site where no provider is.
func (s *site) startAccounts(ctx context.Context) error {
	var ports [2]int
	for i := range ports {
		port, err := localpg.FreePort()
		if err != nil {
			return err
		}
		ports[i] = port
	}
	keys := filepath.Join(s.data, "keys.json")
	if _, err := s.portbook(ctx, "", "keys", "rotate", keys); err != nil {
		return err
	}
	account, err := process.Unprivileged()
	if err != nil {
		return err
	}
	if err := account.Own(keys); err != nil {
		return err
	}
	address, operations := fmt.Sprintf("127.0.0.1:%d", ports[0]), fmt.Sprintf("127.0.0.1:%d", ports[1])
	s.accounts.url = "http://" + address
	cmd := exec.Command(s.program(), "serve", "--config", s.config())
	cmd.Dir, cmd.Env = s.data, []string{
		"PORTBOOK_HTTP_ADDRESS=" + address, "PORTBOOK_HTTP_OPERATIONS_ADDRESS=" + operations,
		"PORTBOOK_REGISTRY_PUBLIC_URL=" + s.accounts.url, "PORTBOOK_AUTH_METHOD=accounts", "PORTBOOK_AUTH_KEYS=" + keys,
		webhooksKey,
		"PORTBOOK_AUTH_OIDC_TITLE=Harbour Office", "PORTBOOK_AUTH_OIDC_ISSUER=" + s.url + "/nowhere",
		"PORTBOOK_AUTH_OIDC_CLIENT_ID=portbook", "PORTBOOK_AUTH_OIDC_CLIENT_SECRET=secret",
		"PORTBOOK_AUTH_GITHUB_LOGIN_CLIENT_ID=portbook", "PORTBOOK_AUTH_GITHUB_LOGIN_CLIENT_SECRET=secret",
	}
	if s.accounts.server, err = process.Start(cmd, account, s.log); err != nil {
		return err
	}
	return s.accounts.ready(ctx, "http://"+operations+"/readyz")
}

// ready waits until an address answers 200.
func (a *withAccounts) ready(ctx context.Context, address string) error {
	return eventually(ctx, func() error {
		select {
		case <-a.server.Done():
			return fmt.Errorf("the indexer with accounts has ended: %s", a.server.Tail())
		default:
		}
		code, _, err := fetch(ctx, address)
		if err == nil && code != http.StatusOK {
			err = fmt.Errorf("%s answers %d", address, code)
		}
		return err
	})
}

// stop stops the indexer, if it was started.
func (a *withAccounts) stop() {
	if a.server != nil {
		a.server.Stop(syscall.SIGTERM, stopTimeout/4)
	}
}

// eventually calls f until it returns nil, at most for newsTimeout.
func eventually(ctx context.Context, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, newsTimeout)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("after %v: %w", newsTimeout, err)
		case <-tick.C:
		}
	}
}

func (s *site) program() string { return filepath.Join(s.data, "bin", "portbook") }
func (s *site) config() string  { return filepath.Join(s.data, "indexer.yaml") }

// portbook runs a command of the indexer's program on the book, with a standard input.
func (s *site) portbook(ctx context.Context, input string, args ...string) (string, error) {
	if args[0] != "keys" {
		args = append(args, "--config", s.config())
	}
	cmd := exec.CommandContext(ctx, s.program(), args...)
	cmd.Env, cmd.Stdin = []string{"PATH=" + os.Getenv("PATH")}, strings.NewReader(input)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("portbook %s: %w: %s", strings.Join(args, " "), err, &errs)
	}
	return strings.TrimSpace(out.String()), nil
}

// ask sends JSON to the API as somebody, and returns the answer, which must have one of some
// status codes.
func (s *site) ask(ctx context.Context, as, method, path string, body any, want ...int) ([]byte, error) {
	b, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, s.accounts.url+"/api/v1"+path, bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.SetBasicAuth(as, password)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if b, err = io.ReadAll(resp.Body); err == nil && !slices.Contains(want, resp.StatusCode) {
		err = fmt.Errorf("%s %s as %s: got status %d, want %d: %s", method, path, as, resp.StatusCode, want, b)
	}
	return b, err
}

// signInAll signs in all who do, each by the form, in tabs of their own.
func (s *site) signInAll(browser context.Context) error {
	names := []string{administrator, lead, newcomer}
	cookies, errs := make([]*network.Cookie, len(names)), make([]error, len(names))
	var group sync.WaitGroup
	for i, name := range names {
		group.Go(func() {
			if cookies[i], errs[i] = s.signIn(browser, name); errs[i] != nil {
				errs[i] = fmt.Errorf("sign in as %s: %w", name, errs[i])
			}
		})
	}
	group.Wait()
	s.accounts.sessions = map[string]*network.Cookie{}
	for i, name := range names {
		s.accounts.sessions[name] = cookies[i]
	}
	return errors.Join(errs...)
}

func (s *site) signIn(browser context.Context, name string) (*network.Cookie, error) {
	t, err := newTab(browser)
	if err != nil {
		return nil, err
	}
	defer t.close()
	if _, err := t.open(s.accounts.url + "/account?next=/account"); err != nil {
		return nil, err
	}
	for _, field := range []struct{ name, text string }{{"Name", name}, {"Password", password}} {
		box, err := t.element("textbox", field.name)
		if err != nil {
			return nil, err
		}
		if err := t.typeInto(box, field.text); err != nil {
			return nil, err
		}
	}
	if err := t.press("Sign in"); err != nil {
		return nil, err
	}
	if err := errors.Join(t.at("/account"), t.hasText(name)); err != nil {
		return nil, err
	}
	cookies, err := call(t, network.GetCookies, network.GetCookiesParams{})
	if err == nil && len(cookies.Cookies) != 1 {
		err = fmt.Errorf("got %d cookies, want 1", len(cookies.Cookies))
	}
	if err != nil {
		return nil, err
	}
	return cookies.Cookies[0], nil
}

// visit lets a tab have the session of a visitor.
func (s *site) visit(t *tab, visitor string) error {
	cookie := s.accounts.sessions[visitor]
	if cookie == nil {
		return nil
	}
	_, err := call(t, network.SetCookie, network.SetCookieParams{
		Name: cookie.Name, Value: cookie.Value, URL: s.accounts.url, HTTPOnly: &cookie.HTTPOnly, SameSite: cookie.SameSite,
	})
	return err
}

// open opens a page, and returns what happened meanwhile.
func (s *site) open(t *tab, p page) (*view, error) {
	v, err := t.open(s.address(p))
	if err != nil || p.press == "" {
		return v, err
	}
	t.mu.Lock()
	t.view = newView()
	t.mu.Unlock()
	if err := t.press(s.fill(p.press)); err != nil {
		return nil, err
	}
	return t.taken(), nil
}

// press clicks a button, and waits for the page that follows.
func (t *tab) press(name string) error {
	button, err := t.element("button", name)
	if err != nil {
		return err
	}
	return t.click(button)
}
