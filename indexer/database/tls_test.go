package database_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/portbook/portbook/indexer/database"
)

// A certificate that is not accepted must be explained with the setting to change, and
// does not become acceptable by waiting.
func TestExplainCertificates(t *testing.T) {
	t.Parallel()
	hour := time.Hour
	good, goodRoot := certificate(t, hour)
	expired, expiredRoot := certificate(t, -hour)
	_, otherRoot := certificate(t, hour)
	for _, test := range []struct {
		name, mode, host, root string
		cert                   tls.Certificate
		says                   string
	}{
		{"another name", "verify-full", "127.0.0.1", goodRoot, good, "set database.host to a name in the server's certificate"},
		{"another authority", "verify-full", "localhost", otherRoot, good, "set PGSSLROOTCERT to the file"},
		{"another authority, any name", "verify-ca", "127.0.0.1", otherRoot, good, "set PGSSLROOTCERT to the file"},
		{"expired", "verify-full", "localhost", expiredRoot, expired, "issue another one for the server"},
		{"expired, any name", "verify-ca", "127.0.0.1", expiredRoot, expired, "issue another one for the server"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			url := fmt.Sprintf("postgres://u@%s:%d/d?sslmode=%s&sslrootcert=%s", test.host, serveTLS(t, test.cert), test.mode, test.root)
			err := connect(t, url)
			if err == nil {
				t.Fatal("it connects")
			}
			checkExplained(t, err, []string{"database.sslMode", test.says})
			if database.Away(err) {
				t.Errorf("it is away: %v", err)
			}
		})
	}
}

// serveTLS accepts TLS as PostgreSQL does, and closes the connection after the
// handshake. It returns the port.
func serveTLS(t *testing.T, cert tls.Certificate) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go shake(conn, cert)
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

// shake answers an SSLRequest (PostgreSQL 15, 55.7) and makes the handshake.
func shake(conn net.Conn, cert tls.Certificate) {
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err := io.ReadFull(conn, make([]byte, 8)); err != nil {
		return
	}
	if _, err := conn.Write([]byte("S")); err != nil {
		return
	}
	server := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{cert}})
	_ = server.HandshakeContext(ctx) // the client refuses the certificate
}

// certificate returns a certificate for localhost that is valid for a time from now,
// and the path of the file with its authority, which is the certificate itself.
func certificate(t *testing.T, valid time.Duration) (cert tls.Certificate, root string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(valid),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	root = filepath.Join(t.TempDir(), "root.crt")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := os.WriteFile(root, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, root
}
