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

// faults stands between the indexer and the registry. It passes everything on,
// but for what it is told to spoil, and normalises paths as some fronts do.
type faults struct {
	url  string
	pass *httputil.ReverseProxy

	mu      sync.Mutex
	hang    string        // prefix of paths that are not answered; "" for none
	healed  chan struct{} // closed when they are let go
	astray  string        // prefix of paths of blobs that are redirected to nowhere; "" for none
	escaped []string      // paths that came out of /v2/
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
	t.Cleanup(f.heal) // before, or Close waits for what hangs
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

// heal lets go what hangs. What leads astray stays, as a storage that is broken
// does.
func (f *faults) heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hang = ""
	close(f.healed)
	f.healed = make(chan struct{})
}

// outside are the requests so far that left /v2/.
func (f *faults) outside() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string{}, f.escaped...)
}
