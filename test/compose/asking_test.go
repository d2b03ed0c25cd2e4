package compose

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// A judge answers /v2-allowed as an indexer does, and notes what it is asked.
type judge struct {
	mu     sync.Mutex
	asked  []string // method and address of each request
	status int      // of its answers
}

// asks returns what it was asked since the last call.
func (j *judge) asks() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	asked := j.asked
	j.asked = nil
	return asked
}

// judging has the readers of a front answer as a judge. It fails the test if a question has a
// body, or no token.
func judging(t *testing.T, f *front, status int) *judge {
	j := &judge{status: status}
	f.readersAnswer(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v2-allowed" {
			io.WriteString(w, "reader")
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil || len(body) > 0 || r.Method != http.MethodGet || r.Header.Get("X-Front-Token") != frontToken {
			t.Errorf("a question has %s, the token %q and a body of %d bytes, %v", r.Method, r.Header.Get("X-Front-Token"),
				len(body), err)
		}
		j.mu.Lock()
		defer j.mu.Unlock()
		j.asked = append(j.asked, r.Header.Get("X-Original-Method")+" "+r.Header.Get("X-Original-URI")+" "+r.Header.Get("Authorization"))
		w.WriteHeader(j.status)
	})
	return j
}

// echo answers with a name and what the request was; it fails the test if the request has the
// token.
func echo(t *testing.T, name string, token bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if has := r.Header.Get("X-Front-Token") == frontToken; has != token {
			t.Errorf("%s %s at %s: has the token: %v", r.Method, r.URL, name, has)
		}
		body, _ := io.ReadAll(r.Body)
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, "%s %s %d", name, r.Method, len(body))
	}
}

