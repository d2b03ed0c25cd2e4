package main_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/portbook/portbook/indexer/rdsiam/rdsiamtest"
	"github.com/portbook/portbook/registry/registrytest"
	"github.com/portbook/portbook/schema/localpg"
	"github.com/portbook/portbook/schema/localpg/process"
)

// An rds is a PostgreSQL server behind a gateway that accepts tokens as RDS does, and
// an instance that may get tokens.
type rds struct {
	t        *testing.T
	postgres *localpg.Server
	gateway  *rdsiamtest.Gateway
	imds     *rdsiamtest.IMDS
	root     string // file with the CA of the gateway's certificate
}

const region = "eu-west-7"

func launchRDS(t *testing.T) *rds {
	t.Helper()
	ca := newAuthority(t)
	certPEM, key := ca.issue(t, "localhost")
	cert, err := tls.X509KeyPair(certPEM, key)
	if err != nil {
		t.Fatal(err)
	}
	r := &rds{t: t, postgres: startPostgres(t, localpg.Config{}), imds: rdsiamtest.StartIMDS(t, region), root: ca.file}
	pool := (&fleet{t: t, postgres: r.postgres}).pool()
	const users = `CREATE ROLE migrator LOGIN; CREATE ROLE app LOGIN; GRANT CREATE ON SCHEMA public TO migrator`
	if _, err := pool.Exec(t.Context(), users); err != nil {
		t.Fatal(err)
	}
	r.gateway = &rdsiamtest.Gateway{Server: "127.0.0.1:" + port(t, r.postgres), TLS: &tls.Config{Certificates: []tls.Certificate{cert}}, Accept: r.accept}
	r.gateway.Start(t)
	return r
}

// accept accepts a token as RDS does: for this endpoint, user and region, and not
// expired. In tokens this endpoint is called localhost.
func (r *rds) accept(login rdsiamtest.Login) string {
	token, err := rdsiamtest.ParseToken(login.Password)
	switch {
	case err != nil:
		return err.Error()
	case token.Endpoint != fmt.Sprintf("localhost:%d", r.gateway.Port()):
		return "the token is for " + token.Endpoint
	case token.User != login.User, token.Region != region, token.Service != "rds-db", token.Action != "connect":
		return fmt.Sprintf("the token is for %+v", token)
	case token.Expires != "900", time.Since(token.Date) > 900*time.Second:
		return fmt.Sprintf("the token has expired: %+v", token)
	}
	return ""
}

// environ returns the environment of an indexer with two users on the instance.
func (r *rds) environ(more ...string) []string {
	environ := append(database("localhost", fmt.Sprint(r.gateway.Port())), r.imds.Environ()...)
	environ = append(environ,
		"PORTBOOK_DATABASE_USER=app", "PORTBOOK_DATABASE_MIGRATIONUSER=migrator", // the last of two variables counts
		"PORTBOOK_DATABASE_DYNAMICAUTH_AWSRDSIAM_REGION=detect",
		"PORTBOOK_LOG_LEVEL=debug",
	)
	return append(environ, more...)
}

// tokens returns the tokens of all logins from the n-th on.
func (r *rds) tokens(n int) (tokens []rdsiamtest.Token) {
	r.t.Helper()
	for _, login := range r.gateway.Logins()[n:] {
		token, err := rdsiamtest.ParseToken(login.Password)
		if err != nil {
			r.t.Fatal(err)
		}
		tokens = append(tokens, token)
	}
	return tokens
}

// Each connection must log in over TLS with a token of its own. The number of requests
// to the metadata service must not depend on the number of connections.
func TestRDSIAM(t *testing.T) {
	t.Parallel()
	r := launchRDS(t)
	log := r.serve("PORTBOOK_DATABASE_SSLMODE=verify-full", "PGSSLROOTCERT="+r.root)
	users := map[string]int{}
	for _, login := range r.gateway.Logins() {
		users[login.User]++
		if !login.TLS {
			t.Errorf("user %s logged in without TLS", login.User)
		}
	}
	if users["migrator"] == 0 || users["app"] == 0 {
		t.Errorf("got logins of %v, want the migrating and the working user", users)
	}
	for range 3 {
		// The dates of tokens are in seconds: only in the next second is a new token
		// different.
		tokens := r.tokens(0)
		last := tokens[len(tokens)-1].Date
		within(t, patience, "the next second begins", func() bool { return time.Now().Truncate(time.Second).After(last) })
		cut := time.Now().Truncate(time.Second)
		r.gateway.Cut()
		within(t, patience, "the indexer connects again, with a new token", func() bool {
			return slices.ContainsFunc(r.tokens(len(tokens)), func(token rdsiamtest.Token) bool { return !token.Date.Before(cut) })
		})
	}
	logins := r.gateway.Logins()
	for i, token := range r.tokens(0)[:len(logins)] {
		// The date is truncated by up to a second; the rest is for a busy machine.
		if age := logins[i].Began.Sub(token.Date); age > 3*time.Second {
			t.Errorf("got a login with a token that was %v old", age)
		}
	}
	// 2 for the region: a token and the document. 3 for the credentials: a token, the
	// name of the role and its keys.
	if total, each := r.imds.Calls(); total != 5 {
		t.Errorf("got %d calls of the metadata service for %d connections, want 5: %s", total, len(r.gateway.Logins()), each)
	}
	secretless(t, log())
}

