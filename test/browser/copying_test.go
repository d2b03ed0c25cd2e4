package main

import (
	"context"
	"fmt"
	"strings"

	cdpbrowser "github.com/chromedp/cdproto/browser"
	"github.com/chromedp/chromedp"
)

// minCopied is how many milliseconds "Copied" must stay: the 1500 of app.js, less
// 100 for a watcher that is late on a busy machine.
const minCopied = 1400

// watchCopied measures how long the page says that something was copied, by the
// button and to those who hear it.
const watchCopied = `copied = new Promise(done => {
	let since = 0;
	new MutationObserver(() => {
		const button = document.querySelector("button.copy.done") !== null;
		const heard = [...document.querySelectorAll("[role=status]")].some(e => e.textContent === "Copied");
		if (button && heard) since ||= performance.now();
		else if (since && !button && !heard) done(performance.now() - since);
	}).observe(document.body, {subtree: true, childList: true, attributes: true});
}), true`

// copying presses the button beside a command, and must have exactly that on the
// clipboard. All tabs share one clipboard, so this is the only journey with it.
func (c *checker) copying(t *tab) error {
	if _, err := t.open(c.url + "/r/samples/harbour:1.1"); err != nil {
		return err
	}
	command := "docker pull " + strings.TrimPrefix(c.url, "http://") + "/samples/harbour:1.1"
	if err := t.tells(command); err != nil {
		return err
	}
	button, err := t.element("button", "Copy "+command)
	if err != nil {
		return err
	}
	click, err := t.clickOn(button)
	if err != nil {
		return err
	}
	if _, err := evaluate[bool](t, watchCopied); err != nil {
		return err
	}
	if err := t.do(click); err != nil {
		return err
	}
	took, err := evaluate[float64](t, "copied")
	if err != nil {
		return fmt.Errorf("the page does not say that it copied, or for ever: %w", err)
	}
	if took < minCopied {
		return fmt.Errorf("the page says for %.0f ms that it copied, want at least %d", took, minCopied)
	}
	got, err := t.clipboard()
	if err == nil && got != command {
		err = fmt.Errorf("copied %q, want %q", got, command)
	}
	return err
}

// clipboard reads it, which a page may only do if somebody lets it.
func (t *tab) clipboard() (string, error) {
	ctx, cancel := context.WithTimeout(t.ctx, stepTimeout)
	defer cancel()
	_, err := chromedp.CallBrowser(ctx, cdpbrowser.SetPermission, cdpbrowser.SetPermissionParams{
		Permission: &cdpbrowser.PermissionDescriptor{Name: "clipboard-read"}, Setting: cdpbrowser.PermissionSettingGranted,
		BrowserContextID: chromedp.FromContext(t.ctx).BrowserContextID,
	})
	if err != nil {
		return "", err
	}
	return evaluate[string](t, "navigator.clipboard.readText()")
}
