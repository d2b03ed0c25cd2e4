package deliver

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"
)

// A guard decides which addresses we connect to. It is asked about the address of each
// connection, after the name was resolved: what a name resolved to before does not matter.
type guard struct {
	allowed []netip.Prefix // addresses besides public ones
	resolve *net.Resolver  // nil: that of the system
}

// Why a connection is refused.
var (
	errPrivate = errors.New("a private address")
	errPort    = errors.New("a port of another service")
	errPlain   = errors.New("http to an address that is not allowed")
)

// special are the addresses that no receiver on the internet has: those of the IANA's registries
// of special-purpose addresses that are not globally reachable, besides multicast and reserved
// ones. Of IPv6, only 2000::/3 is given to anybody.
var special = prefixes(
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
	"192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24",
	"198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
	"2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20",
)

// global is what of IPv6 is given to anybody, and nat64 the addresses by which those of IPv4 are
// reached in networks without it (RFC 6052).
var (
	global = netip.MustParsePrefix("2000::/3")
	nat64  = netip.MustParsePrefix("64:ff9b::/96")
)

func prefixes(texts ...string) (all []netip.Prefix) {
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

func within(all []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(all, func(p netip.Prefix) bool { return p.Contains(a) })
}

// meant returns the address that a leads to: the IPv4 address in one that stands for it.
func meant(a netip.Addr) netip.Addr {
	a = a.Unmap()
	if nat64.Contains(a) {
		b := a.As16()
		return netip.AddrFrom4([4]byte(b[12:]))
	}
	return a
}

// isPublic reports whether an address is one of the internet.
func isPublic(a netip.Addr) bool {
	if a.Zone() != "" {
		return false
	}
	a = meant(a)
	return !within(special, a) && (a.Is4() || global.Contains(a))
}

// isAllowed reports whether the configuration allows an address.
func (g *guard) isAllowed(a netip.Addr) bool { return within(g.allowed, meant(a.WithZone(""))) }

// check returns why we do not connect to an address and a port; nil: we do.
func (g *guard) check(scheme string, to netip.AddrPort) error {
	switch {
	case g.isAllowed(to.Addr()):
		return nil
	case !isPublic(to.Addr()):
		return errPrivate
	case scheme != "https":
		return errPlain
	case to.Port() != 443 && to.Port() < 1024:
		return errPort
	}
	return nil
}

// dialTimeout limits one connection: 5 s.
const dialTimeout = 5 * time.Second

type schemeKey struct{}

// dial connects, as DialContext of http.Transport. The context says by which scheme.
func (g *guard) dial(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{
		Timeout: dialTimeout, Resolver: g.resolve,
		ControlContext: func(ctx context.Context, _, address string, _ syscall.RawConn) error {
			to, err := netip.ParseAddrPort(address)
			if err != nil {
				return errPrivate
			}
			scheme, _ := ctx.Value(schemeKey{}).(string)
			return g.check(scheme, to)
		},
	}
	return d.DialContext(ctx, network, address)
}
