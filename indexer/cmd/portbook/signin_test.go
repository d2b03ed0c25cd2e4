package main_test

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/oauth2-proxy/mockoidc"
	"oras.land/oras-go/v2/content"

	"github.com/portbook/portbook/registry/registrytest"
)

// A person is somebody whom a provider of OpenID Connect knows.
type person struct {
	mockoidc.MockUser
	brief bool                          // whether the token has nothing but the subject
	forge func(*mockoidc.IDTokenClaims) // changes the token before it is signed; nil: nothing
}

func (p *person) Claims(scope []string, c *mockoidc.IDTokenClaims) (jwt.Claims, error) {
	if p.forge != nil {
		p.forge(c)
	}
	if p.brief {
		return c, nil
	}
	return p.MockUser.Claims(scope, c)
}

func somebody(subject, name string, groups ...string) *person {
	return &person{MockUser: mockoidc.MockUser{Subject: subject, PreferredUsername: name, Groups: groups}}
}

// A directory is a provider of OpenID Connect in this process.
type directory struct {
	*mockoidc.MockOIDC
	asked []url.Values // what the browser has been sent with
	// key signs the tokens instead of the key that is published, if it is not nil.
	key *mockoidc.Keypair
}

// newDirectory starts a provider on an address.
func newDirectory(t *testing.T, address string) *directory {
	t.Helper()
	m, err := mockoidc.NewServer(nil)
	if err != nil {
		t.Fatal(err)
	}
	m.ClientID, m.ClientSecret = "portbook", "marker-of-a-secret"
	d := &directory{MockOIDC: m}
	err = m.AddMiddleware(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case mockoidc.AuthorizationEndpoint:
				d.asked = append(d.asked, r.URL.Query())
			case mockoidc.TokenEndpoint:
				if published := m.Keypair; d.key != nil {
					m.Keypair = d.key
					defer func() { m.Keypair = published }()
				}
			}
			next.ServeHTTP(w, r)
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Start(listener, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Shutdown() })
	return d
}

// settings returns the settings of an indexer at an address, for people of the provider.
func (d *directory) settings(address string) []string {
	return append(oidcSettings(address), "PORTBOOK_AUTH_OIDC_ISSUER="+d.Issuer())
}

func oidcSettings(address string) []string {
	return []string{
		"PORTBOOK_COMPONENTS_WEB_UI=true", "PORTBOOK_REGISTRY_PUBLIC_URL=http://" + address,
		"PORTBOOK_AUTH_OIDC_CLIENT_ID=portbook", "PORTBOOK_AUTH_OIDC_CLIENT_SECRET=marker-of-a-secret",
		"PORTBOOK_AUTH_OIDC_TITLE=Example <ID>", "PORTBOOK_AUTH_OIDC_SCOPES=openid,profile,groups",
	}
}

// visit requests an absolute address.
func (b *browser) visit(address string) (*http.Response, string) {
	b.t.Helper()
	other := *b
	other.base = ""
	return other.send(address, nil)
}

// toProvider begins a sign-in at a provider, signs in there, and returns the address to which
// the provider sends the browser back.
func (b *browser) toProvider(id, next string) (callback string) {
	b.t.Helper()
	resp, text := b.send("/account/sign-in/"+id+"?next="+url.QueryEscape(next), nil)
	if resp.StatusCode != http.StatusSeeOther || resp.Header.Get("Cache-Control") != "no-store" {
		b.t.Fatalf("begin of a sign-in: %s %v\n%s", resp.Status, resp.Header, text)
	}
	resp, text = b.visit(resp.Header.Get("Location"))
	if resp.StatusCode != http.StatusFound {
		b.t.Fatalf("at the provider: %s\n%s", resp.Status, text)
	}
	return resp.Header.Get("Location")
}

// session returns the cookie of the session that an answer sets, or nil.
func session(resp *http.Response) *http.Cookie {
	for _, c := range resp.Cookies() {
		if c.Name == "portbook_session" && c.Value != "" {
			return c
		}
	}
	return nil
}

// signedInAs returns the name of the account of a browser, "" if nobody is signed in.
func (b *browser) signedInAs() string {
	b.t.Helper()
	_, text := b.send("/account", nil)
	name := regexp.MustCompile(`(?s)<h1>([^<]*)</h1>`).FindStringSubmatch(text)
	if name == nil {
		b.t.Fatalf("the page of the account has no heading:\n%s", text)
	}
	return strings.TrimPrefix(name[1], "Sign in")
}

