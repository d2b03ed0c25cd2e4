package access_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/portbook/portbook/indexer/access"
)

// What a provider calls a person and its groups becomes names that may exist here, or none. A
// letter that only looks like one of ours does not become it.
func TestNamesOfProviders(t *testing.T) {
	t.Parallel()
	for called, want := range map[string]string{
		"alice": "alice", "Alice": "alice", "alice@Example.org": "alice-example.org", "Octo--Cat-": "octo-cat", "a.-b": "a.b",
		" a b ": "a-b", "\u212Aim": "im", "日本": "", "": "", "everybody": "", "token": "", strings.Repeat("x", 65): "",
	} {
		got, err := access.AccountName(called)
		if (err == nil) != (want != "") || err == nil && got != want {
			t.Errorf("account of %q: %q, %v, want %q", called, got, err, want)
		}
		if err == nil && access.CheckName(got) != nil {
			t.Errorf("account of %q: %q is not a name", called, got)
		}
	}
	got, left := access.GroupNames([]string{"/team/Dev", "team/dev", "b", "a b", "\u212A8s", "everybody", "a", "x//y", ""})
	if want := []string{"a", "b", "team.dev"}; !slices.Equal(got, want) || left != 5 {
		t.Errorf("groups %q, %d left out, want %q and 5", got, left, want)
	}
	var many []string
	for n := range 1000 {
		many = append(many, fmt.Sprint("g", n))
	}
	if got, left := access.GroupNames(many); len(got) != 200 || left != 800 {
		t.Errorf("of 1000 groups %d count and %d do not", len(got), left)
	}
	for _, subject := range []string{"", "a\nb", "日本", strings.Repeat("x", 256)} {
		if access.CheckIdentity("https://x", subject) == nil || access.CheckIdentity(strings.Repeat(subject, 5), "x") == nil {
			t.Errorf("%.20q may be part of an identity", subject)
		}
	}
}

// An attempt is valid for ten minutes, for its state and its provider, and is nothing else.
func TestAttempt(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys.json")
	keys, _ := access.Keys{}.Rotate()
	write(t, path, keys)
	s, err := access.NewSigner(path, "portbook", "registry")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	a := access.NewAttempt("oidc", "/r/a")
	token, err := s.ForAttempt(a, now)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.Attempt(token, now.Add(9*time.Minute)); err != nil || got != a {
		t.Errorf("got %+v, %v, want %+v", got, err, a)
	}
	if _, err := s.Attempt(token, now.Add(12*time.Minute)); !errors.Is(err, access.ErrDenied) {
		t.Errorf("after 12 minutes: %v", err)
	}
	if !a.Matches("oidc", a.State) || a.Matches("github", a.State) || a.Matches("oidc", "") || a.Matches("oidc", a.Nonce) {
		t.Errorf("%+v matches what it should not", a)
	}
	if (access.Attempt{Provider: "oidc"}).Matches("oidc", "") {
		t.Error("an attempt without a state matches a request without one")
	}
	session, _, err := s.ForSession("alice", now, now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Attempt(session, now); !errors.Is(err, access.ErrDenied) {
		t.Errorf("a session is an attempt: %v", err)
	}
	if _, err := s.Session(token, now); !errors.Is(err, access.ErrDenied) {
		t.Errorf("an attempt is a session: %v", err)
	}
}
