package sweep_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/factory"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	_ "github.com/distribution/distribution/v3/registry/storage/driver/s3-aws"

	"github.com/portbook/portbook/registry/push"
	"github.com/portbook/portbook/registry/registrytest"
	"github.com/portbook/portbook/registry/sweep"
)

// A site is a registry and the driver of its storage.
type site struct {
	t      *testing.T
	push   *push.Client
	driver driver.StorageDriver
	root   string // of a filesystem
}

// open starts a registry on a kind of storage, filesystem or s3, with a cache or without.
func open(t *testing.T, storage string, cache bool) *site {
	t.Helper()
	s := &site{t: t}
	parameters := configuration.Parameters{}
	if storage == "filesystem" {
		s.root = t.TempDir()
		parameters["rootdirectory"] = s.root
	} else {
		storage = "s3"
		parameters = configuration.Parameters{
			"bucket": "images", "region": "us-east-1", "accesskey": "key", "secretkey": "secret",
			"regionendpoint": startS3(t), "forcepathstyle": true, "secure": false,
		}
	}
	var err error
	if s.driver, err = factory.Create(t.Context(), storage, parameters); err != nil {
		t.Fatal(err)
	}
	r := registrytest.Start(t, registrytest.Config{Configure: func(c *configuration.Configuration) {
		delete(c.Storage, "inmemory")
		c.Storage[storage] = parameters
		c.Storage["redirect"] = configuration.Parameters{"disable": true}
		if !cache {
			delete(c.Storage, "cache")
		}
	}})
	s.push = r.Push
	return s
}

// startS3 starts an S3 server in memory with the bucket images.
func startS3(t *testing.T) string {
	t.Helper()
	backend := s3mem.New()
	if err := backend.CreateBucket("images"); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(gofakes3.New(backend, gofakes3.WithLogger(gofakes3.DiscardLog())).Server())
	t.Cleanup(server.Close)
	return server.URL
}

func (s *site) sweeper(c sweep.Config) *sweep.Sweeper {
	c.Driver = s.driver
	return sweep.New(c)
}

// A seen is what a look gave.
type seen struct {
	blobs     map[string]sweep.Blob
	manifests []string // repository@digest
	problems  []sweep.Problem
	sum       sweep.Summary
}

