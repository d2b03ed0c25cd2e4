package main

import "github.com/chromedp/chromedp/kb"

// managing signs in with Tab and Enter, almost takes a grant back, and asks why somebody may
// do something in a repository. The focus must always be visible.
func (c *checker) managing(t *tab) error {
	if _, err := t.open(c.accounts.url + "/account?next=/r/samples/harbour"); err != nil {
		return err
	}
	for _, step := range []struct{ role, name, text, to, shows string }{
		{"textbox", "Name", administrator, "", ""},
		{"textbox", "Password", password, "/r/samples/harbour", "two piers"},
		{"link", "Who may do what here", "",
			"/account/grants?repository=samples%2fharbour", "Who may do what in samples/harbour"},
		{"button", "Take back samples/* from everybody", "", "/account/grants/remove", "five minutes"},
		{"link", "No, go back", "", "/account/grants", "release-managers"},
		{"textbox", "In the repository", "samples/harbour",
			"/account/grants?grantee=&repository=samples%2Fharbour", "Explain"},
		{"textbox", "Name of the account", lead,
			"/account/grants?repository=samples%2Fharbour&who=lead", "is granted to lead"},
	} {
		if err := t.tabTo(step.role, step.name); err != nil {
			return err
		}
		if err := t.do(keys(step.text)); err != nil {
			return err
		}
		if step.to == "" {
			continue
		}
		if err := t.leave(keys(kb.Enter)); err != nil {
			return err
		}
		if err := t.at(step.to); err != nil {
			return err
		}
		if err := t.hasText(step.shows); err != nil {
			return err
		}
	}
	return nil
}
