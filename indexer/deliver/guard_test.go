package deliver

import (
	"context"
	"errors"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// No address of a network of ours may be called, however it is written.
func TestIsPublic(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]bool{
		"8.8.8.8": true, "1.1.1.1": true, "100.63.255.255": true, "100.128.0.1": true, "172.15.0.1": true, "172.32.0.1": true,
		"2606:4700::1111": true, "2a00::1": true, "64:ff9b::808:808": true, "::ffff:8.8.8.8": true,

		"0.0.0.0": false, "0.1.2.3": false, "10.0.0.1": false, "100.64.0.1": false, "127.0.0.1": false, "127.255.0.1": false,
		"169.254.169.254": false, "172.16.0.1": false, "172.31.255.255": false, "192.0.0.8": false, "192.168.1.1": false,
		"198.19.0.1": false, "224.0.0.1": false, "239.1.2.3": false, "240.0.0.1": false, "255.255.255.255": false,
		"192.0.2.1": false, "198.51.100.1": false, "203.0.113.1": false, "192.88.99.1": false,
		"::": false, "::1": false, "fe80::1": false, "fe80::1%eth0": false, "fec0::1": false, "fc00::1": false, "fd12::1": false,
		"ff02::1": false, "::ffff:127.0.0.1": false, "::ffff:10.0.0.1": false, "::ffff:169.254.169.254": false,
		"64:ff9b::7f00:1": false, "64:ff9b::a00:1": false, "64:ff9b::a9fe:a9fe": false, "64:ff9b:1::1": false,
		"::127.0.0.1": false, "2002:7f00:1::": false, "2001::1": false, "2001:db8::1": false, "100::1": false, "3fff::1": false,
		"5f00::1": false, "2001:4:112::1": false,
	} {
		if got := isPublic(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: %v, want %v", address, got, want)
		}
	}
}

// Every address of a network that is not public is refused, in each of its forms.
func TestFormsOfPrivateAddresses(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		p := special[random.IntN(len(special))]
		b := p.Addr().AsSlice()
		for i := p.Bits(); i < len(b)*8; i++ {
			b[i/8] |= byte(random.IntN(2)) << (7 - i%8)
		}
		a, _ := netip.AddrFromSlice(b)
		forms := []netip.Addr{a}
		if a.Is4() {
			v4 := a.As4()
			for _, prefix := range []string{"::ffff:0:0", "64:ff9b::", "::", "64:ff9b:1::"} {
				as := netip.MustParseAddr(prefix).As16()
				copy(as[12:], v4[:])
				forms = append(forms, netip.AddrFrom16(as))
			}
			as := netip.MustParseAddr("2002::").As16() // 6to4
			copy(as[2:], v4[:])
			forms = append(forms, netip.AddrFrom16(as))
		}
		for _, form := range forms {
			if isPublic(form) {
				t.Fatalf("%s, a form of %s in %s", form, a, p)
			}
		}
	}
}

// A URL that is accepted is one that net/http calls as it is written: it has a host and no user.
func FuzzCheckURL(f *testing.F) {
	for _, text := range []string{"https://example.org/a?b=c", "http://[2a00::1]:8080", "https://u:p@x", "https://x#f", "//x", "https://x:"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if CheckURL(text) != nil {
			return
		}
		u, err := url.Parse(text)
		if err != nil || u.Hostname() == "" || u.User != nil || u.Fragment != "" || u.Scheme != "https" && u.Scheme != "http" {
			t.Errorf("%q is accepted", text)
		}
	})
}

// The configuration allows its networks for http and for all ports, and no others.
func TestAllowedNetworks(t *testing.T) {
	t.Parallel()
	g := &guard{allowed: prefixes("10.1.0.0/16", "::1/128")}
	for _, c := range []struct {
		scheme, to string
		want       error
	}{
		{"http", "10.1.2.3:80", nil}, {"https", "10.1.2.3:22", nil}, {"http", "[::ffff:10.1.2.3]:80", nil},
		{"http", "[64:ff9b::a01:203]:80", nil}, {"http", "[::1]:8080", nil},
		{"https", "10.2.0.1:443", errPrivate}, {"https", "127.0.0.1:443", errPrivate},
		{"https", "8.8.8.8:443", nil}, {"https", "8.8.8.8:8443", nil}, {"https", "8.8.8.8:25", errPort},
		{"http", "8.8.8.8:80", errPlain}, {"", "8.8.8.8:443", errPlain},
	} {
		if err := g.check(c.scheme, netip.MustParseAddrPort(c.to)); !errors.Is(err, c.want) {
			t.Errorf("%s to %s: %v, want %v", c.scheme, c.to, err, c.want)
		}
	}
}

