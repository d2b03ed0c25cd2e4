package retention_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/retention"
)

var now = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

const day = 24 * time.Hour

func d(name string) digest.Digest { return digest.FromString(name) }

func ago(days int) retention.Span { return retention.At(now.Add(-time.Duration(days) * day)) }

func pattern(t *testing.T, text string) access.Pattern {
	t.Helper()
	p, err := access.ParsePattern(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// rule returns a rule for all repositories.
func rule(t *testing.T, id int64, action retention.Action, c retention.Conditions) retention.Rule {
	t.Helper()
	r := retention.Rule{ID: id, Pattern: pattern(t, "*"), Action: action, Conditions: c}
	if err := r.Check(); err != nil {
		t.Fatalf("%s: %v", r, err)
	}
	return r
}

// tags returns a repository in which each tag shows a manifest of its own; the first was
// pushed one day ago, the second two days, and so on.
func tags(names ...string) retention.Repository {
	r := retention.Repository{Name: "team/app"}
	for i, name := range names {
		r.Tags = append(r.Tags, retention.Tag{Name: name, Digest: d(name), Pushed: ago(i + 1), Pulled: retention.Until(now)})
		r.Manifests = append(r.Manifests, retention.Manifest{Digest: d(name), Pushed: ago(i + 1), Pulled: retention.Until(now)})
	}
	return r
}

// gone returns the tags, and the names of manifests, that go.
func gone(all []retention.Decision, names ...string) (tags, manifests []string) {
	for _, decision := range all {
		if decision.Delete && decision.Tag != "" {
			tags = append(tags, decision.Tag)
		} else if decision.Delete {
			for _, name := range names {
				if d(name) == decision.Digest {
					manifests = append(manifests, name)
				}
			}
		}
	}
	return tags, manifests
}

// Each condition selects what its sentence says.
func TestConditions(t *testing.T) {
	t.Parallel()
	all := retention.Conditions{Tag: "*"}
	versions := []string{"v1.0.0", "1.0.1", "v1.1.0-rc.2", "1.1.0-rc.10", "v2.0.0", "2.0.0", "2.1.0", "latest", "1.2"}
	labels := tags("a", "b", "c")
	labels.Manifests[0].Labels = map[string]string{"team": "red"}
	labels.Manifests[1].Labels = map[string]string{"team": "blue"}
	labels.Manifests[2].NoLabels = true
	pulled := tags("a", "b", "c", "d")
	pulled.Tags[0].Pulled = retention.Until(now.Add(-50 * day)) // not since they are counted
	pulled.Tags[1].Pulled = ago(40)
	pulled.Tags[2].Pulled = ago(2)
	unknown := tags("new", "found1", "found2", "old")
	unknown.Tags[1].Pushed = retention.Until(now.Add(-2 * day))
	unknown.Tags[2].Pushed = retention.Until(now.Add(-20 * day))
	unknown.Tags[3].Pushed = ago(30)
	for name, test := range map[string]struct {
		keep, delete *retention.Conditions
		of           retention.Repository
		gone         string
	}{
		"newest by push":             {&retention.Conditions{Newest: 2}, &all, tags("a", "b", "c", "d"), "c d"},
		"newest of a glob":           {&retention.Conditions{Newest: 1, Tag: "v*"}, &all, tags("a", "v1", "v2"), "a v2"},
		"pushed within":              {&retention.Conditions{PushedWithin: 2*day + time.Hour}, &all, tags("a", "b", "c"), "c"},
		"pulled within":              {&retention.Conditions{PulledWithin: 30 * day}, &all, pulled, "a b"},
		"not counted so long":        {&retention.Conditions{PulledWithin: 90 * day}, &all, pulled, ""},
		"newest by pull":             {&retention.Conditions{Newest: 1, By: "pull"}, &all, pulled, "a b"},
		"older than":                 {nil, &retention.Conditions{OlderThan: 2*day + time.Hour}, tags("a", "b", "c", "d"), "c d"},
		"glob":                       {nil, &retention.Conditions{Tag: "pr-?*"}, tags("pr-", "pr-1", "pr-23", "x-pr-1"), "pr-1 pr-23"},
		"expression":                 {nil, &retention.Conditions{TagRegexp: "pr-[0-9]+|tmp"}, tags("pr-1", "pr-1-x", "tmp", "atmp"), "pr-1 tmp"},
		"each major":                 {&retention.Conditions{Semver: "major"}, &all, tags(versions...), "v1.0.0 1.0.1 v1.1.0-rc.2 v2.0.0 2.0.0 latest 1.2"},
		"each minor":                 {&retention.Conditions{Semver: "minor"}, &all, tags(versions...), "v1.0.0 v1.1.0-rc.2 latest 1.2"},
		"two of each minor":          {&retention.Conditions{Semver: "minor", Newest: 2}, &all, tags(versions...), "latest 1.2"},
		"label":                      {&retention.Conditions{Label: "team=red"}, &all, labels, "b"},
		"label of a deletion":        {nil, &retention.Conditions{Label: "team"}, labels, "a b"},
		"keep everything":            {&retention.Conditions{}, &all, tags("a", "b"), ""},
		"no rule":                    {nil, nil, tags("a", "b"), ""},
		"only keep":                  {&retention.Conditions{Newest: 1}, nil, tags("a", "b"), ""},
		"older, pushed unknown":      {nil, &retention.Conditions{OlderThan: 10 * day}, unknown, "found2 old"},
		"newest, pushed unknown":     {&retention.Conditions{Newest: 1}, &all, unknown, "found1 found2 old"},
		"two newest, pushed unknown": {&retention.Conditions{Newest: 2}, &all, unknown, ""}, // each may be the second
	} {
		t.Run(name, func(t *testing.T) {
			var rules []retention.Rule
			if test.delete != nil {
				rules = append(rules, rule(t, 1, retention.Delete, *test.delete))
			}
			if test.keep != nil {
				rules = append(rules, rule(t, 2, retention.Keep, *test.keep))
			}
			decisions := retention.Decide(rules, test.of, now)
			got, _ := gone(decisions)
			if strings.Join(got, " ") != test.gone {
				t.Errorf("%v deletes %q, want %q", rules, got, test.gone)
				for _, d := range decisions {
					t.Logf("%s %v: %s", d.Tag, d.Delete, d.Reason.Text)
				}
			}
		})
	}
}

// Manifests go with the last tag, an index with its images, and what is attached with its
// subject; what something that stays needs, stays.
func TestManifestsFollow(t *testing.T) {
	t.Parallel()
	r := tags("old", "also-old", "keep", "old-child")
	r.Tags[1].Digest = d("old")
	m := func(name string) retention.Manifest { return retention.Manifest{Digest: d(name), Pushed: ago(9)} }
	index := func(name string, children ...string) retention.Manifest {
		of := m(name)
		for _, c := range children {
			of.Children = append(of.Children, d(c))
		}
		return of
	}
	attached := func(name, subject string) retention.Manifest {
		of := m(name)
		of.Subject = d(subject)
		return of
	}
	names := []string{"old", "keep", "a", "b", "sig", "sigsig", "keepsig", "cosign", "old-child", "loose", "loosesig"}
	r.Manifests = []retention.Manifest{
		index("old", "a", "b"), index("keep", "b", "old-child"), m("a"), m("b"), attached("sig", "a"), attached("sigsig", "sig"),
		attached("keepsig", "b"), m("cosign"), m("old-child"), m("loose"), attached("loosesig", "loose"),
	}
	cosign := "sha256-" + d("old").Encoded() + ".sig"
	r.Tags = append(r.Tags, retention.Tag{Name: cosign, Digest: d("cosign"), Pushed: ago(1)})
	rules := []retention.Rule{rule(t, 1, retention.Delete, retention.Conditions{Tag: "*old*"})}
	gotTags, got := gone(retention.Decide(rules, r, now), names...)
	if want := []string{"old", "also-old", "old-child", cosign}; !slices.Equal(gotTags, want) {
		t.Errorf("tags %q go, want %q", gotTags, want)
	}
	if want := []string{"old", "a", "sig", "sigsig", "cosign"}; !slices.Equal(got, want) {
		t.Errorf("manifests %q go, want %q", got, want)
	}
	rules = []retention.Rule{rule(t, 1, retention.Delete, retention.Conditions{Untagged: true, OlderThan: 2 * day})}
	if gotTags, got := gone(retention.Decide(rules, r, now), names...); len(gotTags) > 0 || !slices.Equal(got, []string{"loose", "loosesig"}) {
		t.Errorf("untagged: %q and %q go, want the loose one with its signature", gotTags, got)
	}
}

// What runs stays with all that belongs together, and so does a protected tag.
func TestInUseAndProtected(t *testing.T) {
	t.Parallel()
	rules := []retention.Rule{rule(t, 1, retention.Delete, retention.Conditions{Tag: "*"})}
	r := tags("index", "child", "sibling", "other", "held")
	r.Manifests[0].Children = []digest.Digest{d("child"), d("sibling")}
	r.Manifests[1].InUse = true
	r.Tags[4].Protected = "releases are protected"
	if got, _ := gone(retention.Decide(rules, r, now)); !slices.Equal(got, []string{"other"}) {
		t.Errorf("%q go, want only what does not run and is not protected", got)
	}
}

// A rule that cannot be meant is refused with what to write.
func TestCheck(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]retention.Rule{
		"no action":             {},
		"delete everything":     {Action: retention.Delete},
		"delete newest":         {Action: retention.Delete, Conditions: retention.Conditions{Newest: 3}},
		"delete what is pulled": {Action: retention.Delete, Conditions: retention.Conditions{PulledWithin: day}},
		"by alone":              {Action: retention.Keep, Conditions: retention.Conditions{By: "push"}},
		"by semver":             {Action: retention.Keep, Conditions: retention.Conditions{Semver: "major", Newest: 1, By: "push"}},
		"untagged tag":          {Action: retention.Keep, Conditions: retention.Conditions{Untagged: true, Tag: "v*"}},
		"expression":            {Action: retention.Keep, Conditions: retention.Conditions{TagRegexp: "a)(b"}},
		"large expression":      {Action: retention.Keep, Conditions: retention.Conditions{TagRegexp: "((((a{100}){100}){100}){100})"}},
		"slow expression":       {Action: retention.Keep, Conditions: retention.Conditions{TagRegexp: "(.?){300}"}},
		"glob":                  {Action: retention.Keep, Conditions: retention.Conditions{Tag: "a b"}},
		"label":                 {Action: retention.Keep, Conditions: retention.Conditions{Label: "=x"}},
		"short":                 {Action: retention.Keep, Conditions: retention.Conditions{PushedWithin: 1}},
		"note":                  {Action: retention.Keep, Note: "a\nb"},
	} {
		if err := r.Check(); !errors.Is(err, indexer.ErrInvalid) {
			t.Errorf("%s: %v, want an ErrInvalid", name, err)
		}
	}
	for text, want := range map[string]time.Duration{"90d": 90 * day, "12h": 12 * time.Hour, "1h30m": 90 * time.Minute, "45s": 45 * time.Second} {
		got, err := retention.ParseDuration(text)
		if err != nil || got != want || retention.FormatDuration(got) != text {
			t.Errorf("%s: %s, %q, %v", text, got, retention.FormatDuration(got), err)
		}
	}
	for _, text := range []string{"", "0", "90", "-3d", "99999d", "1w", "10ms"} {
		if got, err := retention.ParseDuration(text); !errors.Is(err, indexer.ErrInvalid) {
			t.Errorf("%q: %s, %v, want an ErrInvalid", text, got, err)
		}
	}
}

// Globs match as in a plain reading by recursion.
func FuzzGlob(f *testing.F) {
	f.Add("v*.?", "v1.2")
	f.Add("*a*a", "aaaa")
	f.Fuzz(func(t *testing.T, glob, tag string) {
		if len(glob) > 12 || len(tag) > 12 || tag == "" {
			return
		}
		r := retention.Rule{Pattern: pattern(t, "*"), Action: retention.Delete, Conditions: retention.Conditions{Tag: glob}}
		if glob == "" || r.Check() != nil {
			return
		}
		got, _ := gone(retention.Decide([]retention.Rule{r}, tags(tag), now))
		if want := plainGlob(glob, tag); (len(got) == 1) != want {
			t.Errorf("%q matches %q: %v, want %v", glob, tag, len(got) == 1, want)
		}
	})
}

func plainGlob(glob, text string) bool {
	switch {
	case glob == "":
		return text == ""
	case glob[0] == '*':
		return plainGlob(glob[1:], text) || text != "" && plainGlob(glob, text[1:])
	}
	return text != "" && (glob[0] == '?' || glob[0] == text[0]) && plainGlob(glob[1:], text[1:])
}

// random returns a repository in which everything occurs.
func random(rng *rand.Rand) retention.Repository {
	r := retention.Repository{Name: "team/app"}
	n := 1 + rng.IntN(14)
	span := func() retention.Span {
		at := now.Add(-time.Duration(1+rng.IntN(20)) * day)
		if rng.IntN(3) == 0 {
			return retention.Until(at)
		}
		return retention.At(at)
	}
	for i := range n {
		m := retention.Manifest{
			Digest: d(fmt.Sprint(i)), Pushed: span(), Pulled: span(), InUse: rng.IntN(12) == 0, NoLabels: rng.IntN(9) == 0,
			Pulls: int64(rng.IntN(2)),
		}
		if rng.IntN(3) == 0 {
			m.Labels = map[string]string{"keep": fmt.Sprint(rng.IntN(2))}
		}
		for j := range i { // digests have no cycle
			if rng.IntN(5) == 0 {
				m.Children = append(m.Children, d(fmt.Sprint(j)))
			}
		}
		switch {
		case rng.IntN(4) == 0 && i > 0:
			m.Subject = d(fmt.Sprint(rng.IntN(i)))
		case rng.IntN(20) == 0:
			m.Subject = d("not there")
		}
		r.Manifests = append(r.Manifests, m)
	}
	for i := range rng.IntN(2 * n) {
		t := retention.Tag{Name: fmt.Sprintf("v%d.%d.%d", rng.IntN(2), rng.IntN(2), i), Digest: d(fmt.Sprint(rng.IntN(n))), Pushed: span(), Pulled: span()}
		switch rng.IntN(8) {
		case 0:
			t.Name = fmt.Sprintf("pr-%d", i)
		case 1:
			at := rng.IntN(n)
			t.Name = fmt.Sprintf("sha256-%s.sig", d(fmt.Sprint(at)).Encoded())
			t.Digest = d(fmt.Sprint(min(n-1, at+1+rng.IntN(n))))
			if slices.ContainsFunc(r.Tags, func(other retention.Tag) bool { return other.Name == t.Name }) {
				continue
			}
		case 2:
			t.Protected = "protected"
		}
		r.Tags = append(r.Tags, t)
	}
	return r
}

func randomRules(t *testing.T, rng *rand.Rand) (rules []retention.Rule) {
	conditions := []retention.Conditions{
		{Tag: "*"}, {Tag: "pr-*"}, {TagRegexp: "v1.*"}, {OlderThan: 10 * day}, {Untagged: true}, {Untagged: true, OlderThan: 5 * day},
		{Label: "keep=0"}, {Newest: 2}, {Newest: 1, By: "pull"}, {Semver: "major"}, {Semver: "minor", Newest: 2},
		{PushedWithin: 6 * day}, {PulledWithin: 4 * day}, {},
	}
	const deletes = 7 // as many of them may be conditions of a deletion
	for range rng.IntN(5) {
		r := retention.Rule{ID: int64(len(rules) + 1), Pattern: pattern(t, []string{"*", "team/*", "team/app", "other"}[rng.IntN(4)]), Action: retention.Keep}
		r.Conditions = conditions[rng.IntN(len(conditions))]
		if rng.IntN(3) > 0 {
			r.Action, r.Conditions = retention.Delete, conditions[rng.IntN(deletes)]
		}
		if err := r.Check(); err != nil {
			t.Fatal(err)
		}
		rules = append(rules, r)
	}
	return rules
}

// Whatever the rules say, what is promised holds, as read plainly from the repository.
func TestPromises(t *testing.T) {
	t.Parallel()
	deleted := 0
	for seed := range uint64(4000) {
		rng := rand.New(rand.NewPCG(seed, 1))
		r, rules := random(rng), randomRules(t, rng)
		decisions := retention.Decide(rules, r, now)
		if problem := broken(rules, r, decisions); problem != "" {
			t.Fatalf("seed %d: %s\nrules %v\n%+v\n%+v", seed, problem, rules, r, decisions)
		}
		for _, decision := range decisions {
			if decision.Delete {
				deleted++
			}
		}
	}
	if deleted < 4000 {
		t.Errorf("only %d tags and manifests were deleted: the repositories are too tame", deleted)
	}
}

// broken returns which promise decisions break.
func broken(rules []retention.Rule, r retention.Repository, decisions []retention.Decision) string {
	tagGoes, goes := map[string]bool{}, map[digest.Digest]bool{}
	for i, decision := range decisions {
		switch {
		case i < len(r.Tags) && decision.Tag != r.Tags[i].Name:
			return "tags are not in order"
		case decision.Reason.Text == "" || decision.Reason.Code == "":
			return decision.Tag + string(decision.Digest) + " has no reason"
		case decision.Tag != "":
			tagGoes[decision.Tag] = decision.Delete
		default:
			goes[decision.Digest] = decision.Delete
		}
	}
	if len(tagGoes) != len(r.Tags) || len(goes) != len(r.Manifests) {
		return "something has no decision"
	}
	selecting := retention.Of(rules, r.Name)
	if !retention.Deletes(selecting) && (slices.ContainsFunc(decisions, func(d retention.Decision) bool { return d.Delete })) {
		return "something goes without a rule that deletes"
	}
	there := map[digest.Digest]retention.Manifest{}
	for _, m := range r.Manifests {
		there[m.Digest] = m
	}
	for _, m := range r.Manifests {
		for _, child := range m.Children {
			if !goes[m.Digest] && goes[child] {
				return fmt.Sprintf("the child %s goes, and its index %s stays", child, m.Digest)
			}
			if there[child].InUse && goes[m.Digest] {
				return fmt.Sprintf("%s goes, and a child runs", m.Digest)
			}
		}
		if _, ok := there[m.Subject]; ok && goes[m.Digest] && !goes[m.Subject] {
			return fmt.Sprintf("the referrer %s goes, and its subject stays", m.Digest)
		}
		if m.InUse && goes[m.Digest] {
			return fmt.Sprintf("%s goes, and runs", m.Digest)
		}
	}
	for _, tag := range r.Tags {
		subject, there := there[indexer.SubjectOfTag(tag.Name)]
		switch {
		case tag.Protected != "" && tagGoes[tag.Name]:
			return "the protected tag " + tag.Name + " goes"
		case !tagGoes[tag.Name] && goes[tag.Digest]:
			return "the tag " + tag.Name + " stays, and what it shows goes"
		case there && tag.Digest != subject.Digest && tagGoes[tag.Name] && !goes[subject.Digest]:
			return "the tag " + tag.Name + " goes, and its subject stays"
		case tagGoes[tag.Name] && keptPlainly(selecting, r, tag):
			return "the tag " + tag.Name + " goes, which a rule keeps"
		}
	}
	return ""
}

// keptPlainly reports whether a rule certainly keeps a tag, as read plainly.
func keptPlainly(rules []retention.Rule, r retention.Repository, tag retention.Tag) bool {
	for _, rule := range rules {
		if rule.Action != retention.Keep {
			continue
		}
		switch c := rule.Conditions; c {
		case retention.Conditions{}, retention.Conditions{Tag: "*"}:
			return true
		case retention.Conditions{PushedWithin: 6 * day}:
			if !tag.Pushed.To.Before(now.Add(-6 * day)) {
				return true
			}
		case retention.Conditions{PulledWithin: 4 * day}:
			if !tag.Pulled.To.Before(now.Add(-4 * day)) {
				return true
			}
		case retention.Conditions{Newest: 2}:
			newer := 0
			for _, other := range r.Tags {
				if other.Pushed.From.After(tag.Pushed.To) {
					newer++
				}
			}
			if newer < 2 && indexer.SubjectOfTag(tag.Name) == "" {
				return true
			}
		}
	}
	return false
}

// A second look at a repository that did not change skips nothing; whatever changes, only what
// was planned goes, and what is promised holds after each step.
func TestAgain(t *testing.T) {
	t.Parallel()
	skipped, done := 0, 0
	for seed := range uint64(2000) {
		rng := rand.New(rand.NewPCG(seed, 2))
		r, rules := random(rng), randomRules(t, rng)
		planned := retention.Decide(rules, r, now)
		for _, step := range retention.Again(planned, now.Add(-time.Hour), rules, r, now) {
			if step.Skip != "" {
				t.Fatalf("seed %d: %+v is skipped though nothing has changed\n%+v", seed, step, r)
			}
		}
		change(rng, &r)
		tagGoes, goes := map[string]bool{}, map[digest.Digest]bool{}
		for _, step := range retention.Again(planned, now.Add(-time.Hour), rules, r, now) {
			if step.Skip != "" {
				skipped++
				continue
			}
			done++
			if step.Decision.Tag != "" {
				tagGoes[step.Decision.Tag] = true
			} else {
				goes[step.Decision.Digest] = true
			}
			if problem := half(r, tagGoes, goes); problem != "" {
				t.Fatalf("seed %d: %s\n%+v", seed, problem, r)
			}
		}
	}
	if skipped < 300 || done < 300 {
		t.Errorf("%d steps skipped, %d done: the changes are too tame", skipped, done)
	}
}

// change changes a repository as clients do.
func change(rng *rand.Rand, r *retention.Repository) {
	at := rng.IntN(len(r.Manifests))
	switch rng.IntN(6) {
	case 0:
		r.Manifests[at].InUse = true
	case 1:
		r.Manifests[at].Pulls++
	case 2:
		r.Manifests = append(r.Manifests, retention.Manifest{Digest: d("new"), Children: []digest.Digest{r.Manifests[at].Digest}, Pushed: ago(0)})
	case 3:
		r.Manifests = append(r.Manifests, retention.Manifest{Digest: d("new"), Subject: r.Manifests[at].Digest, Pushed: ago(0)})
	case 4:
		r.Tags = append(r.Tags, retention.Tag{Name: "pr-new", Digest: r.Manifests[at].Digest, Pushed: ago(0)})
	case 5:
		if len(r.Tags) > 0 {
			r.Tags[rng.IntN(len(r.Tags))].Digest = r.Manifests[at].Digest
		}
	}
}

// circles reports whether a manifest belongs, by way of others, to what belongs to it: an index
// whose subject is one of its images does. Then no order is right.
func circles(r retention.Repository, from, to digest.Digest) bool {
	seen := map[digest.Digest]bool{}
	work := []digest.Digest{from}
	for len(work) > 0 {
		at := work[0]
		work = work[1:]
		if at == to {
			return true
		}
		if seen[at] {
			continue
		}
		seen[at] = true
		for _, m := range r.Manifests {
			if m.Digest == at {
				work = append(work, m.Children...)
			}
			if m.Subject == at {
				work = append(work, m.Digest)
			}
		}
		for _, tag := range r.Tags {
			if indexer.SubjectOfTag(tag.Name) == at {
				work = append(work, tag.Digest)
			}
		}
	}
	return false
}

// half returns which promise is broken when some steps are done.
func half(r retention.Repository, tagGoes map[string]bool, goes map[digest.Digest]bool) string {
	for _, m := range r.Manifests {
		if m.InUse && goes[m.Digest] {
			return "something that runs goes"
		}
		for _, child := range m.Children {
			if goes[child] && !goes[m.Digest] && !circles(r, child, m.Digest) {
				return "a child goes before its index"
			}
		}
		if m.Subject != "" && slices.ContainsFunc(r.Manifests, func(s retention.Manifest) bool { return s.Digest == m.Subject }) &&
			goes[m.Digest] && !goes[m.Subject] && !circles(r, m.Digest, m.Subject) {
			return "a referrer goes before its subject"
		}
	}
	for _, tag := range r.Tags {
		if goes[tag.Digest] && !tagGoes[tag.Name] {
			return "a manifest goes before its tag " + tag.Name
		}
		if tagGoes[tag.Name] && tag.Protected != "" {
			return "a protected tag goes"
		}
	}
	return ""
}
