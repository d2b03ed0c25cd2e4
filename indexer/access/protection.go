package access

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/portbook/portbook/indexer"
)

// A ProtectionKind is what a Protection does.
type ProtectionKind string

// The kinds of protections.
const (
	Protect ProtectionKind = "protect" // tags do not move, and are not deleted
	Freeze  ProtectionKind = "freeze"  // nothing is pushed, and nothing is deleted
	Quota   ProtectionKind = "quota"   // nothing is pushed once the repositories have so many bytes
)

// ProtectionKinds are all kinds, in the order in which they are documented.
var ProtectionKinds = []ProtectionKind{Protect, Freeze, Quota}

// Limits of protections. Whoever administers a namespace must not take the place of others,
// and every push is compared with those that select its repository.
const (
	MaxProtections      = 10_000 // in all
	MaxProtectionsBelow = 200    // in one namespace
	MaxReason           = 200    // characters of a reason
	maxTagPattern       = 128    // characters, as of a tag (distribution-spec 1.1, "Pulling manifests")
)

// A Protection keeps the repositories of a pattern as they are.
type Protection struct {
	Kind      ProtectionKind
	Pattern   Pattern
	Tags      string // for Protect: the tags, with * and ?
	Bytes     int64  // for Quota
	Reason    string // what people are told who are refused; "": nothing more than what is refused
	Actor     string // who set it
	CreatedAt time.Time

	// For Quota, what the repositories had when they were last counted. CountedAt is when a
	// count last came to anything new; zero: not counted yet.
	Used      int64
	CountedAt time.Time
}

// ParseTags checks a pattern of tags: letters, digits, dots, dashes and underscores, with * for
// any characters and ? for one.
func ParseTags(text string) (string, error) {
	plain := strings.NewReplacer("*", "", "?", "").Replace(text)
	if text == "" || len(text) > maxTagPattern ||
		plain != "" && !indexer.IsTag("x"+plain[:min(len(plain), maxTagPattern-1)]) {
		return "", indexer.Invalid("%.64q is not a pattern of tags: write * for all, v* for those that begin with v, or"+
			" one tag", text)
	}
	return text, nil
}

// maxQuota is the largest quota: 2^53 - 1 bytes, what JSON programs read exactly.
const maxQuota = 1<<53 - 1

// ParseQuota parses a number of bytes, such as 500GB or 1.5TiB.
func ParseQuota(text string) (int64, error) {
	n, ok := indexer.ParseSize(text)
	if !ok || n > maxQuota {
		return 0, indexer.Invalid("%.32q is not a number of bytes: write 500GB or 1.5TiB, for example", text)
	}
	return int64(n), nil
}

// Check returns ErrInvalid unless p can be set.
func (p Protection) Check() error {
	if n := len([]rune(p.Reason)); n > MaxReason {
		return indexer.Invalid("the reason has %d characters: it may have at most %d", n, MaxReason)
	}
	if !indexer.IsLine(p.Reason) {
		return indexer.Invalid("the reason must be one line of text")
	}
	switch {
	case p.Kind == Protect:
		_, err := ParseTags(p.Tags)
		return err
	case p.Tags != "":
		return indexer.Invalid("tags belong to a protection of the kind protect: leave them out")
	case p.Kind == Freeze:
		return nil
	case p.Kind == Quota && (p.Bytes < 0 || p.Bytes > maxQuota):
		return indexer.Invalid("a quota of %d bytes is out of range: write 0 to %d", p.Bytes, maxQuota)
	case p.Kind == Quota:
		return p.counted()
	}
	return indexer.Invalid("%.32q is not a kind of protection: write protect, freeze or quota", string(p.Kind))
}

// counted returns ErrInvalid unless the book counts the storage of the pattern of a quota.
func (p Protection) counted() error {
	path, below := strings.CutSuffix(p.Pattern.String(), "/*")
	if below && strings.Contains(path, "/") {
		return indexer.Invalid("storage is counted for *, for a namespace such as team/*, and for one repository: %s is none"+
			" of these", p.Pattern)
	}
	return nil
}

// Namespace returns the namespace whose place a protection takes; "*" for that of all.
func (p Protection) Namespace() string {
	space, _, below := strings.Cut(p.Pattern.String(), "/")
	if !below && p.Pattern != Every {
		return ""
	}
	return space
}

// String describes p as it is recorded, such as "protect team/* tags v*".
func (p Protection) String() string {
	text := string(p.Kind) + " " + p.Pattern.String()
	switch p.Kind {
	case Protect:
		text += " tags " + p.Tags
	case Quota:
		text += fmt.Sprintf(" %d bytes", p.Bytes)
	}
	return text
}

// Over reports whether p is a quota that is used up.
func (p Protection) Over() bool { return p.Kind == Quota && !p.CountedAt.IsZero() && p.Used >= p.Bytes }

