package rdsiam_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/rdsiam"
	"github.com/portbook/portbook/indexer/rdsiam/rdsiamtest"
)

// The tests are not parallel, because AWS's SDK is configured by the environment.

const url = "host=db.example port=5433 user=app dbname=book sslmode=disable"

// A token must name the endpoint, the user and the detected region.
func TestToken(t *testing.T) {
	onInstance(t, rdsiamtest.StartIMDS(t, "eu-west-7"))
	before := time.Now().Truncate(time.Second)
	got := token(t, auth(t, rdsiam.Detect), url)
	if got.Date.Before(before) || got.Date.After(time.Now()) {
		t.Errorf("got a token of %v, want one between %v and now", got.Date, before)
	}
	got.Date = time.Time{}
	want := rdsiamtest.Token{
		Endpoint: "db.example:5433", User: "app", Action: "connect", Expires: "900",
		AccessKey: "ASIATEST00000001", Region: "eu-west-7", Service: "rds-db",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("token (-want +got):\n%s", diff)
	}
}

// Dates of signatures are in seconds, so two tokens of one second are equal. A token
// must never be older than its connection.
func TestTokenIsFresh(t *testing.T) {
	withoutAWS(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
	t.Setenv("AWS_SECRET_ACCESS_KEY", rdsiamtest.SecretKey)
	t.Setenv("AWS_SESSION_TOKEN", rdsiamtest.SessionToken)
	synctest.Test(t, func(t *testing.T) {
		a := auth(t, "us-east-1")
		seen := map[string]bool{}
		for _, age := range []time.Duration{0, time.Second, 899 * time.Second, time.Hour} {
			time.Sleep(age) // of the bubble's clock
			first, again := password(t, a, url), password(t, a, url)
			if first != again {
				t.Errorf("after %v: got different tokens in the same second", age)
			}
			if seen[first] {
				t.Errorf("after %v: got an old token", age)
			}
			seen[first] = true
			if got, err := rdsiamtest.ParseToken(first); err != nil || !got.Date.Equal(time.Now()) {
				t.Errorf("after %v: got a token of %v (%v), want %v", age, got.Date, err, time.Now().UTC())
			}
		}
	})
}

// The metadata service must be called when the program starts and when credentials
// expire, not for each connection.
func TestCredentialsAreKept(t *testing.T) {
	service := rdsiamtest.StartIMDS(t, "us-east-1")
	onInstance(t, service)
	a := auth(t, rdsiam.Detect)
	for range 50 {
		if got := token(t, a, url).AccessKey; got != "ASIATEST00000001" {
			t.Fatalf("got a token of the key %s", got)
		}
	}
	// Two tokens, since the region and the credentials have separate clients; the
	// document, the name of the role, and its credentials.
	if total, each := service.Calls(); total != 5 {
		t.Errorf("got %d calls for 50 connections: %s, want 5", total, each)
	}
}

// Expired credentials must not be used.
func TestCredentialsExpire(t *testing.T) {
	service := rdsiamtest.StartIMDS(t, "us-east-1")
	onInstance(t, service)
	a := auth(t, "us-east-1")
	service.Lifetime(-time.Second)
	first := token(t, a, url)
	service.Lifetime(time.Hour)
	second, third := token(t, a, url), token(t, a, url)
	got := []string{first.AccessKey, second.AccessKey, third.AccessKey}
	want := []string{"ASIATEST00000001", "ASIATEST00000002", "ASIATEST00000002"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("keys of three tokens, whose first credentials expire at once (-want +got):\n%s", diff)
	}
}

// Each host of a list must get its own token, even if two names have one address. If
// the hosts refuse the tokens, the error must contain none.
func TestSeveralHosts(t *testing.T) {
	onInstance(t, rdsiamtest.StartIMDS(t, "us-east-1"))
	gateway := &rdsiamtest.Gateway{Accept: func(rdsiamtest.Login) string { return "no such user" }}
	gateway.Start(t)
	other := &rdsiamtest.Gateway{Accept: gateway.Accept}
	other.Start(t)
	c, err := pgx.ParseConfig(fmt.Sprintf("host=localhost,127.0.0.1,127.0.0.1 port=%d,%d,%d user=app dbname=book sslmode=disable",
		gateway.Port(), gateway.Port(), other.Port()))
	if err != nil {
		t.Fatal(err)
	}
	if err := auth(t, "us-east-1").BeforeConnect(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	_, err = pgx.ConnectConfig(t.Context(), c)
	if err == nil || !strings.Contains(err.Error(), "PAM authentication failed") {
		t.Fatalf("connecting: got %v, want a refusal", err)
	}
	secretless(t, err.Error())
	var got []string
	for _, login := range append(gateway.Logins(), other.Logins()...) {
		token, err := rdsiamtest.ParseToken(login.Password)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, token.Endpoint)
	}
	want := []string{
		fmt.Sprintf("localhost:%d", gateway.Port()), fmt.Sprintf("127.0.0.1:%d", gateway.Port()), fmt.Sprintf("127.0.0.1:%d", other.Port()),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("endpoints of the tokens (-want +got):\n%s", diff)
	}
}

// If the region cannot be detected, New must return an error within seconds. It must
// never use version 1 of the service, which answers any request that an attacker can
// make us send.
func TestDetectFails(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"no token": func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodPut {
				t.Errorf("%s %s without a token", r.Method, r.URL.Path)
			}
			http.Error(w, "forbidden", http.StatusForbidden)
		},
		"no answer": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"half an answer": func(w http.ResponseWriter, r *http.Request) {
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		},
		"no region": func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPut {
				w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "300")
			}
			_, _ = w.Write([]byte("{}"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			withoutAWS(t)
			server := httptest.NewServer(answer)
			defer server.Close()
			t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", server.URL)
			undetected(t)
		})
	}
	t.Run("no service", func(t *testing.T) {
		withoutAWS(t)
		t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1")
		undetected(t)
	})
	t.Run("turned off", func(t *testing.T) {
		withoutAWS(t)
		t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
		undetected(t)
	})
}

