package rdsiamtest

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// A Gateway is a proxy of a PostgreSQL server that trusts it. It requests a password in
// clear text, as RDS does for a token, records it, and forwards the connections that
// Accept allows.
type Gateway struct {
	Server string                      // host:port
	TLS    *tls.Config                 // nil: TLS is refused
	Accept func(Login) (reason string) // returns why a login is refused, or ""; nil: all are accepted

	listener net.Listener
	mu       sync.Mutex
	logins   []Login
	conns    map[net.Conn]bool
	done     sync.WaitGroup
}

// A Login is the login of a client.
type Login struct {
	User, Database, Password string
	TLS                      bool
	Began                    time.Time // when the client connected
}

// Start accepts connections until the test ends.
func (g *Gateway) Start(t testing.TB) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g.listener, g.conns = l, map[net.Conn]bool{}
	g.done.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			g.done.Go(func() {
				if err := g.serve(conn); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
					t.Logf("gateway: %v", err)
				}
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		g.Cut()
		g.done.Wait()
	})
}

// Port returns the port of the gateway on 127.0.0.1.
func (g *Gateway) Port() int { return g.listener.Addr().(*net.TCPAddr).Port }

// Logins returns the logins so far.
func (g *Gateway) Logins() []Login {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.logins)
}

// Cut closes all connections.
func (g *Gateway) Cut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for conn := range g.conns {
		conn.Close()
	}
}

// track records a connection, so that Cut closes it.
func (g *Gateway) track(conn net.Conn) (forget func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.conns[conn] = true
	return func() {
		conn.Close()
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.conns, conn)
	}
}

// loginTimeout limits the login of a client.
const loginTimeout = 10 * time.Second

func (g *Gateway) serve(conn net.Conn) error {
	defer g.track(conn)()
	began := time.Now()
	if err := conn.SetDeadline(began.Add(loginTimeout)); err != nil {
		return err
	}
	client, startup, err := g.startup(&conn)
	if err != nil {
		return err
	}
	if cancel, ok := startup.(*pgproto3.CancelRequest); ok {
		return g.cancel(cancel)
	}
	start, ok := startup.(*pgproto3.StartupMessage)
	if !ok {
		return fmt.Errorf("unexpected first message %T", startup)
	}
	if err := g.login(client, conn, start, began); err != nil {
		return err
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return err
	}
	return g.relay(conn, start)
}

// startup reads the first message, after it has started TLS if the client requests TLS.
func (g *Gateway) startup(conn *net.Conn) (*pgproto3.Backend, pgproto3.FrontendMessage, error) {
	client := pgproto3.NewBackend(*conn, *conn)
	first, err := client.ReceiveStartupMessage()
	if _, ok := first.(*pgproto3.SSLRequest); err != nil || !ok {
		return client, first, err
	}
	answer := byte('N')
	if g.TLS != nil {
		answer = 'S'
	}
	if _, err := (*conn).Write([]byte{answer}); err != nil {
		return nil, nil, err
	}
	if g.TLS != nil {
		*conn = tls.Server(*conn, g.TLS)
		client = pgproto3.NewBackend(*conn, *conn)
	}
	first, err = client.ReceiveStartupMessage()
	return client, first, err
}

func (g *Gateway) login(client *pgproto3.Backend, conn net.Conn, start *pgproto3.StartupMessage, began time.Time) error {
	client.Send(&pgproto3.AuthenticationCleartextPassword{})
	if err := client.Flush(); err != nil {
		return err
	}
	if err := client.SetAuthType(pgproto3.AuthTypeCleartextPassword); err != nil {
		return err
	}
	message, err := client.Receive()
	if err != nil {
		return err
	}
	password, ok := message.(*pgproto3.PasswordMessage)
	if !ok {
		return fmt.Errorf("got %T from a client, want a password", message)
	}
	_, encrypted := conn.(*tls.Conn)
	login := Login{User: start.Parameters["user"], Database: start.Parameters["database"], Password: password.Password, TLS: encrypted, Began: began}
	g.mu.Lock()
	g.logins = append(g.logins, login)
	g.mu.Unlock()
	if g.Accept == nil {
		return nil
	}
	reason := g.Accept(login)
	if reason == "" {
		return nil
	}
	// The answer of RDS to a token that it does not accept.
	client.Send(&pgproto3.ErrorResponse{
		Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: "28000",
		Message: fmt.Sprintf("PAM authentication failed for user %q", login.User), Detail: reason,
	})
	return errors.Join(client.Flush(), errors.New(reason))
}

// relay logs in to the server as the same user, which needs no password there, and
// forwards bytes until one side closes the connection.
func (g *Gateway) relay(client net.Conn, start *pgproto3.StartupMessage) error {
	server, err := net.DialTimeout("tcp", g.Server, loginTimeout)
	if err != nil {
		return err
	}
	defer g.track(server)()
	hello, err := start.Encode(nil)
	if err != nil {
		return err
	}
	if _, err := server.Write(hello); err != nil {
		return err
	}
	g.done.Go(func() {
		_, _ = io.Copy(server, client) // then both connections end
		server.Close()
	})
	_, err = io.Copy(client, server)
	client.Close()
	return err
}

// cancel forwards a cancel request.
func (g *Gateway) cancel(request *pgproto3.CancelRequest) error {
	server, err := net.DialTimeout("tcp", g.Server, loginTimeout)
	if err != nil {
		return err
	}
	defer server.Close()
	message, err := request.Encode(nil)
	if err != nil {
		return err
	}
	_, err = server.Write(message)
	return err
}

// A Token has the parts of a password.
type Token struct {
	Endpoint  string // host:port
	User      string // DBUser
	Action    string
	Expires   string // X-Amz-Expires, in seconds
	Date      time.Time
	AccessKey string
	Region    string
	Service   string
}

// ParseToken parses a password.
func ParseToken(password string) (Token, error) {
	u, err := url.Parse("https://" + password)
	if err != nil {
		return Token{}, errors.New("the password is not a token")
	}
	q := u.Query()
	t := Token{Endpoint: u.Host, User: q.Get("DBUser"), Action: q.Get("Action"), Expires: q.Get("X-Amz-Expires")}
	if t.Date, err = time.Parse("20060102T150405Z", q.Get("X-Amz-Date")); err != nil {
		return t, err
	}
	scope := strings.Split(q.Get("X-Amz-Credential"), "/") // key, day, region, service, aws4_request
	if len(scope) != 5 || q.Get("X-Amz-Signature") == "" || q.Get("X-Amz-Security-Token") == "" {
		return t, errors.New("the token lacks a complete X-Amz-Credential, X-Amz-Signature or X-Amz-Security-Token")
	}
	t.AccessKey, t.Region, t.Service = scope[0], scope[2], scope[3]
	return t, nil
}
