package access_test

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
)

// Somebody manages the grants for a pattern if it has the action admin on every repository
// that the pattern selects, whatever else is granted; with a limited token, or without a name,
// nobody manages any.
func TestOverseesAsNaive(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(7, 8))
	pick := func(texts ...string) string { return texts[random.IntN(len(texts))] }
	patterns := []string{"*", "a/*", "a/b", "a/b/*", "a/b/c", "ab/*", "ab", "a", "c/d", "c/*"}
	// Each path has a name that no rule names, for which only a wider pattern can be right.
	names := []string{"a", "ab", "a/b", "a/b/c", "ab/c", "c/d", "fresh", "a/fresh", "a/b/fresh", "ab/fresh", "c/fresh", "c/d/fresh", "fresh/x"}
	yes, no := 0, 0
	for range 1000 {
		s := access.Subject{Name: pick("alice", "alice", "alice", ""), Narrowed: random.IntN(6) == 0, Admin: random.IntN(8) == 0}
		for range random.IntN(4) {
			s.Rules = append(s.Rules, mustRule(t, pick(patterns...)+":"+pick("pull", "push,delete", "admin", "admin")))
		}
		s.Scope = access.Rules{mustRule(t, "*:admin")}
		for _, text := range patterns {
			p, err := access.ParsePattern(text)
			if err != nil {
				t.Fatal(err)
			}
			want := s.Name != "" && !s.Narrowed
			for _, name := range names {
				if indexer.Glob(text)(name) && !s.Allowed(name).Has(access.Admin) {
					want = false
				}
			}
			if got := s.Oversees(p); got != want {
				t.Fatalf("%+v oversees %s: %v, want %v", s, p, got, want)
			}
			if err := access.OverseersOf(p)(s); (err == nil) != want || err != nil && !errors.Is(err, indexer.ErrForbidden) {
				t.Fatalf("%+v may grant %s: %v, want %v", s, p, err, want)
			}
			if want {
				yes++
			} else {
				no++
			}
		}
	}
	if yes < 500 || no < 500 {
		t.Errorf("%d yes and %d no: the test asks too little", yes, no)
	}
}

// PatternsOf returns those of all patterns that select a repository.
func TestPatternsOf(t *testing.T) {
	t.Parallel()
	var got string
	for _, p := range access.PatternsOf("a/b/c") {
		got += p.String() + " "
	}
	if want := "* a/* a/b/* a/b/c "; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func mustRule(t *testing.T, text string) access.Rule {
	t.Helper()
	r, err := access.ParseRule(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A token can be made only by its account or, for a robot, by an administrator; what is made
// with a token allows no more and ends no later.
func TestMakersOf(t *testing.T) {
	t.Parallel()
	soon, later, year := time.Now().Add(time.Hour), time.Now().Add(48*time.Hour), time.Now().Add(400*24*time.Hour)
	alice := access.Subject{Name: "alice"}
	withToken := access.Subject{Name: "alice", Token: "1", Expires: soon}
	limited := access.Subject{Name: "alice", Token: "1", Narrowed: true, Scope: access.Rules{mustRule(t, "*:admin")}}
	root := access.Subject{Name: "root", Admin: true}
	limitedRoot := access.Subject{Name: "root", Admin: true, Narrowed: true, Scope: access.Rules{mustRule(t, "*:admin")}}
	for what, c := range map[string]struct {
		by      access.Subject
		account string
		robot   bool
		ends    time.Time
		want    bool
	}{
		"own":                          {alice, "alice", false, later, true},
		"own, for ever":                {alice, "alice", false, time.Time{}, false},
		"own, too long":                {alice, "alice", false, year, false},
		"with a token":                 {withToken, "alice", false, soon, true},
		"with a token, longer":         {withToken, "alice", false, later, false},
		"with a limited token":         {limited, "alice", false, soon, false},
		"of another":                   {alice, "bob", false, soon, false},
		"of a robot":                   {alice, "ci", true, soon, false},
		"of a robot by root":           {root, "ci", true, time.Time{}, true},
		"of a person by root":          {root, "alice", false, soon, false},
		"by root with a limited token": {limitedRoot, "ci", true, soon, false},
		"of nobody":                    {access.Subject{}, "", false, soon, false},
		"by nobody":                    {access.Subject{}, "alice", false, soon, false},
	} {
		err := access.MakersOf(access.PersonalToken{Account: c.account, ExpiresAt: c.ends}, c.robot)(c.by)
		if (err == nil) != c.want || err != nil && !errors.Is(err, indexer.ErrForbidden) {
			t.Errorf("%s: got %v, want it to be allowed: %v", what, err, c.want)
		}
	}
}
