// Package launch runs the whole of Portbook on one machine, for trying it out:
// a private PostgreSQL, the registry and the indexer, which answers for all on
// one address.
//
// It promises that one command is enough on a machine with Go; that a second
// start finds the data of the first; that two may run side by side if address
// and folder differ; and that nothing is left running when it ends, however it
// ends. Nothing runs as root. It is not meant for production: that is what
// docker-compose.yml and the other files in deploy are for.
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
	Source  string    // the clone that is built
	Addr    string    // host:port of the indexer, the one that clients use
	Data    string    // folder of everything that is kept; empty chooses DefaultData
	Samples bool      // push sample images if the registry is empty
	Environ []string  // as os.Environ gives it: DATABASE_URL and PORTBOOK_* are looked at
	Out     io.Writer // gets what is printed: first the steps, then the logs
}

// Run starts everything, says so, and shows the logs until the context ends or
// a program ends by itself. Then it stops everything. It returns nil if the
// context ended, and else what went wrong and what to do about it.
func Run(ctx context.Context, cfg Config) error {
	s := &system{cfg: cfg, out: newOutput(cfg.Out), ended: make(chan *child, 2)}
	defer s.stop()
	for _, step := range []func(context.Context) error{
		s.checkAddress, // first what takes no time and may refuse
		s.openData,
		s.choosePorts,
		s.build,
		s.startDatabase,
		s.startRegistry,
		s.startIndexer,
		s.pushSamples,
	} {
		err := step(ctx)
		if ctx.Err() != nil {
			return nil // asked to stop, which is no failure of the step
		}
		if err != nil {
			return err
		}
	}
	s.sayReady()
	return s.follow(ctx)
}

// A system is what runs, as far as it is started.
type system struct {
	cfg     Config
	out     *output
	account *process.Account // as whom servers run; nil: the caller
	data    data

	registryAddr   string
	operationsAddr string

	postgres    *localpg.Server // nil if somebody else's is used
	databaseURL string
	registry    *child
	indexer     *child
	ended       chan *child // gets each child that ended
}

// checkAddress refuses an address that is taken. Without it the indexer would
// say so too, but minutes later and in its own words.
func (s *system) checkAddress(context.Context) error {
	if _, _, err := net.SplitHostPort(s.cfg.Addr); err != nil {
		return fmt.Errorf("ADDR=%s: want host:port, such as 127.0.0.1:7080", s.cfg.Addr)
	}
	l, err := net.Listen("tcp", s.cfg.Addr)
	if err != nil {
		return fmt.Errorf("ADDR=%s: %w: stop what listens there, or choose another address: make up ADDR=127.0.0.1:7090 DATA=folder",
			s.cfg.Addr, errors.Unwrap(err))
	}
	return l.Close()
}

// choosePorts chooses where the registry and the indexer's operations listener
// are. Clients need neither, so any free port does.
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

// local is ADDR as this machine reaches it: an address such as 0.0.0.0 or :7080
// is one to listen on, not one to call.
func (s *system) local() string {
	host, port, _ := net.SplitHostPort(s.cfg.Addr) // checkAddress has parsed it
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// getenv is the value of a variable of Config.Environ.
func (s *system) getenv(name string) string {
	for _, pair := range slices.Backward(s.cfg.Environ) { // the last one counts
		if value, ok := strings.CutPrefix(pair, name+"="); ok {
			return value
		}
	}
	return ""
}

// sayReady prints where everything is, and what to try first.
func (s *system) sayReady() {
	base := s.local()
	s.out.print("")
	s.out.print("Portbook is ready: http://%s", base)
	s.out.print("")
	s.out.print("Push an image and find it:")
	for _, line := range s.tryLines() {
		s.out.print("  %s", line)
	}
	s.out.print("")
	s.out.print("Metrics: http://%s/metrics   data: %s   end: Ctrl-C", s.operationsAddr, s.data.dir)
	if ip := net.ParseIP(hostOf(base)); hostOf(s.cfg.Addr) != hostOf(base) || ip == nil || !ip.IsLoopback() {
		s.out.print("Whoever reaches this machine on %s can push and delete images: there are no passwords here.", s.cfg.Addr)
	}
	s.out.print("")
	s.out.showLogs()
}

// tryLines are two commands that push an image and find it, with what this
// machine has: a fresh one has neither skopeo nor curl.
func (s *system) tryLines() [2]string {
	base, has := s.local(), func(program string) bool { _, err := exec.LookPath(program); return err == nil }
	lines := [2]string{
		fmt.Sprintf(".run/up -addr %s push me/first:1.0", base),
		fmt.Sprintf(".run/up -addr %s search first", base),
	}
	if s.cfg.Samples && has("skopeo") {
		lines[0] = fmt.Sprintf("skopeo copy --src-tls-verify=false --dest-tls-verify=false docker://%[1]s/samples/lighthouse:0.3.0 docker://%[1]s/me/first:1.0", base)
	}
	if has("curl") {
		// Who pastes both lines at once is faster than the indexer, which takes
		// some 10 ms.
		lines[1] = fmt.Sprintf("sleep 0.2; curl -s 'http://%s/v1/search?q=first'", base)
	}
	return lines
}

func hostOf(addr string) string {
	host, _, _ := net.SplitHostPort(addr)
	return host
}

// follow waits for the end of the context, which is no error, or of a program.
func (s *system) follow(ctx context.Context) error {
	var postgres <-chan struct{} // never, if there is none of ours
	if s.postgres != nil {
		postgres = s.postgres.Done()
	}
	select {
	case <-ctx.Done():
		return nil
	case c := <-s.ended:
		return c.failure()
	case <-postgres:
		return fmt.Errorf("PostgreSQL ended by itself; its last lines: %s", s.postgres.Tail())
	}
}

// stop ends what runs in the reverse order of the start: the indexer first, so
// that it does not complain about a registry and a database that are gone.
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
