package retention

import (
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
)

// A Code is the kind of a reason.
type Code string

// The reasons of decisions. The first two are those by which something goes.
const (
	ByRule    Code = "rule"      // a rule selects it
	Belongs   Code = "belongs"   // all that it belongs to goes
	NoRule    Code = "no-rule"   // no rule selects it
	Protected Code = "protected" // a protection holds the tag
	InUse     Code = "in-use"    // it runs in a cluster, or belongs to what does
	Tagged    Code = "tagged"    // a tag that stays shows it
	Child     Code = "child"     // an index that stays lists it
	Referrer  Code = "referrer"  // it is attached to what stays
	Unknown   Code = "unknown"   // the book lacks what it shows
)

// A Reason says why something goes or stays.
type Reason struct {
	Code Code
	Rule int64  // the id of the rule that decided; 0: none
	Text string // in words
}

// A Decision says whether a tag or a manifest goes, and why.
type Decision struct {
	Tag    string        // "": it is about the manifest
	Digest digest.Digest // of the manifest, or what the tag shows
	Delete bool
	Reason Reason
	Pulls  int64 // how often it was pulled, as counted when this was decided
}

// subjectOf returns what a tag says that its manifest is attached to, "" for most tags.
func subjectOf(tag string) digest.Digest { return indexer.SubjectOfTag(tag) }

// A decider decides about one repository.
type decider struct {
	*graph
	repository *Repository
	rules      []*matcher
	stays      map[digest.Digest]bool
	goes       map[digest.Digest]bool
	inUse      map[digest.Digest]bool
	tagReasons map[*Tag]decided
	reasons    map[digest.Digest]Reason
}

type decided struct {
	deleted bool
	reason  Reason
}

// Decide decides about all tags and manifests of a repository by the rules that select it:
// first about the tags in their order, then about the manifests in theirs. Rules of other
// repositories are ignored. It calls nothing that waits; its time grows with the number of
// tags times that of rules.
func Decide(rules []Rule, r Repository, now time.Time) []Decision {
	d := &decider{
		graph: graphOf(&r), repository: &r, stays: map[digest.Digest]bool{}, goes: map[digest.Digest]bool{},
		inUse: map[digest.Digest]bool{}, tagReasons: make(map[*Tag]decided, len(r.Tags)),
		reasons: make(map[digest.Digest]Reason, len(r.Manifests)),
	}
	for _, rule := range Of(rules, r.Name) {
		m := newMatcher(rule, now)
		m.rank(r.Tags, d.graph)
		d.rules = append(d.rules, m)
	}
	d.findInUse()
	d.decideTags()
	d.decideRoots()
	d.spread()
	d.followTags()
	return d.decisions()
}

// findInUse finds what must stay because it runs: what was reported, the indexes that list it,
// and the images of those.
func (d *decider) findInUse() {
	for i := range d.repository.Manifests {
		if m := &d.repository.Manifests[i]; m.InUse {
			d.inUse[m.Digest] = true
			d.reasons[m.Digest] = Reason{Code: InUse, Text: "a cluster runs it"}
		}
	}
	because := func(format string) func(m, from digest.Digest) {
		return func(m, from digest.Digest) {
			d.reasons[m] = Reason{Code: InUse, Text: fmt.Sprintf(format, short(from))}
		}
	}
	closeOver(d.inUse, d.indexes, because("a cluster runs %s, which it lists"))
	children := map[digest.Digest][]digest.Digest{}
	for m := range d.inUse {
		children[m] = d.manifests[m].Children
	}
	for m := range children {
		for _, child := range children[m] {
			if d.manifests[child] != nil && !d.inUse[child] {
				d.inUse[child] = true
				because("a cluster runs the index %s, or an image of it")(child, m)
			}
		}
	}
}

// decideTags decides about the tags by themselves, except those of what is attached.
func (d *decider) decideTags() {
	for i := range d.repository.Tags {
		t := &d.repository.Tags[i]
		deleted, reason, kept := d.decideTag(t)
		if d.attached(t) && !kept {
			continue // it stays and goes with its subject
		}
		d.tagReasons[t] = decided{deleted, reason}
	}
}

// decideTag decides about a tag. Kept is whether a reason keeps it, rather than the lack of
// one to delete it.
func (d *decider) decideTag(t *Tag) (deleted bool, r Reason, kept bool) {
	switch {
	case t.Protected != "":
		return false, Reason{Code: Protected, Text: t.Protected}, true
	case d.manifests[t.Digest] == nil:
		return false, Reason{Code: Unknown, Text: "the book does not have the manifest that it shows"}, true
	case d.inUse[t.Digest]:
		return false, d.reasons[t.Digest], true
	}
	return d.byRules(func(m *matcher) (truth, doubt) { return m.tag(t, d.graph) })
}

// byRules decides by the rules alone: what may be kept is, and what is certainly selected goes.
func (d *decider) byRules(selects func(*matcher) (truth, doubt)) (deleted bool, r Reason, kept bool) {
	r = Reason{Code: NoRule, Text: "no rule selects it"}
	for _, m := range d.rules {
		is, why := selects(m)
		switch {
		case is > no && m.rule.Action == Keep:
			return false, reasonOf(m.rule, why, is), true
		case is == yes && !deleted:
			deleted, r = true, reasonOf(m.rule, certain, is)
		case is == maybe && !deleted:
			r = reasonOf(m.rule, why, is)
		}
	}
	return deleted, r, false
}

// reasonOf returns the reason of what a rule selects, or may select.
func reasonOf(r Rule, why doubt, is truth) Reason {
	text := fmt.Sprintf("rule %d (%s): %s", r.ID, r.Pattern, r.Sentence())
	if is == maybe && why != certain {
		text += "; it stays because " + string(why)
	}
	return Reason{Code: ByRule, Rule: r.ID, Text: text}
}

