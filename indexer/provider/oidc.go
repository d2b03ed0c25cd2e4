package provider

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
)

// An OIDCConfig configures a provider of OpenID Connect.
type OIDCConfig struct {
	Title                  string // what people call it
	Issuer                 string
	ClientID, ClientSecret string
	Redirect               string // our address to which the browser comes back
	Scopes                 []string
	NameClaim, GroupsClaim string
	Log                    *slog.Logger
}

// discoveryPause is how long a provider whose addresses could not be read is not asked again:
// 5 s, so that people who wait for one that is away do not wait for each other.
const discoveryPause = 5 * time.Second

// OIDC is a provider of OpenID Connect (OpenID Connect Core 1.0, authorization code flow). It
// is safe for concurrent use.
type OIDC struct {
	config OIDCConfig
	client *http.Client

	asking chan struct{} // a lock of the following
	found  *discovered
	failed error
	asked  time.Time // when it failed
}

// discovered is what a provider says of itself.
type discovered struct {
	provider *oidc.Provider
	oauth    *oauth2.Config
	verifier *oidc.IDTokenVerifier
}

// NewOIDC returns a provider. It is asked for its addresses when somebody signs in first.
func NewOIDC(c OIDCConfig) *OIDC {
	c.Title = cmp.Or(c.Title, "OpenID Connect")
	return &OIDC{config: c, client: newClient(), asking: make(chan struct{}, 1)}
}

// ID returns the name of the provider in addresses.
func (o *OIDC) ID() string { return "oidc" }

// Title returns what people call the provider.
func (o *OIDC) Title() string { return o.config.Title }

// Issuer returns the name of the provider in its answers.
func (o *OIDC) Issuer() string { return o.config.Issuer }

// discover returns what the provider says of itself.
func (o *OIDC) discover(ctx context.Context) (*discovered, error) {
	select {
	case o.asking <- struct{}{}:
		defer func() { <-o.asking }()
	case <-ctx.Done():
		return nil, away(o.Title(), "discovery", ctx.Err())
	}
	if o.found == nil && time.Since(o.asked) > discoveryPause {
		// Somebody who goes away must not make it fail for the others.
		o.found, o.failed = o.ask(oidc.ClientContext(context.WithoutCancel(ctx), o.client))
		o.asked = time.Now()
	}
	return o.found, o.failed
}

func (o *OIDC) ask(ctx context.Context) (*discovered, error) {
	p, err := oidc.NewProvider(ctx, o.config.Issuer)
	if err != nil {
		return nil, away(o.Title(), "discovery", err)
	}
	return &discovered{
		provider: p, verifier: p.Verifier(&oidc.Config{ClientID: o.config.ClientID}),
		oauth: &oauth2.Config{
			ClientID: o.config.ClientID, ClientSecret: o.config.ClientSecret, Endpoint: p.Endpoint(),
			RedirectURL: o.config.Redirect, Scopes: o.config.Scopes,
		},
	}, nil
}

// Address returns where the browser goes for an attempt.
func (o *OIDC) Address(ctx context.Context, a access.Attempt) (string, error) {
	d, err := o.discover(ctx)
	if err != nil {
		return "", err
	}
	return d.oauth.AuthCodeURL(a.State, oidc.Nonce(a.Nonce), oauth2.S256ChallengeOption(a.Verifier)), nil
}

// Identity returns who has come back with a code in an attempt.
func (o *OIDC) Identity(ctx context.Context, code string, a access.Attempt) (i access.Identity, err error) {
	ctx, cancel := context.WithTimeout(oidc.ClientContext(ctx, o.client), totalTime)
	defer cancel()
	d, err := o.discover(ctx)
	if err != nil {
		return i, err
	}
	token, err := exchange(ctx, d.oauth, o.Title(), code, a.Verifier)
	if err != nil {
		return i, err
	}
	known, err := o.verify(ctx, d, token, a.Nonce)
	if err != nil {
		return i, &indexer.Fault{
			Reason: fmt.Sprintf("the answer of %s about who you are is not valid, so nobody was signed in: tell an"+
				" administrator", o.Title()),
			Err: fmt.Errorf("id token: %.512s: %w", err, indexer.ErrInvalid),
		}
	}
	if err := o.complete(ctx, d, token, known); err != nil {
		return i, err
	}
	return o.identity(ctx, known)
}

// verify returns the claims of the token about the person, which must be for us and for this
// attempt.
func (o *OIDC) verify(ctx context.Context, d *discovered, t *oauth2.Token, nonce string) (claims, error) {
	raw, _ := t.Extra("id_token").(string)
	if raw == "" {
		return nil, errors.New("there is none: the scope openid is required")
	}
	token, err := d.verifier.Verify(ctx, raw)
	if err != nil {
		return nil, err
	}
	if token.Nonce != nonce {
		return nil, errors.New("it has another nonce")
	}
	known := claims{}
	if err := token.Claims(&known); err != nil {
		return nil, err
	}
	if party := known.text("azp"); party != "" && party != o.config.ClientID {
		return nil, fmt.Errorf("it is for the client %.64q", party)
	}
	known["sub"] = token.Subject
	return known, access.CheckIdentity(o.config.Issuer, token.Subject)
}

// complete adds what is not in the token about a person. Providers put into it what they like;
// the rest is at their address for that (OpenID Connect Core, section 5.3).
func (o *OIDC) complete(ctx context.Context, d *discovered, t *oauth2.Token, known claims) error {
	all := known.has(o.config.NameClaim) && known.has(o.config.GroupsClaim)
	if all || d.provider.UserInfoEndpoint() == "" {
		return nil
	}
	if err := known.add(ctx, d.provider, t); err != nil {
		return away(o.Title(), "user info", err)
	}
	return nil
}

// identity returns the identity of claims.
func (o *OIDC) identity(ctx context.Context, known claims) (i access.Identity, err error) {
	i = access.Identity{
		Provider: o.Title(), Issuer: o.config.Issuer, Subject: known.text("sub"), Name: known.text(o.config.NameClaim),
	}
	if i.Name == "" {
		return i, refuse("the identity provider %s did not say what to call you: an administrator has to"+
			" choose auth.oidc.name_claim and auth.oidc.scopes so that it does", o.Title())
	}
	var left int
	if i.Groups, left = access.GroupNames(known.texts(o.config.GroupsClaim)); left > 0 {
		o.config.Log.WarnContext(ctx, "groups of a person cannot be groups here", "provider", o.ID(), "groups", left)
	}
	return i, nil
}

// claims are what a provider says of a person.
type claims map[string]any

func (c claims) has(name string) bool { return c[name] != nil }

func (c claims) text(name string) string {
	text, _ := c[name].(string)
	return text
}

// texts returns the texts of a claim that is a list, or one text.
func (c claims) texts(name string) (all []string) {
	if text := c.text(name); text != "" {
		return []string{text}
	}
	list, _ := c[name].([]any)
	for _, x := range list {
		if text, ok := x.(string); ok {
			all = append(all, text)
		}
	}
	return all
}

// add adds what the provider says besides the token.
func (c claims) add(ctx context.Context, p *oidc.Provider, t *oauth2.Token) error {
	info, err := p.UserInfo(ctx, oauth2.StaticTokenSource(t))
	if err != nil {
		return err
	}
	if info.Subject != c.text("sub") { // the token of another person
		return errors.New("it is about another subject")
	}
	more := claims{}
	if err := info.Claims(&more); err != nil {
		return err
	}
	for name, value := range more {
		if !c.has(name) {
			c[name] = value
		}
	}
	return nil
}
