package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// A developer is alice at the command line of a program that speaks the registry's API, with the
// token that she got for team/app.
type developer struct {
	t     *testing.T
	token string
}

const indexType = "application/vnd.oci.image.index.v1+json"

// indexOf returns an image index that differs by a text.
func indexOf(text string) []byte {
	return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[],"annotations":{"n":%q}}`, indexType, text)
}

// does sends a request to the registry's API at an address, and returns the status and the body.
func (d *developer) does(method, address, path string, body []byte) (int, string) {
	d.t.Helper()
	req, err := http.NewRequestWithContext(d.t.Context(), method, "http://"+address+"/v2/"+path, bytes.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	req.Header.Set("Content-Type", indexType)
	req.Header.Set("Accept", indexType)
	if d.token != "" {
		req.Header.Set("Authorization", "Bearer "+d.token)
	}
	resp, err := http.DefaultTransport.RoundTrip(req) // follows no redirect
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// wants is does, and fails the test unless the answer has a status and a text.
func (d *developer) wants(method, address, path string, body []byte, status int, text string) {
	d.t.Helper()
	if got, answered := d.does(method, address, path, body); got != status || !strings.Contains(answered, text) {
		d.t.Errorf("%s %s: %d %s, want %d with %q", method, path, got, answered, status, text)
	}
}

// grant returns the token and the scope that alice gets for all of a repository, and the reasons why
// she does not get more.
func (i *indexerProcess) grant(t *testing.T, repository string) (token, scope, withheld string) {
	t.Helper()
	code, _, text := i.get(t, "/auth/token?scope=repository:"+repository+":pull,push,delete", "alice", password)
	var given struct {
		Token, Scope string
		Withheld     []struct{ Scope, Reason string }
	}
	if err := json.Unmarshal([]byte(text), &given); err != nil || code != http.StatusOK {
		t.Fatalf("%d %s %v", code, text, err)
	}
	return given.Token, given.Scope, fmt.Sprint(given.Withheld)
}

// frontOf returns the level of the front in /api/v1/status.
func (i *indexerProcess) frontOf(t *testing.T) (active bool, text string) {
	t.Helper()
	_, _, body := i.get(t, "/api/v1/status", "alice", password)
	var status struct {
		Protection []struct {
			Level, Text string
			Active      bool
		}
	}
	if err := json.Unmarshal([]byte(body), &status); err != nil || len(status.Protection) != 3 {
		t.Fatalf("%s %v", body, err)
	}
	return status.Protection[1].Active, status.Protection[1].Text
}

// With nginx as it is deployed, the stock registry and our tokens: what is protected is refused by
// nginx, with a sentence; what is frozen gets no token; and who reaches the registry itself sees
// the tag put back. The status says what is active, and if no indexer answers, pulls go on.
func TestProtectionAtEachLevel(t *testing.T) {
	t.Parallel()
	f, writer := asksForLogin(t, "PORTBOOK_AUTH_METHOD=accounts", "PORTBOOK_COMPONENTS_REGISTRY_PROXY=false")
	f.input = password + "\n"
	f.must("user", "add", "alice")
	f.must("grant", "add", "alice", "team/*:push,delete")
	f.must("protect", "add", "--reason", "releases stay", "team/*", "v*")
	reader := f.reader(f.postgres)
	nginx, registry := strings.TrimPrefix(f.front(reader, reader).url, "http://"), strings.TrimPrefix(f.registry.URL, "http://")
	stranger, alice := &developer{t: t}, &developer{t: t}
	alice.token, _, _ = writer.grant(t, "team/app")
	one, two := indexOf("one"), indexOf("two")
	const v1 = "team/app/manifests/v1"
	const kept = `{"errors":[{"code":"DENIED","message":"tags like v* of team/* are protected: they do not move and are not deleted: releases stay"}]}`
	stays := func(address string) {
		t.Helper()
		if code, text := alice.does("GET", address, v1, nil); code != http.StatusOK || text != string(one) {
			t.Fatalf("team/app:v1 is %d %s", code, text)
		}
	}
	if active, text := reader.frontOf(t); active {
		t.Errorf("before the front has asked: %s", text)
	}

	// The front. What the registry would refuse, it refuses itself.
	stranger.wants("PUT", nginx, v1, one, 401, "authentication required")
	alice.wants("PUT", nginx, "other/app/manifests/v1", one, 401, "authentication required")
	alice.wants("PUT", nginx, v1, one, 201, "")
	alice.wants("PUT", nginx, v1, one, 201, "")
	alice.wants("PUT", nginx, "team/app/manifests/latest", one, 201, "")
	alice.wants("PUT", nginx, "team/app/manifests/latest", two, 201, "")
	stranger.wants("PUT", nginx, v1, two, 401, "authentication required")
	alice.wants("PUT", nginx, v1, two, 403, kept)
	alice.wants("DELETE", nginx, v1, nil, 403, kept)
	f.equal(patience) // the book knows what v1 needs
	byDigest := "team/app/manifests/" + digest.FromBytes(one).String()
	alice.wants("DELETE", nginx, byDigest, nil, 403, "the tag v1 needs it, and tags like v*")
	for _, path := range []string{
		"team%2fapp/manifests/v1", "team/app/manifests/%761", "team//app/manifests/v1", "/team/app/manifests/v1",
		"./team/app/manifests/v1", "x/../team/app/manifests/v1", "team/app/manifests/v1/", "team/app/manifests/x/%2e%2e/v1",
		"team/app/blobs/uploads/x/../../../manifests/v1", "team/app/manifests/v1?/blobs/uploads/x",
		"team/app/manifests/v1%3F", "..%2fv2/team/app/manifests/v1", "team%252fapp/manifests/v1",
	} {
		for _, method := range []string{"PUT", "DELETE"} {
			if code, text := alice.does(method, nginx, path, two); code < 300 {
				t.Errorf("%s %s: %d %s", method, path, code, text)
			}
		}
	}
	stays(registry)
	for name, i := range map[string]*indexerProcess{"reader": reader, "writer": writer} {
		if active, text := i.frontOf(t); !active || !strings.Contains(text, "last at") {
			t.Errorf("the %s says about the front: %v, %s", name, active, text)
		}
	}
	within(t, patience, "who was refused is recorded", func() bool {
		out := f.must("audit", "--repository", "team/app", "--json")
		return strings.Contains(out, `"event":"push.refuse"`) && strings.Contains(out, `"actor":"alice"`)
	})

	// No front: it is put back.
	alice.wants("PUT", registry, v1, two, 201, "")
	within(t, patience, "v1 is put back", func() bool {
		_, text := alice.does("GET", registry, v1, nil)
		return text == string(one)
	})

	// The token, and before it ends the front.
	f.must("freeze", "add", "--reason", "release week", "team/*")
	var scope, withheld string
	frozen := &developer{t: t}
	within(t, patience, "team/app is frozen", func() bool {
		frozen.token, scope, withheld = writer.grant(t, "team/app")
		return scope == "repository:team/app:pull"
	})
	const why = "team/* is frozen: nothing is pushed to it or deleted from it: release week"
	if !strings.Contains(withheld, "{repository:team/app:push,delete "+why+"}") {
		t.Errorf("withheld: %s", withheld)
	}
	frozen.wants("PUT", registry, "team/app/manifests/new", two, 401, "authentication required")
	within(t, patience, "the front knows that team/app is frozen", func() bool {
		code, text := alice.does("POST", nginx, "team/app/blobs/uploads/", nil)
		return code == http.StatusForbidden && strings.Contains(text, why)
	})
	for _, d := range []*developer{alice, frozen} {
		d.wants("PUT", nginx, "team/app/manifests/new", two, 403, why)
	}

	// Nobody to ask.
	reader.process.Kill()
	alice.wants("PUT", nginx, "free/app/manifests/x", two, 503, "it cannot be looked up now whether this is protected: try again")
	stays(nginx)
}