// refusedWith completes a sign-in that must be refused with a text.
func (b *browser) refusedWith(callback string, code int, want string) {
	b.t.Helper()
	resp, text := b.visit(callback)
	if resp.StatusCode != code || session(resp) != nil || !strings.Contains(text, want) {
		b.t.Errorf("got %s, %v, want %d and %q:\n%s", resp.Status, resp.Cookies(), code, want, text)
	}
	if got := b.signedInAs(); got != "" {
		b.t.Errorf("%q is signed in after %q", got, want)
	}
}

// withPeople starts a fleet with an indexer at which people of a provider sign in.
func withPeople(t *testing.T) (*fleet, *indexerProcess, *directory) {
	t.Helper()
	f, _ := guarded(t)
	d := newDirectory(t, "127.0.0.1:0")
	address := registrytest.FreeAddr(t)
	return f, f.indexer(address, d.settings(address)...), d
}

// A person whom a provider of OpenID Connect knows signs in in the browser. It gets an account,
// with what its groups at the provider may do, as they are at each sign-in.
func TestSignInByOIDC(t *testing.T) {
	t.Parallel()
	f, i, d := withPeople(t)
	raw := []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`)
	m := content.NewDescriptorFromBytes("application/vnd.oci.image.index.v1+json", raw)
	for _, name := range []string{"public/a", "team/app", "secret/x"} {
		registry := &indexerProcess{address: f.address}
		if err := registry.oras(t, name, login("root", password)).Manifests().PushReference(t.Context(), m, bytes.NewReader(raw), "v1"); err != nil {
			t.Fatal(err)
		}
	}
	f.equal(patience)
	b := newBrowser(t, "http://"+i.address)
	sees := func(want ...string) {
		t.Helper()
		within(t, patience, fmt.Sprintf("the browser sees %q", want), func() bool {
			_, text := b.send("/", nil)
			var got []string
			for _, name := range []string{"public/a", "secret/x", "team/app"} {
				if strings.Contains(text, "/r/"+name) {
					got = append(got, name)
				}
			}
			return slices.Equal(got, want)
		})
	}
	_, text := b.send("/account?next=/r/team/app%3Fx%3D1%26y", nil)
	if want := `href="/account/sign-in/oidc?next=%2fr%2fteam%2fapp%3fx%3d1%26y" rel="nofollow">Sign in with Example &lt;ID&gt;</a>`; !strings.Contains(text, want) {
		t.Errorf("the page to sign in lacks %s:\n%s", want, text)
	}

	// The first sign-in makes an account; what the provider is asked proves that it is for us.
	d.QueueUser(somebody("id-1", "Bob.Jones@Example.org", "/Dev", "no group!"))
	callback := b.toProvider("oidc", "/r/team/app?x=1")
	resp, text := b.visit(callback)
	cookie := session(resp)
	if resp.StatusCode != http.StatusSeeOther || resp.Header.Get("Location") != "/r/team/app?x=1" || cookie == nil {
		t.Fatalf("back from the provider: %s %v\n%s", resp.Status, resp.Header, text)
	}
	if !cookie.HttpOnly || cookie.SameSite != http.SameSiteLaxMode || cookie.Path != "/" {
		t.Errorf("cookie %v", cookie)
	}
	if asked := d.asked[0]; asked.Get("code_challenge_method") != "S256" || len(asked.Get("code_challenge")) != 43 || len(asked.Get("nonce")) < 40 || len(asked.Get("state")) < 40 {
		t.Errorf("the provider was asked with %v", asked)
	}
	if got := b.signedInAs(); got != "bob.jones-example.org" {
		t.Errorf("signed in as %q", got)
	}
	sees("public/a", "team/app")
	if out := f.must("user", "list"); !regexp.MustCompile(`bob\.jones-example\.org +person +dev `).MatchString(out) {
		t.Errorf("accounts:\n%s", out)
	}
	if out := f.must("user", "links"); !strings.Contains(out, "id-1") || !strings.Contains(out, d.Issuer()) {
		t.Errorf("links:\n%s", out)
	}
	records := f.must("audit", "--target", "bob.jones-example.org", "--json")
	for _, want := range []string{`"event":"account.add"`, `"event":"session.begin"`, `"actor":"bob.jones-example.org"`, `by Example`, `"source":"127.0.0.1"`} {
		if !strings.Contains(records, want) {
			t.Errorf("the records lack %s:\n%s", want, records)
		}
	}

	// Another sign-in is a new session, even of a browser that has one, and the groups of now
	// count. A name that has changed makes no other account.
	d.QueueUser(somebody("id-1", "Robert", "other"))
	resp, _ = b.visit(b.toProvider("oidc", "/"))
	if again := session(resp); again == nil || again.Value == cookie.Value {
		t.Errorf("the second sign-in: %v after %v", again, cookie)
	}
	if got := b.signedInAs(); got != "bob.jones-example.org" {
		t.Errorf("signed in as %q", got)
	}
	sees("public/a")

	// A provider that tells the name and the groups only at its other address.
	brief := somebody("id-2", "carol", "dev")
	brief.brief = true
	d.QueueUser(brief)
	b = newBrowser(t, "http://"+i.address)
	if resp, text := b.visit(b.toProvider("oidc", "/")); resp.StatusCode != http.StatusSeeOther {
		t.Fatalf("carol: %s\n%s", resp.Status, text)
	}
	sees("public/a", "team/app")
	if got := b.signedInAs(); got != "carol" {
		t.Errorf("signed in as %q", got)
	}

	// Groups that an administrator gives stay, and those of the provider are not made ours.
	f.must("user", "set", "--group", "ops", "carol")
	d.QueueUser(somebody("id-2", "carol"))
	b.visit(b.toProvider("oidc", "/"))
	if out := f.must("user", "list"); !regexp.MustCompile(`carol +person +ops `).MatchString(out) {
		t.Errorf("accounts:\n%s", out)
	}
	sees("public/a")

	// Whoever is disabled or unlinked is out at once.
	f.must("user", "set", "--disabled", "carol")
	within(t, patience, "carol is signed out", func() bool { return b.signedInAs() == "" })
	d.QueueUser(somebody("id-2", "carol"))
	b.refusedWith(b.toProvider("oidc", "/"), http.StatusForbidden, "is disabled")
	f.must("user", "set", "--disabled=false", "carol")
	within(t, patience, "carol can sign in again", func() bool {
		d.QueueUser(somebody("id-2", "carol"))
		resp, _ := b.visit(b.toProvider("oidc", "/"))
		return resp.StatusCode == http.StatusSeeOther
	})
	f.must("user", "unlink", "carol", "--issuer", d.Issuer(), "--subject", "id-2")
	within(t, patience, "carol is signed out by the end of the link", func() bool { return b.signedInAs() == "" })
	d.QueueUser(somebody("id-2", "carol"))
	b.refusedWith(b.toProvider("oidc", "/"), http.StatusForbidden, "there is an account")
	if strings.Contains(i.log.String(), "marker-of-a-secret") {
		t.Error("the log has the secret")
	}
}

// Nobody gets into an account by what a provider says of a name, or by an answer that is not
// for this browser, or not for this attempt.
func TestSignInAttacks(t *testing.T) {
	t.Parallel()
	f, i, d := withPeople(t)
	address := netip.MustParseAddr("192.0.2.0")
	open := func() *browser { // each is another client, whose refusals are counted alone
		b := newBrowser(t, "http://"+i.address)
		address = address.Next()
		b.from = address.String()
		return b
	}
	mallory := func() *person { return somebody("mallory", "mallory") }
	with := func(callback, name, value string) string {
		u, err := url.Parse(callback)
		if err != nil {
			t.Fatal(err)
		}
		q := u.Query()
		if q.Set(name, value); value == "" {
			q.Del(name)
		}
		u.RawQuery = q.Encode()
		return u.String()
	}
	const notBegun = "this browser has not begun this sign-in"

	// An account that exists is not given to whoever has its name elsewhere.
	for _, name := range []string{"alice", "ALICE", "alice!", "root", "ci"} {
		d.QueueUser(somebody("evil' \"$(id)", name))
		b := open()
		b.refusedWith(b.toProvider("oidc", "/"), http.StatusForbidden, "there is an account")
	}
	d.QueueUser(somebody("evil'x", "alice"))
	b := open()
	b.refusedWith(b.toProvider("oidc", "/"), http.StatusForbidden, `portbook user link alice --issuer &#39;`+d.Issuer()+`&#39; --subject &#39;evil&#39;\&#39;&#39;x&#39;`)
	for _, name := range []string{"", "everybody", "日本", "portbook-indexer"} {
		d.QueueUser(somebody("evil", name))
		b := open()
		b.refusedWith(b.toProvider("oidc", "/"), http.StatusForbidden, "administrator")
	}
	if out := f.must("user", "links"); strings.Contains(out, "evil") {
		t.Errorf("links:\n%s", out)
	}
	// The administrator can say that it is hers.
	f.must("user", "link", "alice", "--issuer", d.Issuer(), "--subject", "id-alice")
	d.QueueUser(somebody("id-alice", "al"))
	b = open()
	if b.visit(b.toProvider("oidc", "/")); b.signedInAs() != "alice" {
		t.Errorf("after the link: signed in as %q", b.signedInAs())
	}
	for _, args := range [][]string{{"alice", "--issuer", d.Issuer(), "--subject", "id-alice"}, {"ci", "--issuer", "x", "--subject", "y"}, {"nobody", "--issuer", "x", "--subject", "y"}, {"alice", "--issuer", "x", "--subject", ""}} {
		if out, err := f.run(append([]string{"user", "link"}, args...)...); err == nil {
			t.Errorf("link %q succeeded: %s", args, out)
		}
	}

	// The state must be that of this browser.
	d.QueueUser(mallory())
	b = open()
	callback := b.toProvider("oidc", "/")
	for _, state := range []string{"", "x", strings.Repeat("A", 52)} {
		b.refusedWith(with(callback, "state", state), http.StatusForbidden, notBegun)
	}
	open().refusedWith(callback, http.StatusForbidden, notBegun) // who never began
	other := open()
	d.QueueUser(somebody("victim", "victim"))
	other.toProvider("oidc", "/")
	other.refusedWith(callback, http.StatusForbidden, notBegun) // who began another one
	b.refusedWith(strings.Replace(callback, "/callback/oidc", "/callback/github", 1), http.StatusNotFound, "")

	// It is used once, and so is the code.
	if resp, text := b.visit(callback); session(resp) == nil {
		t.Fatalf("%s\n%s", resp.Status, text)
	}
	out := func() { b.send("/account/sign-out", url.Values{}) }
	out()
	b.refusedWith(callback, http.StatusForbidden, notBegun)
	d.QueueUser(mallory())
	again := b.toProvider("oidc", "/")
	used, err := url.Parse(callback)
	if err != nil {
		t.Fatal(err)
	}
	b.refusedWith(with(again, "code", used.Query().Get("code")), http.StatusForbidden, "was not accepted by Example &lt;ID&gt;")

	// Afterwards the browser goes nowhere else.
	for next, want := range map[string]string{
		"//evil.example": "/", "https://evil.example": "/", `/\evil.example`: "/", "/\t/evil.example": "/", "javascript:x": "/",
		"/" + strings.Repeat("x", 3000): "/", "/?" + strings.Repeat("&", 600): "/", "/?" + strings.Repeat("x", 1000): "/?" + strings.Repeat("x", 1000),
	} {
		d.QueueUser(mallory())
		b := open()
		if resp, _ := b.visit(b.toProvider("oidc", next)); resp.Header.Get("Location") != want {
			t.Errorf("next=%.40s leads to %s, want %s", next, resp.Header.Get("Location"), want)
		}
	}

	// A session that somebody has put into the browser does not become that of the person.
	d.QueueUser(mallory())
	fixed := open()
	u, err := url.Parse("http://" + i.address)
	if err != nil {
		t.Fatal(err)
	}
	fixed.client.Jar.SetCookies(u, []*http.Cookie{{Name: "portbook_session", Value: "chosen", Path: "/"}})
	if c := session(first(fixed.visit(fixed.toProvider("oidc", "/")))); c == nil || c.Value == "chosen" {
		t.Errorf("a fixed session became %v", c)
	}

	// A token about the person must be for us, for this attempt, of now, and of the provider.
	otherKey, err := mockoidc.RandomKeypair(2048)
	if err != nil {
		t.Fatal(err)
	}
	for what, forge := range map[string]func(*mockoidc.IDTokenClaims){
		"another nonce":    func(c *mockoidc.IDTokenClaims) { c.Nonce = "x" },
		"no nonce":         func(c *mockoidc.IDTokenClaims) { c.Nonce = "" },
		"another audience": func(c *mockoidc.IDTokenClaims) { c.Audience = []string{"other"} },
		"another issuer":   func(c *mockoidc.IDTokenClaims) { c.Issuer = "http://other" },
		"no subject":       func(c *mockoidc.IDTokenClaims) { c.Subject = "" },
		"a long subject":   func(c *mockoidc.IDTokenClaims) { c.Subject = strings.Repeat("x", 256) },
		"it has expired":   func(c *mockoidc.IDTokenClaims) { c.ExpiresAt.Time = time.Now().Add(-time.Hour) },
		"another key":      func(*mockoidc.IDTokenClaims) { d.key = otherKey },
	} {
		p := mallory()
		p.forge = forge
		if what == "another key" {
			p.forge, d.key = nil, otherKey
		}
		d.QueueUser(p)
		b := open()
		b.refusedWith(b.toProvider("oidc", "/"), http.StatusForbidden, "is not valid, so nobody was signed in")
		d.key = nil
		if t.Failed() {
			t.Fatalf("with a token with %s", what)
		}
	}

	// What the provider says is shown as text, to who has begun a sign-in and to nobody else.
	b = open()
	d.QueueUser(mallory())
	callback = with(with(with(b.toProvider("oidc", "/"), "code", ""), "error", "access_denied"), "error_description", "<script>alert(1)</script>")
	open().refusedWith(callback, http.StatusForbidden, notBegun)
	b.refusedWith(callback, http.StatusForbidden, "did not let you in: access_denied: &lt;script&gt;alert(1)&lt;/script&gt;")
	d.QueueUser(mallory())
	b.refusedWith(with(b.toProvider("oidc", "/"), "code", ""), http.StatusForbidden, "it gave no reason")
	d.QueueUser(mallory())
	b.refusedWith(with(b.toProvider("oidc", "/"), "iss", "http://other"), http.StatusForbidden, "another provider than")
	within(t, patience, "a refused sign-in is recorded", func() bool {
		return strings.Contains(f.must("audit", "--event", "session.begin", "--json"), `"outcome":"refused"`)
	})

	// Refusals are limited, since each costs the provider a request or us a record; not those of
	// others.
	for what, change := range map[string][2]string{"codes that the provider does not know": {"code", "guess"}, "errors": {"error", "access_denied"}} {
		b, begin, n := open(), time.Now(), 0
		for ; n < 40; n++ {
			d.QueueUser(mallory())
			resp, _ := b.visit(with(b.toProvider("oidc", "/"), change[0], change[1]))
			if resp.StatusCode == http.StatusTooManyRequests {
				break
			}
		}
		if most := 21 + int(time.Since(begin)/(3*time.Second)); n > most {
			t.Errorf("%d %s were tried in %v, want at most %d", n, what, time.Since(begin), most)
		}
		d.QueueUser(mallory())
		b = open()
		if resp, text := b.visit(b.toProvider("oidc", "/")); session(resp) == nil {
			t.Errorf("another client: %s\n%s", resp.Status, text)
		}
	}
}

