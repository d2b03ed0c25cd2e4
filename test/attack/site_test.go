package attack

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/portbook/portbook/registry/push"
	"github.com/portbook/portbook/test/bench/harness"
)

const (
	database = "attacked"
	// plantTimeout is the limit of the first scan, which takes some seconds.
	plantTimeout = 2 * time.Minute
	// settleTimeout is how long to wait until the tasks of an attack are done. Tasks
	// that take longer are reported and continue during the next attack.
	settleTimeout = 2 * time.Second
	// verifyTimeout is the limit of the final comparison of book and registry.
	verifyTimeout = 90 * time.Second
	// pushers is the number of parallel pushes while planting.
	pushers = 8
	// bystanders is the number of repositories that no attack concerns.
	bystanders = 60
)

// A site is a whole system: registry, PostgreSQL, one writer that also serves, and a
// proxy between registry and writer that can make reads fail.
type site struct {
	*harness.System
	registry *harness.Registry
	indexer  *harness.Indexer
	faults   *faults
	push     *push.Client // directly to the registry
	content  string       // directory of the registry's content
	children []child      // of largeRepository

	quiet, attacked time.Duration // duration of a phase
	words           int           // number of pushes by victims so far
}

func newSite(t *testing.T) *site {
	t.Helper()
	ctx, began := t.Context(), time.Now()
	// A signal ends tests without their cleanup; no process or file must remain.
	signalled, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	t.Cleanup(stop)
	logged := func(what string) { t.Logf("%s after %.1f s", what, time.Since(began).Seconds()) }
	system, err := harness.NewSystem(signalled, "", "")
	check(t, err)
	t.Cleanup(func() { check(t, system.Close()) })
	unwatch := context.AfterFunc(signalled, func() {
		_ = system.Close() // nobody else can do what fails here
		os.Exit(1)
	})
	t.Cleanup(func() { unwatch() })
	s := &site{System: system, quiet: 3 * time.Second, attacked: 2 * time.Second}
	if *long {
		s.quiet, s.attacked = 10*time.Second, 15*time.Second
	}
	_, s.content, _ = strings.Cut(s.OnDisk(), "=")
	logged("built; PostgreSQL started")
	s.plant(t)
	logged("content pushed")

	address, err := harness.FreeAddress()
	check(t, err)
	s.registry, err = s.StartRegistry(ctx, s.OnDisk(), "http://"+address+"/events")
	check(t, err)
	s.push = push.New(s.registry.URL)
	s.faults = startFaults(t, s.registry.URL)
	check(t, s.NewDatabase(ctx, database))
	s.indexer, err = s.StartIndexer(ctx, database, address, "PORTBOOK_REGISTRY_URL="+s.faults.url,
		"PORTBOOK_COMPONENTS_WEB_UI=true", "PORTBOOK_COMPONENTS_REGISTRY_PROXY=true")
	check(t, err)
	check(t, harness.Wait(ctx, plantTimeout, "the first scan", func() (bool, error) {
		n, err := s.count(ctx, "SELECT count(*) FROM scan WHERE finished_at IS NOT NULL")
		if n == 0 || err != nil {
			return false, err
		}
		n, err = s.count(ctx, due)
		return n == 0, err
	}))
	logged("scanned")
	return s
}

// plant fills the registry before events are sent.
func (s *site) plant(t *testing.T) {
	t.Helper()
	registry, err := s.StartRegistry(t.Context(), s.OnDisk(), "")
	check(t, err)
	s.push = push.New(registry.URL)
	group, ctx := errgroup.WithContext(t.Context())
	group.SetLimit(pushers)
	for n := range bystanders {
		group.Go(func() error {
			return s.image(ctx, fmt.Sprintf("demo/app%d", n), "latest", map[string]string{
				"org.opencontainers.image.description": fmt.Sprintf("bystander of harbour %d", n), "team": []string{"blue", "red"}[n%2],
			})
		})
	}
	group.Go(func() error { return s.image(ctx, "flathub/firefox", "latest", flatpakLabels(firefox, 0)) })
	check(t, group.Wait())
	for _, f := range families {
		for _, a := range f.attacks {
			if a.plant != nil {
				check(t, a.plant(t.Context(), s))
			}
		}
	}
	registry.Stop()
}

func (s *site) image(ctx context.Context, repository, tag string, labels map[string]string) error {
	_, err := s.push.Image(ctx, repository, tag, push.ImageSpec{Labels: labels})
	return err
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// count runs a query that returns one number.
func (s *site) count(ctx context.Context, query string) (n int, err error) {
	err = s.On(ctx, database, func(conn *pgx.Conn) error { return conn.QueryRow(ctx, query).Scan(&n) })
	return n, err
}

const (
	// due counts the references that wait to be read, without the second reads (priority
	// 2), which follow two seconds after each push.
	due = "SELECT count(*) FROM task WHERE given_up_at IS NULL AND priority < 2"
	// fresh counts those of them whose read has not failed.
	fresh = due + " AND error IS NULL"
)

// settle waits until no task is left that has not failed, and returns how long that
// took. Those that failed are retried for half a minute, while the other attacks run.
func (s *site) settle(t *testing.T) time.Duration {
	t.Helper()
	start := time.Now()
	_ = harness.Wait(t.Context(), settleTimeout, "tasks", func() (bool, error) { // its only error is the timeout
		n, err := s.count(t.Context(), fresh)
		return n == 0, err
	})
	return time.Since(start)
}

// verify compares the book with the registry.
func (s *site) verify(t *testing.T) {
	t.Helper()
	var last *harness.Program
	err := harness.Wait(t.Context(), verifyTimeout, "a book that equals the registry", func() (bool, error) {
		p, err := s.StartVerify(s.registry.URL, database)
		if err != nil {
			return false, err
		}
		last = p
		select {
		case <-p.Done():
		case <-t.Context().Done():
		}
		return p.Outcome() == "exit status 0", nil
	})
	if err != nil {
		t.Errorf("%v: %s", err, last.Tail())
	}
}

// watchMemory records the peak memory of the indexer and PostgreSQL until the returned
// function is called.
func (s *site) watchMemory(f *felt) (stop func()) {
	done := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			f.indexer = max(f.indexer, harness.Memory(s.indexer.PID()))
			f.postgres = max(f.postgres, harness.FamilyMemory(s.Postmaster()))
			select {
			case <-done:
				return
			case <-tick.C:
			}
		}
	})
	return func() { close(done); watching.Wait() }
}

// linkTag creates a tag in the registry's own directory: pushing hundreds of tags of one
// large index takes long, since the registry checks each child again for each tag.
func (s *site) linkTag(repository, tag, digest string) error {
	_, hex, _ := strings.Cut(digest, ":")
	dir := filepath.Join(s.content, "docker/registry/v2/repositories", repository, "_manifests/tags", tag)
	for _, name := range []string{"current/link", "index/sha256/" + hex + "/link"} {
		if err := writeFile(filepath.Join(dir, name), digest); err != nil {
			return err
		}
	}
	return nil
}
