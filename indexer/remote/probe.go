package remote

import (
	"context"
	"net/http"
	"net/http/httptrace"
	"time"
)

// probeTimeout limits one request of a Probe: 5 s.
const probeTimeout = 5 * time.Second

// A Probe detects restarts of the registry. A registry that restarts loses its queued
// events and reports nothing. The Probe keeps one connection open, which ends when the
// registry's process ends. It is not safe for concurrent use.
type Probe struct {
	client *Client
	http   *http.Client
	kept   bool // the connection has carried more than one answer
	closes bool // the last answer announced the end of the connection
	failed bool // the registry answered before, but not to the last request
	met    bool // the registry has answered once
}

// NewProbe returns a Probe that has not looked yet. It sends requests without
// authentication: a 401 is an answer too, and costs the registry no password hash.
func NewProbe(c *Client) *Probe {
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Probe{client: c, http: &http.Client{Transport: transport(1), CheckRedirect: stay}}
}

// Look reports whether the registry may have been restarted since the last call: it
// answers after it did not, or the connection has ended. It ignores the end of a
// connection that never lasted from one call to the next, as with a proxy that keeps
// none, and of a connection whose end was announced.
func (p *Probe) Look(ctx context.Context) (restarted bool) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	reused := false // of the last connection, if net/http replaced a broken one
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) { reused = info.Reused },
	})
	req, err := http.NewRequestWithContext(traced, http.MethodGet, p.client.base.String()+"/v2/", nil)
	if err != nil {
		return false // New has checked the address
	}
	req.Header.Set("User-Agent", p.client.userAgent)
	resp, err := p.http.Do(req)
	if err == nil {
		discard(resp)
	}
	if err != nil || resp.StatusCode >= http.StatusInternalServerError { // a proxy answers for an unavailable registry
		p.failed = p.met
		return false
	}
	restarted = p.failed || p.kept && !p.closes && !reused
	p.met, p.failed, p.kept, p.closes = true, false, reused, resp.Close
	return restarted
}

// Close ends the connection.
func (p *Probe) Close() { p.http.CloseIdleConnections() }
