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

// A Gateway stands before a PostgreSQL server that trusts it. It asks for a
// password in clear text, as RDS does for a token, writes it down, and connects
// whoever Accept lets in.
type Gateway struct {
	Server string                      // host:port
	TLS    *tls.Config                 // nil: refuses TLS
	Accept func(Login) (reason string) // nil or an empty reason: lets in

	listener net.Listener
	mu       sync.Mutex
	logins   []Login
	conns    map[net.Conn]bool
	done     sync.WaitGroup
}

// A Login is what a client sent.
type Login struct {
	User, Database, Password string
	TLS                      bool
	Began                    time.Time // when the client connected
}

// Start takes connections until the test ends.
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

// Port is where the gateway listens, on 127.0.0.1.
func (g *Gateway) Port() int { return g.listener.Addr().(*net.TCPAddr).Port }

// Logins are the logins so far.
func (g *Gateway) Logins() []Login {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.logins)
}

// Cut ends all connections.
func (g *Gateway) Cut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for conn := range g.conns {
		conn.Close()
	}
}

// track notes a connection, so that Cut ends it.
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

// loginTimeout bounds what a client takes to log in.
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
		return fmt.Errorf("a client begins with %T", startup)
	}
	if err := g.login(client, conn, start, began); err != nil {
		return err
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return err
	}
	return g.relay(conn, start)
}

// startup reads the first message, after TLS has begun if the client asks for it.
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
		return fmt.Errorf("a client answers %T when asked for its password", message)
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
	// What RDS answers to a token that it does not take.
	client.Send(&pgproto3.ErrorResponse{
		Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: "28000",
		Message: fmt.Sprintf("PAM authentication failed for user %q", login.User), Detail: reason,
	})
	return errors.Join(client.Flush(), errors.New(reason))
}

// relay logs in to the server as the same user, who needs no password there, and
// passes bytes on until one side ends.
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
		_, _ = io.Copy(server, client) // its end is the end of both
		server.Close()
	})
	_, err = io.Copy(client, server)
	client.Close()
	return err
}

// cancel passes a request to cancel on.
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

// A Token is a password taken apart.
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

// ParseToken takes a password apart.
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
		return t, errors.New("the token has no whole X-Amz-Credential, X-Amz-Signature or X-Amz-Security-Token")
	}
	t.AccessKey, t.Region, t.Service = scope[0], scope[2], scope[3]
	return t, nil
}
