package access_test

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
)

const gitHub = "https://token.actions.githubusercontent.com"

// workloadOf parses the claims, and makes a workload of them.
func workloadOf(account, issuer, audience string, texts ...string) (access.Workload, error) {
	var claims []access.Claim
	for _, text := range texts {
		c, err := access.ParseClaim(text)
		if err != nil {
			return access.Workload{}, err
		}
		claims = append(claims, c)
	}
	return access.NewWorkload(account, issuer, audience, claims)
}

// A workload that would let in anybody, or that cannot be understood, is an error that says
// what to write.
func TestNewWorkload(t *testing.T) {
	t.Parallel()
	const a = "registry.example"
	long := strings.Repeat("x", 257)
	for _, c := range []struct {
		account, issuer, audience string
		claims                    []string
		want                      string
	}{
		{"ci", gitHub, a, []string{"repository_id=1"}, ""},
		{"ci", gitHub, a, []string{"repository=acme/*", "ref=refs/heads/main"}, ""},
		{"ci", gitHub, a, []string{"sub=repo:acme/app:*"}, ""},
		{"ci", gitHub, a, []string{"sub=repo:acme@1/app@2:ref:refs/heads/main"}, ""},
		{"ci", "https://k8s.example/a=b", a, []string{"sub=system:serviceaccount:a:b"}, ""},
		{"ci", "https://k8s.example:6443", a, []string{"x=a=b"}, ""},
		{"ci", "http://127.0.0.1:99/x", a, []string{"x=y"}, ""},
		{"ci", "http://[::1]:99", a, []string{"x=y"}, ""},
		{"ci", "http://localhost", a, []string{"x=y"}, ""},

		{"ci", gitHub, a, nil, "0 claims"},
		{"ci", gitHub, a, strings.Fields(strings.Repeat("x=y ", 21)), "21 claims"},
		{"ci", gitHub, a, []string{"ref=refs/heads/main"}, "anybody can have a token"},
		{"ci", gitHub + "/", a, []string{"ref=refs/heads/main"}, "anybody can have a token"},
		{"ci", gitHub, a, []string{"repository=acme*"}, "anybody can have a token"},
		{"ci", gitHub, a, []string{"repository_id=1*"}, "anybody can have a token"},
		{"ci", gitHub, a, []string{"sub=repo:*"}, "anybody can have a token"},
		{"ci", "https://gitlab.com", a, []string{"ref_protected=true"}, "project_path"},
		{"ci", gitHub, a, []string{"sub=*"}, "allows any value"},
		{"ci", gitHub, a, []string{"aud=" + a}, "does not say whose"},
		{"ci", gitHub, a, []string{"iss=" + gitHub}, "does not say whose"},
		{"ci", gitHub, a, []string{"sub"}, "not NAME=VALUE"},
		{"ci", gitHub, a, []string{"sub="}, "not NAME=VALUE"},
		{"ci", gitHub, a, []string{"=x"}, "not NAME=VALUE"},
		{"ci", gitHub, a, []string{"sub=a\nb"}, "not NAME=VALUE"},
		{"ci", gitHub, a, []string{"sub=" + long}, "not NAME=VALUE"},
		{"ci", gitHub, "", []string{"sub=x"}, "the audience"},
		{"ci", gitHub, long, []string{"sub=x"}, "the audience"},
		{"Ci", gitHub, a, []string{"sub=x"}, "is not a name"},
		{"ci", "", a, []string{"sub=x"}, "the issuer"},
		{"ci", "accounts.google.com", a, []string{"sub=x"}, "the issuer"},
		{"ci", "http://issuer.example", a, []string{"sub=x"}, "the issuer"},
		{"ci", "http://127.0.0.1.example", a, []string{"sub=x"}, "the issuer"},
		{"ci", "https://", a, []string{"sub=x"}, "the issuer"},
		{"ci", "https://user@issuer.example", a, []string{"sub=x"}, "the issuer"},
		{"ci", "https://issuer.example?a", a, []string{"sub=x"}, "the issuer"},
		{"ci", "https://issuer.example?", a, []string{"sub=x"}, "the issuer"},
		{"ci", "https://issuer.example#", a, []string{"sub=x"}, "the issuer"},
		{"ci", "file:///etc/passwd", a, []string{"sub=x"}, "the issuer"},
	} {
		w, err := workloadOf(c.account, c.issuer, c.audience, c.claims...)
		switch {
		case c.want == "" && (err != nil || !regexp.MustCompile("^w[0-9a-f]{8}$").MatchString(w.ID)):
			t.Errorf("%+v: id %q, %v", c, w.ID, err)
		case c.want != "" && (!errors.Is(err, indexer.ErrInvalid) || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%+v: got %v, want an error with %q", c, err, c.want)
		}
	}
}

// The id of a workload depends on all that it says, and not on the order of claims. No token
// has such an id.
func TestWorkloadID(t *testing.T) {
	t.Parallel()
	id := func(account, issuer, audience string, claims ...string) string {
		w, err := workloadOf(account, issuer, audience, claims...)
		if err != nil {
			t.Fatal(err)
		}
		return w.ID
	}
	one := id("ci", "https://a.example", "x", "sub=a", "ref=b")
	if other := id("ci", "https://a.example", "x", "ref=b", "sub=a"); other != one {
		t.Errorf("the order of claims changes the id: %s and %s", one, other)
	}
	for n, other := range []string{
		id("cd", "https://a.example", "x", "sub=a", "ref=b"), id("ci", "https://b.example", "x", "sub=a", "ref=b"),
		id("ci", "https://a.example", "y", "sub=a", "ref=b"), id("ci", "https://a.example", "x", "sub=a", "ref=c"),
		id("ci", "https://a.example", "x", "sub=a"), access.NewToken().ID(),
	} {
		if other == one || strings.HasPrefix(access.NewToken().ID(), one[:1]) {
			t.Errorf("%d: the id is %s too", n, other)
		}
	}
}

// What is no token is taken as a password, and nothing else.
func TestLooksLikeJWT(t *testing.T) {
	t.Parallel()
	const header = "eyJhbGciOiJSUzI1NiJ9" // {"alg":"RS256"}
	for secret, want := range map[string]bool{
		header + ".e30.x": true, header + "..": true, "eyJhbGciOiJub25lIn0.e30.": true,
		"": false, "..": false, "a long password": false, "a.b.c": false, header: false, header + ".e30": false,
		header + ".e30.x.y": false, header + "=.e30.x": false, "e30.e30.x": false, "pbt_" + header + ".e30.x": false,
		access.NewToken().Text(): false, fmt.Sprintf("%s%s.e30.x", strings.Repeat("IA", 4096), header): false,
	} {
		if got := access.LooksLikeJWT(secret); got != want {
			t.Errorf("%.60q: %v", secret, got)
		}
	}
}
