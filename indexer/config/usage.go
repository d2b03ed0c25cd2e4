package config

import "strings"

// Usage says how pulls are counted.
type Usage struct {
	// Scanners are globs of user agents, in any case. Pulls of such clients are counted apart.
	Scanners []string `mapstructure:"scanners" default:"*trivy*,*clair*,*grype*,*syft*,*snyk*,*anchore*,*neuvector*"`
}

// maxScanners is the maximum number of patterns of usage.scanners: 100. Each is compared with
// the user agent of each pull.
const maxScanners = 100

// checkUsage checks the patterns of scanners.
func (l *loader) checkUsage(c *Config) {
	const name = "usage.scanners"
	if n := len(c.Usage.Scanners); n > maxScanners {
		l.fail("%s has %d patterns: write at most %d%s", name, n, maxScanners, l.at(name))
	}
	for _, pattern := range c.Usage.Scanners {
		if strings.Trim(pattern, "*? ") == "" {
			l.fail("%s: %s fits every client, so no pull would count: write a pattern such as *trivy*%s", name, shown(pattern),
				l.at(name))
		}
	}
}
