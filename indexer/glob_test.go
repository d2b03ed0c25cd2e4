package indexer_test

import (
	"testing"
	"unicode/utf8"

	"github.com/portbook/portbook/indexer"
)

// Both functions for globs match the same texts, which is what a Visibility relies on.
func FuzzMatchGlob(f *testing.F) {
	for _, glob := range []string{"", "*", "?", "a", "a*", "*a", "*a*a", "a?c", "**?", "team/*", "?*é", "[a-z]", "é?", `\*`} {
		for _, text := range []string{"", "a", "aa", "abc", "team/app", "é", "éa", "aé", "abcabc", "a\nb", "[a-z]", `\x`} {
			f.Add(glob, text)
		}
	}
	f.Fuzz(func(t *testing.T, glob, text string) {
		if !utf8.ValidString(glob) || !utf8.ValidString(text) {
			return
		}
		if got, want := indexer.MatchGlob(glob, text), indexer.Glob(glob)(text); got != want {
			t.Errorf("%q matches %q: %v, want %v", glob, text, got, want)
		}
	})
}
