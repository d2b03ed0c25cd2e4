package attack

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// costlyRequests are cheap to send and costly to answer.
var costlyRequests = []attack{
	{
		name:  "referrers of a planted index, 25 at once",
		plant: plantFallbackIndex,
		run: func(ctx context.Context, s *site, f *felt) {
			f.several(ctx, s, 25, 50*time.Millisecond, func(int, int) string {
				return "/v2/" + largeRepository + "/referrers/" + planted.String()
			})
		},
	},
	{
		name:  "globs over large values, 24 at once",
		plant: plantLargeLabels,
		run: func(ctx context.Context, s *site, f *felt) {
			f.several(ctx, s, 24, 50*time.Millisecond, func(attacker, n int) string {
				return "/api/v1/search?q=" + url.QueryEscape(fmt.Sprintf("-label:large=*%s*b%d*", strings.Repeat("a", 800), 24*n+attacker))
			})
		},
	},
	{
		name: "searches of 32 terms, 8 at once",
		run: func(ctx context.Context, s *site, f *felt) {
			f.several(ctx, s, 8, 50*time.Millisecond, func(attacker, n int) string {
				var q strings.Builder
				for term := range 32 {
					fmt.Fprintf(&q, "%s ", []string{"b%d", "-team%d", "label:team*=b*%d", "-tag:x%d*"}[term%4])
				}
				return "/api/v1/search?q=" + url.QueryEscape(strings.ReplaceAll(q.String(), "%d", fmt.Sprint(8*n+attacker)))
			})
		},
	},
	{
		name: "searches for 32 names of eight stars, 8 at once",
		run: func(ctx context.Context, s *site, f *felt) {
			f.several(ctx, s, 8, 50*time.Millisecond, func(attacker, n int) string {
				var q strings.Builder
				for term := range 32 {
					fmt.Fprintf(&q, "-repo:*a*%d*e*i*o*u*%d*z* ", term, 8*n+attacker)
				}
				return "/api/v1/facets?q=" + url.QueryEscape(q.String())
			})
		},
	},
	{
		name: "searches and facets of 300 repositories that change all the time",
		run: func(ctx context.Context, s *site, f *felt) {
			pushing, stop := context.WithCancel(ctx)
			defer stop()
			var pushers errgroup.Group
			for pusher := range 4 {
				pushers.Go(func() error {
					for n := pusher; pushing.Err() == nil; n += 4 {
						labels := map[string]string{"team": fmt.Sprint(n), fmt.Sprintf("key%d", n): "x"}
						if err := s.image(pushing, fmt.Sprintf("attack/changing%d", n%300), "latest", labels); err != nil && pushing.Err() == nil {
							return err
						}
					}
					return nil
				})
			}
			f.several(ctx, s, 8, 10*time.Millisecond, func(attacker, n int) string {
				return []string{"/api/v1/search?q=changing", "/api/v1/facets?q=os:linux+label:key", "/?q=changing", "/api/v1/suggest?q=changing"}[(attacker+n)%4] +
					fmt.Sprint(n) // another one each time
			})
			stop()
			if err := pushers.Wait(); err != nil {
				f.fail("push: %v", err)
			}
		},
		after: func(ctx context.Context, s *site, f *felt) { s.mustBeInBook(ctx, f, "attack/changing0") },
	},
	{
		name: "flatpak's index by 80 long conditions, 8 at once",
		run: func(ctx context.Context, s *site, f *felt) {
			f.several(ctx, s, 8, 50*time.Millisecond, func(attacker, n int) string {
				q := url.Values{}
				for c := range 80 {
					q.Add(fmt.Sprintf("label:%d:matches", c%8), fmt.Sprintf("*%d*%s*", 8*n+attacker, strings.Repeat("a", 1000)))
				}
				return "/index/static?" + q.Encode()
			})
		},
	},
	{
		name: "deep pages, 8 at once",
		run: func(ctx context.Context, s *site, f *felt) {
			pages := []string{"/v1/search?n=100&page=%d", "/?sort=size&page=%d", "/v1/search?q=app&n=1&page=%d"}
			f.several(ctx, s, 8, 50*time.Millisecond, func(attacker, n int) string { return fmt.Sprintf(pages[attacker%len(pages)], n%900+1) })
		},
	},
}

// planted is the subject, which need not exist, of an index that anybody may push.
var planted = digest.FromString("planted")

// plantFallbackIndex pushes an index of the referrers tag schema that lists as many
// manifests as the indexer looks up.
func plantFallbackIndex(ctx context.Context, s *site) error {
	children, err := s.largeChildren(ctx)
	if err != nil {
		return err
	}
	tag := strings.Replace(planted.String(), ":", "-", 1)
	_, err = s.push.Manifest(ctx, largeRepository, tag, indexType, indexOf(children[:1000]))
	return err
}

const (
	// largeLabels images have a label of largeLabel bytes each: database.maxMetaSize
	// allows 256 KiB.
	largeLabels = 30
	largeLabel  = 200 << 10
)

func plantLargeLabels(ctx context.Context, s *site) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(pushers)
	for n := range largeLabels {
		group.Go(func() error {
			return s.image(ctx, fmt.Sprintf("attack/label%d", n), "latest", map[string]string{"large": strings.Repeat("a", largeLabel)})
		})
	}
	return group.Wait()
}
