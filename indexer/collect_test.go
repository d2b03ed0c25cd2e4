package indexer_test

import (
	"testing"
	"time"

	"github.com/portbook/portbook/indexer"
)

// Nothing is deleted before what was seen justifies it, and the refusal says the figures.
func TestCollectRefusal(t *testing.T) {
	t.Parallel()
	seen := indexer.Collection{Observed: 8 * 24 * time.Hour, Longest: 6 * time.Hour}
	seen.Look.Begin = time.Now()
	policy := indexer.CollectPolicy{Delete: true, Observe: 7 * 24 * time.Hour, Delay: 24 * time.Hour}
	tests := map[string]struct {
		change func(*indexer.Collection, *indexer.CollectPolicy)
		want   string
	}{
		"justified": {func(*indexer.Collection, *indexer.CollectPolicy) {}, ""},
		"only looks": {func(_ *indexer.Collection, p *indexer.CollectPolicy) { p.Delete = false },
			"the collection only looks: collect.delete is false"},
		"paused": {func(c *indexer.Collection, _ *indexer.CollectPolicy) { c.Paused, c.PausedBy = true, "cli:op" },
			"the collection was paused by cli:op"},
		"no look": {func(c *indexer.Collection, _ *indexer.CollectPolicy) { c.Look.Begin = time.Time{} },
			"the storage has not been looked at yet"},
		"blind": {func(c *indexer.Collection, _ *indexer.CollectPolicy) { c.Look.Blind = "/x cannot be listed" },
			"the last look may not have seen all links: /x cannot be listed"},
		"too early": {func(c *indexer.Collection, _ *indexer.CollectPolicy) { c.Observed = 50 * time.Hour },
			"the storage has been looked at for 50h0m0s, and collect.observe is 168h0m0s"},
		"needed later": {func(c *indexer.Collection, _ *indexer.CollectPolicy) { c.Longest = 30 * time.Hour },
			"a blob was needed again after 30h0m0s, so collect.delay must be at least 4 times that, 120h0m0s, and is 24h0m0s"},
	}
	for name, test := range tests {
		c, p := seen, policy
		test.change(&c, &p)
		if got := p.Refusal(c); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}
