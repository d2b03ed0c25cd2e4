package postgrestest

import (
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portbook/portbook/indexer"
)

// A Member is a repository of Crowd.
type Member struct {
	Name string
	// Own are texts that only it has: its name, digests, tags and words, and its
	// namespace, unless that has two repositories.
	Own   []string
	Image indexer.Manifest // shown by its tags v1 and latest
	Layer digest.Digest    // that only its image has
	Label string           // key of a label that only its image has
}

// Crowd fills a shelf with a hundred repositories, space00/app to space99/app, and two
// that were deleted, space31/gone and space41/gone. Each has an image, an image index
// and a signature, a tag that cannot be read and one that waits to be read. All images
// have two layers in common, and every fifth the same flatpak.
func (s Shelf) Crowd() []Member {
	s.T.Helper()
	var members []Member
	var findings []indexer.Finding
	tag := func(name string, m ...indexer.Manifest) {
		findings = append(findings, indexer.Finding{
			Task:    indexer.Task{Repository: m[0].Repository, Reference: indexer.TagOrDigest(name)},
			Outcome: indexer.Found, Digest: m[0].Digest, Manifests: m,
		})
	}
	for i := range 100 {
		m := memberOf(i)
		list := Listing(m.Name, m.Image)
		signature := Made(m.Name, "", 100, 1, "2026-11-20", "x", fmt.Sprint(i))
		signature.Kind, signature.Subject = indexer.KindArtifact, m.Image.Digest
		signature.ArtifactType = "application/vnd.cncf.notary.signature"
		own := fmt.Sprintf("tag%02d", i)
		for _, name := range []string{"v1", "latest", own} {
			tag(name, m.Image)
		}
		tag("multi", list, m.Image)
		tag(signature.Digest.String(), signature)
		broken := indexer.Task{Repository: m.Name, Reference: "broken"}
		problem := "the registry cannot show " + m.Name + ":broken"
		findings = append(findings, indexer.Finding{Task: broken, Outcome: indexer.Broken, Problem: problem})
		m.Own = append(m.Own, own, list.Digest.Encoded(), signature.Digest.Encoded())
		members = append(members, m)
	}
	for _, name := range []string{"space31/gone", "space41/gone"} {
		m := Made(name, "linux/amd64", 7, 2, "2026-11-20")
		tag("v1", m)
		members = append(members, Member{Name: name, Own: []string{name, m.Digest.Encoded()}, Image: m})
	}
	s.apply(findings)
	var gone []indexer.Finding
	for _, name := range []string{"space31/gone", "space41/gone"} {
		gone = append(gone, indexer.Finding{Task: indexer.Task{Repository: name, Reference: "v1"}, Outcome: indexer.Gone})
	}
	s.apply(gone)
	s.troubles(members)
	s.Lead()
	return members
}

func memberOf(i int) Member {
	space := fmt.Sprintf("space%02d", i)
	word := fmt.Sprintf("word%02d", i)
	m := Member{Name: space + "/app", Layer: digest.FromString(space), Label: "label" + word}
	m.Image = Made(m.Name, "linux/amd64", int64(1000+i), 2, "2026-11-01",
		"org.opencontainers.image.description", "An application with "+word, m.Label, word,
		indexer.FlatpakRefLabel, fmt.Sprintf("app/org.Example%d/x86_64/stable", i%5))
	m.Image.Layers = append(m.Image.Layers, ocispec.Descriptor{Digest: m.Layer, Size: int64(1000 + i)})
	m.Own = []string{m.Name, word, m.Image.Digest.Encoded(), m.Layer.Encoded()}
	if i != 31 && i != 41 { // see Crowd
		m.Own = append(m.Own, space)
	}
	return m
}

// apply stores the results of reading references.
func (s Shelf) apply(findings []indexer.Finding) {
	s.T.Helper()
	ctx := s.T.Context()
	var asks []indexer.Ask
	results := map[string]indexer.Finding{}
	for _, f := range findings {
		asks = append(asks, indexer.Ask{Repository: f.Task.Repository, Reference: f.Task.Reference})
		results[f.Task.Repository+"\n"+string(f.Task.Reference)] = f
	}
	err := s.Ask(ctx, asks)
	tasks, claim := s.Claim(ctx, indexer.PriorityConfirm, 10_000, time.Minute)
	if err := errors.Join(err, claim); err != nil {
		s.T.Fatal(err)
	}
	findings = nil
	for _, t := range tasks {
		if f, ok := results[t.Repository+"\n"+string(t.Reference)]; ok {
			f.Task = t
			findings = append(findings, f)
		}
	}
	if err := s.Apply(ctx, findings); err != nil || len(findings) != len(results) {
		s.T.Fatalf("%d of %d were read: %v", len(findings), len(results), err)
	}
}

// troubles makes tasks that wait, scans, an event and a report of the leader.
func (s Shelf) troubles(members []Member) {
	s.T.Helper()
	ctx := s.T.Context()
	var due []indexer.Ask
	for _, m := range members {
		due = append(due, indexer.Ask{Repository: m.Name, Reference: "due"})
	}
	reason := "the list of tags of " + members[0].Name + " is too long"
	_, report := s.BeginReports(ctx, []indexer.Job{{Name: "scan", LastEnd: Now, LastError: reason, Done: 7, Total: 102}})
	const rest = `
		WITH scans AS (
			INSERT INTO scan (reason, asked_at, started_at, finished_at, listed, repositories, tags, changed, errors, error)
			VALUES ('start', now(), now(), now(), 102, 102, 408, 77, 13, NULL), ('command', now(), now(), NULL, 102, 50, 200, 7, 3, $1)
		)
		INSERT INTO event (id, received_at, at, action, repository) VALUES ('e', now(), now(), 'push', 'space00/app')`
	_, insert := s.Pool.Exec(ctx, rest, reason)
	ask := s.Ask(ctx, due)
	_, wait := s.Pool.Exec(ctx, "UPDATE task SET run_after = now() - interval '1 second', leased_until = NULL")
	if err := errors.Join(report, insert, ask, wait); err != nil {
		s.T.Fatal(err)
	}
}
