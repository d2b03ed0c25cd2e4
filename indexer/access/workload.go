package access

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/portbook/portbook/indexer"
)

const (
	// MaxWorkloads is the maximum number of workloads of a robot: 100. One token may be compared
	// with all of them, which takes less time than to check its signature.
	MaxWorkloads = 100
	// maxClaims is the maximum number of claims of a workload: 20. GitHub's tokens have some 30.
	maxClaims = 20
	// maxWorkloadText is the maximum length of an issuer, an audience, and the name and the value
	// of a claim: 256 bytes. The longest subjects of GitHub and Kubernetes have some 200.
	maxWorkloadText = 256
)

// A Workload is a program elsewhere that logs in as a robot, such as a job of GitHub Actions or
// a pod of Kubernetes. It has no secret of ours: an issuer gives it a token, which is valid for
// minutes, and it sends that as the password.
type Workload struct {
	ID        string
	Account   string // the robot
	Issuer    string // a URL, exactly as in tokens
	Audience  string // one of those in tokens
	Claims    []Claim
	CreatedAt time.Time
}

// A Claim is what a token must say besides its issuer and its audience. A Value that ends with *
// is the beginning of that of the token.
type Claim struct{ Name, Value string }

// String returns c in the form of ParseClaim.
func (c Claim) String() string { return c.Name + "=" + c.Value }

// ParseClaim parses NAME=VALUE.
func ParseClaim(text string) (c Claim, err error) {
	name, value, found := strings.Cut(text, "=")
	switch {
	case !found || !isPlain(name) || !isPlain(value):
		return c, indexer.Invalid("the claim %.64q is not NAME=VALUE, such as repository=acme/app, with at most %d bytes"+
			" each", text, maxWorkloadText)
	case slices.Contains([]string{"iss", "aud", "exp", "nbf", "iat", "jti"}, name):
		return c, indexer.Invalid("the claim %q does not say whose the token is: name one that does, such as sub or"+
			" repository", name)
	case strings.Trim(value, "*") == "":
		return c, indexer.Invalid("the claim %.64q allows any value: write what it must begin with before the *", text)
	}
	return Claim{name, value}, nil
}

// isPlain reports whether a text can be part of a workload.
func isPlain(text string) bool {
	return text != "" && len(text) <= maxWorkloadText && utf8.ValidString(text) &&
		!strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
}

// NewWorkload returns a workload of a robot, with its id. It returns ErrInvalid if it would
// let in more than anybody can want.
func NewWorkload(account, issuer, audience string, claims []Claim) (w Workload, err error) {
	if err := CheckName(account); err != nil {
		return w, err
	}
	if !isPlain(issuer) || !isIssuer(issuer) {
		return w, indexer.Invalid("the issuer %.64q is not an https URL without a user, a query and a fragment, of at"+
			" most %d bytes: write the iss of the tokens, such as https://token.actions.githubusercontent.com",
			issuer, maxWorkloadText)
	}
	if !isPlain(audience) {
		return w, indexer.Invalid("the audience %.64q is empty, too long or not printable: write the aud of the tokens,"+
			" in at most %d bytes", audience, maxWorkloadText)
	}
	if len(claims) == 0 || len(claims) > maxClaims {
		return w, indexer.Invalid("there are %d claims: write 1 to %d, since the issuer gives tokens to others too,"+
			" such as repository=acme/app", len(claims), maxClaims)
	}
	if err := checkShared(issuer, claims); err != nil {
		return w, err
	}
	claims = slices.SortedFunc(slices.Values(claims), func(a, b Claim) int { return cmp.Compare(a.String(), b.String()) })
	w = Workload{Account: account, Issuer: issuer, Audience: audience, Claims: claims}
	w.ID = w.id()
	return w, nil
}

// workloadPrefix begins the id of every workload. It is no hexadecimal digit, so the id of a
// token is never that of a workload.
const workloadPrefix = "w"

