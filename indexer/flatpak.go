package indexer

import (
	"regexp"
	"strings"
)

// FlatpakRefLabel is the label with the ref of a flatpak. Images with it are flatpaks.
const FlatpakRefLabel = "org.flatpak.ref"

// maxFlatpakRef is the maximum length of a flatpak ref in bytes: 512. flatpak allows an
// ID of at most 255 (common/flatpak-ref-utils.c); the other parts are short.
const maxFlatpakRef = 512

// flatpakRef matches kind/ID/ARCH/BRANCH. flatpak is stricter about each part, and
// skips a ref that it does not accept; this only excludes texts that are no refs at
// all.
var flatpakRef = regexp.MustCompile(`^(app|runtime)/[A-Za-z0-9_.-]+/[A-Za-z0-9_]+/[A-Za-z0-9_][A-Za-z0-9_.-]*$`)

// IsFlatpakRef reports whether s is a ref that flatpak may accept.
func IsFlatpakRef(s string) bool { return len(s) <= maxFlatpakRef && flatpakRef.MatchString(s) }

// Glob returns a function that reports whether a text matches a glob: * matches any
// number of characters, and ? matches one. Its time is proportional to the length of
// the text times the number of stars.
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

// A FlatpakOwner says which repositories may serve a flatpak: if a ref matches the glob
// Ref, its images are served only from repositories that match the glob Repository.
type FlatpakOwner struct{ Ref, Repository string }

// ParseFlatpakOwner parses REF=REPOSITORY. It returns ErrInvalid for anything else.
func ParseFlatpakOwner(s string) (FlatpakOwner, error) {
	ref, repository, found := strings.Cut(s, "=")
	if ref, repository = strings.TrimSpace(ref), strings.TrimSpace(repository); !found || ref == "" || repository == "" {
		return FlatpakOwner{}, Invalid("%.64q is not an owner: write REF=REPOSITORY, such as app/org.mozilla.*=flathub/*", s)
	}
	return FlatpakOwner{ref, repository}, nil
}
