package retention

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
)

// An Action is what a rule does with what it selects.
type Action string

// The actions. Keep beats Delete, whichever rule has the narrower pattern.
const (
	Keep   Action = "keep"
	Delete Action = "delete"
)

// Words of conditions.
const (
	ByPush = "push"
	ByPull = "pull"
	Major  = "major"
	Minor  = "minor"
)

// A Rule keeps or deletes what its conditions select, in the repositories of a pattern. All
// rules whose patterns select a repository apply to it: a narrower one adds to a wider one.
type Rule struct {
	ID         int64 // unique; 0: not stored yet
	Pattern    access.Pattern
	Action     Action
	Conditions Conditions
	Note       string // what its author says that it is for
	CreatedAt  time.Time
	CreatedBy  string // the name of an account, or cli:USER
}

// Conditions select tags and manifests: those for which all that are set hold. Without any,
// everything is selected.
type Conditions struct {
	Newest       int           // the newest tags of those for which the other conditions hold; 0: not set
	By           string        // what Newest counts: ByPush or ByPull; "": ByPush
	PushedWithin time.Duration // pushed at most so long ago
	PulledWithin time.Duration // pulled at most so long ago
	OlderThan    time.Duration // pushed longer ago than this; untagged: without a tag for longer
	Tag          string        // a glob: * is any run of characters, ? any one
	TagRegexp    string        // a regular expression (RE2) that matches the whole tag
	Semver       string        // Major or Minor: the newest version of each; Newest says how many
	Untagged     bool          // manifests without a tag, instead of tags
	Label        string        // a label of the image's config: key, or key=value
}

const (
	// MaxRules is the most rules: 1,000. Each is tried on each tag of its repositories.
	MaxRules = 1000
	// MaxRulesEach is the most rules of one pattern: 50.
	MaxRulesEach = 50
	// MaxRulesBelow is the most rules of the patterns of one namespace: 100. Who administers one
	// namespace cannot use up the rules of all.
	MaxRulesBelow = 100
	// MaxNote is the most characters of the note of a rule.
	MaxNote = 200

	maxNewest = 100_000
	maxTag    = 128 // characters of a glob; as of a tag
	maxText   = 256 // characters of a regular expression, and of a label

	// maxSteps is the most instructions of a compiled regular expression: 500. Its time for a tag
	// grows with them: of 500 it is at most 0.2 ms, of (.?){1000} 24 times it is 150 ms (measured),
	// and a plan tries it on each tag.
	maxSteps = 500
)

var globOfTag = regexp.MustCompile(`^[a-zA-Z0-9_.*?-]+$`)

// Check returns ErrInvalid, with what to write instead, unless r is a rule.
func (r Rule) Check() error {
	if r.Action != Keep && r.Action != Delete {
		return indexer.Invalid("action is %.64q: write keep or delete", r.Action)
	}
	if n := len([]rune(r.Note)); n > MaxNote || strings.ContainsFunc(r.Note, unicode.IsControl) {
		return indexer.Invalid("note has %d characters: write one line of at most %d", n, MaxNote)
	}
	if err := r.Conditions.check(); err != nil {
		return err
	}
	if r.Action == Delete {
		return r.Conditions.checkDelete()
	}
	return nil
}

