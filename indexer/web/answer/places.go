package answer

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
)

// Places limits how many requests do something at once, in total and for one client,
// so that no client can use all places. It is safe for concurrent use.
type Places struct {
	all, each int // the limits in total and for one client

	mu    sync.Mutex
	taken int
	of    map[netip.Prefix]int // taken places, by client
}

// NewPlaces returns Places with a limit for all requests and one for each client.
func NewPlaces(all, each int) *Places {
	return &Places{all: all, each: each, of: map[netip.Prefix]int{}}
}

// Take takes a place for a request. The caller must call leave to release it. If all
// places are taken, or all those of this client, it returns false.
func (p *Places) Take(r *http.Request) (leave func(), ok bool) {
	client := ClientOf(r)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.taken >= p.all || p.of[client] >= p.each {
		return nil, false
	}
	p.taken++
	p.of[client]++
	return func() { p.leave(client) }, true
}

func (p *Places) leave(client netip.Prefix) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken--
	if p.of[client]--; p.of[client] == 0 {
		delete(p.of, client)
	}
}

// ClientOf returns the address from which a request comes. For IPv6 it returns the
// /64 network, which is what one customer has.
//
// This is the address of the connection, unless that is a loopback, private or
// link-local address. Such a connection may come from a reverse proxy, such as nginx
// with deploy/nginx.conf; then the last address in X-Forwarded-For is the client of
// that proxy. A client that itself connects from such an address can forge the
// field. It then has the share of several clients, but the limit in total still
// holds.
func ClientOf(r *http.Request) netip.Prefix {
	address := connectedFrom(r)
	if isFront(address) {
		said := strings.Join(r.Header.Values("X-Forwarded-For"), ",")
		if before := parseAddress(strings.TrimSpace(said[strings.LastIndexByte(said, ',')+1:])); before.IsValid() {
			address = before
		}
	}
	bits := address.BitLen()
	if address.Is6() {
		bits = 64
	}
	return netip.PrefixFrom(address, bits).Masked()
}

// FromFront reports whether the connection of a request comes from a loopback,
// private or link-local address, so that it may be that of a reverse proxy.
func FromFront(r *http.Request) bool { return isFront(connectedFrom(r)) }

func isFront(a netip.Addr) bool {
	return !a.IsValid() || a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast()
}

// connectedFrom returns the address of the connection of a request.
func connectedFrom(r *http.Request) netip.Addr {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	return parseAddress(host)
}

// parseAddress returns the zero Addr if text is not an address.
func parseAddress(text string) netip.Addr {
	address, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}
	}
	return address.Unmap().WithZone("")
}
