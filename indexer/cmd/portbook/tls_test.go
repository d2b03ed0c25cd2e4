package main_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/portbook/portbook/indexer/rdsiam/rdsiamtest"
	"github.com/portbook/portbook/registry/registrytest"
	"github.com/portbook/portbook/schema/localpg"
)

// nowhere is the URL of a registry that does not answer, for tests that need none.
const nowhere = "http://127.0.0.1:1"

// Each sslMode must check what it promises, with a server whose certificate is only for
// "localhost". No mode may continue in plain text.
func TestTLS(t *testing.T) {
	t.Parallel()
	ca, other := newAuthority(t), newAuthority(t)
	cert, key := ca.issue(t, "localhost")
	server := startPostgres(t, localpg.Config{
		Settings: map[string]string{"ssl": "on", "ssl_cert_file": "server.crt", "ssl_key_file": "server.key"},
		Files:    map[string][]byte{"server.crt": cert, "server.key": key},
	})
	const (
		name    = "database.sslMode is verify-full: set database.host to a name"
		trusted = "set PGSSLROOTCERT to the file with the authority's certificate"
	)
	for _, test := range []struct {
		name, mode, host string
		root             *authority
		refusal          string // empty: connects
	}{
		{"disable", "disable", "127.0.0.1", nil, ""},
		{"the default", "", "127.0.0.1", nil, ""},
		{"require", "require", "127.0.0.1", nil, ""},
		{"require, another name, right authority", "require", "127.0.0.1", ca, ""},
		{"require, wrong authority", "require", "127.0.0.1", other, trusted}, // as in libpq: checked if a root certificate is set
		{"verify-ca, another name", "verify-ca", "127.0.0.1", ca, ""},
		{"verify-ca, wrong authority", "verify-ca", "localhost", other, trusted},
		{"verify-full", "verify-full", "localhost", ca, ""},
		{"verify-full, another name", "verify-full", "127.0.0.1", ca, name},
		{"verify-full, wrong authority", "verify-full", "localhost", other, trusted},
		{"verify-full, authorities of the system", "verify-full", "localhost", nil, trusted},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			environ := append(database(test.host, port(t, server)), "PORTBOOK_DATABASE_SSLMODE="+test.mode)
			if test.root != nil {
				environ = append(environ, "PGSSLROOTCERT="+test.root.file)
			}
			out, code := indexerCommand(t, environ, "migrate", "status")
			checkRefusal(t, out, code, test.host, test.refusal)
		})
	}
}

// A server without TLS must be refused unless sslMode is disable, for each way to name
// the database.
func TestNoTLS(t *testing.T) {
	t.Parallel()
	server := startPostgres(t, localpg.Config{Settings: map[string]string{"ssl": "off"}})
	ca := newAuthority(t)
	at := port(t, server)
	const none = "database.sslMode requires TLS: turn it on in the server"
	for _, test := range []struct {
		name    string
		environ []string
		refusal string
	}{
		{"disable", append(database("127.0.0.1", at), "PORTBOOK_DATABASE_SSLMODE=disable"), ""},
		{"disable in the URL", []string{"DB_URL=" + server.URL("postgres")}, ""},
		{"disable by libpq", append(libpq(at), "PGSSLMODE=disable"), ""},
		{"the default", database("127.0.0.1", at), none},
		{"require", append(database("127.0.0.1", at), "PORTBOOK_DATABASE_SSLMODE=require"), none},
		{"verify-ca", append(database("127.0.0.1", at), "PORTBOOK_DATABASE_SSLMODE=verify-ca", "PGSSLROOTCERT="+ca.file), none},
		{"verify-full", append(database("127.0.0.1", at), "PORTBOOK_DATABASE_SSLMODE=verify-full", "PGSSLROOTCERT="+ca.file), none},
		{"a URL without sslmode", []string{fmt.Sprintf("DB_URL=postgres://portbook@127.0.0.1:%s/postgres", at)}, none},
		{"libpq's variables without PGSSLMODE", libpq(at), none},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			out, code := indexerCommand(t, test.environ, "migrate", "status")
			checkRefusal(t, out, code, "127.0.0.1", test.refusal)
		})
	}
	t.Run("serve", func(t *testing.T) {
		t.Parallel()
		out, code := indexerCommand(t, append(database("127.0.0.1", at), "PORTBOOK_HTTP_ADDRESS=127.0.0.1:0", "PORTBOOK_HTTP_OPERATIONS_ADDRESS=127.0.0.1:0"), "serve")
		checkRefusal(t, out, code, "127.0.0.1", none)
	})
}