// check returns ErrInvalid unless each condition can hold, together with the others.
func (c Conditions) check() error {
	if err := c.checkTexts(); err != nil {
		return err
	}
	switch {
	case c.Newest < 0 || c.Newest > maxNewest:
		return indexer.Invalid("newest is %d: write a number from 1 to %d", c.Newest, maxNewest)
	case c.By != "" && c.By != ByPush && c.By != ByPull:
		return indexer.Invalid("by is %.64q: write push or pull", c.By)
	case c.By != "" && c.Newest == 0:
		return indexer.Invalid("by is used only with newest: add newest, or remove by")
	case c.Semver != "" && c.Semver != Major && c.Semver != Minor:
		return indexer.Invalid("semver is %.64q: write major or minor", c.Semver)
	case c.Semver != "" && c.By != "":
		return indexer.Invalid("with semver, newest means the highest versions: remove by")
	case c.Untagged && (c.Newest > 0 || c.Tag != "" || c.TagRegexp != "" || c.Semver != ""):
		return indexer.Invalid("untagged selects manifests without a tag, of which newest, tag, tag_regexp and semver" +
			" say nothing: make two rules")
	}
	for name, d := range map[string]time.Duration{
		"pushed_within": c.PushedWithin, "pulled_within": c.PulledWithin, "older_than": c.OlderThan,
	} {
		if d != 0 && (d < time.Second || d > maxDuration) {
			return indexer.Invalid("%s is %s: write a duration from a second to 36500d", name, d)
		}
	}
	return nil
}

// checkTexts checks the conditions that are patterns.
func (c Conditions) checkTexts() error {
	if c.Tag != "" && (len(c.Tag) > maxTag || !globOfTag.MatchString(c.Tag)) {
		return indexer.Invalid("tag is %.64q: write at most %d characters of a tag, * for any run and ? for any one", c.Tag,
			maxTag)
	}
	if len(c.TagRegexp) > maxText {
		return indexer.Invalid("tag_regexp has %d bytes: write at most %d", len(c.TagRegexp), maxText)
	}
	if _, err := compileTag(c.TagRegexp); err != nil {
		return indexer.Invalid("tag_regexp %.64q is no regular expression of RE2: %.200s", c.TagRegexp, err)
	}
	if n := stepsOf(c.TagRegexp); n > maxSteps {
		return indexer.Invalid("tag_regexp %.64q has %d steps with its repetitions, more than %d: write smaller numbers in"+
			" braces", c.TagRegexp, n, maxSteps)
	}
	key, _, _ := strings.Cut(c.Label, "=")
	if c.Label != "" && (key == "" || len(c.Label) > maxText || strings.ContainsFunc(c.Label, unicode.IsControl)) {
		return indexer.Invalid("label is %.64q: write key or key=value, at most %d bytes", c.Label, maxText)
	}
	return nil
}

// checkDelete returns ErrInvalid for conditions that only rules that keep may have.
func (c Conditions) checkDelete() error {
	switch {
	case c == Conditions{}:
		return indexer.Invalid("a rule that deletes needs a condition: write tag * to delete every tag that no rule keeps")
	case c.Newest > 0 || c.Semver != "":
		return indexer.Invalid("a rule that deletes cannot have newest or semver: make a rule that keeps them, and one that" +
			" deletes the others")
	case c.PushedWithin > 0 || c.PulledWithin > 0:
		return indexer.Invalid("a rule that deletes cannot have pushed_within or pulled_within, or it would delete what" +
			" is in use: write older_than, or make a rule that keeps them")
	}
	return nil
}

// compileTag compiles a regular expression that must match a whole tag.
func compileTag(text string) (*regexp.Regexp, error) {
	if _, err := regexp.Compile(text); err != nil { // alone, so that a parenthesis cannot end the group
		return nil, err
	}
	return regexp.Compile("^(?:" + text + ")$")
}

// stepsOf returns the number of instructions of a regular expression that has been compiled.
func stepsOf(text string) int {
	parsed, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return 0
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return 0
	}
	return len(program.Inst)
}

// Words returns the conditions as words, such as newest=10 by=push tag=v*.
func (c Conditions) Words() string {
	var words []string
	add := func(name, value string) {
		if value != "" {
			words = append(words, name+"="+value)
		}
	}
	if c.Newest > 0 {
		add("newest", strconv.Itoa(c.Newest))
	}
	add("by", c.By)
	add("pushed_within", FormatDuration(c.PushedWithin))
	add("pulled_within", FormatDuration(c.PulledWithin))
	add("older_than", FormatDuration(c.OlderThan))
	add("tag", c.Tag)
	add("tag_regexp", c.TagRegexp)
	add("semver", c.Semver)
	if c.Untagged {
		add("untagged", "true")
	}
	add("label", c.Label)
	return strings.Join(words, " ")
}

