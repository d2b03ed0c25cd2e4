// Package rdsiamtest simulates AWS for tests: an instance metadata service, and a
// gateway to PostgreSQL that accepts logins as RDS does.
package rdsiamtest

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"
)

// Role is the role of the simulated instance.
const Role = "portbook-test"

// An IMDS is an instance metadata service of version 2: it answers 401 to a request
// without one of its tokens. It returns new credentials each time.
type IMDS struct {
	URL    string
	region string

	mu       sync.Mutex
	tokens   map[string]bool
	calls    map[string]int // by method and path
	lifetime time.Duration  // of credentials
}

// StartIMDS starts a metadata service in a region. It stops when the test ends.
func StartIMDS(t testing.TB, region string) *IMDS {
	i := &IMDS{region: region, tokens: map[string]bool{}, calls: map[string]int{}, lifetime: 6 * time.Hour} // as on EC2
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /latest/api/token", i.token)
	mux.HandleFunc("GET /latest/dynamic/instance-identity/document", i.guarded(i.document))
	mux.HandleFunc("GET /latest/meta-data/iam/security-credentials/{$}", i.guarded(i.roles))
	mux.HandleFunc("GET /latest/meta-data/iam/security-credentials/"+Role, i.guarded(i.credentials))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.calls[r.Method+" "+r.URL.Path]++
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	i.URL = server.URL
	return i
}

// Environ returns the environment of a program on this instance without another source
// of credentials.
func (i *IMDS) Environ() []string {
	return []string{
		"AWS_EC2_METADATA_SERVICE_ENDPOINT=" + i.URL,
		"AWS_CONFIG_FILE=/nonexistent", "AWS_SHARED_CREDENTIALS_FILE=/nonexistent",
	}
}

// Calls returns the number of requests, and a text with that of each method and path.
func (i *IMDS) Calls() (total int, each string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, n := range i.calls {
		total += n
	}
	return total, fmt.Sprint(i.calls)
}

// Lifetime sets the lifetime of credentials that are returned from now on.
func (i *IMDS) Lifetime(d time.Duration) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.lifetime = d
}

const (
	tokenHeader = "X-Aws-Ec2-Metadata-Token"
	ttlHeader   = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds"
	maxTTL      = 21600 // six hours (documentation of EC2)
)

func (i *IMDS) token(w http.ResponseWriter, r *http.Request) {
	if ttl, err := strconv.Atoi(r.Header.Get(ttlHeader)); err != nil || ttl < 1 || ttl > maxTTL {
		http.Error(w, "no "+ttlHeader, http.StatusBadRequest)
		return
	}
	token := rand.Text()
	i.tokens[token] = true
	w.Header().Set(ttlHeader, r.Header.Get(ttlHeader))
	fmt.Fprint(w, token)
}

func (i *IMDS) guarded(f http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !i.tokens[r.Header.Get(tokenHeader)] {
			http.Error(w, "no token", http.StatusUnauthorized)
			return
		}
		f(w, r)
	}
}

func (i *IMDS) document(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, map[string]string{"region": i.region, "availabilityZone": i.region + "a", "accountId": "123456789012", "version": "2017-09-30"})
}

func (i *IMDS) roles(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, Role) }

func (i *IMDS) credentials(w http.ResponseWriter, r *http.Request) {
	n := i.calls[r.Method+" "+r.URL.Path]
	writeJSON(w, map[string]string{
		"Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": fmt.Sprintf("ASIATEST%08d", n),
		"SecretAccessKey": fmt.Sprintf("%s-%d", SecretKey, n), "Token": fmt.Sprintf("%s-%d", SessionToken, n),
		"Expiration": time.Now().Add(i.lifetime).UTC().Format(time.RFC3339),
	})
}

// SecretKey and SessionToken are the beginnings of the secrets of the service, so that
// a test can search for them.
const (
	SecretKey    = "test-secret-access-key"
	SessionToken = "test-session-token"
)

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // on an error, the client sees an incomplete answer
}