func look(t *testing.T, s *sweep.Sweeper) seen {
	t.Helper()
	got := seen{blobs: map[string]sweep.Blob{}}
	err := s.Look(t.Context(), func(l sweep.Line) error {
		switch {
		case l.Blob != nil:
			got.blobs[l.Blob.Digest] = *l.Blob
		case l.Manifest != nil:
			got.manifests = append(got.manifests, l.Manifest.Repository+"@"+l.Manifest.Digest)
		case l.Problem != nil:
			got.problems = append(got.problems, *l.Problem)
		case l.Summary != nil:
			got.sum = *l.Summary
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// done runs an order and returns the last outcome of each digest.
func done(t *testing.T, f func(context.Context, sweep.Order, func(sweep.Line) error) error, digests ...string) map[string]sweep.Done {
	t.Helper()
	got := map[string]sweep.Done{}
	err := f(t.Context(), sweep.Order{Digests: digests}, func(l sweep.Line) error {
		if l.Done != nil {
			got[l.Done.Digest] = *l.Done
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func (s *site) image(repository, tag string, layers ...string) ocispec.Descriptor {
	s.t.Helper()
	spec := push.ImageSpec{Author: repository + tag}
	for _, text := range layers {
		spec.Layers = append(spec.Layers, []byte(text))
	}
	d, err := s.push.Image(s.t.Context(), repository, tag, spec)
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}

func (s *site) blob(repository, text string) string {
	s.t.Helper()
	d, err := s.push.Blob(s.t.Context(), repository, []byte(text))
	if err != nil {
		s.t.Fatal(err)
	}
	return d.Digest.String()
}

// unlink removes the link of a blob over HTTP, as the first phase does.
func unlink(ctx context.Context, c *push.Client, repository, digest string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodDelete, c.Base+"/v2/"+repository+"/blobs/"+digest, nil)
	if err != nil {
		return err
	}
	resp, err := c.HTTP.Do(r)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusAccepted && resp.StatusCode != http.StatusNotFound {
		return fmt.Errorf("delete blob: status %d", resp.StatusCode)
	}
	return nil
}

// each runs a test on each kind of storage.
func each(t *testing.T, f func(t *testing.T, s *site)) {
	for _, storage := range []string{"filesystem", "s3"} {
		t.Run(storage, func(t *testing.T) {
			t.Parallel()
			f(t, open(t, storage, true))
		})
	}
}

// A look reports what is not both linked and used, and counts the rest.
func TestLook(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *site) {
		kept := s.image("acme/app", "v1", "one", "two")
		s.image("acme/app/deep", "v1", "one")
		orphan := s.blob("acme/app", "an orphan")
		alone := s.blob("acme/other", "no link")
		if err := unlink(t.Context(), s.push, "acme/other", alone); err != nil {
			t.Fatal(err)
		}
		got := look(t, s.sweeper(sweep.Config{}))
		if o := got.blobs[orphan]; !o.Stored || !o.Linked || o.Used || o.Size != 9 || time.Since(o.Modified) > time.Hour {
			t.Errorf("orphan: %+v", o)
		}
		if a := got.blobs[alone]; !a.Stored || a.Linked || a.Used {
			t.Errorf("blob without a link: %+v", a)
		}
		if len(got.blobs) != 2 || got.sum.Blobs != 8 || got.sum.Manifests != 2 || got.sum.Links != 8 ||
			got.sum.Unreadable != 0 || got.sum.Blind != "" || len(got.problems) != 0 {
			t.Errorf("%d blobs are reported, %+v, %v", len(got.blobs), got.sum, got.problems)
		}
		if !slices.Contains(got.manifests, "acme/app@"+kept.Digest.String()) {
			t.Errorf("manifests: %v", got.manifests)
		}
	})
}

// Trash moves only what nothing uses; purge deletes it; restore puts it back.
func TestOrders(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *site) {
		image := s.image("acme/app", "v1", "one")
		orphan, alone, second := s.blob("acme/app", "orphan"), s.blob("acme/app", "alone"), s.blob("acme/app", "second")
		for _, b := range []string{alone, second} {
			if err := unlink(t.Context(), s.push, "acme/app", b); err != nil {
				t.Fatal(err)
			}
		}
		w := s.sweeper(sweep.Config{Delete: true})
		layer := digestOf("one")
		got := done(t, w.Trash, orphan, alone, second, layer, image.Digest.String(), digestOf("not there"))
		want := map[string]sweep.Outcome{
			orphan: sweep.Kept, alone: sweep.Trashed, second: sweep.Trashed, layer: sweep.Kept,
			image.Digest.String(): sweep.Kept, digestOf("not there"): sweep.Absent,
		}
		checkOutcomes(t, "trash", got, want)
		if b := look(t, w).blobs[alone]; b.Stored || time.Since(b.Trashed) > time.Minute {
			t.Errorf("in the trash: %+v", b)
		}
		checkOutcomes(t, "restore", done(t, w.Restore, second), map[string]sweep.Outcome{second: sweep.Restored})
		if b := look(t, w).blobs[second]; !b.Stored || !b.Trashed.IsZero() {
			t.Errorf("restored: %+v", b)
		}
		checkOutcomes(t, "purge", done(t, w.Purge, alone, second),
			map[string]sweep.Outcome{alone: sweep.Deleted, second: sweep.Absent})
		if b, ok := look(t, w).blobs[alone]; ok {
			t.Errorf("deleted, and still reported: %+v", b)
		}
		if _, err := s.driver.List(t.Context(), "/portbook/trash"); s.root == "" && err == nil {
			t.Error("the trash is not empty")
		}
	})
}

func checkOutcomes(t *testing.T, what string, got map[string]sweep.Done, want map[string]sweep.Outcome) {
	t.Helper()
	for digest, outcome := range want {
		if got[digest].Outcome != outcome {
			t.Errorf("%s: %s is %q (%s), want %q", what, digest, got[digest].Outcome, got[digest].Reason, outcome)
		}
	}
}

// What was linked again while it was in the trash is put back, not deleted.
func TestPurgePutsBack(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s *site) {
		alone, again := s.blob("acme/app", "alone"), s.blob("acme/app", "again")
		for _, b := range []string{alone, again} {
			if err := unlink(t.Context(), s.push, "acme/app", b); err != nil {
				t.Fatal(err)
			}
		}
		w := s.sweeper(sweep.Config{Delete: true})
		done(t, w.Trash, alone, again)
		// A push that had seen the data links it now; another uploads it again.
		name := strings.TrimPrefix(alone, "sha256:")
		link := "/docker/registry/v2/repositories/acme/app/_layers/sha256/" + name + "/link"
		if err := s.driver.PutContent(t.Context(), link, []byte(alone)); err != nil {
			t.Fatal(err)
		}
		s.blob("acme/app", "again")
		checkOutcomes(t, "purge", done(t, w.Purge, alone, again),
			map[string]sweep.Outcome{alone: sweep.Restored, again: sweep.Restored})
		for text, digest := range map[string]string{"alone": alone, "again": again} {
			if b, err := s.push.FetchBlob(t.Context(), "acme/app", digestType(digest)); err != nil || string(b) != text {
				t.Errorf("%s: %q, %v", text, b, err)
			}
		}
	})
}

// A sweeper without --delete deletes nothing, and minimum times of its own win.
func TestSweeperRefuses(t *testing.T) {
	t.Parallel()
	s := open(t, "filesystem", true)
	alone := s.blob("acme/app", "alone")
	if err := unlink(t.Context(), s.push, "acme/app", alone); err != nil {
		t.Fatal(err)
	}
	none := func(sweep.Line) error { return nil }
	if err := s.sweeper(sweep.Config{}).Trash(t.Context(), sweep.Order{Digests: []string{alone}}, none); err != sweep.ErrOnlyLooks {
		t.Errorf("trash without --delete: %v", err)
	}
	young := s.sweeper(sweep.Config{Delete: true, Grace: time.Hour})
	checkOutcomes(t, "trash", done(t, young.Trash, alone), map[string]sweep.Outcome{alone: sweep.Kept})
	done(t, s.sweeper(sweep.Config{Delete: true}).Trash, alone)
	long := s.sweeper(sweep.Config{Delete: true, Keep: time.Hour})
	checkOutcomes(t, "purge", done(t, long.Purge, alone), map[string]sweep.Outcome{alone: sweep.Kept})
	if got := done(t, long.Purge); len(got) != 0 {
		t.Errorf("an order that names nothing: %v", got)
	}
}

// Broken files end no look. They hide nothing that is deleted, or nothing is deleted.
func TestBrokenStorage(t *testing.T) {
	t.Parallel()
	s := open(t, "filesystem", true)
	s.image("acme/app", "v1", "one")
	alone := s.blob("acme/app", "alone")
	if err := unlink(t.Context(), s.push, "acme/app", alone); err != nil {
		t.Fatal(err)
	}
	v2 := filepath.Join(s.root, "docker/registry/v2")
	layers := filepath.Join(v2, "repositories/acme/app/_layers")
	emptied := digestOf("one")
	write(t, filepath.Join(layers, "sha256", emptied[7:], "link"), "")
	write(t, filepath.Join(layers, "sha256", emptied[7:], "link.8b7.tmp"), alone)
	write(t, filepath.Join(v2, "repositories/README"), "a stray file")
	write(t, filepath.Join(v2, "blobs/sha256/zz/zz/data"), "x")
	w := s.sweeper(sweep.Config{Delete: true})
	got := look(t, w)
	if got.sum.Unreadable != 1 || got.sum.Blind != "" || len(got.problems) != 2 || got.blobs[emptied].Digest != "" {
		t.Errorf("%+v, %v, %+v", got.sum, got.problems, got.blobs)
	}
	write(t, filepath.Join(layers, "sha512", strings.Repeat("ab", 64), "link"), "")
	if got := look(t, w); !strings.Contains(got.sum.Blind, "may hide links") {
		t.Errorf("an empty link under sha512: blind is %q", got.sum.Blind)
	}
	checkOutcomes(t, "trash", done(t, w.Trash, alone), map[string]sweep.Outcome{alone: sweep.Kept})
	write(t, filepath.Join(layers, "sha512", strings.Repeat("ab", 64), "link"), alone)
	if got := look(t, w); got.sum.Blind != "" || !got.blobs[alone].Linked {
		t.Errorf("a link under sha512 to a blob: %+v, %+v", got.sum, got.blobs[alone])
	}
}

func write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}