// decideRoots decides about the manifests that do not depend on others.
func (d *decider) decideRoots() {
	for m := range d.inUse {
		d.stays[m] = true
	}
	for i := range d.repository.Manifests {
		m := &d.repository.Manifests[i]
		if d.stays[m.Digest] {
			continue
		}
		if d.isShown(m.Digest) {
			d.decideShown(m.Digest)
			continue
		}
		deleted, reason, kept := d.byRules(func(r *matcher) (truth, doubt) { return r.manifest(m, d.graph) })
		loose := len(d.parents[m.Digest]) == 0
		switch {
		case kept || loose && !deleted:
			d.stays[m.Digest], d.reasons[m.Digest] = true, reason
		case loose:
			d.goes[m.Digest], d.reasons[m.Digest] = true, reason
		}
	}
}

// isShown reports whether a tag shows a manifest that was decided by itself.
func (d *decider) isShown(m digest.Digest) bool {
	for _, t := range d.tags[m] {
		if _, ok := d.tagReasons[t]; ok {
			return true
		}
	}
	return false
}

// decideShown decides about a manifest by its tags: it goes with the last of them.
func (d *decider) decideShown(m digest.Digest) {
	var reason Reason
	for _, t := range d.tags[m] {
		of, ok := d.tagReasons[t]
		if ok && !of.deleted {
			d.stays[m], d.reasons[m] = true, Reason{Code: Tagged, Rule: of.reason.Rule, Text: "the tag " + t.Name + " stays"}
			return
		}
		if ok && reason.Code == "" {
			reason = Reason{Code: ByRule, Rule: of.reason.Rule, Text: "no tag shows it any more; of " + t.Name + ": " +
				of.reason.Text}
		}
	}
	d.goes[m], d.reasons[m] = true, reason
}

// spread decides about what belongs to other manifests: it stays while one of them stays, and
// goes with the last one. What is left, which a cycle would be, stays.
func (d *decider) spread() {
	d.spreadStays()
	reached := map[digest.Digest]bool{}
	for m := range d.goes {
		if !d.stays[m] {
			reached[m] = true
		}
	}
	d.goes = reached
	closeOver(reached, d.withoutStays(), func(m, from digest.Digest) {
		d.reasons[m] = Reason{Code: Belongs, Rule: d.reasons[from].Rule, Text: "it belongs to " + short(from) +
			", which goes"}
	})
	for i := range d.repository.Manifests {
		if m := d.repository.Manifests[i].Digest; !d.stays[m] && !d.goes[m] {
			d.stays[m], d.reasons[m] = true, Reason{Code: NoRule, Text: "no rule selects it"}
		}
	}
	d.spreadStays()
	for m := range d.stays {
		delete(d.goes, m)
	}
}

func (d *decider) spreadStays() {
	closeOver(d.stays, d.belonging, func(m, from digest.Digest) {
		if m == from {
			return
		}
		d.reasons[m] = Reason{Code: Referrer, Text: "it is attached to " + short(from) + ", which stays"}
		for _, index := range d.indexes[m] {
			if index == from {
				d.reasons[m] = Reason{Code: Child, Text: "the index " + short(from) + " stays, which lists it"}
			}
		}
	})
}

// withoutStays returns what belongs to each manifest that goes, without what stays.
func (d *decider) withoutStays() map[digest.Digest][]digest.Digest {
	next := map[digest.Digest][]digest.Digest{}
	for parent, all := range d.belonging {
		for _, m := range all {
			if !d.stays[m] {
				next[parent] = append(next[parent], m)
			}
		}
	}
	return next
}

// followTags decides about tags of what is attached: they stay while it does. So do other tags
// of what is attached to a manifest that stays, since clients may find it by them alone.
func (d *decider) followTags() {
	for i := range d.repository.Tags {
		t := &d.repository.Tags[i]
		of, known := d.tagReasons[t]
		switch {
		case known && !of.deleted:
		case d.isAttachedToStaying(t):
			d.tagReasons[t] = decided{false, Reason{Code: Referrer, Text: "what it shows is attached to a manifest that stays"}}
		case !known && d.stays[t.Digest]:
			d.tagReasons[t] = decided{false, Reason{Code: Tagged, Text: "what it shows stays"}}
		case !known:
			d.tagReasons[t] = decided{true, d.reasons[t.Digest]}
		}
	}
}

// isAttachedToStaying reports whether what a tag shows is attached to a manifest that stays.
func (d *decider) isAttachedToStaying(t *Tag) bool {
	subject := d.manifests[t.Digest].Subject
	return d.stays[subject] || d.attached(t) && d.stays[subjectOf(t.Name)]
}

// decisions returns all decisions.
func (d *decider) decisions() []Decision {
	all := make([]Decision, 0, len(d.repository.Tags)+len(d.repository.Manifests))
	for i := range d.repository.Tags {
		t := &d.repository.Tags[i]
		of := d.tagReasons[t]
		all = append(all, Decision{Tag: t.Name, Digest: t.Digest, Delete: of.deleted, Reason: of.reason, Pulls: t.Pulls})
	}
	for i := range d.repository.Manifests {
		m := &d.repository.Manifests[i]
		all = append(all, Decision{Digest: m.Digest, Delete: d.goes[m.Digest], Reason: d.reasons[m.Digest], Pulls: m.Pulls})
	}
	return all
}

// short returns the beginning of a digest, which is enough to find it in a repository.
func short(d digest.Digest) string {
	const shown = len("sha256:") + 12
	return string(d)[:min(len(d), shown)]
}
