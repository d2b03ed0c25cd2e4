package memory

import (
	"slices"
	"strings"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/query"
)

// How labels and annotations are written as terms. The search rows hold the hash of each.
const (
	// MaxTerm is the maximum number of characters of a key and of a value that queries
	// compare: 200. Terms are made of that many, and equality and patterns compare that
	// many, so that all agree. It limits the time of a pattern: to match eight stars
	// against 200 characters takes microseconds, against 256 kB seconds.
	MaxTerm = 200
	// TermSeparator is between the key and the value in a term.
	TermSeparator = "\x1f"
	// ManyKeys replaces the terms of a repository's images if they have too many keys. If
	// one key has too many values, the complement of its hash is stored instead of them.
	ManyKeys = "many:"
)

// BuildTimeKeys are labels with the time of the build. Terms leave out their values,
// because nobody searches for them and every image has another one. Of annotations,
// only the first key is left out.
var BuildTimeKeys = []string{"org.opencontainers.image.created", "org.label-schema.build-date", "build-date"}

// IsBuildTime reports whether terms may leave out the values of a label or annotation.
func IsBuildTime(key string) bool { return slices.Contains(BuildTimeKeys, key) }

// TermOf returns the term that every image has that fulfils a condition on a label or an
// annotation, or "" if there is none. exact reports whether all images with the term
// fulfil the condition.
func TermOf(t query.Term) (term string, exact bool) {
	key := string(t.Field) + ":" + TermText(t.Name)
	switch {
	case isGlob(t.Name):
		return "", false
	case !t.Valued, t.Value != "" && strings.Trim(t.Value, "*") == "": // any value
		return key, true
	case isGlob(t.Value), IsBuildTime(t.Name):
		return key, false
	}
	return key + TermSeparator + TermText(t.Value), true
}

// TermText returns text cut off to MaxTerm characters, as terms have it.
func TermText(text string) string {
	runes := []rune(indexer.CleanText(text))
	return string(runes[:min(len(runes), MaxTerm)])
}

func isGlob(s string) bool { return strings.ContainsAny(s, "*?") }
