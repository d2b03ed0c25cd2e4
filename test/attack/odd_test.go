package attack

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/portbook/portbook/registry/push"
	"github.com/portbook/portbook/test/bench/harness"
)

// oddContent are images with unusual content.
var oddContent = []attack{
	{
		name: "configs with deep nesting, huge numbers and 5,000 labels",
		run: func(ctx context.Context, s *site, f *felt) {
			pushOdd(ctx, s, f)
			f.several(ctx, s, 4, 100*time.Millisecond, func(attacker, n int) string {
				name := oddRepository(n % len(oddConfigs()))
				return []string{"/r/" + name + ":latest", "/api/v1/repositories/" + name + "/-/manifests/latest"}[attacker%2]
			})
		},
		after: func(ctx context.Context, s *site, f *felt) {
			for n := range oddConfigs() {
				s.mustBeInBook(ctx, f, oddRepository(n))
			}
		},
	},
	{
		name: "5,000 annotations, pushed 20 times",
		run: func(ctx context.Context, s *site, f *felt) {
			for n := range 20 {
				annotations := map[string]string{"n": fmt.Sprint(n)}
				for key := range 5000 {
					annotations[fmt.Sprintf("org.example.%d.%d", n, key)] = "a word of its own " + harness.UniqueWord(5000*n+key)
				}
				if _, err := s.push.Image(ctx, "attack/annotated", fmt.Sprint(n), push.ImageSpec{Annotations: annotations}); err != nil && ctx.Err() == nil {
					f.fail("push: %v", err)
				}
			}
		},
		after: func(ctx context.Context, s *site, f *felt) { s.mustBeInBook(ctx, f, "attack/annotated") },
	},
	{
		name: "the ref of another owner's flatpak, pushed to aaa/x",
		run: func(ctx context.Context, s *site, f *felt) {
			if err := s.image(ctx, "aaa/x", "latest", flatpakLabels(firefox, 100)); err != nil {
				f.fail("push: %v", err)
			}
		},
		// The next reads check this too: see askIndex.
		after: func(ctx context.Context, s *site, f *felt) { s.mustBeInBook(ctx, f, "aaa/x"); s.askIndex(ctx, f) },
	},
}

func oddRepository(n int) string { return fmt.Sprintf("attack/odd%d", n) }

// oddConfigs returns JSON that every parser must survive.
func oddConfigs() []string {
	var labels strings.Builder
	for n := range 5000 {
		fmt.Fprintf(&labels, `"label %d":"%s",`, n, harness.UniqueWord(n))
	}
	return []string{
		`{"os":"linux","x":` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + `}`,
		`{"os":"linux","x":[` + strings.Repeat("1e131071,", 5000) + `1e999999999]}`,
		`{"os":"linux","config":{"Labels":{` + strings.TrimSuffix(labels.String(), ",") + `}}}`,
		`{"os":` + strings.Repeat(" ", 1<<20) + `7,"config":{"Labels":[` + strings.Repeat("{},", 100_000) + `{}]}}`,
	}
}

func pushOdd(ctx context.Context, s *site, f *felt) {
	for n, config := range oddConfigs() {
		if _, err := s.push.Image(ctx, oddRepository(n), "latest", push.ImageSpec{RawConfig: []byte(config)}); err != nil {
			f.fail("push of odd config %d: %v", n, err)
		}
	}
}

// mustBeInBook waits until the book has a repository's tag.
func (s *site) mustBeInBook(ctx context.Context, f *felt, repository string) {
	err := harness.Wait(ctx, foundTimeout, repository, func() (bool, error) {
		status, _, err := get(ctx, victim, s.indexer.URL+"/api/v1/repositories/"+repository)
		return status == 200, err
	})
	if err != nil {
		f.fail("%s is not in the book: %v", repository, err)
	}
}
