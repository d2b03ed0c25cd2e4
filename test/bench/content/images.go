// Package content makes up repositories and images like those of a company, and pushes
// them. The same number gives the same repository in every run.
package content

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portbook/portbook/registry/push"
)

// IndexEvery makes every tenth tag an index of two architectures.
const IndexEvery = 10

// A Repository is a made-up repository.
type Repository struct {
	Name        string
	number      int
	team        string
	subject     string
	description string
	created     time.Time
	random      uint64 // seed of its other properties
}

// Repositories returns n repositories. A smaller n returns the first ones of the same
// list.
func Repositories(n int) []Repository {
	seen := map[string]bool{}
	var all []Repository
	for i := range n {
		all = append(all, newRepository(i, seen))
	}
	return all
}

func newRepository(number int, seen map[string]bool) Repository {
	r := source("repository", number)
	p := Repository{
		number: number, team: zipf(r, teams), subject: zipf(r, subjects), random: r.Uint64(),
		created: time.Date(2023, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(r.IntN(900*24)) * time.Hour),
	}
	kind := zipf(r, kinds)
	base := p.baseName(r, kind)
	p.Name = base
	for k := 2; seen[p.Name]; k++ {
		p.Name = fmt.Sprintf("%s-%d", base, k)
	}
	seen[p.Name] = true
	p.description = fmt.Sprintf("%s %s %s %s data for the %s team. Written in %s, backed by %s.", p.subject, kind,
		uniform(r, verbs), zipf(r, subjects), p.team, zipf(r, languages), zipf(r, stores))
	if r.Float64() < 0.10 {
		p.description += " Codename " + codename(r) + "."
	}
	return p
}

// baseName draws a name in one of the usual forms.
func (p *Repository) baseName(r *rand.Rand, kind string) string {
	switch x := r.Float64(); {
	case x < 0.55: // payments/invoice-api
		return p.team + "/" + p.subject + "-" + kind
	case x < 0.75: // payments/checkout/invoice-api
		return p.team + "/" + uniform(r, subjects) + "/" + p.subject + "-" + kind
	case x < 0.87: // payments/nginx
		p.subject = zipf(r, upstreams)
		return p.team + "/" + p.subject
	}
	p.subject = codename(r) // payments/zephalith
	return p.team + "/" + p.subject
}

// FirstTag is the first tag of each repository.
const FirstTag = "v1.0.0"

func tagName(t int) string { return fmt.Sprintf("v%d.%d.%d", 1+t/25, t/5%5, t%5) }

// image makes one image of a tag. Without layers a push takes four requests instead of
// ten, and the indexer reads the same.
func (p Repository) image(tag int, architecture string, layers bool) push.ImageSpec {
	r := source(p.Name, tag, architecture)
	created := p.created.Add(time.Duration(tag*36) * time.Hour)
	base := bases[p.random%uint64(len(bases))]
	spec := push.ImageSpec{
		Architecture: architecture, Created: created, Author: p.team + "@example.com",
		User: "65532", WorkingDir: "/app", Entrypoint: []string{"/app/" + p.subject},
		Env:          []string{"PATH=/usr/local/bin:/usr/bin:/bin", "APP_TEAM=" + p.team},
		ExposedPorts: []string{fmt.Sprintf("%d/tcp", 8000+p.number%100)},
		Labels:       p.labels(tag, created, base, r),
		History: []ocispec.History{
			{Created: &p.created, CreatedBy: "ADD rootfs.tar.gz / # " + base},
			{
				Created: &created, CreatedBy: "COPY build.txt /app/" + p.subject + " # buildkit",
				Comment: "buildkit.dockerfile.v0",
			},
			{Created: &created, CreatedBy: `ENTRYPOINT ["/app/` + p.subject + `"]`, EmptyLayer: true},
		},
	}
	if layers {
		spec.Files = map[string]string{"app/" + p.subject + "/build.txt": fmt.Sprintf("%064x", r.Uint64())}
		spec.Layers = [][]byte{baseLayer}
	}
	return spec
}

// baseLayer is a layer that all images share. It is not a tar archive, but nothing
// reads it.
var baseLayer = []byte(strings.Repeat("portbook bench base layer\n", 10))

// labels returns the eleven to fourteen labels that a build system writes.
func (p Repository) labels(tag int, created time.Time, base string, r *rand.Rand) map[string]string {
	const oci = "org.opencontainers.image."
	labels := map[string]string{
		oci + "title":           strings.ReplaceAll(strings.TrimPrefix(p.Name, p.team+"/"), "/", " "),
		oci + "description":     p.description,
		oci + "vendor":          vendors[p.random%uint64(len(vendors))],
		oci + "licenses":        licenses[p.random%uint64(len(licenses))],
		oci + "version":         strings.TrimPrefix(tagName(tag), "v"),
		oci + "source":          "https://git.example.com/" + p.Name,
		oci + "revision":        fmt.Sprintf("%016x%016x%08x", r.Uint64(), r.Uint64(), r.Uint32()),
		oci + "created":         created.Format(time.RFC3339),
		oci + "base.name":       base,
		"com.example.team":      p.team,
		"com.example.build.url": fmt.Sprintf("https://ci.example.com/%s/%d", p.Name, tag),
	}
	if p.number%3 == 0 {
		labels[oci+"url"] = "https://" + p.team + ".example.com/" + p.subject
		labels[oci+"documentation"] = "https://docs.example.com/" + p.Name
		labels[oci+"authors"] = p.team + "@example.com"
	}
	return labels
}

// source returns a random source that depends only on parts.
func source(parts ...any) *rand.Rand {
	h := fnv.New64a()
	fmt.Fprint(h, parts...)
	return rand.New(rand.NewPCG(1, h.Sum64()))
}

// zipf draws a word; its weight is 1 divided by its rank.
func zipf(r *rand.Rand, words []string) string {
	var sum float64
	for i := range words {
		sum += 1 / float64(i+1)
	}
	x := r.Float64() * sum
	for i, w := range words {
		if x -= 1 / float64(i+1); x <= 0 {
			return w
		}
	}
	return words[len(words)-1]
}

func uniform(r *rand.Rand, words []string) string { return words[r.IntN(len(words))] }

func codename(r *rand.Rand) string {
	return uniform(r, firstSyllables) + uniform(r, middleSyllables) + uniform(r, lastSyllables)
}
