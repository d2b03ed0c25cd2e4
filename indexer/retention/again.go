package retention

import (
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// A Step is what is left of a decision to delete after a second look.
type Step struct {
	Decision Decision // as planned
	Skip     string   // why it is not done; "": it is
	// Above are the manifests that a manifest belongs to: if one of them stays after all, it
	// stays too.
	Above []digest.Digest
}

// NotThere is why a step is skipped of which nothing is left to do.
const NotThere = "it is not there any more"

// Again looks again at what was planned to go from a repository, as it is now, and returns the
// steps in the order in which they are done: what others belong to goes before those, and a tag
// before what it shows. Only planned tags and manifests go. One is skipped if it moved, was
// pulled, is protected or runs since, if something was attached to it or an index lists it
// that was not there when the plan was made, if the rules would keep it now, or if what it
// belongs to is skipped.
func Again(planned []Decision, made time.Time, rules []Rule, r Repository, now time.Time) []Step {
	a := &again{graph: graphOf(&r), made: made, decided: map[key]Decision{}, planned: map[key]digest.Digest{}}
	for _, d := range Decide(rules, r, now) {
		a.decided[keyOf(d)] = d
	}
	for _, d := range planned {
		if d.Delete {
			a.planned[keyOf(d)] = d.Digest
		}
	}
	var tags, manifests []Step
	for _, d := range planned {
		switch {
		case !d.Delete:
		case d.Tag != "":
			tags = append(tags, Step{Decision: d, Skip: a.skipTag(d)})
		default:
			manifests = append(manifests, Step{d, a.skipManifest(d), a.parents[d.Digest]})
		}
	}
	a.hold(tags, manifests)
	return a.ordered(tags, manifests)
}

// A key names a tag, or a manifest if Tag is "".
type key struct {
	tag    string
	digest digest.Digest
}

func keyOf(d Decision) key {
	if d.Tag != "" {
		return key{tag: d.Tag}
	}
	return key{digest: d.Digest}
}

type again struct {
	*graph
	made    time.Time
	decided map[key]Decision
	planned map[key]digest.Digest
}

// skipTag returns why a planned tag must stay; "" if it may go.
func (a *again) skipTag(d Decision) string {
	is, found := a.decided[keyOf(d)]
	switch {
	case !found:
		return NotThere
	case is.Digest != d.Digest:
		return "it has moved since the plan was made"
	case is.Pulls != d.Pulls:
		return "it was pulled since the plan was made"
	case !is.Delete:
		return "it would stay now: " + is.Reason.Text
	}
	return ""
}

// skipManifest returns why a planned manifest must stay, as far as that does not depend on
// other steps.
func (a *again) skipManifest(d Decision) string {
	is, found := a.decided[keyOf(d)]
	switch {
	case !found:
		return NotThere
	case is.Pulls != d.Pulls:
		return "it was pulled since the plan was made"
	case !is.Delete:
		return "it would stay now: " + is.Reason.Text
	}
	return a.joined(d.Digest)
}

// joined returns what belongs to a manifest, or to what it belongs, that was not there when the
// plan was made, or would go without being in the plan; "" if there is nothing like that.
func (a *again) joined(d digest.Digest) string {
	for _, t := range a.tags[d] {
		k := key{tag: t.Name}
		was, planned := a.planned[k]
		switch {
		case planned && was != d:
			return "the tag " + t.Name + " has moved to it"
		case !planned && (a.decided[k].Delete || t.Pushed.To.After(a.made)):
			return "the tag " + t.Name + " shows it, which is not in the plan"
		}
	}
	for _, index := range a.indexes[d] {
		if a.isNew(index) {
			return "the index " + short(index) + " lists it, which is not in the plan"
		}
	}
	for _, r := range a.referrers[d] {
		if a.isNew(r) {
			return short(r) + " is attached to it, which is not in the plan"
		}
	}
	return ""
}

func (a *again) isNew(d digest.Digest) bool {
	k := key{digest: d}
	return a.planned[k] == "" && (a.decided[k].Delete || a.manifests[d].Pushed.To.After(a.made))
}

// hold skips what belongs to something that is there and does not go: because it is skipped, or
// because the rules would delete it now and the plan does not.
func (a *again) hold(tags, manifests []Step) {
	held := map[digest.Digest]bool{}
	because := map[digest.Digest]string{}
	for _, s := range tags {
		if s.Skip != "" && a.decided[keyOf(s.Decision)].Digest == s.Decision.Digest {
			held[s.Decision.Digest], because[s.Decision.Digest] = true, "the tag "+s.Decision.Tag+" stays"
		}
	}
	for _, s := range manifests {
		if s.Skip != "" && a.manifests[s.Decision.Digest] != nil {
			held[s.Decision.Digest] = true
		}
	}
	for d := range a.manifests {
		if a.planned[key{digest: d}] == "" {
			held[d] = true
		}
	}
	closeOver(held, a.belonging, func(d, from digest.Digest) {
		because[d] = "it belongs to " + short(from) +
			", which stays"
	})
	for i := range manifests {
		s := &manifests[i]
		if s.Skip == "" && held[s.Decision.Digest] {
			s.Skip = because[s.Decision.Digest]
		}
	}
	for _, s := range manifests {
		because[s.Decision.Digest] = s.Skip
	}
	for i := range tags { // one whose manifest was to go, or which is attached, goes only with it
		s, d := &tags[i], tags[i].Decision
		if s.Skip == "" && held[d.Digest] && (a.planned[key{digest: d.Digest}] != "" ||
			a.attached(&Tag{Name: d.Tag, Digest: d.Digest})) {
			s.Skip = strings.TrimSuffix("what it shows stays: "+because[d.Digest], ": ")
		}
	}
}

// ordered returns the steps in the order in which they are done.
func (a *again) ordered(tags, manifests []Step) []Step {
	depth := a.depths()
	slices.SortStableFunc(manifests, func(x, y Step) int { return depth[x.Decision.Digest] - depth[y.Decision.Digest] })
	byDigest := map[digest.Digest][]Step{}
	for _, s := range tags {
		byDigest[s.Decision.Digest] = append(byDigest[s.Decision.Digest], s)
	}
	all := make([]Step, 0, len(tags)+len(manifests))
	for _, s := range manifests {
		all = append(all, byDigest[s.Decision.Digest]...)
		delete(byDigest, s.Decision.Digest)
		all = append(all, s)
	}
	for _, s := range tags { // of manifests that stay, in the order of the plan
		if _, left := byDigest[s.Decision.Digest]; left {
			all = append(all, s)
		}
	}
	return all
}

// depths returns how many manifests are above each one, on the longest way.
func (a *again) depths() map[digest.Digest]int {
	depth := map[digest.Digest]int{}
	var of func(d digest.Digest) int
	of = func(d digest.Digest) int {
		if n, known := depth[d]; known {
			return n
		}
		depth[d] = 0 // ends a cycle, which digests do not have
		n := 0
		for _, p := range a.parents[d] {
			n = max(n, of(p)+1)
		}
		depth[d] = n
		return n
	}
	for d := range a.manifests {
		of(d)
	}
	return depth
}
