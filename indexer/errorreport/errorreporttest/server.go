// Package errorreporttest has a server that takes reports as Sentry does, for tests.
package errorreporttest

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A Server records every byte of the requests that it gets.
type Server struct {
	DSN string // of a project of the server

	mu     sync.Mutex
	got    bytes.Buffer
	events []map[string]any
}

// Key is the key in Server.DSN.
const Key = "0123456789abcdef0123456789abcdef"

// Start starts a server, which ends with the test. Its answers have a status.
func Start(t *testing.T, status int) *Server {
	t.Helper()
	s := &Server{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.record(t, r)
		w.WriteHeader(status)
	}))
	t.Cleanup(server.Close)
	s.DSN = strings.Replace(server.URL, "://", "://"+Key+"@", 1) + "/7"
	return s
}

func (s *Server) record(t *testing.T, r *http.Request) {
	dump, err := httputil.DumpRequest(r, true)
	if err != nil {
		t.Error(err)
	}
	if r.Method != http.MethodPost || r.URL.Path != "/api/7/envelope/" {
		t.Errorf("request: %s %s", r.Method, r.URL)
	}
	_, body, _ := bytes.Cut(dump, []byte("\r\n\r\n"))
	lines := bytes.Split(bytes.TrimSpace(body), []byte("\n"))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got.Write(dump)
	if len(lines) != 3 {
		t.Errorf("an envelope with %d lines: %s", len(lines), body)
		return
	}
	var event map[string]any
	if err := json.Unmarshal(lines[2], &event); err != nil {
		t.Errorf("%v in %s", err, lines[2])
	}
	s.events = append(s.events, event)
}

// Events returns the reports so far.
func (s *Server) Events() []map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.events)
}

// Bytes returns everything that the server got, with the headers.
func (s *Server) Bytes() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got.String()
}

// Await waits for n reports and returns them.
func (s *Server) Await(t *testing.T, n int) []map[string]any {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if all := s.Events(); len(all) >= n {
			return all
		}
	}
	t.Fatalf("%d reports, want %d:\n%s", len(s.Events()), n, s.Bytes())
	return nil
}

// paths has everything that a report may contain. A client of the library would add more: the
// host, the environment, modules, the number of processors, the integrations.
var paths = []string{
	"event_id", "timestamp", "platform", "level", "release", "message", "transaction", "fingerprint[]",
	"sdk.name", "sdk.version", "tags.role", "tags.route", "tags.request_id", "tags.status", "tags.not_sent_before",
	"exception[].type", "exception[].value",
	"exception[].stacktrace.frames[].function", "exception[].stacktrace.frames[].module",
	"exception[].stacktrace.frames[].filename", "exception[].stacktrace.frames[].lineno",
	"exception[].stacktrace.frames[].in_app",
}

// Check fails the test if a report contains more than a report may, or if the server got one of
// the secrets, the name of this host, or a directory of this machine.
func (s *Server) Check(t *testing.T, secrets ...string) {
	t.Helper()
	for _, e := range s.Events() {
		for _, path := range pathsOf("", e) {
			if !slices.Contains(paths, path) {
				t.Errorf("a report has %s:\n%v", path, e)
			}
		}
	}
	if host, err := os.Hostname(); err == nil && len(host) > 3 {
		secrets = append(secrets, host)
	}
	if directory, err := os.Getwd(); err == nil {
		secrets = append(secrets, directory)
	}
	got := s.Bytes()
	for _, secret := range secrets {
		if strings.Contains(got, secret) {
			t.Errorf("the server got %q:\n%s", secret, got)
		}
	}
}

// pathsOf returns the path of every value in v that is neither an object nor a list.
func pathsOf(path string, v any) (all []string) {
	switch v := v.(type) {
	case map[string]any:
		for name, member := range v {
			all = append(all, pathsOf(strings.TrimPrefix(path+"."+name, "."), member)...)
		}
	case []any:
		for _, item := range v {
			all = append(all, pathsOf(path+"[]", item)...)
		}
	default:
		all = []string{path}
	}
	return all
}
