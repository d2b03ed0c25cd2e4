package access

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/cache"
)

const (
	// maxJWT is the maximum size of the token of a workload: 16 KiB. Those of GitHub have 2 KB.
	maxJWT = 16 << 10
	// maxHeader is the maximum size of its header: 4 KiB. Most have 100 bytes.
	maxHeader = 4 << 10
	// verifiedAge is for how long a token is let in without checking its signature again: 5 min,
	// so that one whose key was withdrawn is refused soon.
	verifiedAge = 5 * time.Minute
	// workloadLife is how long a workload stays logged in: 1 h. Its own token may be valid for
	// five minutes only, and a build that logs in first and a large push after it take longer.
	workloadLife = time.Hour
)

// algorithms are those that sign with a private key, which only the issuer has.
var algorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

// LooksLikeJWT reports whether a secret is meant to be the token of a workload: a JSON Web
// Token, which has three parts, the first a header with an algorithm.
func LooksLikeJWT(secret string) bool {
	header, rest, _ := strings.Cut(secret, ".")
	if strings.Count(rest, ".") != 1 || len(header) > maxHeader {
		return false
	}
	var h struct {
		Algorithm string `json:"alg"`
	}
	raw, err := base64.RawURLEncoding.DecodeString(header)
	return err == nil && json.Unmarshal(raw, &h) == nil && h.Algorithm != ""
}

// claims are what a token says.
type claims struct {
	jwt.Claims
	all map[string]json.RawMessage
}

// byJWT returns the subject of a robot with the token of a workload. The name is required: two
// robots may trust the same workload, and which one it is must not depend on their order.
func (a *Accounts) byJWT(ctx context.Context, c Credentials) (Subject, error) {
	if len(c.Secret) > maxJWT {
		return Subject{}, ErrDenied
	}
	// The version first: what is decided by older workloads must not be remembered for a later one.
	v, err := a.current(ctx)
	if err != nil {
		return Subject{}, err
	}
	trusted, err := a.workloads(ctx, c.Name)
	if err != nil {
		return Subject{}, err
	}
	sum := sha256.Sum256([]byte(c.Name + "\x00" + c.Secret))
	question := fmt.Sprintf("jwt %d %s", time.Now().Unix()/int64(verifiedAge/time.Second), sum)
	k, err := a.known.Get(ctx, cache.Key{Version: v, Question: question}, func() (k known, err error) {
		k.token, err = a.issuers.token(ctx, trusted, c.Secret)
		return k, err
	})
	if err != nil {
		return Subject{}, err
	}
	return a.withToken(ctx, k.token)
}

// workloads returns the workloads of a robot, in a fixed order. It returns ErrDenied if there
// is no such account.
func (a *Accounts) workloads(ctx context.Context, robot string) ([]Workload, error) {
	if _, err := a.account(ctx, robot); err != nil {
		return nil, err
	}
	k, err := a.get(ctx, "workloads "+robot, func() (k known, err error) {
		k.workloads, err = a.store.Workloads(ctx, robot)
		return k, err
	})
	return k.workloads, err
}

// workload returns the workload of a robot with an id, as the token by which it logged in.
func (a *Accounts) workload(ctx context.Context, robot, id string) (PersonalToken, error) {
	all, err := a.workloads(ctx, robot)
	if err != nil {
		return PersonalToken{}, err
	}
	if !slices.ContainsFunc(all, func(w Workload) bool { return w.ID == id }) {
		return PersonalToken{}, ErrDenied
	}
	return PersonalToken{ID: id, Account: robot}, nil
}

// token returns what is known of a token: of which of a robot's workloads it is, the first if
// it is of several, and when it expires. It returns ErrDenied if it is of none.
func (s *issuers) token(ctx context.Context, trusted []Workload, text string) (t PersonalToken, err error) {
	parsed, issuer, err := parseJWT(text)
	if err != nil {
		return t, err
	}
	// Only issuers that the robot trusts are ever asked.
	trusted = slices.DeleteFunc(slices.Clone(trusted), func(w Workload) bool { return w.Issuer != issuer })
	if len(trusted) == 0 {
		return t, ErrDenied
	}
	c, err := s.verify(ctx, issuer, parsed)
	if err != nil {
		return t, err
	}
	i := slices.IndexFunc(trusted, func(w Workload) bool { return w.refuses(c) == "" })
	if i < 0 {
		return t, ErrDenied
	}
	return PersonalToken{ID: trusted[i].ID, Account: trusted[i].Account, ExpiresAt: c.Expiry.Time()}, nil
}

// parseJWT parses a token and returns the issuer that it names. Nothing is verified.
func parseJWT(text string) (parsed *jwt.JSONWebToken, issuer string, err error) {
	parsed, err = jwt.ParseSigned(text, algorithms)
	if err != nil || len(parsed.Headers) != 1 {
		return nil, "", ErrDenied
	}
	var c struct {
		Issuer string `json:"iss"`
	}
	if parsed.UnsafeClaimsWithoutVerification(&c) != nil {
		return nil, "", ErrDenied
	}
	return parsed, c.Issuer, nil
}

// Explain returns, for each of some workloads, why a token is not let in by it; "" if it is. It
// asks the issuer of the token if one of them trusts it.
func Explain(ctx context.Context, all []Workload, text string) (reasons []string, err error) {
	parsed, issuer, err := parseJWT(strings.TrimSpace(text))
	if err != nil || len(text) > maxJWT {
		return nil, indexer.Invalid("that is not a JSON Web Token of at most %d bytes, signed by one of %v",
			maxJWT, algorithms)
	}
	var c claims
	if slices.ContainsFunc(all, func(w Workload) bool { return w.Issuer == issuer }) {
		c, err = newIssuers().verify(ctx, issuer, parsed)
	}
	for _, w := range all {
		switch {
		case w.Issuer != issuer:
			reasons = append(reasons, "iss is "+issuer+", not "+w.Issuer)
		case err != nil:
			reasons = append(reasons, strings.TrimSuffix(err.Error(), ": "+ErrDenied.Error()))
		default:
			reasons = append(reasons, w.refuses(c))
		}
	}
	return reasons, nil
}

// verify returns the claims of a token if an issuer has signed it, and it is valid, give or take
// a minute, since clocks differ. A token must say until when.
func (s *issuers) verify(ctx context.Context, issuer string, parsed *jwt.JSONWebToken) (c claims, err error) {
	header := parsed.Headers[0]
	keys, err := s.of(issuer).keysNamed(ctx, header.KeyID)
	if err != nil {
		return c, err
	}
	for _, key := range keys {
		if key.Algorithm != "" && key.Algorithm != header.Algorithm || parsed.Claims(key.Key, &c.Claims, &c.all) != nil {
			continue
		}
		if c.Expiry == nil {
			return c, fmt.Errorf("there is no exp: %w", ErrDenied)
		}
		if err := c.ValidateWithLeeway(jwt.Expected{Issuer: issuer, Time: s.now()}, leeway); err != nil {
			return c, fmt.Errorf("it is not valid now: %w: %w", err, ErrDenied)
		}
		return c, nil
	}
	return c, fmt.Errorf("the signature is wrong: %w", ErrDenied)
}
