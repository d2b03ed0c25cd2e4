package ingest_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/ingest"
	"github.com/portbook/portbook/registry/push"
	"github.com/portbook/portbook/registry/registrytest"
)

// A collecting is a registry with a loose blob of acme/img that a run of runBlobGC may remove.
type collecting struct {
	*harness
	blob   digest.Digest
	events atomic.Pointer[time.Time] // before which the registry's events are refused; nil: none
	delete atomic.Pointer[func()]    // called before the blob is removed
}

func openCollecting(t *testing.T) *collecting {
	t.Helper()
	c := &collecting{}
	gate := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if at := c.events.Load(); at != nil && time.Now().Before(*at) {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		target, _ := url.Parse(c.receiver.URL)
		httputil.NewSingleHostReverseProxy(target).ServeHTTP(w, r)
	}))
	t.Cleanup(gate.Close)
	c.harness = open(t, registrytest.Config{Notify: gate.URL, Token: token, Root: t.TempDir()})
	c.through(func(_ http.ResponseWriter, r *http.Request) bool {
		if f := c.delete.Load(); f != nil && r.Method == http.MethodDelete && strings.HasPrefix(r.URL.Path, "/v2/acme/img/blobs/") {
			(*f)()
		}
		return false
	})
	c.work()
	c.image("acme/other", "v1", "other")
	blob, err := c.push.Blob(t.Context(), "acme/img", []byte("loose"))
	if err != nil {
		t.Fatal(err)
	}
	c.blob = blob.Digest
	c.scan()
	c.exec("INSERT INTO loose_blob (repository, digest, size, since) VALUES ('acme/img', decode($1, 'hex'), 5, now() - interval '25 hours')",
		c.blob.Encoded())
	return c
}

// run has a leader do a run of runBlobGC, which must succeed unless the leader is killed.
func (c *collecting) run(killed <-chan struct{}) {
	c.t.Helper()
	ctx, stop := context.WithCancel(c.t.Context())
	leader := ingest.NewLeader(ingest.LeaderConfig{Store: c.store, Scanner: c.scanner,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Metrics: ingest.NewMetrics(prometheus.NewRegistry())})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = leader.Run(ctx)
	}()
	defer func() { stop(); <-done }()
	run, err := c.store.RequestJob(c.t.Context(), indexer.RunBlobGC)
	for end := time.Now().Add(time.Minute); err == nil && run.EndedAt.IsZero() && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		select {
		case <-killed:
			return
		default:
			run, err = c.store.JobRun(c.t.Context(), run.ID)
		}
	}
	if err != nil || run.EndedAt.IsZero() || run.Error != "" {
		c.t.Fatalf("%+v, %v", run, err)
	}
}

// use pushes an image with the blob as a layer.
func (c *collecting) use() {
	if _, err := c.push.Image(context.Background(), "acme/img", "v1", push.ImageSpec{Layers: [][]byte{[]byte("loose")}}); err != nil {
		c.t.Error(err)
	}
}

// has reports whether acme/img has the blob.
func (c *collecting) has() bool { return c.remote.HasBlob(c.t.Context(), "acme/img", c.blob) == nil }

// The blob of a manifest that was pushed between the last look and the removal is put back: if
// the process is killed at once, if an event of the blob comes at that moment, and if the registry
// reports the push late.
func TestBlobOfAPushIsPutBack(t *testing.T) {
	t.Parallel()
	for name, between := range map[string]func(c *collecting, kill func()){
		"at once": func(c *collecting, _ func()) { c.use() },
		"killed": func(c *collecting, kill func()) {
			c.use()
			if err := c.remote.DeleteBlob(context.Background(), "acme/img", c.blob); err != nil {
				c.t.Error(err)
			}
			kill()
		},
		"touched": func(c *collecting, _ func()) {
			c.use()
			go func() {
				_ = c.store.ReceiveBlobs(context.Background(), []indexer.BlobEvent{{Repository: "acme/img", Digest: c.blob, Size: 5}})
			}()
			time.Sleep(100 * time.Millisecond) // until it waits
		},
		"late": func(c *collecting, _ func()) {
			late := time.Now().Add(4 * time.Second)
			c.events.Store(&late)
			c.use()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := openCollecting(t)
			var done atomic.Bool
			killed := make(chan struct{})
			f := func() {
				if done.CompareAndSwap(false, true) {
					between(c, func() { close(killed); time.Sleep(100 * time.Millisecond) })
				}
			}
			c.delete.Store(&f)
			c.run(killed)
			if name == "killed" {
				c.run(nil)
			}
			if !done.Load() || !c.has() {
				t.Errorf("removed: %v; the image lacks its layer", done.Load())
			}
			if err := c.remote.HasBlob(t.Context(), indexer.HoldRepository, c.blob); err == nil {
				t.Error("the blob is still held")
			}
		})
	}
}

// What only a manifest of the trash uses stays, and is removed when that is emptied.
func TestBlobOfTheTrash(t *testing.T) {
	t.Parallel()
	c := openCollecting(t)
	c.exec("INSERT INTO operation (id, kind, actor, state, ended_at) VALUES (1, 'delete-manifest', 'olga', 'done', now())")
	c.exec(`INSERT INTO trash (operation_id, repository, digest, media_type, body, deleted_at)
		VALUES (1, 'acme/img', decode(repeat('00', 32), 'hex'), '', convert_to($1, 'utf8'), now())`, `{"layers":[{"digest":"`+c.blob.String()+`"}]}`)
	c.run(nil)
	if !c.has() {
		t.Error("a blob is gone that a restore needs")
	}
	c.exec("DELETE FROM trash")
	c.run(nil)
	if c.has() {
		t.Error("the blob stays for ever")
	}
}

// A blob stays while a manifest needs it that only the storage knows, and the book reads that.
func TestBlobOfAnUnknownManifest(t *testing.T) {
	t.Parallel()
	c := openCollecting(t)
	never := time.Now().Add(time.Hour)
	c.events.Store(&never)
	desc, err := c.push.Image(t.Context(), "acme/img", "", push.ImageSpec{Layers: [][]byte{[]byte("loose")}})
	if err != nil {
		t.Fatal(err)
	}
	c.exec("INSERT INTO storage_manifest (repository, digest) VALUES ('acme/img', decode($1, 'hex')), ('acme/img', decode(repeat('00', 32), 'hex'))",
		desc.Digest.Encoded())
	c.run(nil)
	if !c.has() {
		t.Error("the layer of a manifest is gone")
	}
	eventually(t, "the book has the manifest", func() bool {
		return len(c.column("SELECT 'x' FROM manifest WHERE digest = decode($1, 'hex')", desc.Digest.Encoded())) == 1
	})
}

// If somebody uses the repository that holds blobs, nothing is removed.
func TestHoldRepositoryInUse(t *testing.T) {
	t.Parallel()
	c := openCollecting(t)
	c.image(indexer.HoldRepository, "v1", "mine")
	run, err := c.store.RequestJob(t.Context(), indexer.RunBlobGC)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	leader := ingest.NewLeader(ingest.LeaderConfig{Store: c.store, Scanner: c.scanner,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Metrics: ingest.NewMetrics(prometheus.NewRegistry())})
	go func() { _ = leader.Run(ctx) }()
	eventually(t, "the run has failed", func() bool {
		run, err = c.store.JobRun(t.Context(), run.ID)
		return err != nil || !run.EndedAt.IsZero()
	})
	if err != nil || !strings.Contains(run.Error, "portbook-hold") || !c.has() {
		t.Errorf("%+v, %v", run, err)
	}
}