// Protects reports whether p protects a tag of a repository.
func (p Protection) Protects(repository, tag string) bool {
	return p.Kind == Protect && p.Pattern.Selects(repository) && indexer.MatchGlob(p.Tags, tag)
}

// because returns the reason of p as the end of a sentence.
func (p Protection) because() string {
	if p.Reason == "" {
		return ""
	}
	return ": " + p.Reason
}

// Text says what p does, as people are told who are refused because of it.
func (p Protection) Text() string {
	switch p.Kind {
	case Protect:
		return fmt.Sprintf("tags like %s of %s are protected: they do not move and are not deleted%s", p.Tags, p.Pattern,
			p.because())
	case Freeze:
		return fmt.Sprintf("%s is frozen: nothing is pushed to it or deleted from it%s", p.Pattern, p.because())
	}
	// Without Used, which would tell what is in repositories that the reader may not see.
	return fmt.Sprintf("%s has used up its quota of %d bytes, as counted at %s: nothing is pushed to it until"+
		" something is deleted and counted%s", p.Pattern, p.Bytes, p.CountedAt.UTC().Format(time.RFC3339), p.because())
}

// Protections are all protections, by pattern. The zero value has none.
type Protections struct{ by map[Pattern][]Protection }

// NewProtections returns a list as Protections.
func NewProtections(list []Protection) Protections {
	by := map[Pattern][]Protection{}
	for _, p := range list {
		by[p.Pattern] = append(by[p.Pattern], p)
	}
	return Protections{by}
}

// Of returns the protections that select a repository, those of the widest pattern first.
func (all Protections) Of(repository string) (of []Protection) {
	if len(all.by) == 0 {
		return nil
	}
	for _, pattern := range PatternsOf(repository) {
		of = append(of, all.by[pattern]...)
	}
	return of
}

// Frozen returns the protection that freezes a repository.
func (all Protections) Frozen(repository string) (p Protection, frozen bool) {
	return all.first(repository, func(p Protection) bool { return p.Kind == Freeze })
}

// Full returns the quota of a repository that is used up.
func (all Protections) Full(repository string) (p Protection, full bool) {
	return all.first(repository, Protection.Over)
}

// Tag returns the protection of a tag.
func (all Protections) Tag(repository, tag string) (p Protection, protected bool) {
	return all.first(repository, func(p Protection) bool { return p.Protects(repository, tag) })
}

func (all Protections) first(repository string, is func(Protection) bool) (Protection, bool) {
	for _, p := range all.Of(repository) {
		if is(p) {
			return p, true
		}
	}
	return Protection{}, false
}

// Withheld returns which of the actions push and delete nobody has in a repository now, and
// why; "" if that is none.
func (all Protections) Withheld(repository string) (actions Actions, why string) {
	if p, frozen := all.Frozen(repository); frozen {
		return (Push | Delete) &^ Pull, p.Text()
	}
	if p, full := all.Full(repository); full {
		return Push &^ Pull, p.Text()
	}
	return 0, ""
}

// Leave returns the part of an access that the protections leave, the part that they take, and
// why.
func (all Protections) Leave(a Access) (left, taken Access, why string) {
	if a.Type != typeRepository {
		return a, Access{}, ""
	}
	actions, why := all.Withheld(a.Name)
	left, taken = Access{a.Type, a.Name, nil}, Access{a.Type, a.Name, nil}
	for _, name := range a.Actions {
		if is, err := ParseActions(name); err == nil && is&^Pull != 0 && actions.Has(is&^Pull) {
			taken.Actions = append(taken.Actions, name)
		} else {
			left.Actions = append(left.Actions, name)
		}
	}
	return left, taken, why
}

// Name returns what identifies p, such as "protect team/* tags v*".
func (p Protection) Name() string {
	if p.Kind == Protect {
		return p.String()
	}
	return string(p.Kind) + " " + p.Pattern.String()
}

// A ProtectionQuery selects protections, in order of pattern, kind and tags.
type ProtectionQuery struct {
	Within   []Pattern      // only for patterns within these
	Patterns []Pattern      // only for these; nil: any
	Kind     ProtectionKind // "": any
	After    *Protection    // only those after this one
	Limit    int
}

// A Guardian has the protections for those who manage them. A change is recorded with the actor
// of its context, and made only if the context's Permit allows it: see Directory.
type Guardian interface {
	ProtectionPage(context.Context, ProtectionQuery) ([]Protection, error)
	// AddProtection adds a protection, or replaces the quota and the reason of the one with the
	// same kind, pattern and tags.
	AddProtection(context.Context, Protection) error
	// RemoveProtection removes the protection of that kind, pattern and tags, or returns
	// indexer.ErrNotFound.
	RemoveProtection(context.Context, Protection) error
}
