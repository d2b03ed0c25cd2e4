package main_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/portbook/portbook/registry/registrytest"
	"github.com/portbook/portbook/schema/localpg/process"
)

// An operator must find a slow request from either end: PostgreSQL shows its id while
// a statement runs, and the answer and each line of the log have the same id.
func TestRequestIsFoundEverywhere(t *testing.T) {
	t.Parallel()
	f := launch(t)
	var log output
	i := f.logging(&log)
	i.ready(t)

	lock, err := f.pool().Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock.Exec(t.Context(), "LOCK TABLE repository_search"); err != nil {
		t.Fatal(err)
	}
	answered := make(chan string, 1)
	go func() { answered <- request(t, "http://"+i.address+"/api/v1/repositories?after=hidden", "7e57-1d") }()
	within(t, patience, "pg_stat_activity shows the request", func() bool {
		return f.query(f.pool(), "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'portbook-indexer 7e57-1d'") == 1
	})
	body := <-answered // after the limit of 5 s
	var problem struct {
		Status  int
		Request string `json:"request_id"`
	}
	if err := json.Unmarshal([]byte(body), &problem); err != nil || problem.Status != 503 || problem.Request != "7e57-1d" {
		t.Errorf("answer: %s, %v", body, err)
	}
	if err := lock.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`msg="request too slow"`, "msg=request method=GET"} {
		within(t, patience, want, func() bool { return log.line(want) != "" })
		if line := log.line(want); !strings.HasSuffix(line, " request=7e57-1d") {
			t.Errorf("no id: %s", line)
		}
	}
	if line := log.line("msg=request method=GET"); strings.Contains(line, "hidden") {
		t.Errorf("the query is logged: %s", line)
	}
	i.stop(t)
}

// logging starts an indexer that writes its log to out.
func (f *fleet) logging(out io.Writer) *indexerProcess {
	f.t.Helper()
	i := &indexerProcess{address: f.address, operations: registrytest.FreeAddr(f.t)}
	cmd := exec.Command(f.binary, "serve")
	cmd.Env = f.environment("PORTBOOK_HTTP_ADDRESS="+i.address, "PORTBOOK_HTTP_OPERATIONS_ADDRESS="+i.operations)
	var err error
	if i.process, err = process.Start(cmd, nil, out); err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(i.process.Kill)
	return i
}

// request sends a request with an id, and returns the body of the answer.
func request(t *testing.T, url, id string) string {
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		return err.Error()
	}
	r.Header.Set("X-Request-Id", id)
	resp, err := client.Do(r)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return string(b)
}

// An output collects the output of a process.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

// line returns the first line that contains text, or "".
func (o *output) line(text string) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	for line := range strings.Lines(o.text.String()) {
		if strings.Contains(line, text) {
			return strings.TrimSpace(line)
		}
	}
	return ""
}