// Migrations by hand must use tokens of the migrating user, also without TLS if the
// configuration says so.
func TestRDSIAMMigrate(t *testing.T) {
	t.Parallel()
	r := launchRDS(t)
	out, code := indexerCommand(t, r.environ("PORTBOOK_DATABASE_SSLMODE=disable"), "migrate", "up", "--yes")
	if code != 0 {
		t.Fatalf("exit status %d: %s", code, out)
	}
	logins := r.gateway.Logins()
	if len(logins) == 0 {
		t.Fatal("got no login")
	}
	for _, login := range logins {
		if login.User != "migrator" || login.TLS {
			t.Errorf("got a login of %s (TLS: %v), want migrator without TLS", login.User, login.TLS)
		}
	}
	secretless(t, out)
}

// Each host of a list must get a token for its own name, also if the first host refuses
// its token.
func TestRDSIAMHosts(t *testing.T) {
	t.Parallel()
	r := launchRDS(t)
	out, code := indexerCommand(t, r.environ("PORTBOOK_DATABASE_HOST=127.0.0.1,localhost"), "migrate", "up", "--yes")
	if code != 0 {
		t.Fatalf("exit status %d: %s", code, out)
	}
	hosts := map[string]bool{}
	for _, token := range r.tokens(0) {
		host, _, _ := strings.Cut(token.Endpoint, ":")
		hosts[host] = true
	}
	if !hosts["127.0.0.1"] || !hosts["localhost"] || len(hosts) != 2 {
		t.Errorf("got tokens for %v, want both hosts", hosts)
	}
}

// A refusal must show the user, and no token.
func TestRDSIAMRefused(t *testing.T) {
	t.Parallel()
	r := launchRDS(t)
	out, code := indexerCommand(t, r.environ("PORTBOOK_DATABASE_HOST=127.0.0.1"), "migrate", "up", "--yes")
	for _, want := range []string{"PAM authentication failed", "migrator", "GRANT rds_iam"} {
		if code != 1 || !strings.Contains(out, want) {
			t.Errorf("got exit status %d, want 1 and %q: %s", code, want, out)
		}
	}
	secretless(t, out)
}

// If the region cannot be detected, every command must end at once.
func TestRDSIAMDetectFails(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"serve", "migrate up --yes"} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			started := time.Now()
			environ := append(database("127.0.0.1", "1"), "PORTBOOK_DATABASE_DYNAMICAUTH_AWSRDSIAM_REGION=detect",
				"AWS_EC2_METADATA_SERVICE_ENDPOINT=http://127.0.0.1:1", "PORTBOOK_HTTP_OPERATIONS_ADDRESS=127.0.0.1:0")
			out, code := indexerCommand(t, environ, strings.Fields(command)...)
			took := time.Since(started)
			if code != 1 || took > 10*time.Second {
				t.Errorf("got exit status %d after %v, want 1 in less than 10 s: %s", code, took, out)
			}
			for _, want := range []string{"IMDS", "database.dynamicAuth.awsRdsIam.region", "write the region"} {
				if !strings.Contains(out, want) {
					t.Errorf("the message lacks %q: %s", want, out)
				}
			}
		})
	}
}

// serve starts an indexer, waits until it is ready, and returns a function that returns
// its log.
func (r *rds) serve(more ...string) (log func() string) {
	r.t.Helper()
	operations := registrytest.FreeAddr(r.t)
	cmd := exec.Command(build(r.t), "serve")
	cmd.Env = append(r.environ(more...), "PORTBOOK_REGISTRY_URL="+nowhere, "HOME=/nonexistent",
		"PORTBOOK_HTTP_ADDRESS=127.0.0.1:0", "PORTBOOK_HTTP_OPERATIONS_ADDRESS="+operations)
	var all lockedBuffer
	p, err := process.Start(cmd, nil, &all)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(p.Kill)
	within(r.t, 30*time.Second, "the indexer is ready", func() bool {
		select {
		case <-p.Done():
			r.t.Fatalf("the indexer ended: %s\n%s", p.Outcome(), p.Tail())
		default:
		}
		return status("http://"+operations+"/readyz") == 200
	})
	return all.String
}

// A lockedBuffer holds a log. It is safe for concurrent use.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// secretless fails the test if a text for people contains a token or credentials.
func secretless(t *testing.T, text string) {
	t.Helper()
	for _, secret := range []string{rdsiamtest.SecretKey, rdsiamtest.SessionToken, "X-Amz-", "Action=connect"} {
		if i := strings.Index(text, secret); i >= 0 {
			t.Errorf("the text contains a secret (%s): ...%q...", secret, text[max(0, i-100):min(len(text), i+100)])
		}
	}
}
