package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/portbook/portbook/deploy/launch"
	"github.com/portbook/portbook/schema/localpg"
	"github.com/portbook/portbook/schema/localpg/process"
)

// clone is the root of the repository.
const clone = "../.."

const (
	// startTimeout allows for an empty build cache: compiling the registry alone
	// takes 200 s of CPU.
	startTimeout = 15 * time.Minute
	// newsTimeout limits the time until all pushes are stored.
	newsTimeout = 30 * time.Second
	// stopTimeout is the sum of the stop timeouts of the three servers.
	stopTimeout = time.Minute
)

// A site is a running Portbook, as make up starts it. It is empty at first.
type site struct {
	url   string
	known map[string]string // the values of {words} in paths

	accounts withAccounts

	sweep        *process.Process // looks at the storage; nil: not started
	sweepAddress string

	data  string
	stop  context.CancelFunc
	ended chan error
	log   *readyLog
}

// startSite starts PostgreSQL, the registry and the indexer of this clone.
func startSite(ctx context.Context) (*site, error) {
	port, err := localpg.FreePort()
	if err != nil {
		return nil, err
	}
	sweepPort, err := localpg.FreePort()
	if err != nil {
		return nil, err
	}
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	s := &site{url: "http://" + addr, known: map[string]string{}, ended: make(chan error, 1)}
	s.sweepAddress = fmt.Sprintf("127.0.0.1:%d", sweepPort)
	s.log = &readyLog{line: "Portbook is ready: " + s.url, ready: make(chan struct{})}
	// launch lets servers of another user enter the directory.
	if s.data, err = os.MkdirTemp("", "portbook-browser-"); err != nil {
		return nil, err
	}
	ctx, s.stop = context.WithCancel(ctx)
	go func() {
		// Environ has no variables of another database. As in docker-compose.yml, the
		// indexer does not know its public address; in test/clients it does.
		s.ended <- launch.Run(ctx, launch.Config{
			Source: clone, Addr: addr, Data: s.data, Out: s.log,
			Environ: []string{
				"PORTBOOK_REGISTRY_PUBLIC_URL=/", "PORTBOOK_AUDIT_PUSHES=true", webhooksKey,
				"PORTBOOK_COLLECT_SWEEP=http://" + s.sweepAddress, "PORTBOOK_COLLECT_TOKEN=" + sweepToken,
			},
		})
	}()
	select {
	case <-s.log.ready:
		return s, nil
	case err := <-s.ended:
		os.RemoveAll(s.data)
		return nil, fmt.Errorf("the site ended: %w; log: %s", err, s.log)
	case <-time.After(startTimeout):
		err := fmt.Errorf("the site is not ready after %v; log: %s", startTimeout, s.log)
		return nil, errors.Join(err, s.close())
	}
}

// close stops everything and removes the data.
func (s *site) close() error {
	s.stopSweep()
	s.accounts.stop()
	s.stop()
	defer os.RemoveAll(s.data)
	select {
	case err := <-s.ended:
		return err
	case <-time.After(stopTimeout):
		return fmt.Errorf("the site is still running after %v", stopTimeout)
	}
}

// address returns the URL of a page, with the values of its {words}.
func (s *site) address(p page) string { return s.base(p.as) + s.fill(p.path) }

func (s *site) fill(text string) string {
	for word, value := range s.known {
		text = strings.ReplaceAll(text, "{"+word+"}", value)
	}
	return text
}

// settled waits until a repository is stored and no task is due.
func (s *site) settled(ctx context.Context, repository string) error {
	return eventually(ctx, func() error {
		if code, _, err := fetch(ctx, s.url+"/r/"+repository); err != nil || code != http.StatusOK {
			return fmt.Errorf("%s is not stored: status %d, %w", repository, code, err)
		}
		var status struct {
			Due *int `json:"tasks_due"`
		}
		_, b, err := fetch(ctx, s.url+"/api/v1/status")
		if err == nil {
			err = json.Unmarshal(b, &status)
		}
		if err == nil && (status.Due == nil || *status.Due != 0) {
			err = fmt.Errorf("tasks are due: %s", b)
		}
		return err
	})
}

// get returns the status and the body of a page that a visitor opens.
func (s *site) get(ctx context.Context, visitor, path string) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.base(visitor)+path, nil)
	if err != nil {
		return 0, nil, err
	}
	if cookie := s.accounts.sessions[visitor]; cookie != nil {
		req.AddCookie(&http.Cookie{Name: cookie.Name, Value: cookie.Value})
	}
	return send(req)
}

// fetch returns the status and the body of an address.
func fetch(ctx context.Context, address string) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return 0, nil, err
	}
	return send(req)
}

func send(req *http.Request) (int, []byte, error) {
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, b, err
}

// A readyLog collects output and reports when it has a line.
type readyLog struct {
	line  string
	ready chan struct{} // closed when the output has the line

	mu   sync.Mutex
	text bytes.Buffer
	came bool
}

func (l *readyLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(b)
	if !l.came && strings.Contains(l.text.String(), l.line+"\n") {
		l.came = true
		close(l.ready)
	}
	return len(b), nil
}

func (l *readyLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
