package attack

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/portbook/portbook/registry/push"
)

const (
	imageType = ocispec.MediaTypeImageManifest
	indexType = ocispec.MediaTypeImageIndex

	// maxWords is the maximum number of rows that one image index may add to a dictionary
	// that never shrinks.
	maxWords = 150
)

// largeIndexes are image indexes as large as the registry accepts.
var largeIndexes = []attack{
	{
		name: "one child listed 10,000 times, with a label of 8 KB",
		run:  func(ctx context.Context, s *site, f *felt) { s.listOften(ctx, f, "attack/often", 8<<10, 10_000) },
	},
	{
		name: "one child listed 25,000 times, with a label of 30 KB",
		run:  func(ctx context.Context, s *site, f *felt) { s.listOften(ctx, f, "attack/often2", 30<<10, 25_000) },
	},
	{
		name: "3,000 platforms and media types of one child",
		run: func(ctx context.Context, s *site, f *felt) {
			s.limitWords(ctx, f, func() error {
				desc, err := s.push.Image(ctx, "attack/words", "", push.ImageSpec{})
				if err != nil {
					return err
				}
				_, err = s.push.Manifest(ctx, "attack/words", "latest", indexType, wordsIndex(func(int) child { return child{desc.Digest, desc.Size} }, 3000, "one"))
				return err
			})
		},
	},
	{
		name: "1,000 platforms and media types of 1,000 children",
		run: func(ctx context.Context, s *site, f *felt) {
			s.limitWords(ctx, f, func() error {
				_, err := s.push.Manifest(ctx, largeRepository, "words", indexType, wordsIndex(func(n int) child { return s.children[n] }, 1000, "many"))
				return err
			})
		},
	},
	{
		name: "an index of 1,100 children",
		run: func(ctx context.Context, s *site, f *felt) {
			if _, err := s.push.Manifest(ctx, largeRepository, "large", indexType, indexOf(s.children)); err != nil {
				f.fail("push: %v", err)
			}
			f.several(ctx, s, 4, 100*time.Millisecond, func(attacker, n int) string {
				return []string{"/r/" + largeRepository + ":large", "/api/v1/repositories/" + largeRepository + "/-/manifests/large"}[attacker%2]
			})
		},
		after: func(ctx context.Context, s *site, f *felt) { s.mustBeInBook(ctx, f, largeRepository) },
	},
	{
		name: "hundreds of tags on one large index",
		run: func(ctx context.Context, s *site, f *felt) {
			desc, err := s.push.Manifest(ctx, largeRepository, "large", indexType, indexOf(s.children))
			if err != nil {
				f.fail("push: %v", err)
				return
			}
			var events []map[string]any
			tags := 200 // so that all attacks together take two minutes
			if *long {
				tags = 1000
			}
			for n := range tags {
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

// tagAddresses show the tags of the large repository.
var tagAddresses = []string{
	"/api/v1/repositories/" + largeRepository + "/-/tags?limit=1000", "/r/" + largeRepository, "/api/v1/repositories/" + largeRepository,
}

// listOften pushes an index that lists one image many times.
func (s *site) listOften(ctx context.Context, f *felt, repository string, label, times int) {
	labels := flatpakLabels("app/org.attack."+strings.ReplaceAll(repository, "/", ".")+"/x86_64/stable", label)
	desc, err := s.push.Image(ctx, repository, "", push.ImageSpec{Labels: labels})
	if err != nil {
		f.fail("push: %v", err)
		return
	}
	body := indexOf(make([]child, times), child{desc.Digest, desc.Size})
	f.note("an index of %d bytes", len(body))
	if _, err := s.push.Manifest(ctx, repository, "latest", indexType, body); err != nil && ctx.Err() == nil {
		f.fail("push: %v", err)
	}
}

// limitWords fails if pushes adds more rows to the dictionaries than one index may.
func (s *site) limitWords(ctx context.Context, f *felt, pushes func() error) {
	const words = "SELECT (SELECT count(*) FROM media_type) + (SELECT count(*) FROM platform)"
	before, err := s.count(ctx, words)
	if err == nil {
		err = pushes()
	}
	if err != nil && ctx.Err() == nil {
		f.fail("push: %v", err)
	}
	<-ctx.Done()
	after, err := s.count(context.Background(), words)
	f.note("%d new rows in the dictionaries (%v)", after-before, err)
	if after-before > maxWords {
		f.fail("an index added more than %d rows to the dictionaries", maxWords)
	}
}

// A child is what an index entry needs.
type child struct {
	digest digest.Digest
	size   int64
}

// indexOf returns an index of children; empty ones are replaced by other.
func indexOf(children []child, other ...child) []byte {
	entries := make([]ocispec.Descriptor, 0, len(children))
	for _, c := range children {
		if c.digest == "" {
			c = other[0]
		}
		entries = append(entries, ocispec.Descriptor{MediaType: imageType, Digest: c.digest, Size: c.size})
	}
	return writeIndex(entries)
}

// wordsIndex returns an index in which each entry has its own words.
func wordsIndex(child func(n int) child, entries int, word string) []byte {
	var all []ocispec.Descriptor
	for n := range entries {
		c := child(n)
		all = append(all, ocispec.Descriptor{
			MediaType: fmt.Sprintf("application/vnd.%s.%d", word, n), Digest: c.digest, Size: c.size,
			Platform: &ocispec.Platform{OS: fmt.Sprintf("os%s%d", word, n), Architecture: "a"},
		})
	}
	return writeIndex(all)
}

func writeIndex(entries []ocispec.Descriptor) []byte {
	index := ocispec.Index{MediaType: indexType, Manifests: entries}
	index.SchemaVersion = 2
	body, err := json.Marshal(index)
	if err != nil {
		panic(err) // it can always be marshalled
	}
	return body
}

const (
	// largeRepository has largeChildren manifests without a tag.
	largeRepository = "attack/large"
	largeChildren   = 1100
	// childBytes is a common size of the annotations of signatures and reports.
	childBytes = 4 << 10
)

// largeChildren pushes the children once and returns them.
func (s *site) largeChildren(ctx context.Context) ([]child, error) {
	if s.children != nil {
		return s.children, nil
	}
	first, err := s.push.Image(ctx, largeRepository, "", push.ImageSpec{})
	if err != nil {
		return nil, err
	}
	_, body, err := s.push.Fetch(ctx, largeRepository, first.Digest.String())
	if err != nil {
		return nil, err
	}
	children := make([]child, largeChildren)
	var once sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(pushers)
	for n := range children {
		group.Go(func() error {
			annotated := fmt.Appendf(nil, `,"annotations":{"n":"%d","report":"%s"}}`, n, strings.Repeat("a finding ", childBytes/10))
			desc, err := s.push.Manifest(ctx, largeRepository, "", imageType, append(bytes.TrimSuffix(bytes.Clone(body), []byte("}")), annotated...))
			once.Lock()
			defer once.Unlock()
			children[n] = child{desc.Digest, desc.Size}
			return err
		})
	}
	s.children = children
	return children, group.Wait()
}
