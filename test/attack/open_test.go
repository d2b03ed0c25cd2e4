package attack

import (
	"context"
	"fmt"
	"time"
)

// stillOpen are attacks that still hurt, and fail: they run with -long only. Each
// moves to its family when it is mended.
var stillOpen = []attack{
	{
		name: "1,000 tags on one large index",
		run: func(ctx context.Context, s *site, f *felt) {
			desc, err := s.push.Manifest(ctx, largeRepository, "large", indexType, indexOf(s.children))
			if err != nil {
				f.fail("push: %v", err)
				return
			}
			var events []map[string]any
			for n := range 1000 {
				tag := fmt.Sprintf("v1.%d", n)
				if err := s.linkTag(largeRepository, tag, desc.Digest.String()); err != nil {
					f.fail("%v", err)
					return
				}
				e := event(largeRepository, tag, "the same")
				e["target"].(map[string]any)["digest"] = desc.Digest
				events = append(events, e)
			}
			f.postEvents(s, events)
			f.several(ctx, s, 4, 100*time.Millisecond, func(attacker, n int) string { return tagAddresses[(attacker+n)%len(tagAddresses)] })
		},
		after: func(ctx context.Context, s *site, f *felt) {
			for _, path := range tagAddresses {
				if status, _, err := get(ctx, victim, s.indexer.URL+path); err != nil || status != 200 {
					f.fail("%s: %s", path, outcome(status, err))
				}
			}
		},
	},
}
