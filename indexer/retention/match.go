package retention

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
)

// A matcher is a rule that is ready to be tried on the tags of a repository at one time.
type matcher struct {
	rule    Rule
	now     time.Time
	pattern *regexp.Regexp   // of the tag; nil: any
	newest  map[string]truth // by tag, whether it is among the newest; nil: the rule does not ask
}

func newMatcher(r Rule, now time.Time) *matcher {
	m := &matcher{rule: r, now: now}
	if r.Conditions.TagRegexp != "" {
		// It was checked when the rule was made. One that does not compile selects nothing.
		m.pattern, _ = compileTag(r.Conditions.TagRegexp)
	}
	return m
}

// A doubt says what is not known, because of which something stays.
type doubt string

const (
	certain    doubt = ""
	pushDoubt  doubt = "it is not known when it was pushed: a scan found it"
	pullDoubt  doubt = "it is not known whether it was pulled: pulls have not been counted for so long"
	labelDoubt doubt = "its labels are not known"
	rankDoubt  doubt = "it is not known which of several is newer"
)

// and returns the lesser of two truths, with its doubt.
func and(a truth, why doubt, b truth, other doubt) (truth, doubt) {
	if b < a {
		return b, other
	}
	return a, why
}

// forTags reports whether the rule can select tags, and forUntagged whether it can select
// manifests without one. What keeps, and asks nothing about a tag, does both.
func (m *matcher) forTags() bool { return !m.rule.Conditions.Untagged }

func (m *matcher) forUntagged() bool {
	c := m.rule.Conditions
	return c.Untagged || m.rule.Action == Keep && c.Tag == "" && c.TagRegexp == "" && c.Semver == "" && c.Newest == 0
}

// tag reports whether the rule selects a tag. rank must have been called.
func (m *matcher) tag(t *Tag, g *graph) (truth, doubt) {
	is, why := m.unranked(t, g)
	if m.newest != nil && is > no {
		is, why = and(is, why, m.newest[t.Name], rankDoubt)
	}
	return is, why
}

// unranked is tag without regard to which tags are newest.
func (m *matcher) unranked(t *Tag, g *graph) (truth, doubt) {
	c := m.rule.Conditions
	switch {
	case !m.forTags(),
		c.Tag != "" && !indexer.MatchGlob(c.Tag, t.Name),
		c.TagRegexp != "" && (m.pattern == nil || !m.pattern.MatchString(t.Name)):
		return no, certain
	}
	if c.Semver != "" {
		if _, ok := parseVersion(t.Name); !ok {
			return no, certain
		}
	}
	return m.common(t.Digest, t.Pushed, t.Pulled, g)
}

// manifest reports whether the rule selects a manifest that has no tag.
func (m *matcher) manifest(of *Manifest, g *graph) (truth, doubt) {
	if !m.forUntagged() {
		return no, certain
	}
	return m.common(of.Digest, of.Pushed, of.Pulled, g)
}

// common reports whether the conditions hold that tags and manifests have in common.
func (m *matcher) common(d digest.Digest, pushed, pulled Span, g *graph) (is truth, why doubt) {
	c := m.rule.Conditions
	is = yes
	if c.PushedWithin > 0 {
		is, why = and(is, why, pushed.since(m.now.Add(-c.PushedWithin)), pushDoubt)
	}
	if c.OlderThan > 0 {
		is, why = and(is, why, pushed.before(m.now.Add(-c.OlderThan)), pushDoubt)
	}
	if c.PulledWithin > 0 {
		is, why = and(is, why, pulled.since(m.now.Add(-c.PulledWithin)), pullDoubt)
	}
	if c.Label != "" {
		is, why = and(is, why, m.label(g.manifests[d], g), labelDoubt)
	}
	return is, why
}

// label reports whether a manifest has the label. An index has a label that must be kept if
// one of its images has it, and one that may be deleted if all of them do.
func (m *matcher) label(of *Manifest, g *graph) truth {
	switch {
	case of == nil:
		return no
	case len(of.Children) == 0:
		return m.ownLabel(of)
	}
	any, all := no, yes
	for _, child := range of.Children {
		is := maybe // not in the book
		if c := g.manifests[child]; c != nil {
			is = m.ownLabel(c)
		}
		any, all = max(any, is), min(all, is)
	}
	if m.rule.Action == Keep {
		return any
	}
	return all
}

func (m *matcher) ownLabel(of *Manifest) truth {
	key, value, exact := strings.Cut(m.rule.Conditions.Label, "=")
	got, has := of.Labels[key]
	switch {
	case of.NoLabels:
		return maybe
	case has && (!exact || got == value):
		return yes
	}
	return no
}

// rank decides which of the tags are the newest that the rule selects.
func (m *matcher) rank(tags []Tag, g *graph) {
	c := m.rule.Conditions
	if c.Newest == 0 && c.Semver == "" {
		return
	}
	m.newest = make(map[string]truth, len(tags))
	if c.Semver != "" {
		m.rankVersions(tags, g)
		return
	}
	span := func(t *Tag) Span { return t.Pushed }
	if c.By == ByPull {
		span = func(t *Tag) Span { return t.Pulled }
	}
	var froms, tos []time.Time // of those that are certainly selected, and of those that may be
	for i := range tags {
		t := &tags[i]
		is, _ := m.unranked(t, g)
		if is == no || g.attached(t) {
			continue
		}
		tos = append(tos, span(t).To)
		if is == yes && !span(t).From.IsZero() {
			froms = append(froms, span(t).From)
		}
	}
	slices.SortFunc(froms, time.Time.Compare)
	slices.SortFunc(tos, time.Time.Compare)
	for i := range tags {
		t := &tags[i]
		if g.attached(t) {
			continue
		}
		switch {
		case after(froms, span(t).To, false) >= c.Newest:
			m.newest[t.Name] = no
		case after(tos, span(t).From, true)-1 < c.Newest: // without itself
			m.newest[t.Name] = yes
		default:
			m.newest[t.Name] = maybe
		}
	}
}

// after returns how many of sorted times are after t, or also at t.
func after(sorted []time.Time, t time.Time, orAt bool) int {
	i, _ := slices.BinarySearchFunc(sorted, t, func(e, t time.Time) int {
		if e.Before(t) || !orAt && e.Equal(t) {
			return -1
		}
		return 1
	})
	return len(sorted) - i
}

// rankVersions decides which of the tags are the highest versions of each major or minor one.
// Tags of one version, such as 1.2.3 and v1.2.3, count once.
func (m *matcher) rankVersions(tags []Tag, g *graph) {
	type group struct{ major, minor int64 }
	groups := map[group][]version{}
	of := func(v version) group {
		if m.rule.Conditions.Semver == Major {
			return group{major: v.numbers[0]}
		}
		return group{v.numbers[0], v.numbers[1]}
	}
	for i := range tags {
		v, ok := parseVersion(tags[i].Name)
		if is, _ := m.unranked(&tags[i], g); ok && is == yes && !g.attached(&tags[i]) {
			groups[of(v)] = append(groups[of(v)], v)
		}
	}
	higher := func(a, b version) int { return b.compare(a) }
	for k, all := range groups {
		slices.SortFunc(all, higher)
		groups[k] = slices.CompactFunc(all, func(a, b version) bool { return a.compare(b) == 0 })
	}
	for i := range tags {
		v, ok := parseVersion(tags[i].Name)
		if !ok {
			continue
		}
		rank, _ := slices.BinarySearchFunc(groups[of(v)], v, higher)
		if rank < cmp.Or(m.rule.Conditions.Newest, 1) {
			m.newest[tags[i].Name] = yes
		}
	}
}
