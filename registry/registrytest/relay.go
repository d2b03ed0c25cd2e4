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

// A relay forwards the events of one App to their receiver until drop is called. Then
// it accepts and drops them.
//
// A real restart loses pending events, but the queue of an App cannot be closed and
// retries for ever, so a restart inside the process would deliver them. For the same
// reason the relay's listener stays open until the test binary ends.
type relay struct {
	url  string          // the App sends its events here; "" if there is no receiver
	done context.Context // cancelled by drop
	drop context.CancelFunc
	pass *httputil.ReverseProxy
}

// newRelay starts a relay to the receiver at target. If target is "", the relay has
// no listener.
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

// proxyTo returns a proxy that sends each request to one URL on a new connection, as
// the registry does. If the receiver breaks the connection, so does the proxy.
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
	defer context.AfterFunc(y.done, cancel)() // drop interrupts a delivery
	if y.done.Err() != nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	y.pass.ServeHTTP(w, r.WithContext(ctx))
}