// A URL that is forged to lead to our own network reaches nothing there, whichever way it is
// written.
func TestForgedURLs(t *testing.T) {
	t.Parallel()
	var reached atomic.Int32
	inside := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	defer inside.Close()
	_, port, err := net.SplitHostPort(inside.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	dns := &resolver{answers: [][4]byte{{127, 0, 0, 1}}} // every name leads inside
	dns.start(t)
	c := newCaller(Config{Timeout: 5 * time.Second, Resolver: dns.resolver()})
	secret := NewSecret()
	for _, host := range []string{
		"127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "017700000001", "0", "0.0.0.0",
		"[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:127.0.0.1]", "[64:ff9b::127.0.0.1]",
		"[::127.0.0.1]", "localhost", "LOCALHOST", "localhost.", "127.0.0.1.", "①②⑦.⓪.⓪.①", "%31%32%37.0.0.1", "[::1%25lo]",
		"user:pass@127.0.0.1", "8.8.8.8@127.0.0.1", "127.0.0.1\\@8.8.8.8", "169.254.169.254",
	} {
		for _, scheme := range []string{"http", "https", "HTTP"} {
			to := scheme + "://" + host + ":" + port + "/"
			if CheckURL(to) != nil && !parses(to) {
				continue // neither stored nor called
			}
			if a := c.call(t.Context(), to, Delivery{Event: "x", Data: []byte("{}")}, secret); a.Reason == "" || a.Status != 0 {
				t.Errorf("%s was called: %+v", to, a)
			}
		}
	}
	for _, to := range []string{
		"", "x", "ftp://example.org/", "file:///etc/passwd", "gopher://example.org/", "https:///x", "https:example.org", "//example.org",
		"https://u@example.org/", "https://u:p@example.org/", "https://example.org/#f", "https://example.org:0/",
		"https://example.org:99999/", "https://example.org:x/", "https://example.org:/", "https://exa mple.org/", "https://example.org/\n",
		"https://[::1%25lo]/", "https://[127.0.0.1]/", "https://ex\x00.org/", "https://example.org/é",
		"https://example.org/" + strings.Repeat("x", maxURL),
	} {
		if CheckURL(to) == nil {
			t.Errorf("%.60q is accepted", to)
		}
	}
	for _, to := range []string{"https://example.org", "https://example.org:8443/a?b=c", "http://10.0.0.1/", "https://[2a00::1]/x"} {
		if err := CheckURL(to); err != nil {
			t.Errorf("%q: %v", to, err)
		}
	}
	if n := reached.Load(); n > 0 {
		t.Errorf("the server inside was called %d times", n)
	}
}

func parses(text string) bool {
	_, err := url.Parse(text)
	return err == nil
}

// A name that leads to a public address at first, and then to our own network, reaches nothing
// there: the address is checked when the connection is made.
func TestRebinding(t *testing.T) {
	t.Parallel()
	var reached atomic.Int32
	inside := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	defer inside.Close()
	_, port, err := net.SplitHostPort(inside.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	dns := &resolver{answers: [][4]byte{{127, 0, 0, 1}, {192, 0, 2, 7}, {10, 0, 0, 1}, {127, 0, 0, 1}}}
	dns.start(t)
	c := newCaller(Config{Timeout: 5 * time.Second, Resolver: dns.resolver()})
	want := "the address of the receiver is private: webhooks.allow_networks can allow it"
	for range len(dns.answers) {
		a := c.call(t.Context(), "https://rebind.example.org:"+port+"/", Delivery{Event: "x", Data: []byte("{}")}, NewSecret())
		if a.Reason != want {
			t.Errorf("%+v", a)
		}
	}
	// The same name is called when it leads to what is allowed, and refused when it moves.
	dns = &resolver{answers: [][4]byte{{127, 0, 0, 1}, {10, 0, 0, 1}}}
	dns.start(t)
	c = newCaller(Config{Timeout: 5 * time.Second, Resolver: dns.resolver(), Allow: prefixes("127.0.0.0/8")})
	c.client.Transport.(*http.Transport).DisableKeepAlives = true
	to := "http://rebind.example.org:" + port + "/"
	if a := c.call(t.Context(), to, Delivery{Event: "x", Data: []byte("{}")}, NewSecret()); a.Status != 200 {
		t.Errorf("an allowed address: %+v", a)
	}
	if a := c.call(t.Context(), to, Delivery{Event: "x", Data: []byte("{}")}, NewSecret()); a.Reason != want {
		t.Errorf("after it moved: %+v", a)
	}
	if n := reached.Load(); n != 1 {
		t.Errorf("the server inside was called %d times, want once", n)
	}
}

// A resolver answers each question for an IPv4 address with the next of its answers, by UDP.
type resolver struct {
	answers [][4]byte
	asked   atomic.Int32
	address string
}

func (r *resolver) start(t *testing.T) {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	r.address = conn.LocalAddr().String()
	go func() {
		b := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			if answer, err := r.answer(b[:n]); err == nil {
				_, _ = conn.WriteTo(answer, from)
			}
		}
	}()
}

func (r *resolver) answer(question []byte) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(question); err != nil {
		return nil, err
	}
	m.Response, m.Additionals = true, nil
	if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
		i := min(int(r.asked.Add(1))-1, len(r.answers)-1)
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 0}, Body: &dnsmessage.AResource{A: r.answers[i]},
		}}
	}
	return m.Pack()
}

