package attack

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path"
	"strings"
	"sync"
	"testing"
)

// faults is a proxy between the indexer and the registry. It passes on all requests,
// except those that it is set to spoil, and normalises paths as some proxies do.
type faults struct {
	url  string
	pass *httputil.ReverseProxy

	mu      sync.Mutex
	hang    string        // prefix of paths that are not answered; "" for none
	healed  chan struct{} // closed when they are released
	astray  string        // prefix of blob paths that are redirected to nowhere; "" for none
	escaped []string      // requested paths outside of /v2/
}

func startFaults(t *testing.T, registry string) *faults {
	t.Helper()
	to, err := url.Parse(registry)
	check(t, err)
	f := &faults{healed: make(chan struct{})}
	f.pass = &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(to); r.Out.Host = r.In.Host },
		Transport: &http.Transport{MaxIdleConnsPerHost: 64},
	}
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	t.Cleanup(f.heal) // before Close, which waits for hanging requests
	f.url = server.URL
	return f
}

// nowhere is an address that refuses connections.
const nowhere = "http://127.0.0.1:1/blob?X-Amz-Signature=secret"

func (f *faults) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	hang, healed, astray := f.hang, f.healed, f.astray
	clean := path.Clean(r.URL.Path)
	if clean != "/v2" && !strings.HasPrefix(clean, "/v2/") {
		f.escaped = append(f.escaped, r.RequestURI)
	}
	f.mu.Unlock()
	switch {
	case hang != "" && strings.HasPrefix(r.URL.Path, hang):
		select {
		case <-healed:
		case <-r.Context().Done():
			return
		}
	case astray != "" && strings.HasPrefix(r.URL.Path, astray) && strings.Contains(r.URL.Path, "/blobs/"):
		http.Redirect(w, r, nowhere, http.StatusTemporaryRedirect)
		return
	}
	f.pass.ServeHTTP(w, r)
}

func (f *faults) hangAt(prefix string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hang = prefix
}

func (f *faults) leadAstray(prefix string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.astray = prefix
}

// heal releases the hanging requests. Redirects to nowhere stay until repair.
func (f *faults) heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hang = ""
	close(f.healed)
	f.healed = make(chan struct{})
}

// repair ends the redirects to nowhere.
func (f *faults) repair() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.astray = ""
}

// outside returns the paths of the requests so far that left /v2/.
func (f *faults) outside() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string{}, f.escaped...)
}
