package storage

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fsouza/fake-gcs-server/fakestorage"

	"github.com/portbook/portbook/registry/registrytest"
)

// The bucket of BUCKET_NAME has what is pushed. Without a key to sign with, the registry sends
// blobs itself.
func TestGCS(t *testing.T) {
	t.Parallel()
	gcs, environ := startGCS(t)
	environ = append(environ, "GOOGLE_APPLICATION_CREDENTIALS="+serviceAccount(t))
	if to := check(t, start(t, []string{"BUCKET_NAME=" + bucket}, environ...)); to != "" {
		t.Errorf("a blob is redirected to %s", to)
	}
	list, err := gcs.ListObjectsWithOptionsPaginated(bucket, fakestorage.ListOptions{Prefix: "docker/registry/v2/blobs/"})
	if err != nil || len(list.Objects) == 0 {
		t.Errorf("got %d objects, %v", len(list.Objects), err)
	}
}

// With the key of an account, clients are sent to the store. The address has https, which the
// server does not speak, so no client can follow it here.
func TestGCSRedirect(t *testing.T) {
	t.Parallel()
	_, environ := startGCS(t)
	s := start(t, []string{"BUCKET_NAME=" + bucket, "PORTBOOK_STORAGE_GCS_KEYFILE=" + serviceAccount(t)}, environ...)
	blob, err := s.Push.Blob(t.Context(), "demo/app", []byte("a layer"))
	if err != nil {
		t.Fatalf("%v; the registry's log:\n%s", err, s.Log())
	}
	to := location(t, s.URL+"/v2/demo/app/blobs/"+blob.Digest.String())
	store := "https://" + strings.TrimPrefix(environ[0], "STORAGE_EMULATOR_HOST=") + "/" + bucket + "/"
	if !strings.HasPrefix(to, store) || !strings.Contains(to, "Signature=") {
		t.Errorf("a blob is redirected to %q, want a signed URL below %s", to, store)
	}
}

// startGCS starts a server of Google's API with one bucket, and returns the environment in which
// the registry uses it. The library of Google goes to STORAGE_EMULATOR_HOST. But the registry sends
// uploads to www.googleapis.com itself, so a proxy connects these to the server too.
func startGCS(t *testing.T) (gcs *fakestorage.Server, environ []string) {
	t.Helper()
	addr := registrytest.FreeAddr(t)
	host, port, _ := net.SplitHostPort(addr)
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	gcs, err = fakestorage.NewServerWithOptions(fakestorage.Options{
		Scheme: "http", Host: host, Port: uint16(number), PublicHost: addr, ExternalURL: "http://" + addr,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(gcs.Stop)
	gcs.CreateBucketWithOpts(fakestorage.CreateBucketOpts{Name: bucket})
	google := httptest.NewUnstartedServer(gcs.HTTPHandler())
	certificate, file := certificate(t, "www.googleapis.com")
	google.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	google.StartTLS()
	t.Cleanup(google.Close)
	proxy := httptest.NewServer(connect(google.Listener.Addr().String()))
	t.Cleanup(proxy.Close)
	return gcs, []string{"STORAGE_EMULATOR_HOST=" + addr, "HTTPS_PROXY=" + proxy.URL, "SSL_CERT_FILE=" + file}
}

// connect is a proxy that connects every client to one address.
func connect(addr string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect {
			http.Error(w, "CONNECT only", http.StatusMethodNotAllowed)
			return
		}
		server, err := net.Dial("tcp", addr)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer server.Close()
		client, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer client.Close()
		fmt.Fprint(client, "HTTP/1.1 200 OK\r\n\r\n")
		go func() {
			defer client.Close()
			io.Copy(client, server)
		}()
		io.Copy(server, client)
	})
}

// certificate returns a certificate for a name, and the file that makes a program trust it.
func certificate(t *testing.T, name string) (tls.Certificate, string) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	write(t, file, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}, file
}

// serviceAccount writes the key of a service account, and serves the tokens that are asked for
// with it.
func serviceAccount(t *testing.T) string {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	tokens := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"access_token": "t", "token_type": "Bearer", "expires_in": 3600}`)
	}))
	t.Cleanup(tokens.Close)
	text, err := json.Marshal(map[string]string{
		"type": "service_account", "project_id": "p", "private_key_id": "k", "client_email": "robot@example.org", "client_id": "1",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), "token_uri": tokens.URL,
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key.json")
	write(t, file, string(text))
	return file
}
