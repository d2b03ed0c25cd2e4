package answer

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
)

// Places are what only so many requests may have at once, and those of one client
// fewer, so that nobody takes them all. It is safe for concurrent use.
type Places struct {
	all, each int // how many there are, and how many one client may have

	mu    sync.Mutex
	taken int
	of    map[netip.Prefix]int // taken, by client
}

// NewPlaces returns places for all requests, and each for those of one client.
func NewPlaces(all, each int) *Places {
	return &Places{all: all, each: each, of: map[netip.Prefix]int{}}
}

// Take takes a place for a request, which leave gives back. It reports false if
// all are taken, or all of this client.
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

// ClientOf returns the address that a request comes from; of IPv6 the /64, which
// is what one customer gets.
//
// It is the address that connects, unless that is a loopback or private one: there
// a front may stand, as nginx of deploy/nginx.conf does, and then the last address
// in X-Forwarded-For is who connected to the front. A client that connects from
// such an address itself can write anything there. All it gains is the share of
// several clients; the number of all places holds.
func ClientOf(r *http.Request) netip.Prefix {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	address := parseAddress(host)
	if !address.IsValid() || address.IsLoopback() || address.IsPrivate() || address.IsLinkLocalUnicast() {
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

// parseAddress returns the zero address for what is none.
func parseAddress(text string) netip.Addr {
	address, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}
	}
	return address.Unmap().WithZone("")
}