// IsWorkload reports whether an id is that of a workload, and not of a token.
func IsWorkload(id string) bool { return strings.HasPrefix(id, workloadPrefix) }

// id returns the public name of w, which depends on all that w says.
func (w Workload) id() string {
	text := strings.Join(append([]string{w.Account, w.Issuer, w.Audience}, w.Texts()...), "\x00")
	sum := sha256.Sum256([]byte(text))
	return workloadPrefix + hex.EncodeToString(sum[:4])
}

// Texts returns the claims of w in the form of ParseClaim.
func (w Workload) Texts() (texts []string) {
	for _, c := range w.Claims {
		texts = append(texts, c.String())
	}
	return texts
}

// isIssuer reports whether a text is the URL of an issuer. Without TLS it must be on this host,
// for tests, because whoever can answer in its place chooses the keys.
func isIssuer(text string) bool {
	u, err := url.Parse(text)
	return err == nil && isSafe(u) && u.User == nil && u.RawQuery == "" && !u.ForceQuery && !strings.Contains(text, "#")
}

// isSafe reports whether answers from a URL are those of its host.
func isSafe(u *url.URL) bool {
	switch u.Scheme {
	case "https":
		return u.Hostname() != ""
	case "http":
		return u.Hostname() == "localhost" || net.ParseIP(u.Hostname()).IsLoopback()
	}
	return false
}

// shared are issuers that sign for everybody, and the claims that say whose a token is: their
// other claims, such as ref, can be had by anybody who makes a repository there.
var shared = map[string][]string{
	"https://token.actions.githubusercontent.com": {
		"sub", "repository", "repository_id", "repository_owner", "repository_owner_id", "enterprise_id",
	},
	"https://gitlab.com": {"sub", "project_path", "project_id", "namespace_path", "namespace_id"},
}

// checkShared returns ErrInvalid if anybody could get a token with the claims. The beginning of
// a value says whose it is only if it includes a whole owner, which a slash ends.
func checkShared(issuer string, claims []Claim) error {
	owned, isShared := shared[strings.TrimSuffix(issuer, "/")]
	for _, c := range claims {
		prefix, isPrefix := strings.CutSuffix(c.Value, "*")
		if slices.Contains(owned, c.Name) && (!isPrefix || strings.Contains(prefix, "/")) {
			return nil
		}
	}
	if !isShared {
		return nil
	}
	return indexer.Invalid("anybody can have a token of %s with these claims: add one of %s, with a whole value, or one"+
		" up to a / and then *", issuer, strings.Join(owned, ", "))
}

// refuses returns why a token, which is from the issuer of w, is not of w; "" if it is.
func (w Workload) refuses(t claims) string {
	if !t.Audience.Contains(w.Audience) {
		return "aud is " + strings.Join(t.Audience, ", ") + ", not " + w.Audience
	}
	for _, c := range w.Claims {
		raw, found := t.all[c.Name]
		if !found {
			return "there is no " + c.Name
		}
		if !slices.ContainsFunc(textsOf(raw), c.matches) {
			return c.Name + " is " + string(raw) + ", not " + c.Value
		}
	}
	return ""
}

// matches reports whether a text in a token is what c wants.
func (c Claim) matches(text string) bool {
	if prefix, isPrefix := strings.CutSuffix(c.Value, "*"); isPrefix {
		return strings.HasPrefix(text, prefix)
	}
	return text == c.Value
}

// textsOf returns the texts of a value in a token: its own, or those of the elements of a list.
// Only strings, numbers and bools have one.
func textsOf(raw json.RawMessage) (texts []string) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var value any
	if decoder.Decode(&value) != nil {
		return nil
	}
	list, isList := value.([]any)
	if !isList {
		list = []any{value}
	}
	for _, v := range list {
		switch v := v.(type) {
		case string:
			texts = append(texts, v)
		case json.Number:
			texts = append(texts, v.String())
		case bool:
			texts = append(texts, strconv.FormatBool(v))
		}
	}
	return texts
}
