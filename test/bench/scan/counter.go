package main

import (
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
)

// A counter is a proxy before a registry that records requests. It costs time, so
// nothing is timed through it.
type counter struct {
	url    string
	server *http.Server

	mu   sync.Mutex
	seen []request
}

func startCounter(registry string) (*counter, error) {
	target, err := url.Parse(registry)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 4 * parallelism
	proxy.Transport = transport
	c := &counter{url: "http://" + listener.Addr().String()}
	c.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.note(r)
		proxy.ServeHTTP(w, r)
	})}
	go c.server.Serve(listener) // ends with Close; its error says only that
	return c, nil
}

func (c *counter) note(r *http.Request) {
	path, err := canonical(r.URL.String())
	if err != nil {
		path = r.URL.String() // it equals no request and is reported
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = append(c.seen, request{r.Method, path, strings.Trim(r.Header.Get("If-None-Match"), `"`)})
}

// take returns the requests since the last call.
func (c *counter) take() []request {
	c.mu.Lock()
	defer c.mu.Unlock()
	seen := c.seen
	c.seen = nil
	return seen
}

func (c *counter) close() { c.server.Close() }

// bodies counts the requests that read a manifest or a blob, and do not only check
// whether it exists or has changed.
func bodies(requests []request) int {
	n := 0
	for _, r := range requests {
		content := strings.Contains(r.path, "/manifests/") || strings.Contains(r.path, "/blobs/")
		if content && r.method == http.MethodGet && r.known == "" {
			n++
		}
	}
	return n
}

// difference counts the requests that one side has more often than the other.
func difference(got, want []request) (more, missing int) {
	count := map[request]int{}
	for _, r := range got {
		count[r]++
	}
	for _, r := range want {
		count[r]--
	}
	for _, n := range count {
		more += max(n, 0)
		missing += max(-n, 0)
	}
	return more, missing
}
