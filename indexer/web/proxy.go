package web

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/web/answer"
)

// withRegistry gives what is below /v2/ to registry and the rest to others. The
// referrers are ours: the stock registry has none (distribution v3.1.2).
func withRegistry(registry, others http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if (r.URL.Path == "/v2" || strings.HasPrefix(r.URL.Path, "/v2/")) && !asksReferrers(r) {
			r.Pattern = "/v2/" // for the metrics
			if leavesV2(r.URL.Path) {
				_ = answer.WriteJSON(w, http.StatusBadRequest, answer.RegistryErrors{Errors: []answer.RegistryError{{Code: "NAME_INVALID", Message: "no name, tag or digest begins with a dot or has % or \\ in it"}}})
				return
			}
			registry.ServeHTTP(w, r)
			return
		}
		others.ServeHTTP(w, r)
	})
}

// leavesV2 reports whether a decoded path below /v2/ may be one outside it to a
// server that normalises it: one of its segments begins with a dot, or something in
// it can be decoded once more or taken for a slash. Nothing that a registry has is
// named so (distribution-spec 1.1, "Pulling manifests").
func leavesV2(path string) bool {
	return strings.Contains(path, "/.") || strings.ContainsAny(path, `%\`)
}

// newProxy passes requests to the registry at target and its answers back, as
// they are: streamed both ways, without a limit of time or size, which are the
// registry's to set.
func newProxy(target *url.URL, log *slog.Logger) http.Handler {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &httputil.ReverseProxy{
		Rewrite:        func(p *httputil.ProxyRequest) { toRegistry(p, target) },
		ModifyResponse: func(r *http.Response) error { return fromRegistry(r, target) },
		FlushInterval:  -1,
		Transport:      registryTransport(),
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			tellNoRegistry(w, r, err, log)
		},
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// registryTransport is our own: a registry in the same process closes the idle
// connections of http.DefaultTransport after every event it sends
// (distribution v3.1.2, notifications/http.go:61).
func registryTransport() http.RoundTripper {
	return &http.Transport{
		// No Proxy: the registry stands beside us.
		DialContext:           (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:   5 * time.Second,
		ExpectContinueTimeout: time.Second,
		// docker pulls and pushes 3 to 5 layers at once; 64 serves a dozen such
		// clients without a new connection for each request.
		MaxIdleConnsPerHost: 64,
		IdleConnTimeout:     90 * time.Second,
		// Else the transport would ask for gzip by itself, and unpack it.
		DisableCompression: true,
		// No ResponseHeaderTimeout: the registry may copy a layer of gigabytes
		// in its storage before it answers the last request of an upload.
	}
}

// toRegistry turns the request around. Host stays, and what was said of the
// outer connection: of these the registry makes the addresses it sends back.
// Both are the client's to forge, who then gets an address of no use to it.
func toRegistry(p *httputil.ProxyRequest, target *url.URL) {
	p.SetURL(target)
	p.Out.Host = p.In.Host
	p.Out.URL.RawQuery = p.In.URL.RawQuery // ReverseProxy has left out what it could not read

	p.Out.Header["X-Forwarded-For"] = p.In.Header["X-Forwarded-For"] // SetXForwarded adds to it
	p.SetXForwarded()
	for _, name := range []string{"Forwarded", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if said := p.In.Header[name]; len(said) > 0 { // by a proxy before us
			p.Out.Header[name] = said
		}
	}

	// flatpak offers h2c with every request. The registry has no protocol to
	// change to, and ReverseProxy would pass half of the offer on.
	p.Out.Header.Del("Connection")
	p.Out.Header.Del("Upgrade")
}

// fromRegistry takes the registry's own address out of an answer that names it,
// as one that is set to a fixed host does: crane follows a Link to the same
// host only, and nobody outside can follow a Location to the inside.
//
// A blob is what anybody pushed, and stands on the address of our pages: a browser
// must neither guess what it is nor run what is in it. Clients of a registry heed
// neither header.
func fromRegistry(r *http.Response, target *url.URL) error {
	r.Header.Set("X-Content-Type-Options", "nosniff")
	r.Header.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	for _, prefix := range []string{"http://" + target.Host + "/", "https://" + target.Host + "/"} {
		if location, ok := strings.CutPrefix(r.Header.Get("Location"), prefix); ok {
			r.Header.Set("Location", "/"+location)
		}
		for i, link := range r.Header["Link"] {
			r.Header["Link"][i] = strings.ReplaceAll(link, "<"+prefix, "</")
		}
	}
	return nil
}

// tellNoRegistry answers for a registry that did not, in the shape that its
// clients read (distribution-spec 1.1, "Error Codes").
func tellNoRegistry(w http.ResponseWriter, r *http.Request, err error, log *slog.Logger) {
	if r.Context().Err() != nil {
		panic(http.ErrAbortHandler) // the client has gone; to return would be to say 200
	}
	cause := indexer.CauseOf(err)
	log.WarnContext(r.Context(), "registry does not answer", "path", r.URL.Path, "cause", cause.Public, "detail", cause.Detail)
	code := http.StatusBadGateway // it broke off
	if op := (*net.OpError)(nil); errors.As(err, &op) && op.Op == "dial" {
		code = http.StatusServiceUnavailable // it is not there
		w.Header().Set("Retry-After", "1")
	}
	_ = answer.WriteJSON(w, code, answer.RegistryErrors{Errors: []answer.RegistryError{{Code: "UNAVAILABLE", Message: "the registry does not answer, try again"}}})
}