func first(resp *http.Response, _ string) *http.Response { return resp }

// A provider that is away prevents nothing but signing in there, and only as long as it is.
func TestSignInWithoutProvider(t *testing.T) {
	t.Parallel()
	f, _ := guarded(t)
	address, provider := registrytest.FreeAddr(t), registrytest.FreeAddr(t)
	i := f.indexer(address, append(oidcSettings(address), "PORTBOOK_AUTH_OIDC_ISSUER=http://"+provider+mockoidc.IssuerBase)...)
	b := newBrowser(t, "http://"+address)
	resp, text := b.send("/account/sign-in/oidc", nil)
	if resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(text, "Example &lt;ID&gt; does not answer") || strings.Contains(text, provider) {
		t.Errorf("a provider that is away: %s\n%s", resp.Status, text)
	}
	within(t, patience, "the log says so", func() bool {
		return strings.Contains(i.log.String(), "sign-in failed at its provider")
	})
	if resp, _ := b.send("/account/sign-in", url.Values{"name": {"alice"}, "password": {password}}); resp.StatusCode != http.StatusSeeOther {
		t.Errorf("with a password: %s", resp.Status)
	}
	d := newDirectory(t, provider)
	within(t, patience, "the provider is found", func() bool {
		resp, _ := b.send("/account/sign-in/oidc", nil)
		return resp.StatusCode == http.StatusSeeOther
	})
	d.QueueUser(somebody("id-1", "bob"))
	b = newBrowser(t, "http://"+address)
	callback := b.toProvider("oidc", "/")
	if err := d.Shutdown(); err != nil {
		t.Fatal(err)
	}
	b.refusedWith(callback, http.StatusServiceUnavailable, "does not answer")
	// A reader sends nobody anywhere: only a writer can complete it.
	reader := f.indexer(registrytest.FreeAddr(t), append(d.settings(address), "PORTBOOK_ROLE=reader")...)
	for _, path := range []string{"/account/sign-in/oidc", "/account/callback/oidc?code=x&state=y"} {
		if resp, text := newBrowser(t, "http://"+reader.address).send(path, nil); resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(text, "only reads") {
			t.Errorf("%s of a reader: %s\n%s", path, resp.Status, text)
		}
	}
}
