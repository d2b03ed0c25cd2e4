package attack

import (
	"context"
	"fmt"

	"github.com/portbook/portbook/registry/push"
)

// failingRegistry is how a registry with a broken storage behaves, which anybody who
// may push can trigger.
var failingRegistry = []attack{
	{
		name: "300 references that hang",
		run: func(ctx context.Context, s *site, f *felt) {
			s.faults.hangAt("/v2/attack/hangs/")
			// Children first: they hang by digest, the rest by tag.
			desc, err := s.push.Image(ctx, "attack/hangs", "", push.ImageSpec{})
			if err != nil {
				f.fail("push: %v", err)
				return
			}
			_, body, err := s.push.Fetch(ctx, "attack/hangs", desc.Digest.String())
			for n := 0; n < 300 && err == nil && ctx.Err() == nil; n++ {
				_, err = s.push.Manifest(ctx, "attack/hangs", fmt.Sprintf("tag%d", n), imageType, body)
			}
			if err != nil && ctx.Err() == nil {
				f.fail("push: %v", err)
			}
		},
		after: func(ctx context.Context, s *site, f *felt) { s.mustBeInBook(ctx, f, "attack/hangs") },
	},
	{
		name: "a config that is redirected to an unreachable storage",
		run: func(ctx context.Context, s *site, f *felt) {
			s.faults.leadAstray("/v2/attack/astray/")
			s.pushAstray(ctx, f)
		},
		// Its reads are retried for half a minute, while the other attacks run. Then the
		// storage is repaired, and the next push is read as usual: see verify.
		end: func(ctx context.Context, s *site, f *felt) {
			s.mustBeInBook(ctx, f, "attack/astray")
			s.faults.repair()
			s.pushAstray(ctx, f)
		},
	},
}

func (s *site) pushAstray(ctx context.Context, f *felt) {
	if err := s.image(ctx, "attack/astray", "latest", map[string]string{"a": "b"}); err != nil {
		f.fail("push: %v", err)
	}
}