func undetected(t *testing.T) {
	t.Helper()
	started := time.Now()
	_, err := rdsiam.New(t.Context(), rdsiam.Config{Region: rdsiam.Detect})
	if err == nil {
		t.Fatal("got a region")
	}
	for _, want := range []string{"IMDS", "database.dynamicAuth.awsRdsIam.region", "write the region"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got error %q, want one with %q", err, want)
		}
	}
	if took := time.Since(started); took > 4*time.Second { // 2 s by the clock, the rest for a busy machine
		t.Errorf("it took %v", took)
	}
}

// Without credentials, the error must be ErrUnavailable, so that it is retried.
func TestNoCredentials(t *testing.T) {
	withoutAWS(t)
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1")
	a := auth(t, "us-east-1")
	err := connect(t, a, url, new(string))
	if !errors.Is(err, indexer.ErrUnavailable) || !strings.Contains(err.Error(), `"app"`) || !strings.Contains(err.Error(), "IAM role") {
		t.Errorf("got error %v, want ErrUnavailable with the user and the remedy", err)
	}
}

// A Unix socket must be refused, since RDS has none.
func TestUnixSocket(t *testing.T) {
	onInstance(t, rdsiamtest.StartIMDS(t, "us-east-1"))
	err := connect(t, auth(t, "us-east-1"), "host=/var/run/postgresql user=app dbname=book", new(string))
	if err == nil || !strings.Contains(err.Error(), "database.host") || !strings.Contains(err.Error(), "/var/run/postgresql") {
		t.Errorf("got error %v, want one that names database.host and the directory", err)
	}
}

func TestNoRegion(t *testing.T) {
	withoutAWS(t)
	_, err := rdsiam.New(t.Context(), rdsiam.Config{})
	if err == nil || !strings.Contains(err.Error(), "database.dynamicAuth.awsRdsIam.region is empty") {
		t.Errorf("got error %v, want one that names the key", err)
	}
}

// onInstance makes this process use the services of an instance during a test.
func onInstance(t *testing.T, service *rdsiamtest.IMDS) {
	t.Helper()
	withoutAWS(t)
	for _, pair := range service.Environ() {
		name, value, _ := strings.Cut(pair, "=")
		t.Setenv(name, value)
	}
}

// withoutAWS removes the machine's configuration of AWS. To the SDK, an empty variable is
// not set.
func withoutAWS(t *testing.T) {
	t.Helper()
	for _, name := range []string{
		"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION",
		"AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
		"AWS_EC2_METADATA_DISABLED", "AWS_EC2_METADATA_SERVICE_ENDPOINT", "AWS_DEFAULTS_MODE",
	} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_CONFIG_FILE", "/nonexistent")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
}

func auth(t *testing.T, region string) *rdsiam.Auth {
	t.Helper()
	a, err := rdsiam.New(t.Context(), rdsiam.Config{Region: region})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// connect calls the hook that runs before a connection.
func connect(t *testing.T, a *rdsiam.Auth, url string, password *string) error {
	t.Helper()
	c, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	err = a.BeforeConnect(context.WithoutCancel(t.Context()), c)
	*password = c.Password
	return err
}

func password(t *testing.T, a *rdsiam.Auth, url string) (password string) {
	t.Helper()
	if err := connect(t, a, url, &password); err != nil {
		t.Fatal(err)
	}
	return password
}

func token(t *testing.T, a *rdsiam.Auth, url string) rdsiamtest.Token {
	t.Helper()
	token, err := rdsiamtest.ParseToken(password(t, a, url))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// secretless fails the test if a text contains a token or credentials.
func secretless(t *testing.T, text string) {
	t.Helper()
	for _, secret := range []string{rdsiamtest.SecretKey, rdsiamtest.SessionToken, "X-Amz-", "Action=connect"} {
		if strings.Contains(text, secret) {
			t.Errorf("%q contains a secret (%s)", text, secret)
		}
	}
}