// ask sends a request as a client that knows no token, and returns the answer.
func ask(t *testing.T, f *front, method, address, body string) (status int, text string) {
	t.Helper()
	resp := f.do(t, method, address, strings.NewReader(body), "Authorization", "Bearer x", "X-Front-Token", "forged")
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// writes are requests to change something, however they are written.
var writes = []string{
	"PUT /v2/team/app/manifests/v1", "DELETE /v2/team/app/manifests/v1", "PUT /v2/team%2Fapp/manifests/v1?x=1",
	"PUT /v2/team/app/manifests/%761", "PUT //v2/team/app/manifests/v1", "PUT /v2/team/./app/manifests/v1",
	"PUT /v2/x/../team/app/manifests/v1", "DELETE /v2/team/app/blobs/sha256:0", "POST /v2/team/app/blobs/uploads/?mount=x",
	"PUT /v2/team/app/manifests/v1/%2e%2e/%2e%2e/blobs/uploads/x", "DELETE /v2/team/app/blobs/uploads/x", "PATCH /v2/team/app/manifests/v1",
	"PUT /v2/team/app/manifests/v1?/blobs/uploads/x", "PUT /v2/team/app/manifests/v1%3f/blobs/uploads/x%2f", "LOCK /v2/team/app/manifests/v1",
}

// reads are requests that change nothing, and the parts of an upload that has begun.
var reads = []string{
	"GET /v2/", "GET /v2/team/app/manifests/v1", "HEAD /v2/team/app/manifests/v1", "GET /v2/team/app/blobs/sha256:0",
	"GET /v2/team/app/tags/list", "PATCH /v2/team/app/blobs/uploads/5d2f1c3e-8a4b?_state=x%2Fy", "PUT /v2/team/app/blobs/uploads/5d2f?digest=sha256:0",
}

// Before nginx passes on what may change something, it asks an indexer, with the address as the
// client wrote it and never with the body. It asks nobody about anything else.
func TestAsksBeforeWrites(t *testing.T) {
	t.Parallel()
	f := startFront(t)
	j := judging(t, f, http.StatusNoContent)
	f.registry.answers(echo(t, "registry", false))
	f.writer.answers(echo(t, "writer", true))
	for _, line := range writes {
		method, address, _ := strings.Cut(line, " ")
		_, text := ask(t, f, method, address, "manifest")
		asked := j.asks()
		if len(asked) != 1 || asked[0] != line+" Bearer x" || !strings.HasPrefix(text, "registry ") {
			t.Errorf("%s: the readers were asked %q, and the answer is %q", line, asked, text)
		}
	}
	for _, line := range reads {
		method, address, _ := strings.Cut(line, " ")
		status, text := ask(t, f, method, address, "")
		if asked := j.asks(); len(asked) > 0 || status != http.StatusCreated {
			t.Errorf("%s: the readers were asked %q, and the answer is %d %q", line, asked, status, text)
		}
	}
	// A push of many tags at once is no flood.
	for range 400 {
		if status, text := ask(t, f, http.MethodPut, "/v2/team/app/manifests/v1", "x"); status != http.StatusCreated {
			t.Fatalf("%d %s", status, text)
		}
	}
	// That the registry is away is no reason to say that something cannot be looked up.
	f.registry.Close()
	if status, text := ask(t, f, http.MethodPut, "/v2/team/app/manifests/v1", "x"); status != http.StatusBadGateway ||
		strings.Contains(text, "looked up") {
		t.Errorf("the registry is away: %d %s", status, text)
	}
}

// What the indexer does not allow goes to the writer with its body, and not to the registry.
func TestWriterJudges(t *testing.T) {
	t.Parallel()
	f := startFront(t)
	judging(t, f, http.StatusForbidden)
	f.registry.answers(func(w http.ResponseWriter, r *http.Request) { t.Errorf("the registry got %s %s", r.Method, r.URL) })
	f.writer.answers(echo(t, "writer", true))
	manifest := string(bytes.Repeat([]byte("x"), 3<<20))
	for _, line := range writes {
		method, address, _ := strings.Cut(line, " ")
		if status, text := ask(t, f, method, address, manifest); status != http.StatusCreated || text != fmt.Sprintf("writer %s %d", method, len(manifest)) {
			t.Errorf("%s: %d %q", line, status, text)
		}
	}
}

// If no indexer answers, nothing is changed, and clients are told why in the format of a
// registry; pulls go on. If only the writer is away, what is not protected can be pushed.
func TestNobodyToAsk(t *testing.T) {
	t.Parallel()
	f := startFront(t)
	j := judging(t, f, http.StatusNoContent)
	f.registry.answers(echo(t, "registry", false))
	f.writer.Close()
	wantUnknown := func(what string) {
		t.Helper()
		resp := f.do(t, http.MethodPut, "/v2/team/app/manifests/v1", strings.NewReader("x"))
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		const want = `{"errors":[{"code":"UNAVAILABLE","message":"it cannot be looked up now whether this is protected: try again"}]}` + "\n"
		if resp.StatusCode != http.StatusServiceUnavailable || string(b) != want || resp.Header.Get("Content-Type") != "application/json" ||
			resp.Header.Get("Retry-After") != "1" || len(resp.Header.Values("X-Request-Id")) != 1 {
			t.Errorf("%s: %s %s %v", what, resp.Status, b, resp.Header)
		}
	}
	if status, text := ask(t, f, http.MethodPut, "/v2/team/app/manifests/v1", "x"); status != http.StatusCreated {
		t.Errorf("the writer is away: %d %s", status, text)
	}
	for what, status := range map[string]int{"the writer is away": 403, "an indexer has another token": 404, "the database is away": 503} {
		j.mu.Lock()
		j.status = status
		j.mu.Unlock()
		wantUnknown(what)
	}
	for _, r := range f.readers {
		r.Close()
	}
	wantUnknown("the readers are away")
	if status, text := ask(t, f, http.MethodGet, "/v2/team/app/manifests/v1", ""); status != http.StatusCreated {
		t.Errorf("a pull while all are away: %d %s", status, text)
	}
}

// Clients cannot ask themselves, however they write the address, not even with the token.
func TestClientsCannotAsk(t *testing.T) {
	t.Parallel()
	f := startFront(t)
	j := judging(t, f, http.StatusNoContent)
	for _, address := range []string{"/v2-allowed", "//v2-allowed", "/x/../v2-allowed", "/v2%2dallowed", "/v2-allowed?x=1", "/v2-allowed?min_version=e.1"} {
		resp := f.do(t, http.MethodGet, address, nil, "X-Original-Method", "PUT", "X-Original-URI", "/v2/a/manifests/v1", "X-Front-Token", frontToken)
		resp.Body.Close()
		if asked := j.asks(); resp.StatusCode != http.StatusNotFound || len(asked) > 0 {
			t.Errorf("%s: %s, asked %q", address, resp.Status, asked)
		}
	}
}

// With an address in absolute form, the registry must not get what nginx has not asked about.
func TestAbsoluteAddress(t *testing.T) {
	t.Parallel()
	f := startFront(t)
	j := judging(t, f, http.StatusNoContent)
	f.registry.answers(echo(t, "registry", false))
	conn, err := net.Dial("tcp", strings.TrimPrefix(f.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "PUT %s/v2/team/app/manifests/v1 HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx", f.url)
	text, _ := io.ReadAll(conn)
	if asked := j.asks(); len(asked) != 1 || !strings.Contains(asked[0], "/v2/team/app/manifests/v1") {
		t.Errorf("asked %q, answered %s", asked, text)
	}
}
