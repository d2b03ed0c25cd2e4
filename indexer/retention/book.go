package retention

import (
	"github.com/opencontainers/go-digest"
)

// A Repository is what the book has of a repository.
type Repository struct {
	Name      string
	Tags      []Tag
	Manifests []Manifest
}

// A Tag is a tag of a repository.
type Tag struct {
	Name      string
	Digest    digest.Digest // what it shows
	Pushed    Span          // when it came to show that
	Pulled    Span          // when it was last pulled, if ever
	Pulls     int64         // how often it was pulled, as counted
	Protected string        // why it must not move or go; "": nothing protects it
}

// A Manifest is a manifest of a repository.
type Manifest struct {
	Digest   digest.Digest
	Children []digest.Digest // what an image index lists; nil for others
	Subject  digest.Digest   // what it is attached to by its subject; "": nothing
	// Labels are those of the image's config. NoLabels says that they could not be read or
	// stored.
	Labels   map[string]string
	NoLabels bool
	Pushed   Span  // of one without a tag: since when it has none
	Pulled   Span  // when it was last pulled by its digest, if ever
	Pulls    int64 // how often that was, as counted
	InUse    bool  // whether a cluster has reported that it runs
	Size     int64 // bytes of the manifest and of what it names, for those who read the decision
}

// A graph has the manifests of a repository and how they belong together. It holds pointers
// into the repository.
type graph struct {
	manifests map[digest.Digest]*Manifest
	tags      map[digest.Digest][]*Tag          // that show a manifest
	parents   map[digest.Digest][]digest.Digest // indexes that list it, and what it is attached to
	belonging map[digest.Digest][]digest.Digest // what stays while it stays: its children, and what is attached to it
	indexes   map[digest.Digest][]digest.Digest // indexes that list it
	referrers map[digest.Digest][]digest.Digest // what is attached to it
}

func graphOf(r *Repository) *graph {
	g := &graph{
		manifests: make(map[digest.Digest]*Manifest, len(r.Manifests)), tags: make(map[digest.Digest][]*Tag, len(r.Tags)),
		parents: map[digest.Digest][]digest.Digest{}, belonging: map[digest.Digest][]digest.Digest{},
		indexes: map[digest.Digest][]digest.Digest{}, referrers: map[digest.Digest][]digest.Digest{},
	}
	for i := range r.Manifests {
		g.manifests[r.Manifests[i].Digest] = &r.Manifests[i]
	}
	for i := range r.Manifests {
		m := &r.Manifests[i]
		for _, child := range m.Children {
			if g.belong(m.Digest, child) {
				g.indexes[child] = append(g.indexes[child], m.Digest)
			}
		}
		g.attach(m.Subject, m.Digest)
	}
	for i := range r.Tags {
		t := &r.Tags[i]
		g.tags[t.Digest] = append(g.tags[t.Digest], t)
		g.attach(subjectOf(t.Name), t.Digest)
	}
	return g
}

// belong says that a manifest stays while a parent stays. It reports whether both exist.
func (g *graph) belong(parent, child digest.Digest) bool {
	if parent == child || g.manifests[parent] == nil || g.manifests[child] == nil {
		return false
	}
	g.parents[child] = append(g.parents[child], parent)
	g.belonging[parent] = append(g.belonging[parent], child)
	return true
}

func (g *graph) attach(subject, referrer digest.Digest) {
	if subject != "" && g.belong(subject, referrer) {
		g.referrers[subject] = append(g.referrers[subject], referrer)
	}
}

// attached reports whether a tag is the name of what is attached to a manifest that exists,
// such as sha256-....sig. Rules do not select it: it stays and goes with that manifest.
func (g *graph) attached(t *Tag) bool {
	subject := subjectOf(t.Name)
	return subject != "" && subject != t.Digest && g.manifests[subject] != nil
}

// close adds to set all that next leads to from its members, also indirectly. reached is
// called for each that is added, with the one that led to it.
func closeOver(set map[digest.Digest]bool, next map[digest.Digest][]digest.Digest,
	reached func(d, from digest.Digest)) {
	work := make([]digest.Digest, 0, len(set))
	for d := range set {
		work = append(work, d)
	}
	for len(work) > 0 {
		from := work[len(work)-1]
		work = work[:len(work)-1]
		for _, d := range next[from] {
			if !set[d] {
				set[d] = true
				reached(d, from)
				work = append(work, d)
			}
		}
	}
}
