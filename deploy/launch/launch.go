// Package launch runs all of Portbook on one machine to try it out: a private
// PostgreSQL, the registry and the indexer, which serves everything on one address.
//
// One command is enough on a machine with Go. A second start uses the data of the
// first. Two may run at the same time with different addresses and folders. However
// it ends, no process keeps running. No server runs as root. It is not for
// production: use docker-compose.yml and the other files in deploy for that.
package launch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"slices"
	"strings"

	"github.com/portbook/portbook/schema/localpg"
	"github.com/portbook/portbook/schema/localpg/process"
)

// Config says what to run.
type Config struct {
	Source  string    // the clone to build
	Addr    string    // host:port of the indexer, which clients use
	Data    string    // folder of all data; empty: DefaultData
	Samples bool      // push sample images if the registry is empty
	Auth    bool      // clients log in
	Environ []string  // in the form of os.Environ; DATABASE_URL and PORTBOOK_* are used
	Out     io.Writer // for the steps, and then the logs
}

// Run starts everything, prints the address, and shows the logs until the context
// ends or a program ends unexpectedly. Then it stops everything. It returns nil if the
// context ended, and otherwise an error with a remedy.
func Run(ctx context.Context, cfg Config) error {
	s := &system{cfg: cfg, out: newOutput(cfg.Out), ended: make(chan *child, 2)}
	defer s.stop()
	for _, step := range []func(context.Context) error{
		s.checkAddress, // first, since it takes no time and may fail
		s.openData,
		s.choosePorts,
		s.build,
		s.startDatabase,
		s.startRegistry,
		s.startIndexer,
		s.addAdministrator,
		s.pushSamples,
	} {
		err := step(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
	}
	s.sayReady()
	return s.follow(ctx)
}

// A system has the programs that are started.
type system struct {
	cfg     Config
	out     *output
	account *process.Account // of the servers; nil: the caller
	data    data

	registryAddr   string
	operationsAddr string

	postgres    *localpg.Server // nil if the environment names a database
	databaseURL string
	registry    *child
	indexer     *child
	ended       chan *child // receives each child that ended

	password string // of the administrator that this start has added; empty: none
}

// checkAddress returns an error if the address is in use. The indexer would fail too,
// but only after the build.
func (s *system) checkAddress(context.Context) error {
	if _, _, err := net.SplitHostPort(s.cfg.Addr); err != nil {
		return fmt.Errorf("ADDR=%s: want host:port, such as 127.0.0.1:7080", s.cfg.Addr)
	}
	l, err := net.Listen("tcp", s.cfg.Addr)
	if err != nil {
		return fmt.Errorf("ADDR=%s: %w: stop the program that listens there, or choose another address:"+
			" make up ADDR=127.0.0.1:7090 DATA=folder",
			s.cfg.Addr, errors.Unwrap(err))
	}
	return l.Close()
}

// choosePorts chooses free ports for the registry and the indexer's operations
// listener, which clients do not use.
func (s *system) choosePorts(context.Context) error {
	for _, addr := range []*string{&s.registryAddr, &s.operationsAddr} {
		port, err := localpg.FreePort()
		if err != nil {
			return err
		}
		*addr = fmt.Sprintf("127.0.0.1:%d", port)
	}
	return nil
}

// local returns the address for clients on this machine: 0.0.0.0 and :7080 are
// addresses to listen on only.
func (s *system) local() string {
	host, port, _ := net.SplitHostPort(s.cfg.Addr) // checkAddress has parsed it
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// getenv returns the value of a variable of Config.Environ, or "".
func (s *system) getenv(name string) string {
	for _, pair := range slices.Backward(s.cfg.Environ) { // the last one is used
		if value, ok := strings.CutPrefix(pair, name+"="); ok {
			return value
		}
	}
	return ""
}

// sayReady prints the addresses, and what to try first.
func (s *system) sayReady() {
	base := s.local()
	s.out.print("")
	s.out.print("Portbook is ready: http://%s", base)
	s.out.print("")
	if s.cfg.Auth {
		s.sayAccounts()
	}
	s.out.print("Push an image and find it:")
	for _, line := range s.tryLines() {
		s.out.print("  %s", line)
	}
	s.out.print("")
	s.out.print("Metrics: http://%s/metrics   data: %s   stop: Ctrl-C", s.operationsAddr, s.data.dir)
	ip := net.ParseIP(hostOf(base))
	outside := hostOf(s.cfg.Addr) != hostOf(base) || ip == nil || !ip.IsLoopback()
	if outside && !s.cfg.Auth {
		s.out.print("Anybody who can reach %s can push and delete images: there are no passwords.", s.cfg.Addr)
	}
	s.out.print("")
	s.out.showLogs()
}

// tryLines returns commands, which push an image and find it. They use only programs that
// are installed: a new machine has neither skopeo nor curl.
func (s *system) tryLines() []string {
	base, has := s.local(), func(program string) bool { _, err := exec.LookPath(program); return err == nil }
	if s.cfg.Auth {
		return s.loginLines(base, has)
	}
	lines := []string{
		fmt.Sprintf(".run/up -addr %s push me/first:1.0", base),
		fmt.Sprintf(".run/up -addr %s search first", base),
	}
	if s.cfg.Samples && has("skopeo") {
		lines[0] = fmt.Sprintf("skopeo copy --src-tls-verify=false --dest-tls-verify=false"+
			" docker://%[1]s/samples/lighthouse:0.3.0 docker://%[1]s/me/first:1.0", base)
	}
	if has("curl") {
		// If both lines are pasted at once, curl runs before the indexer has the push,
		// which takes about 10 ms.
		lines[1] = fmt.Sprintf("sleep 0.2; curl -s 'http://%s/v1/search?q=first'", base)
	}
	return lines
}

func hostOf(addr string) string {
	host, _, _ := net.SplitHostPort(addr)
	return host
}

// follow waits until the context ends, and returns nil, or until a program ends.
func (s *system) follow(ctx context.Context) error {
	var postgres <-chan struct{} // blocks if we did not start it
	if s.postgres != nil {
		postgres = s.postgres.Done()
	}
	select {
	case <-ctx.Done():
		return nil
	case c := <-s.ended:
		return c.failure()
	case <-postgres:
		return fmt.Errorf("PostgreSQL ended unexpectedly; its last lines: %s", s.postgres.Tail())
	}
}

// stop stops the programs in reverse order: the indexer first, so that it does not
// report that the registry and the database are gone.
func (s *system) stop() {
	s.out.hideLogs()
	for _, c := range []*child{s.indexer, s.registry} {
		if c != nil {
			s.out.print("Stopping the %s", c.name)
			c.stop()
		}
	}
	if s.postgres != nil {
		s.out.print("Stopping PostgreSQL")
		s.postgres.Stop()
	}
	s.data.unlock()
}