func (r *resolver) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", r.address)
	}}
}

// What a receiver sends is in no reason, and how it fails is said.
func TestReasons(t *testing.T) {
	t.Parallel()
	const hidden = "hunter2"
	tls := httptest.NewUnstartedServer(http.NotFoundHandler())
	tls.Config.ErrorLog = log.New(io.Discard, "", 0)
	tls.StartTLS()
	defer tls.Close()
	closed := httptest.NewServer(nil)
	closed.Close()
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	go func() {
		for {
			conn, err := raw.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte(hidden + " is not HTTP\r\n\r\n"))
			conn.Close()
		}
	}()
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { t.Error("a redirect was followed") }))
	defer elsewhere.Close()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // so that the server sees when the client goes away
		switch r.URL.Path {
		case "/hangs":
			<-r.Context().Done()
		case "/drops":
			panic(http.ErrAbortHandler)
		case "/gone":
			w.WriteHeader(http.StatusGone)
		case "/redirects":
			http.Redirect(w, r, elsewhere.URL+"/"+hidden, http.StatusTemporaryRedirect)
		case "/busy":
			w.Header().Set("Retry-After", "7200")
			http.Error(w, hidden, http.StatusServiceUnavailable)
		case "/endless":
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		}
	}))
	defer server.Close()
	c := newCaller(Config{Timeout: 10 * time.Second, Allow: prefixes("127.0.0.0/8")})
	hasty := newCaller(Config{Timeout: 50 * time.Millisecond, Allow: prefixes("127.0.0.0/8")})
	for to, want := range map[string]Attempt{
		tls.URL:                         {Reason: "the certificate of the receiver is not trusted"},
		closed.URL:                      {Reason: "the receiver refused the connection"},
		"http://" + raw.Addr().String(): {Reason: "the connection to the receiver broke"},
		"https" + strings.TrimPrefix(server.URL, "http"): {Reason: "the connection to the receiver broke"},
		server.URL + "/drops":                            {Reason: "the connection to the receiver broke"},
		server.URL + "/gone":                             {Status: 410, Gone: true, Reason: "the receiver answered 410 Gone: it wants no more events"},
		server.URL + "/redirects":                        {Status: 307, Reason: "the receiver answered 307, a redirect, which is not followed"},
		server.URL + "/busy":                             {Status: 503, RetryAfter: time.Hour, Reason: "the receiver answered 503"},
		server.URL + "/endless":                          {Status: 200},
		server.URL + "/":                                 {Status: 200},
	} {
		a := c.call(t.Context(), to, Delivery{Event: "x", Data: []byte("{}")}, NewSecret())
		a.Took = 0
		if a != want || strings.Contains(a.Reason, hidden) {
			t.Errorf("%s: %+v, want %+v", to, a, want)
		}
	}
	if a := hasty.call(t.Context(), server.URL+"/hangs", Delivery{Data: []byte("{}")}, NewSecret()); a.Reason != "the receiver did not answer in time" {
		t.Errorf("hangs: %+v", a)
	}
}

// Attempts go on for about three days, each after a longer pause, and then end.
func TestAttemptsEnd(t *testing.T) {
	t.Parallel()
	for range 100 {
		d, age, waits := Delivery{Type: Pushed}, time.Duration(0), []time.Duration{}
		for {
			r := resultOf(Claim{}, d, Attempt{Reason: "the receiver answered 500"})
			if r.State == Failed {
				break
			}
			waits = append(waits, r.Next)
			age += r.Next
			d.Attempts, d.Age = d.Attempts+1, age
		}
		if age > GiveUp || age < GiveUp-10*time.Hour || len(waits) < 12 || len(waits) > 24 || waits[0] > 6*time.Second {
			t.Fatalf("%d attempts in %v: %v", len(waits), age, waits)
		}
		if slices.Max(waits) > 10*time.Hour {
			t.Fatal(waits)
		}
	}
}
