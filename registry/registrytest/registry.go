// Package registrytest runs the stock distribution registry for tests. Start runs it
// inside the test process, which takes milliseconds; StartProcess runs the real
// binary, which can be killed.
//
// Each registry has its own address, answers when the function returns, and ends
// with the test. Any number can run at the same time. REGISTRY_* variables of the
// environment have no effect.
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

// A Config says how to run a registry in this process. The zero value keeps the
// content in memory, requires no password and sends no events.
type Config struct {
	Notify string // URL that events are posted to; "" sends none
	Token  string // sent with each event as Authorization: Bearer; "" sends none
	Pulls  bool   // send the pull events of manifests too

	Root string // directory of the content; "" keeps it in memory
	Addr string // to listen on; "" means a free port of 127.0.0.1

	User, Password string // if User is set, the registry requires them (htpasswd)

	// Configure changes the configuration before each start; nil changes nothing.
	Configure func(*configuration.Configuration)
}

// A Registry is the stock registry in this process: the library's handler behind our
// listener. Unlike the real process it has no access log, health checks, debug
// listener or tracing, and sends events through a relay that can drop them
// (see Restart).
type Registry struct {
	URL  string       // http://127.0.0.1:port, the same after Restart
	Push *push.Client // with the registry's password
	Root string       // Config.Root

	t        testing.TB
	config   Config
	htpasswd string // path of the password file; "" for none
	stop     func() // nil while the registry does not run
}

// Start starts a registry. It stops when the test ends.
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

// Restart has the effects of a restart of the process: connections break, pending
// events are lost, and further events have another source.instanceID. Address and
// Root stay the same; content in memory is lost. After Stop, it starts the registry
// again.
func (r *Registry) Restart() {
	r.t.Helper()
	r.Stop()
	r.start()
}

// Stop ends the registry as Restart does, without starting it again. It does nothing
// if the registry does not run.
func (r *Registry) Stop() {
	if r.stop != nil {
		r.stop()
		r.stop = nil
	}
}

// start starts a listener, an App and a relay for events.
func (r *Registry) start() {
	r.t.Helper()
	listener, err := net.Listen("tcp", r.config.Addr)
	if err != nil {
		r.t.Fatalf("registrytest: %v", err)
	}
	r.config.Addr = listener.Addr().String() // keeps the port for Restart
	r.URL = "http://" + r.config.Addr
	relay := newRelay(r.t, r.config.Notify)
	app := handlers.NewApp(newInstance(), r.configuration(relay.url))
	server := &http.Server{Handler: app, ErrorLog: log.New(io.Discard, "", 0)}
	served := make(chan struct{})
	go func() {
		defer close(served)
		server.Serve(listener) // returns ErrServerClosed after stop
	}()
	r.stop = func() {
		relay.drop() // first, so that no event of an interrupted request is delivered
		server.Close()
		<-served
		app.Shutdown() // fails only for a pull-through cache
	}
}

// configuration returns the registry's configuration. It does not use
// configuration.Parse, which reads the REGISTRY_* variables, and so has to set
// Parse's defaults.
func (r *Registry) configuration(notify string) *configuration.Configuration {
	c := &configuration.Configuration{
		Version: configuration.CurrentVersion,
		Storage: r.storage(),
		Catalog: configuration.Catalog{MaxEntries: 1000}, // Parse's default
		Tags:    configuration.Tags{MaxTags: 1000},       // Parse's default
	}
	c.HTTP.Addr = r.config.Addr // the registry sends it as source.addr of events
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
		// The purger is a goroutine that never ends.
		"maintenance": {"uploadpurging": map[any]any{"enabled": false}},
	}
	if r.config.Root == "" {
		s["inmemory"] = configuration.Parameters{}
	} else {
		s["filesystem"] = configuration.Parameters{"rootdirectory": r.config.Root}
	}
	return s
}

// endpoint returns the endpoint of config/filesystem.yml with a shorter backoff, so
// that tests with a receiver that refuses events do not wait for seconds.
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

// An instance is the context of one App. It holds the instance id, which otherwise
// only the registry's own main can set (distribution v3.1.2,
// internal/dcontext/context.go).
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

// quiet turns off the registry's log, the global logger of logrus. The registry would
// log each refused event as a whole.
var quiet = sync.OnceFunc(func() { logrus.SetLevel(logrus.PanicLevel) })

// htpasswd writes a password file and returns its path. It uses bcrypt's lowest cost,
// 4, because the registry computes the hash for each request: 2 ms at cost 4, 0.2 s
// at cost 10.
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
