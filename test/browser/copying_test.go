package main

import (
	"context"
	"fmt"
	"strings"

	cdpbrowser "github.com/chromedp/cdproto/browser"
	"github.com/chromedp/chromedp"
)

// minCopied is the minimum time, in milliseconds, for which "Copied" is shown: 1500 in
// app.js, less 100 because a busy machine may notice it late.
const minCopied = 1400

// watchCopied measures for how long the button and the live region say that something
// was copied.
const watchCopied = `copied = new Promise(done => {
	let since = 0;
	new MutationObserver(() => {
		const button = document.querySelector("button.copy.done") !== null;
		const heard = [...document.querySelectorAll("[role=status]")].some(e => e.textContent === "Copied");
		if (button && heard) since ||= performance.now();
		else if (since && !button && !heard) done(performance.now() - since);
	}).observe(document.body, {subtree: true, childList: true, attributes: true});
}), true`

// copying presses the button beside a command. The clipboard must then have exactly the
// command. All tabs share the clipboard, so only this journey uses it.
func (c *checker) copying(t *tab) error {
	if _, err := t.open(c.url + "/r/samples/harbour:1.1"); err != nil {
		return err
	}
	command := "docker pull " + strings.TrimPrefix(c.url, "http://") + "/samples/harbour:1.1"
	if err := t.hasText(command); err != nil {
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
		return fmt.Errorf("the page does not show that it copied, or shows it for ever: %w", err)
	}
	if took < minCopied {
		return fmt.Errorf("the page showed for %.0f ms that it copied, want at least %d", took, minCopied)
	}
	got, err := t.clipboard()
	if err == nil && got != command {
		err = fmt.Errorf("copied %q, want %q", got, command)
	}
	return err
}

// clipboard reads the clipboard, for which a page needs permission.
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
