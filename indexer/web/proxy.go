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

// withRegistry passes requests below /v2/ to registry, and all others to others. It
// keeps the referrers and the extensions, because the stock registry has neither (distribution
// v3.1.2), and, if clients log in, the catalogue, because the registry shows all of it.
func withRegistry(registry, others http.Handler, logins bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ours := asksReferrers(r) || asksExtension(r) || logins && r.URL.Path == "/v2/_catalog"
		if (r.URL.Path == "/v2" || strings.HasPrefix(r.URL.Path, "/v2/")) && !ours {
			r.Pattern = "/v2/" // for the metrics
			if leavesV2(r.URL.Path) {
				_ = answer.WriteJSON(w, http.StatusBadRequest, answer.RegistryErrors{Errors: []answer.RegistryError{
					{Code: "NAME_INVALID", Message: leaves}}})
				return
			}
			registry.ServeHTTP(w, r)
			return
		}
		others.ServeHTTP(w, r)
	})
}

// leaves says what is wrong with a path of which leavesV2 is true.
const leaves = "a name, tag or digest must not begin with a dot or contain % or \\"

// leavesV2 reports whether a server that normalises a decoded path below /v2/ could
// take it for one outside: a segment begins with a dot, or the path has a character
// that may be decoded again or taken for a slash. No valid path of a registry has
// these (distribution-spec 1.1, "Pulling manifests").
func leavesV2(path string) bool {
	return strings.Contains(path, "/.") || strings.ContainsAny(path, `%\`)
}

// newProxy returns a proxy to the registry at target. It streams requests and
// answers without limits of time or size; the registry sets those.
func newProxy(target *url.URL, log *slog.Logger) http.Handler {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	proxy := httputil.ReverseProxy{
		Rewrite:        func(p *httputil.ProxyRequest) { toRegistry(p, target) },
		ModifyResponse: func(r *http.Response) error { return fromRegistry(r, target) },
		FlushInterval:  -1,
		Transport:      registryTransport(),
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			writeNoRegistry(w, r, err, log)
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := proxy // with a log of its own, because a log.Logger takes no context
		id := slog.String("request", indexer.RequestOf(r.Context()))
		p.ErrorLog = slog.NewLogLogger(log.Handler().WithAttrs([]slog.Attr{id}), slog.LevelDebug)
		p.ServeHTTP(w, r)
	})
}

// registryTransport returns a transport of its own: a registry in the same process
// closes the idle connections of http.DefaultTransport after every event it sends
// (distribution v3.1.2, notifications/http.go:61).
func registryTransport() http.RoundTripper {
	return &http.Transport{
		// No Proxy: the registry runs beside the indexer.
		DialContext:           (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:   5 * time.Second,
		ExpectContinueTimeout: time.Second,
		// docker pulls and pushes 3 to 5 layers at once; 64 is enough for a dozen such
		// clients without a new connection for each request.
		MaxIdleConnsPerHost: 64,
		IdleConnTimeout:     90 * time.Second,
		// Otherwise the transport would add Accept-Encoding: gzip and decompress
		// answers.
		DisableCompression: true,
		// No ResponseHeaderTimeout: before the registry answers the last request of an
		// upload, it may copy a layer of gigabytes in its storage.
	}
}

// toRegistry rewrites a request for the registry. It keeps Host and the headers
// about the outer connection, because the registry makes its addresses from them. A
// client can forge both, but then only its own answer has a useless address.
func toRegistry(p *httputil.ProxyRequest, target *url.URL) {
	p.SetURL(target)
	p.Out.Host = p.In.Host
	p.Out.URL.RawQuery = p.In.URL.RawQuery // ReverseProxy has removed parameters that it could not parse

	p.Out.Header["X-Forwarded-For"] = p.In.Header["X-Forwarded-For"] // SetXForwarded appends to it
	p.SetXForwarded()
	for _, name := range []string{"Forwarded", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if said := p.In.Header[name]; len(said) > 0 { // set by a proxy in front
			p.Out.Header[name] = said
		}
	}

	p.Out.Header.Del(frontField) // which is not the registry's to know
	p.Out.Header.Set(answer.RequestField, indexer.RequestOf(p.In.Context()))

	// flatpak offers an upgrade to h2c in every request. The registry supports no
	// upgrade, and ReverseProxy would pass on only half of the offer.
	p.Out.Header.Del("Connection")
	p.Out.Header.Del("Upgrade")
}

// fromRegistry makes addresses relative that name the registry's own host, as a
// registry with a fixed host sends them: crane follows a Link only to the same host,
// and clients outside cannot reach an internal Location.
//
// Anybody can push a blob, and it is served from the same host as the pages. So a
// browser must neither guess its type nor run its content. Registry clients ignore
// both headers.
func fromRegistry(r *http.Response, target *url.URL) error {
	r.Header.Set("X-Content-Type-Options", "nosniff")
	r.Header.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	r.Header.Del(answer.RequestField) // ours is set already
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

// writeNoRegistry writes the error for a registry that does not answer, in the format
// of a registry (distribution-spec 1.1, "Error Codes").
func writeNoRegistry(w http.ResponseWriter, r *http.Request, err error, log *slog.Logger) {
	if r.Context().Err() != nil {
		panic(http.ErrAbortHandler) // the client has gone; returning would send 200
	}
	cause := indexer.CauseOf(err)
	log.WarnContext(r.Context(), "registry does not answer", "path", answer.LoggedPath(r),
		"cause", cause.Public, "detail", cause.Detail)
	code := http.StatusBadGateway // the connection broke
	if op := (*net.OpError)(nil); errors.As(err, &op) && op.Op == "dial" {
		code = http.StatusServiceUnavailable // the registry cannot be reached
		w.Header().Set("Retry-After", "1")
	}
	_ = answer.WriteJSON(w, code, answer.RegistryErrors{Errors: []answer.RegistryError{
		{Code: "UNAVAILABLE", Message: "the registry does not answer, try again"}}})
}
