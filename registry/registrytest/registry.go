// Package registrytest runs the stock distribution registry for a test: in
// process by Start, in milliseconds, or as the real binary by StartProcess,
// where a test needs a process that can be killed.
//
// It promises a registry that answers, that has an address of its own, and that
// is gone when the test ends. Any number may run at once. The environment's
// REGISTRY_* variables have no effect on it.
package registrytest

import (
	"context"
	"crypto/rand"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	"github.com/sirupsen/logrus"
	"golang.org/x/crypto/bcrypt"

	_ "github.com/distribution/distribution/v3/registry/auth/htpasswd"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/inmemory"

	"github.com/portbook/portbook/registry/push"
)

// A Config says what registry to start. The zero value keeps its content in
// memory, asks for no password and tells nobody of what happens.
type Config struct {
	Notify string // URL that events are posted to; "" sends none
	Token  string // sent with each event as Authorization: Bearer; "" sends none
	Pulls  bool   // send pull events of manifests too

	Root string // directory of the content; "" keeps it in memory
	Addr string // where to listen; "" is a free port of 127.0.0.1

	User, Password string // asked for by htpasswd if User is set

	// Configure changes the configuration before each start; nil changes nothing.
	Configure func(*configuration.Configuration)
}

// A Registry is a stock registry in this process: the library's own handler
// behind a listener of ours. It differs from the real process in this: no
// access log, no health checks, no debug listener, no tracing, and events pass
// through a relay that can drop them (see Restart).
type Registry struct {
	URL  string       // http://127.0.0.1:port, the same after Restart
	Push *push.Client // to push to it, with its password if it asks for one
	Root string       // Config.Root

	t        testing.TB
	config   Config
	htpasswd string // path of the password file, or ""
	stop     func() // ends the current life; nil while stopped
}

// Start starts a registry, which is stopped when the test ends.
func Start(t testing.TB, config Config) *Registry {
	t.Helper()
	quiet()
	if config.Addr == "" {
		config.Addr = "127.0.0.1:0"
	}
	r := &Registry{t: t, config: config, Root: config.Root}
	if config.User != "" {
		r.htpasswd = htpasswd(t, config.User, config.Password)
	}
	r.start()
	t.Cleanup(r.Stop)
	r.Push = push.New(r.URL)
	r.Push.User, r.Push.Password = config.User, config.Password
	t.Cleanup(r.Push.HTTP.CloseIdleConnections)
	return r
}

// Restart does to the registry what a restart of its process does: connections
// are cut, events not yet delivered are lost without a word, and the events
// that follow have another source.instanceID. Address and Root stay; content in
// memory is lost. After Stop it starts the registry again.
func (r *Registry) Restart() {
	r.t.Helper()
	r.Stop()
	r.start()
}

// Stop ends the registry as Restart does, and leaves its address unanswered.
// Stopping a stopped registry does nothing.
func (r *Registry) Stop() {
	if r.stop != nil {
		r.stop()
		r.stop = nil
	}
}

// start begins a life of the registry: a listener, an App, a relay for events.
func (r *Registry) start() {
	r.t.Helper()
	listener, err := net.Listen("tcp", r.config.Addr)
	if err != nil {
		r.t.Fatalf("registrytest: %v", err)
	}
	r.config.Addr = listener.Addr().String() // the same port in the next life
	r.URL = "http://" + r.config.Addr
	relay := newRelay(r.t, r.config.Notify)
	app := handlers.NewApp(newInstance(), r.configuration(relay.url))
	server := &http.Server{Handler: app, ErrorLog: log.New(io.Discard, "", 0)}
	served := make(chan struct{})
	go func() {
		defer close(served)
		server.Serve(listener) // ends with ErrServerClosed, by stop
	}()
	r.stop = func() {
		relay.drop() // first, so that no event of a cut request gets through
		server.Close()
		<-served
		app.Shutdown() // ends its context; fails only for a pull-through cache
	}
}

// configuration is built by hand, not by configuration.Parse, which would take
// the environment's REGISTRY_* variables. Parse's defaults are ours to set.
func (r *Registry) configuration(notify string) *configuration.Configuration {
	c := &configuration.Configuration{
		Version: configuration.CurrentVersion,
		Storage: r.storage(),
		Catalog: configuration.Catalog{MaxEntries: 1000}, // Parse's default
		Tags:    configuration.Tags{MaxTags: 1000},       // Parse's default
	}
	c.HTTP.Addr = r.config.Addr // becomes source.addr of events
	if r.htpasswd != "" {
		c.Auth = configuration.Auth{"htpasswd": {"realm": "registrytest", "path": r.htpasswd}}
	}
	c.Notifications.EventConfig.IncludeReferences = true
	if notify != "" {
		c.Notifications.Endpoints = []configuration.Endpoint{r.endpoint(notify)}
	}
	if r.config.Configure != nil {
		r.config.Configure(c)
	}
	return c
}

func (r *Registry) storage() configuration.Storage {
	s := configuration.Storage{
		"cache":  {"blobdescriptor": "inmemory"},
		"delete": {"enabled": true},
		// The purger would be one more goroutine for each registry, for ever.
		"maintenance": {"uploadpurging": map[any]any{"enabled": false}},
	}
	if r.config.Root == "" {
		s["inmemory"] = configuration.Parameters{}
	} else {
		s["filesystem"] = configuration.Parameters{"rootdirectory": r.config.Root}
	}
	return s
}

// endpoint is as in config/filesystem.yml, but for the backoff: a test of a
// receiver that refuses should not wait whole seconds.
func (r *Registry) endpoint(notify string) configuration.Endpoint {
	e := configuration.Endpoint{
		Name: "indexer", URL: notify, Headers: http.Header{},
		Timeout: 5 * time.Second, Threshold: 3, Backoff: 50 * time.Millisecond,
		Ignore: configuration.Ignore{
			MediaTypes: []string{"application/octet-stream"},
			Actions:    []string{"pull", "mount"},
		},
	}
	if r.config.Pulls {
		e.Ignore.Actions = []string{"mount"}
	}
	if r.config.Token != "" {
		e.Headers.Set("Authorization", "Bearer "+r.config.Token)
	}
	return e
}

// An instance is the context of one App. It has the one value that the registry
// asks its context for and that only its own main can give, the instance id
// (distribution v3.1.2, internal/dcontext/context.go).
type instance struct {
	context.Context
	id string
}

func newInstance() instance {
	return instance{Context: context.Background(), id: rand.Text()}
}

func (i instance) Value(key any) any {
	if key == "instance.id" {
		return i.id
	}
	return i.Context.Value(key)
}

// quiet turns off the registry's log, which is logrus' global one: every event
// that is refused would be a line with the whole event.
var quiet = sync.OnceFunc(func() { logrus.SetLevel(logrus.PanicLevel) })

// htpasswd writes a password file. The cost is bcrypt's least, 4: the registry
// computes the hash anew for each request, 0.2 s at cost 10 and 2 ms at cost 4.
func htpasswd(t testing.TB, user, password string) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatalf("registrytest: password of %q: %v", user, err)
	}
	path := filepath.Join(t.TempDir(), "htpasswd")
	if err := os.WriteFile(path, []byte(user+":"+string(hash)+"\n"), 0o600); err != nil {
		t.Fatalf("registrytest: %v", err)
	}
	return path
}
