package config

import "cmp"

// checkCollect checks the garbage collection of blobs: it has to be configured wholly or not
// at all.
func (l *loader) checkCollect(c *Config) {
	const sweep, token = "collect.sweep", "collect.token"
	x := c.Collect
	switch {
	case x.Sweep == "" && (x.Token != "" || x.Delete):
		l.fail("%s is required with the other keys of collect: set it to the URL of `registry sweep serve`, or remove them%s",
			sweep, cmp.Or(l.at("collect.delete"), l.at(token)))
	case x.Sweep != "" && x.Token == "":
		l.fail("%s is required with %s: set it to the token in the file of --token-file%s", token, sweep, l.at(sweep))
	case x.Sweep != "":
		l.checkURL(sweep, x.Sweep)
	}
	if x.Look > 0 && x.Delay < 2*x.Look {
		l.fail("collect.delay %v is shorter than two looks: every look for that time must have seen that nothing uses a"+
			" blob; make it at least %v, or collect.look shorter%s", x.Delay, 2*x.Look,
			cmp.Or(l.at("collect.delay"), l.at("collect.look")))
	}
}
