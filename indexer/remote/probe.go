package remote

import (
	"context"
	"net/http"
	"net/http/httptrace"
	"time"
)

// probeTimeout is how long the registry may take to say that it is there: 5 s.
const probeTimeout = 5 * time.Second

// A Probe watches for restarts of the registry, which tells nobody and loses the
// events that it had queued. It keeps one connection, which ends with the process
// at its other end. It is not safe for concurrent use.
type Probe struct {
	client *Client
	http   *http.Client
	kept   bool // the connection has carried more than one answer
	closes bool // the last answer said that the connection ends with it
	failed bool // the registry did not answer last time
	met    bool // it has answered
}

// NewProbe returns one that has not looked yet. It asks without authentication: being
// refused is an answer, and costs the registry no password hash.
func NewProbe(c *Client) *Probe {
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Probe{client: c, http: &http.Client{Transport: transport(1), CheckRedirect: stay}}
}

// Look reports whether the registry may have been restarted since the last look: it
// answers again and did not, or the connection is gone. A connection that never
// lasted from one look to the next tells nothing, as with a proxy that keeps none,
// and neither does one whose end was announced.
func (p *Probe) Look(ctx context.Context) (restarted bool) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	reused := false // by the last connection, if a broken one was given up on the way
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) { reused = info.Reused }})
	req, err := http.NewRequestWithContext(traced, http.MethodGet, p.client.base.String()+"/v2/", nil)
	if err != nil {
		return false // New has checked the address
	}
	req.Header.Set("User-Agent", p.client.userAgent)
	resp, err := p.http.Do(req)
	if err == nil {
		discard(resp)
	}
	if err != nil || resp.StatusCode >= http.StatusInternalServerError { // a front answers for one that is away
		p.failed = p.met
		return false
	}
	restarted = p.failed || p.kept && !p.closes && !reused
	p.met, p.failed, p.kept, p.closes = true, false, reused, resp.Close
	return restarted
}

// Close ends the connection.
func (p *Probe) Close() { p.http.CloseIdleConnections() }
