package config

import (
	"fmt"
	"net/netip"
)

// Webhooks has settings of the webhooks that events are sent to.
type Webhooks struct {
	Key           string   `mapstructure:"key" secret:"true"` // encrypts their secrets in the database; empty: there are none
	AllowNetworks []string `mapstructure:"allow_networks"`    // addresses besides public ones that may be receivers
}

// minWebhookKey is the minimum length of webhooks.key: 32 characters, which can have 128 random
// bits or more in any usual encoding.
const minWebhookKey = 32

// checkWebhooks checks the key and the networks of webhooks.
func (l *loader) checkWebhooks(c *Config) {
	const key, networks = "webhooks.key", "webhooks.allow_networks"
	if n := len(c.Webhooks.Key); n > 0 && n < minWebhookKey {
		l.fail("%s has %d characters (value not shown): write at least %d random ones, as `openssl rand -base64 32` does%s",
			key, n, minWebhookKey, l.at(key))
	}
	if _, err := c.Webhooks.Networks(); err != nil {
		l.fail("%s: %s%s", networks, err, l.at(networks))
	}
}

// Networks returns the networks of AllowNetworks.
func (w Webhooks) Networks() (all []netip.Prefix, err error) {
	for _, text := range w.AllowNetworks {
		p, err := netip.ParsePrefix(text)
		if a, errAddr := netip.ParseAddr(text); errAddr == nil && a.Zone() == "" {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil || p.Addr().Is4In6() {
			return nil, fmt.Errorf("%s is not a network: write one such as 10.1.0.0/16 or fd00::/8, or an address", shown(text))
		}
		all = append(all, p.Masked())
	}
	return all, nil
}
