package main_test

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/portbook/portbook/registry/push"
	"github.com/portbook/portbook/registry/registrytest"
)

// A hookReceiver is a program that webhooks call, over TLS.
type hookReceiver struct {
	*httptest.Server
	certificate string // file

	mu      sync.Mutex
	secrets []string // the signature must be by one of them
	wrong   []string
	got     map[string][]string // ids of requests by type and subject
	hold    chan struct{}       // requests wait until it is closed
	held    chan struct{}       // receives for each request that waits
}

func receiveHooks(t *testing.T, dir string) *hookReceiver {
	t.Helper()
	r := &hookReceiver{got: map[string][]string{}, hold: make(chan struct{}), held: make(chan struct{}, 100)}
	r.Server = httptest.NewTLSServer(http.HandlerFunc(r.receive))
	t.Cleanup(r.Close)
	r.certificate = filepath.Join(dir, "receiver.pem")
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.Certificate().Raw})
	if err := os.WriteFile(r.certificate, cert, 0o600); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *hookReceiver) receive(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	var e struct{ ID, Type, Subject, Source string }
	if err == nil {
		err = json.Unmarshal(body, &e)
	}
	r.mu.Lock()
	if err == nil {
		err = r.verify(body, req.Header)
	}
	if err != nil {
		r.wrong = append(r.wrong, err.Error())
	}
	hold := r.hold
	r.mu.Unlock()
	select {
	case <-hold:
	default:
		r.held <- struct{}{}
		<-hold
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	what := strings.TrimPrefix(e.Type, "io.github.portbook.") + " " + e.Subject
	r.got[what] = append(r.got[what], e.ID)
}

// verify checks a signature as a receiver does.
func (r *hookReceiver) verify(body []byte, h http.Header) (err error) {
	err = fmt.Errorf("no secret is known")
	for _, s := range r.secrets {
		verifier, wrong := standardwebhooks.NewWebhook(s)
		if wrong != nil {
			return wrong
		}
		if err = verifier.Verify(body, h); err == nil {
			return nil
		}
	}
	return err
}

func (r *hookReceiver) has(what string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.got[what]) > 0
}

// Every event arrives, also if the writer is killed while the receiver holds a request, and also
// what happens while no writer runs; what arrives twice has the same id.
func TestEveryEventArrives(t *testing.T) {
	t.Parallel()
	f := launch(t)
	r := receiveHooks(t, f.dir)
	f.settings = append(f.settings, "PORTBOOK_WEBHOOKS_KEY="+strings.Repeat("k", 32),
		"PORTBOOK_WEBHOOKS_ALLOW_NETWORKS=127.0.0.0/8", "SSL_CERT_FILE="+r.certificate)
	first := f.indexer(f.address)
	made := f.must("webhook", "add", "deploys", "--url", r.URL+"/hooks", "--pattern", "team/*", "--events", "pushed,moved,deleted")
	var id, secret string
	if _, err := fmt.Sscanf(made, "webhook %s\nsecret %s", &id, &secret); err != nil {
		t.Fatalf("%s: %v", made, err)
	}
	r.mu.Lock()
	r.secrets = []string{secret}
	r.mu.Unlock()
	image := func(name, tag, content string) {
		t.Helper()
		if _, err := f.registry.Push.Image(t.Context(), name, tag, push.ImageSpec{Labels: map[string]string{"content": content}}); err != nil {
			t.Fatal(err)
		}
	}
	image("team/app", "v1", "one")
	image("other/app", "v1", "one") // nobody hears
	<-r.held
	first.process.Kill()
	image("team/app", "v2", "one")
	image("team/app", "v1", "two")
	close(r.hold)
	second, third := f.indexer(f.address), f.indexer(registrytest.FreeAddr(t))
	f.expireHooks()
	wants := func(all ...string) {
		t.Helper()
		for _, what := range all {
			within(t, patience, what+" arrives", func() bool { return r.has(what) })
		}
	}
	wants("pushed team/app:v1", "pushed team/app:v2", "moved team/app:v1")
	if err := f.registry.Push.Delete(t.Context(), "team/app", "v2"); err != nil {
		t.Fatal(err)
	}
	wants("deleted team/app:v2")
	// By the command line: a test, the log, again, another secret.
	if out := f.must("webhook", "test", id); !strings.Contains(out, "the receiver answered 200") {
		t.Error(out)
	}
	type line struct {
		ID                    int64
		Event, State, Subject string
	}
	var log []line
	d := json.NewDecoder(strings.NewReader(f.must("webhook", "deliveries", id, "--json")))
	for d.More() {
		var l line
		if err := d.Decode(&l); err != nil {
			t.Fatal(err)
		}
		log = append(log, l)
	}
	if len(log) != 5 || log[0].Event != "ping" || log[4].Subject != "team/app:v1" || log[4].State != "delivered" {
		t.Errorf("%+v", log)
	}
	again := strings.TrimSpace(f.must("webhook", "rotate", id))
	r.mu.Lock()
	before := len(r.got["pushed team/app:v1"])
	r.mu.Unlock()
	f.must("webhook", "redeliver", id, fmt.Sprint(log[4].ID))
	within(t, patience, "it is sent again", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.got["pushed team/app:v1"]) > before
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	for what, ids := range r.got {
		for _, id := range ids {
			if id != ids[0] {
				t.Errorf("%s has the ids %v", what, ids)
			}
		}
		if strings.Contains(what, "other/") {
			t.Errorf("heard %s", what)
		}
	}
	if len(r.wrong) > 0 {
		t.Errorf("signatures: %q", r.wrong)
	}
	shown := f.must("webhook", "list") + f.must("webhook", "show", id) + f.must("config") + second.log.String() + third.log.String()
	for _, s := range []string{secret, again, strings.Repeat("k", 32)} {
		if strings.Contains(shown, strings.TrimPrefix(s, "whsec_")) {
			t.Errorf("a secret is shown: %s", shown)
		}
	}
	if second.metric("portbook_webhook_attempts_total{outcome=\"delivered\"}") == "" &&
		third.metric("portbook_webhook_attempts_total{outcome=\"delivered\"}") == "" {
		t.Error("no writer has counted its attempts")
	}
	for args, want := range map[string]string{
		"show 99": "there is no webhook 99", "show x": "is not the number of a webhook", "redeliver 1 99": "has no delivery 99",
		"add x --url ftp://x --pattern *": "neither https", "add x --url https://x --pattern Team/*": "not a repository name",
	} {
		if out, err := f.run(append([]string{"webhook"}, strings.Fields(args)...)...); err == nil || !strings.Contains(out, want) {
			t.Errorf("%s: %v, %s", args, err, out)
		}
	}
	f.must("webhook", "change", id, "--enabled=false")
	f.must("webhook", "remove", id)
}

// expireHooks ends the leases of webhooks, as time does after a writer was killed.
func (f *fleet) expireHooks() {
	f.t.Helper()
	if _, err := f.pool().Exec(f.t.Context(), "UPDATE webhook SET leased_until = now()"); err != nil {
		f.t.Fatal(err)
	}
}
