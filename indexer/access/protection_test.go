package access_test

import (
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"github.com/portbook/portbook/indexer/access"
)

// Patterns of tags must mean what a regular expression with the same meaning does.
func TestProtectedTags(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	text := func(letters string, most int) string {
		var b strings.Builder
		for range random.IntN(most + 1) {
			b.WriteByte(letters[random.IntN(len(letters))])
		}
		return b.String()
	}
	for range 5000 {
		pattern, tag := text("ab.*?", 7), text("ab.", 8)
		if _, err := access.ParseTags(pattern); err != nil {
			if pattern != "" {
				t.Fatalf("%q: %v", pattern, err)
			}
			continue
		}
		p := access.Protection{Kind: access.Protect, Pattern: access.Every, Tags: pattern}
		plain := strings.NewReplacer(`\*`, ".*", `\?`, ".").Replace(regexp.QuoteMeta(pattern))
		want := regexp.MustCompile("^" + plain + "$").MatchString(tag)
		if got := p.Protects("team/app", tag); got != want {
			t.Errorf("%q protects %q: %v, want %v", pattern, tag, got, want)
		}
	}
	for _, wrong := range []string{"", "v 1", "a/b", "v1,v2", "é*", strings.Repeat("a", 129)} {
		if _, err := access.ParseTags(wrong); err == nil {
			t.Errorf("%q is a pattern of tags", wrong)
		}
	}
}
