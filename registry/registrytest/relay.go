package registrytest

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"testing"
)

// A relay passes the events of one App on to their receiver until it is told to
// drop them.
//
// It is there because an App cannot be made to forget its events: its queue has
// no way to close it and retries for ever, so that a "restart" in process would
// deliver late what a real one loses. The relay's listener therefore stays open
// until the test binary ends, and takes what the queue still holds.
type relay struct {
	url  string          // where the App shall send its events; "" for nowhere
	done context.Context // ended by drop
	drop context.CancelFunc
	pass *httputil.ReverseProxy
}

// newRelay starts a relay to the receiver at target, or none if target is "".
func newRelay(t testing.TB, target string) *relay {
	t.Helper()
	y := new(relay)
	y.done, y.drop = context.WithCancel(context.Background())
	if target == "" {
		return y
	}
	to, err := url.Parse(target)
	if err != nil {
		t.Fatalf("registrytest: receiver of events: %v", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("registrytest: %v", err)
	}
	y.url = "http://" + listener.Addr().String()
	y.pass = proxyTo(to)
	server := &http.Server{Handler: y, ErrorLog: y.pass.ErrorLog}
	go server.Serve(listener)
	return y
}

// proxyTo passes each request to one URL on a connection of its own, as the
// registry does, and answers a failure as the receiver would have: by breaking
// the connection.
func proxyTo(to *url.URL) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			target := *to
			r.Out.URL, r.Out.Host = &target, to.Host
		},
		Transport:    &http.Transport{DisableKeepAlives: true},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
		ErrorLog:     log.New(io.Discard, "", 0),
	}
}

func (y *relay) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(y.done, cancel)() // an event under way is cut off
	if y.done.Err() != nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	y.pass.ServeHTTP(w, r.WithContext(ctx))
}
