package access_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portbook/portbook/indexer/access"
)

// Scopes are read in every form in which clients send them.
func TestParseScopes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]access.Access{
		"repository:a/b:pull":               {{Type: "repository", Name: "a/b", Actions: []string{"pull"}}},
		"repository:a/b:push,pull,pull":     {{Type: "repository", Name: "a/b", Actions: []string{"pull", "push"}}},
		"repository(plugin):a:pull":         {{Type: "repository", Name: "a", Actions: []string{"pull"}}},
		"repository:host:5000/a:pull":       {{Type: "repository", Name: "host:5000/a", Actions: []string{"pull"}}},
		"registry:catalog:*":                {{Type: "registry", Name: "catalog", Actions: []string{"*"}}},
		"":                                  nil,
		"  ":                                nil,
		"nonsense":                          nil,
		"repository:a":                      nil,
		"repository:a:pull repository:b:* ": {{Type: "repository", Name: "a", Actions: []string{"pull"}}, {Type: "repository", Name: "b", Actions: []string{"*"}}},
	} {
		if diff := cmp.Diff(want, access.ParseScopes([]string{text})); diff != "" {
			t.Errorf("%q (-want +got)\n%s", text, diff)
		}
	}
	if n := len(access.ParseScopes(slices.Repeat([]string{"repository:a:pull"}, 1000))); n != 100 {
		t.Errorf("of 1,000 scopes %d were read, want 100", n)
	}
}

// What is granted is what the subject may do, and a token narrows its subject to that.
func TestGrant(t *testing.T) {
	t.Parallel()
	rules := func(texts ...string) (all access.Rules) {
		for _, text := range texts {
			r, err := access.ParseRule(text)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, r)
		}
		return all
	}
	alice := access.Subject{Name: "alice", Rules: rules("team/*:push", "public/*:pull")}
	all := access.Subject{Name: "bob", Rules: rules("*:pull")}
	root := access.Subject{Name: "root", Admin: true}
	robot := access.Subject{Name: "root", Admin: true, Token: "1", Narrowed: true, Scope: rules("team/*:pull,delete")}
	for _, c := range []struct {
		subject     access.Subject
		scope, want string
		sees, hides string // after narrowing
	}{
		{alice, "repository:team/a:pull,push", "team/a:pull,push", "team/a", "team/b"},
		{alice, "repository:team/a:pull,push,delete", "team/a:pull,push", "team/a", "public/a"},
		{alice, "repository:team/a:*", "team/a:pull,push", "team/a", "team"},
		{alice, "repository:public/a:pull,push", "public/a:pull", "public/a", "team/a"},
		{alice, "repository:other/a:pull", "", "", "team/a"},
		{alice, "repository:team/*:pull", "", "", "team/a"},
		{alice, "repository:*:pull", "", "", "team/a"},
		{alice, "registry:catalog:*", "catalog:search", "team/a", "other/a"},
		{alice, "registry:catalog:search", "catalog:search", "public/a", "other/a"},
		{alice, "other:catalog:*", "", "", "team/a"},
		{alice, "", "catalog:search", "team/a", "other/a"},
		{all, "registry:catalog:*", "catalog:*", "x", ""},
		{root, "registry:catalog:*", "catalog:*", "x", ""},
		{root, "repository:x:*", "x:pull,push,delete", "x", "y"},
		{root, "repository:x:delete", "x:delete", "x", "y"},
		{robot, "repository:team/x:*", "team/x:pull,delete", "team/x", "team/y"},
		{robot, "registry:catalog:*", "catalog:search", "team/x", "y"},
		{access.Subject{}, "repository:x:pull registry:catalog:*", "catalog:search", "", "x"},
	} {
		granted := c.subject.Grant(access.ParseScopes([]string{c.scope}))
		got := ""
		for _, a := range granted {
			got += a.Name + ":"
			for i, action := range a.Actions {
				got += map[bool]string{true: ","}[i > 0] + action
			}
		}
		if got != c.want || granted == nil {
			t.Errorf("%s wants %s: got %s, want %s", c.subject.Name, c.scope, got, c.want)
		}
		narrow := c.subject.Narrow(granted).Asker().Visibility()
		if c.sees != "" && !narrow.Sees(c.sees) || c.hides != "" && narrow.Sees(c.hides) {
			t.Errorf("%s with a token of %s sees %v", c.subject.Name, c.scope, narrow.Patterns())
		}
	}
}
