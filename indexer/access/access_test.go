package access_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
)

// Allowed and Asker agree with a plain reading of the rules, whatever they are.
func TestSubjectAsNaive(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	pick := func(texts ...string) string { return texts[random.IntN(len(texts))] }
	rules := func() (rules access.Rules) {
		for range random.IntN(4) {
			text := pick("*", "a/*", "a/b", "a/b/*", "ab/*", "ab", "a", "c/d", "c/*") + ":" + pick("pull", "push", "delete", "admin", "pull,delete")
			r, err := access.ParseRule(text)
			if err != nil {
				t.Fatal(err)
			}
			if r.String() != text && !strings.Contains(text, "push") && !strings.Contains(text, "delete") && !strings.Contains(text, "admin") {
				t.Errorf("%q became %q", text, r)
			}
			rules = append(rules, r)
		}
		return rules
	}
	naive := func(rules access.Rules, name string) (all access.Actions) {
		for _, r := range rules {
			if indexer.Glob(r.Pattern.String())(name) {
				all |= r.Actions
			}
		}
		return all
	}
	hidden, seen := 0, 0
	for range 5000 {
		s := access.Subject{Rules: rules(), Narrowed: random.IntN(2) == 0, Scope: rules(), Admin: random.IntN(8) == 0}
		sees := s.Asker().Visibility()
		for _, name := range []string{"a", "ab", "a/b", "a/bc", "a/b/c", "ab/c", "c/d", "c/d/e", "d"} {
			want := naive(s.Rules, name)
			if s.Admin {
				want = access.Admin
			}
			if s.Narrowed {
				want &= naive(s.Scope, name)
			}
			if got := s.Allowed(name); got != want {
				t.Fatalf("%+v in %s: allowed %q, want %q", s, name, got, want)
			}
			if got := sees.Sees(name); got != want.Has(access.Pull) {
				t.Fatalf("%+v sees %s: %v, and may %q", s, name, got, want)
			}
			if want.Has(access.Pull) {
				seen++
			} else {
				hidden++
			}
		}
	}
	if seen < 5000 || hidden < 5000 {
		t.Errorf("%d names were seen and %d hidden: the test asks too little", seen, hidden)
	}
}

// A rule that cannot be understood is an error that says what to write.
func TestParseRule(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"team/*:pull,push": "", "*:admin": "", "app:delete": "",
		"team/*":         "a colon and actions",
		"team/*:read":    "write pull, push, delete or admin",
		"te*m/app:pull":  "write * for all, team/* for those below team",
		"Team/*:pull":    "not a repository name",
		"team/a?p:pull":  "not a repository name",
		"team/*/*:pull":  "not a repository name",
		"team*:pull":     "write * for all",
		":pull":          "not a repository name",
		"team/app:":      "not an action",
		"team/app:pull,": "not an action",
	} {
		_, err := access.ParseRule(text)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want an error with %q", text, err, want)
		}
	}
}

// The kind of a client follows from the name that the registry repeats.
func TestKindOf(t *testing.T) {
	t.Parallel()
	for actor, want := range map[string]indexer.ClientKind{
		"": indexer.ByAnonymous, "alice": indexer.ByPerson, "alice+7f3a12bc": indexer.ByToken, "ci+w7f3a12bc": indexer.ByWorkload,
		access.Subject{Name: "ci", Token: "7f3a12bc"}.Actor(): indexer.ByToken, "delegated/a+b@example.org": indexer.ByPerson,
	} {
		if got := access.KindOf(actor); got != want {
			t.Errorf("%q: %s, want %s", actor, got, want)
		}
	}
}
