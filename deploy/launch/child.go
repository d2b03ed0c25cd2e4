package launch

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/portbook/portbook/schema/localpg/process"
)

const (
	// readyTimeout limits the wait for a program that has started. Both are ready
	// within a second on an idle machine.
	readyTimeout = time.Minute

	// stopTimeout is how long a program may take to stop before it is killed.
	stopTimeout = 15 * time.Second

	// pollInterval is the interval of requests to a program that is starting.
	pollInterval = 50 * time.Millisecond

	// askTimeout limits one request.
	askTimeout = 5 * time.Second
)

// A child is a running program.
type child struct {
	*process.Process
	name string
	out  *output
}

// startChild starts a binary of the data folder; name is printed in front of its log
// lines. Its environment is env alone: a PGHOST or REGISTRY_STORAGE of the caller
// would change what runs.
func (s *system) startChild(name, binary string, env []string, args ...string) (*child, error) {
	cmd := exec.Command(filepath.Join(s.data.path(binName), binary), args...)
	cmd.Dir = s.data.dir
	cmd.Env = env
	p, err := process.Start(cmd, s.account, s.out.log(name))
	if err != nil {
		return nil, fmt.Errorf("start the %s: %w", name, err)
	}
	c := &child{Process: p, name: name, out: s.out}
	go func() {
		<-p.Done()
		s.ended <- c // never blocks: there is room for every child
	}()
	return c, nil
}

// failure returns the error of a child that ended unexpectedly.
func (c *child) failure() error {
	return fmt.Errorf("the %s ended unexpectedly (%s); its last lines: %s", c.name, c.Outcome(), c.out.clean(c.Tail()))
}

func (c *child) stop() { c.Stop(syscall.SIGTERM, stopTimeout) }

// waitReady waits until url answers 200.
func (c *child) waitReady(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	err := poll(ctx, c.Done(), func() bool { return answers(ctx, url) })
	select {
	case <-c.Done():
		return c.failure()
	default:
	}
	if err != nil {
		return fmt.Errorf("the %s is not ready after %v: %s; its last lines: %s",
			c.name, readyTimeout, url, c.out.clean(c.Tail()))
	}
	return nil
}

// poll calls ask until it returns true, stop is closed or the context ends.
func poll(ctx context.Context, stop <-chan struct{}, ask func() bool) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for !ask() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-stop:
			return nil
		case <-tick.C:
		}
	}
	return nil
}

// client sends requests to our programs, without a proxy.
var client = &http.Client{Transport: &http.Transport{}, Timeout: askTimeout}

// answers reports whether url answers 200.
func answers(ctx context.Context, url string) bool {
	_, err := fetch(ctx, url)
	return err == nil
}

// fetch is Login.fetch without a login.
func fetch(ctx context.Context, url string) ([]byte, error) { return Login{}.fetch(ctx, url) }

// fetch returns the body of a 200 of url, at most 1 MiB.
func (l Login) fetch(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	if l.User != "" {
		req.SetBasicAuth(l.User, l.Password)
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", url, resp.Status)
	}
	return io.ReadAll(io.LimitReader(resp.Body, 1<<20))
}