// A server that refuses TLS must get neither user nor password.
func TestNothingInPlainText(t *testing.T) {
	t.Parallel()
	gateway := &rdsiamtest.Gateway{Server: "127.0.0.1:1"}
	gateway.Start(t)
	environ := append(database("127.0.0.1", fmt.Sprint(gateway.Port())), "PORTBOOK_DATABASE_PASSWORD=secret")
	out, code := indexerCommand(t, environ, "migrate", "status")
	checkRefusal(t, out, code, "127.0.0.1", "turn it on")
	if logins := gateway.Logins(); len(logins) > 0 {
		t.Errorf("got a login without TLS: %v", logins)
	}
}

// All connections of a running indexer must be encrypted, also with a URL that does not
// say so.
func TestTLSOfServe(t *testing.T) {
	t.Parallel()
	cert, key := newAuthority(t).issue(t, "localhost")
	f := &fleet{
		t: t, binary: build(t), registry: &registrytest.Process{URL: nowhere},
		postgres: startPostgres(t, localpg.Config{
			Settings: map[string]string{"ssl": "on", "ssl_cert_file": "server.crt", "ssl_key_file": "server.key"},
			Files:    map[string][]byte{"server.crt": cert, "server.key": key},
		}),
	}
	f.indexer("127.0.0.1:0", "PORTBOOK_DATABASE_POSTGRES_URL="+fmt.Sprintf("postgres://portbook@127.0.0.1:%s/postgres", port(t, f.postgres)))
	pool := f.pool()
	const ours = " FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'portbook-indexer'"
	// The leader's session, and a connection of the workers or of this query.
	within(t, patience, "the indexer is connected", func() bool { return f.query(pool, "SELECT count(*)"+ours) >= 2 })
	if n := f.query(pool, "SELECT count(*)"+ours+" AND NOT ssl"); n > 0 {
		t.Errorf("%d connections are not encrypted", n)
	}
}

func checkRefusal(t *testing.T, out string, code int, host, refusal string) {
	t.Helper()
	switch {
	case refusal == "" && code != 0:
		t.Errorf("got exit status %d, want a connection:\n%s", code, out)
	case refusal == "":
	case code != 1:
		t.Errorf("got exit status %d, want 1:\n%s", code, out)
	default:
		for _, want := range []string{refusal, "database.sslMode", host} {
			if !strings.Contains(out, want) {
				t.Errorf("the error lacks %q:\n%s", want, out)
			}
		}
	}
}

// startPostgres starts a server for one test.
func startPostgres(t *testing.T, c localpg.Config) *localpg.Server {
	t.Helper()
	if testing.Short() {
		t.Skip("starts real processes")
	}
	dir, err := os.MkdirTemp("", "postgres") // the server's account cannot enter t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	c.Dir = filepath.Join(dir, "postgres")
	server, err := localpg.Start(t.Context(), c)
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	t.Cleanup(server.Stop)
	return server
}

func port(t *testing.T, server *localpg.Server) string {
	t.Helper()
	_, rest, _ := strings.Cut(server.URL("postgres"), "@")
	address, _, _ := strings.Cut(rest, "/")
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// database returns the environment that names a server by keys of the configuration.
// libpq does the same with libpq's variables. Neither has settings of TLS.
func database(host, port string) []string {
	return []string{
		"PORTBOOK_DATABASE_HOST=" + host, "PORTBOOK_DATABASE_PORT=" + port,
		"PORTBOOK_DATABASE_USER=portbook", "PORTBOOK_DATABASE_DATABASE=postgres",
	}
}

func libpq(port string) []string {
	return []string{"PGHOST=127.0.0.1", "PGPORT=" + port, "PGUSER=portbook", "PGDATABASE=postgres"}
}

// indexerCommand runs a command of the indexer to its end, and returns its output and
// exit status.
func indexerCommand(t *testing.T, environ []string, args ...string) (out string, code int) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts real processes")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, build(t), args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "PORTBOOK_REGISTRY_URL=" + nowhere}, environ...)
	var b bytes.Buffer
	cmd.Stdout, cmd.Stderr = &b, &b
	err := cmd.Run()
	if ctx.Err() != nil {
		t.Fatalf("portbook %s did not end: %v\n%s", strings.Join(args, " "), err, b.String())
	}
	return b.String(), cmd.ProcessState.ExitCode()
}

// An authority issues certificates. Its own certificate is in file.
type authority struct {
	file string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{key: newKey(t), file: filepath.Join(t.TempDir(), "root.crt")}
	template := template("authority")
	template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	der := sign(t, template, template, a.key, a.key)
	var err error
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(a.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644); err != nil {
		t.Fatal(err)
	}
	return a
}

// issue returns a server certificate for a name, and its key.
func (a *authority) issue(t *testing.T, name string) (cert, key []byte) {
	t.Helper()
	own := newKey(t)
	template := template(name)
	template.DNSNames, template.ExtKeyUsage = []string{name}, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	der := sign(t, template, a.cert, own, a.key)
	raw, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func template(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
}

func sign(t *testing.T, template, parent *x509.Certificate, of, by *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &of.PublicKey, by)
	if err != nil {
		t.Fatal(err)
	}
	return der
}
