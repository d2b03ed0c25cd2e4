package indexer

import (
	"regexp"
	"strings"
)

// FlatpakRefLabel is the label that makes an image a flatpak.
const FlatpakRefLabel = "org.flatpak.ref"

// maxFlatpakRef is the most bytes of a flatpak ref: 512. flatpak's ID has at most
// 255 (common/flatpak-ref-utils.c); the rest is short.
const maxFlatpakRef = 512

// flatpakRef is kind/ID/ARCH/BRANCH. flatpak is stricter about each, and passes over
// a ref that it does not like; this keeps out what is none.
var flatpakRef = regexp.MustCompile(`^(app|runtime)/[A-Za-z0-9_.-]+/[A-Za-z0-9_]+/[A-Za-z0-9_][A-Za-z0-9_.-]*$`)

// IsFlatpakRef reports whether s is a ref that flatpak may read.
func IsFlatpakRef(s string) bool { return len(s) <= maxFlatpakRef && flatpakRef.MatchString(s) }

// Glob returns a function that reports whether a text matches a glob, in which * is
// any run of characters and ? any one. It takes time in proportion to the length of
// the text, times the number of stars.
func Glob(glob string) func(string) bool {
	var b strings.Builder
	b.WriteString(`(?s)^`)
	for _, r := range glob {
		switch r {
		case '*':
			b.WriteString(`.*`)
		case '?':
			b.WriteString(`.`)
		default:
			b.WriteString(regexp.QuoteMeta(string(r)))
		}
	}
	return regexp.MustCompile(b.String() + `$`).MatchString
}

// A FlatpakOwner says whose a flatpak is: images of a ref that the glob Ref matches
// are served from repositories that the glob Repository matches, and from no other.
type FlatpakOwner struct{ Ref, Repository string }

// ParseFlatpakOwner reads REF=REPOSITORY. It returns ErrInvalid for anything else.
func ParseFlatpakOwner(s string) (FlatpakOwner, error) {
	ref, repository, found := strings.Cut(s, "=")
	if ref, repository = strings.TrimSpace(ref), strings.TrimSpace(repository); !found || ref == "" || repository == "" {
		return FlatpakOwner{}, Invalid("%.64q is no owner: write REF=REPOSITORY, such as app/org.mozilla.*=flathub/*", s)
	}
	return FlatpakOwner{ref, repository}, nil
}