// String returns the rule as words: its pattern, action and conditions.
func (r Rule) String() string {
	return strings.TrimSpace(r.Pattern.String() + " " + string(r.Action) + " " + r.Conditions.Words())
}

// Sentence says what the rule does, without its pattern.
func (r Rule) Sentence() string {
	c := r.Conditions
	what := "tags"
	switch {
	case c == Conditions{}:
		return string(r.Action) + " everything"
	case c.Untagged:
		what = "manifests without a tag"
	case c.Semver != "":
		what = fmt.Sprintf("the %s of each %s version", plural(max(c.Newest, 1), "highest version"), c.Semver)
	case c.Newest > 0 && c.By == ByPull:
		what = fmt.Sprintf("the %s that %s pulled last", plural(c.Newest, "tag"), were(c.Newest))
	case c.Newest > 0:
		what = fmt.Sprintf("the %s that %s pushed last", plural(c.Newest, "tag"), were(c.Newest))
	}
	var of []string
	add := func(set bool, format string, value any) {
		if set {
			of = append(of, fmt.Sprintf(format, value))
		}
	}
	add(c.Tag != "", "whose name matches %s", c.Tag)
	add(c.TagRegexp != "", "whose name matches the expression %s", c.TagRegexp)
	add(c.Label != "", "with the label %s", c.Label)
	add(c.PushedWithin > 0, "pushed within %s", FormatDuration(c.PushedWithin))
	add(c.PulledWithin > 0, "pulled within %s", FormatDuration(c.PulledWithin))
	age := "pushed longer ago than %s"
	if c.Untagged {
		age = "for longer than %s"
	}
	add(c.OlderThan > 0, age, FormatDuration(c.OlderThan))
	if c.Newest > 0 && len(of) > 0 {
		what += ", of those"
	}
	return strings.TrimSpace(string(r.Action) + " " + what + " " + strings.Join(of, " and "))
}

func plural(n int, what string) string {
	if n == 1 {
		return what
	}
	return strconv.Itoa(n) + " " + what + "s"
}

func were(n int) string {
	if n == 1 {
		return "was"
	}
	return "were"
}

// Of returns the rules that apply to a repository, in order of their ids.
func Of(rules []Rule, repository string) (of []Rule) {
	for _, r := range rules {
		if r.Pattern.Selects(repository) {
			of = append(of, r)
		}
	}
	slices.SortFunc(of, func(a, b Rule) int { return int(min(max(a.ID-b.ID, -1), 1)) })
	return of
}

// Fingerprint returns a text that is different for other rules, whatever their notes.
func Fingerprint(rules []Rule) string {
	var lines []string
	for _, r := range rules {
		lines = append(lines, strconv.FormatInt(r.ID, 10)+" "+r.String())
	}
	slices.Sort(lines)
	sum := sha256.Sum256([]byte(strings.Join(lines, "\n")))
	return hex.EncodeToString(sum[:16])
}

// NeedsPulls reports whether a rule looks at pulls, and how far back; 0: as far as is known.
func NeedsPulls(rules []Rule) (needs bool, within time.Duration) {
	for _, r := range rules {
		c := r.Conditions
		needs = needs || c.PulledWithin > 0 || c.By == ByPull
		within = max(within, c.PulledWithin)
	}
	return needs, within
}

// NeedsPushes reports whether a rule looks at when something was pushed.
func NeedsPushes(rules []Rule) bool {
	return slices.ContainsFunc(rules, func(r Rule) bool {
		c := r.Conditions
		return c.PushedWithin > 0 || c.OlderThan > 0 || c.Newest > 0 && c.By != ByPull && c.Semver == ""
	})
}

// Deletes reports whether a rule deletes anything.
func Deletes(rules []Rule) bool {
	return slices.ContainsFunc(rules, func(r Rule) bool { return r.Action == Delete })
}
