package main_test

import (
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"testing"

	"github.com/portbook/portbook/registry/registrytest"
)

// A person may change twelve things at once, on all writers together, and then one in a
// minute. An administrator may change more.
func TestWritesAreLimited(t *testing.T) {
	t.Parallel()
	f, one := guarded(t)
	two := f.indexer(registrytest.FreeAddr(t))
	signedIn := func(name string) (on [2]*browser) {
		for i, process := range []*indexerProcess{one, two} {
			on[i] = newBrowser(t, "http://"+process.address)
		}
		on[1].client.Jar = on[0].client.Jar // a session is valid on both
		resp, _ := on[0].send("/account/sign-in", url.Values{"name": {name}, "password": {password}})
		if resp.StatusCode != http.StatusSeeOther {
			t.Fatalf("%s signs in: %s", name, resp.Status)
		}
		return on
	}
	write := func(b *browser) (*http.Response, string) { return b.send("/account/tokens", url.Values{"days": {"7"}}) }
	alice, root := signedIn("alice"), signedIn("root")
	for i := range 12 {
		resp, _ := write(alice[i%2])
		h := resp.Header
		if resp.StatusCode != http.StatusOK || h.Get("X-Ratelimit-Limit") != "12" || h.Get("X-Ratelimit-Remaining") != strconv.Itoa(11-i) {
			t.Errorf("write %d: %s, %v", i+1, resp.Status, h)
		}
	}
	refused := func(b *browser) {
		t.Helper()
		resp, text := write(b)
		said := regexp.MustCompile(`Too many requests, retry in ([0-9]+)s`).FindStringSubmatch(text)
		if resp.StatusCode != http.StatusTooManyRequests || said == nil {
			t.Fatalf("write 13: %s, %s", resp.Status, text)
		}
		h := resp.Header
		if n, _ := strconv.Atoi(said[1]); n < 1 || n > 60 || h.Get("X-Ratelimit-After") != said[1] || h.Get("Retry-After") != said[1] ||
			h.Get("X-Ratelimit-Limit") != "12" || h.Get("X-Ratelimit-Remaining") != "0" {
			t.Errorf("retry in %s s, with %v", said[1], h)
		}
	}
	refused(alice[0])
	refused(alice[1])
	if resp, text := alice[1].send("/account", nil); resp.StatusCode != http.StatusOK {
		t.Errorf("reads are limited too: %s, %s", resp.Status, text)
	}
	execute(t, f.postgres.URL("postgres"), "UPDATE rate_limit SET full_at = full_at - interval '1 minute'")
	if resp, _ := write(alice[1]); resp.StatusCode != http.StatusOK {
		t.Errorf("a minute later: %s", resp.Status)
	}
	refused(alice[0])
	for i := range 15 {
		if resp, _ := write(root[i%2]); resp.StatusCode != http.StatusOK {
			t.Fatalf("write %d of an administrator: %s", i+1, resp.Status)
		}
	}
	if resp, _ := write(newBrowser(t, "http://"+one.address)); resp.StatusCode != http.StatusUnauthorized && resp.StatusCode != http.StatusSeeOther {
		t.Errorf("a write of nobody: %s", resp.Status)
	}
}
