//go:build unix

package copier_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/factory"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/s3-aws"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/portbook/portbook/registry/copier"
	"github.com/portbook/portbook/registry/push"
	"github.com/portbook/portbook/registry/registrytest"
)

// TestMain removes a variable with which each driver of S3 that is opened changes
// http.DefaultClient, which others use meanwhile (aws-sdk-go, session.loadCustomCABundle).
func TestMain(m *testing.M) {
	os.Unsetenv("AWS_CA_BUNDLE")
	os.Exit(m.Run())
}

// A bucket is an S3 in process with the content of a registry.
type bucket struct {
	url    string
	tags   map[string]ocispec.Descriptor // by repository:tag
	before atomic.Pointer[http.HandlerFunc]
}

// What is in the bucket: some 1,000 files.
const (
	repositories = 5
	images       = 24 // of each, some 9 files each
	files        = 1000
)

// The bucket is filled once, and each test has a server of its own for it, which it only reads.
var (
	filling sync.Mutex
	backend = s3mem.New()
	pushed  map[string]ocispec.Descriptor
)

// startBucket starts an S3 with images of several kinds, which a registry has stored there. One
// has a layer of 3 MB.
func startBucket(t *testing.T) *bucket {
	t.Helper()
	b := &bucket{tags: map[string]ocispec.Descriptor{}}
	s3 := gofakes3.New(backend, gofakes3.WithLogger(gofakes3.DiscardLog())).Server()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h := b.before.Load(); h != nil {
			answer := httptest.NewRecorder()
			(*h)(answer, r)
			if answer.Code != http.StatusOK || answer.Body.Len() > 0 {
				w.WriteHeader(answer.Code)
				w.Write(answer.Body.Bytes())
				return
			}
		}
		s3.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	b.url = server.URL
	filling.Lock()
	defer filling.Unlock()
	if pushed == nil {
		if err := backend.CreateBucket("images"); err != nil {
			t.Fatal(err)
		}
		b.fill(t)
		pushed = b.tags
	}
	b.tags = pushed
	return b
}

func (b *bucket) parameters() configuration.Parameters {
	return configuration.Parameters{
		"bucket": "images", "region": "auto", "accesskey": "key", "secretkey": "secret",
		"regionendpoint": b.url, "forcepathstyle": true, "secure": false,
	}
}

func (b *bucket) driver(t *testing.T) driver.StorageDriver {
	t.Helper()
	return opened(t, "s3", b.parameters())
}

func opened(t *testing.T, name string, p configuration.Parameters) driver.StorageDriver {
	t.Helper()
	d, err := factory.Create(t.Context(), name, p)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func disk(t *testing.T, dir string) driver.StorageDriver {
	t.Helper()
	return opened(t, "filesystem", configuration.Parameters{"rootdirectory": dir})
}

// fill pushes images; each fourth tag is an image index.
func (b *bucket) fill(t *testing.T) {
	t.Helper()
	r := registrytest.Start(t, registrytest.Config{Configure: func(c *configuration.Configuration) {
		delete(c.Storage, "inmemory")
		c.Storage["s3"] = b.parameters()
	}})
	var mu sync.Mutex
	var work errgroup.Group
	for n := range repositories * images {
		name, tag := fmt.Sprintf("team/app%d", n%repositories), fmt.Sprintf("v%d", n/repositories)
		work.Go(func() error {
			d, err := b.push(t.Context(), r.Push, name, tag, n)
			mu.Lock()
			defer mu.Unlock()
			b.tags[name+":"+tag] = d
			return err
		})
	}
	if err := work.Wait(); err != nil {
		t.Fatal(err)
	}
	// An upload that did not end.
	upload := "/docker/registry/v2/repositories/team/app0/_uploads/1/data"
	if err := b.driver(t).PutContent(t.Context(), upload, []byte("half")); err != nil {
		t.Fatal(err)
	}
}

func (b *bucket) push(ctx context.Context, c *push.Client, name, tag string, n int) (ocispec.Descriptor, error) {
	spec := push.ImageSpec{Author: fmt.Sprint(n), Layers: [][]byte{fmt.Appendf(nil, "layer %d", n)}}
	if n == 0 {
		spec.Layers = append(spec.Layers, bytes.Repeat([]byte("large "), 500_000))
	}
	if n%4 != 1 {
		return c.Image(ctx, name, tag, spec)
	}
	child, err := c.Image(ctx, name, "", spec)
	if err != nil {
		return child, err
	}
	return c.Index(ctx, name, tag, []ocispec.Descriptor{child}, nil)
}

// filesOf returns the number of files below a directory.
func filesOf(t *testing.T, dir string) (n int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			n++
		}
		return nil // what vanishes meanwhile
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// read returns the content of a path of the registry, or nil.
func read(t *testing.T, dir, name string, args ...any) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(dir, "docker/registry/v2", fmt.Sprintf(name, args...)))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return content
}

// isWhole checks that a storage has what a tag in it needs, with the bytes of each digest, and
// reports whether the tag is there.
func isWhole(t *testing.T, dir, name string) bool {
	t.Helper()
	repository, tag, _ := strings.Cut(name, ":")
	link := read(t, dir, "repositories/%s/_manifests/tags/%s/current/link", repository, tag)
	if link == nil {
		return false
	}
	checkManifest(t, dir, repository, digest.Digest(link))
	return true
}

func checkManifest(t *testing.T, dir, repository string, d digest.Digest) {
	t.Helper()
	if read(t, dir, "repositories/%s/_manifests/revisions/sha256/%s/link", repository, d.Encoded()) == nil {
		t.Errorf("%s: no link to manifest %s", repository, d)
	}
	var doc struct {
		Config            *ocispec.Descriptor
		Layers, Manifests []ocispec.Descriptor
	}
	if err := json.Unmarshal(checkBlob(t, dir, d), &doc); err != nil {
		t.Errorf("%s: manifest %s: %v", repository, d, err)
	}
	if doc.Config != nil {
		doc.Layers = append(doc.Layers, *doc.Config)
	}
	for _, l := range doc.Layers {
		checkBlob(t, dir, l.Digest)
		if read(t, dir, "repositories/%s/_layers/sha256/%s/link", repository, l.Digest.Encoded()) == nil {
			t.Errorf("%s: no link to layer %s", repository, l.Digest)
		}
	}
	for _, m := range doc.Manifests {
		checkManifest(t, dir, repository, m.Digest)
	}
}

func checkBlob(t *testing.T, dir string, d digest.Digest) []byte {
	t.Helper()
	content := read(t, dir, "blobs/sha256/%.2s/%[1]s/data", d.Encoded())
	if digest.FromBytes(content) != d {
		t.Errorf("blob %s has %d other bytes", d, len(content))
	}
	return content
}

// What cannot be read fails alone, with all that would show it; the rest is whole. A second run
// copies the rest, and a third finds nothing to do.
func TestFailures(t *testing.T) {
	t.Parallel()
	b := startBucket(t)
	dir := t.TempDir()
	broken := b.tags["team/app0:v1"].Digest // a manifest, and n = 5: an image index
	var requests, refused atomic.Int64
	refuse := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		isObject := r.Method == http.MethodGet && strings.HasPrefix(r.URL.Path, "/images/docker/")
		if isObject && (strings.Contains(r.URL.Path, "/"+broken.Encoded()+"/data") || requests.Add(1)%4 == 0) {
			refused.Add(1)
			w.WriteHeader(http.StatusForbidden) // which the driver does not try again
		}
	})
	b.before.Store(&refuse)
	var failures sync.Map
	run := func() copier.Counts {
		t.Helper()
		c := copier.New(copier.Config{
			From: b.driver(t), To: disk(t, dir), Pause: time.Millisecond,
			Failed: func(path string, err error) { failures.Store(path, err) },
		})
		if err := c.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := c.Counts(); n.Ended() != n.Files || !n.Listed || n.Files < files {
			t.Fatalf("not all were tried: %+v", n)
		}
		return c.Counts()
	}
	first := run()
	// The data, the link, and two of the tag; a good file may be refused five times, too.
	if first.Failed < 4 || first.Failed > 40 || refused.Load() < 200 {
		t.Errorf("%d refused: %+v", refused.Load(), first)
	}
	for _, path := range []string{"blobs/sha256/" + broken.Encoded()[:2] + "/" + broken.Encoded() + "/data",
		"repositories/team/app0/_manifests/revisions/sha256/" + broken.Encoded() + "/link",
		"repositories/team/app0/_manifests/tags/v1/current/link"} {
		if _, told := failures.Load("/docker/registry/v2/" + path); !told {
			t.Errorf("%s is no failure", path)
		}
	}
	if isWhole(t, dir, "team/app0:v1") {
		t.Error("the tag of a manifest that was not copied is there")
	}
	b.before.Store(nil)
	second := run()
	if second.Failed != 0 || second.Copied == 0 || second.Copied > first.Failed || second.There < first.Copied {
		t.Errorf("first %+v\nsecond %+v", first, second)
	}
	for name := range b.tags {
		if !isWhole(t, dir, name) {
			t.Errorf("%s is not there", name)
		}
	}
	third := run()
	if third.There != third.Files || third.Bytes != 0 || int64(filesOf(t, dir)) != third.Files {
		t.Errorf("%d files: %+v", filesOf(t, dir), third)
	}
	checkTags(t, b, dir)
}

// checkTags checks that a tag that differs is moved, unless it shall stay, and that bytes that do
// not have their digest are not copied.
func checkTags(t *testing.T, b *bucket, dir string) {
	t.Helper()
	const at = "/docker/registry/v2/repositories/team/app0/_manifests/tags/v0/current/link"
	other, want := b.tags["team/app0:v2"].Digest, b.tags["team/app0:v0"].Digest
	to := disk(t, dir)
	if err := to.PutContent(t.Context(), at, []byte(other)); err != nil {
		t.Fatal(err)
	}
	damaged := b.tags["team/app1:v3"].Digest
	name := fmt.Sprintf("/docker/registry/v2/blobs/sha256/%.2s/%[1]s/data", damaged.Encoded())
	damage := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, name) {
			w.Write([]byte("damaged"))
		}
	})
	b.before.Store(&damage)
	if err := to.Delete(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	for _, keep := range []bool{true, false} {
		c := copier.New(copier.Config{From: b.driver(t), To: to, Pause: time.Millisecond, KeepTags: keep})
		if err := c.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		n := c.Counts()
		got, err := to.GetContent(t.Context(), at)
		if err != nil || (string(got) == string(other)) != keep || (string(got) == string(want)) == keep {
			t.Errorf("keep %v: the tag shows %s, %v", keep, got, err)
		}
		if (n.Kept == 1) != keep || n.Failed != 1 {
			t.Errorf("keep %v: %+v", keep, n)
		}
		if _, err := to.Stat(t.Context(), name); err == nil {
			t.Error("damaged bytes were copied")
		}
	}
}

// A bucket is a destination too: a second copy finds all there, with a blob that was sent in parts.
func TestToBucket(t *testing.T) {
	t.Parallel()
	b := startBucket(t)
	other := s3mem.New()
	if err := other.CreateBucket("images"); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(gofakes3.New(other, gofakes3.WithLogger(gofakes3.DiscardLog())).Server())
	t.Cleanup(server.Close)
	to := opened(t, "s3", (&bucket{url: server.URL}).parameters())
	for _, again := range []bool{false, true} {
		c := copier.New(copier.Config{From: b.driver(t), To: to})
		if err := c.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		n := c.Counts()
		if n.Failed != 0 || n.Copied+n.There != n.Files || (n.Copied == 0) != again || (n.Bytes == 0) != again {
			t.Errorf("again %v: %+v", again, n)
		}
	}
	if _, err := to.List(t.Context(), "/portbook"); err == nil {
		t.Error("something was staged in S3, where objects are whole or not there")
	}
}

// The real command may be killed at any moment: whatever it has left is whole, it goes on when it
// is run again, and the stock registry serves what it has copied.
func TestKill(t *testing.T) {
	t.Parallel()
	b := startBucket(t)
	dir := t.TempDir()
	from := config(t, "source.yml", `{s3: {bucket: images, region: auto, accesskey: key, secretkey: marker-of-a-secret,
  regionendpoint: '`+b.url+`', forcepathstyle: true, secure: false}}`)
	to := config(t, "destination.yml", `{filesystem: {rootdirectory: '`+dir+`'}}`)
	command := func() *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), registrytest.Binary(t), "copy", "--from", from, to)
		cmd.Env = append(os.Environ(), "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY="+dir)
		return cmd
	}
	for _, after := range []int64{100, 700} { // among blobs, and among links
		killAfter(t, b, command(), after)
		if n := filesOf(t, dir); n < 90 || n >= files {
			t.Errorf("%d files after it was killed", n)
		}
		for name := range b.tags {
			isWhole(t, dir, name)
		}
	}
	b.before.Store(nil)
	out, err := command().CombinedOutput()
	if err != nil || !strings.Contains(string(out), " 0 failed") || strings.Contains(string(out), " 0 were there") {
		t.Fatalf("%v:\n%s", err, out)
	}
	p := registrytest.StartProcess(t, registrytest.ProcessConfig{Root: dir})
	for name := range b.tags {
		if !isWhole(t, dir, name) {
			t.Errorf("%s is not there", name)
		}
	}
	for _, name := range []string{"team/app0:v0", "team/app1:v0"} { // with a large layer; an image index
		pull(t, p, name, b.tags[name])
	}
}

// killAfter kills a copy when it has read so many objects, and waits for more.
func killAfter(t *testing.T, b *bucket, cmd *exec.Cmd, after int64) {
	t.Helper()
	var objects atomic.Int64
	waits := make(chan struct{})
	gate := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || !strings.HasPrefix(r.URL.Path, "/images/docker/") {
			return
		}
		n := objects.Add(1)
		if n == after+8 { // all workers wait
			close(waits)
		}
		if n > after {
			<-r.Context().Done()
		}
	})
	b.before.Store(&gate)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	select {
	case <-waits:
	case <-ended:
		t.Fatalf("it ended before %d objects:\n%s", after, log.String())
	}
	cmd.Process.Kill()
	<-ended
}

func config(t *testing.T, name, storage string) string {
	t.Helper()
	name = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(name, []byte("version: 0.1\nstorage: "+storage+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// pull reads a tag with all that it names from a registry.
func pull(t *testing.T, p *registrytest.Process, name string, want ocispec.Descriptor) {
	t.Helper()
	repository, tag, _ := strings.Cut(name, ":")
	content := get(t, p, repository+"/manifests/"+tag)
	if got := digest.FromBytes(content); got != want.Digest {
		t.Errorf("%s is %s, want %s", name, got, want.Digest)
	}
	var doc struct{ Layers, Manifests []ocispec.Descriptor }
	if err := json.Unmarshal(content, &doc); err != nil || len(doc.Layers)+len(doc.Manifests) == 0 {
		t.Fatalf("%s: %v: %s", name, err, content)
	}
	for _, l := range doc.Layers {
		if got := digest.FromBytes(get(t, p, repository+"/blobs/"+l.Digest.String())); got != l.Digest {
			t.Errorf("%s: layer %s is %s", name, l.Digest, got)
		}
	}
	for _, m := range doc.Manifests {
		get(t, p, repository+"/manifests/"+m.Digest.String())
	}
}

func get(t *testing.T, p *registrytest.Process, path string) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.URL+"/v2/"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", ocispec.MediaTypeImageManifest+", "+ocispec.MediaTypeImageIndex)
	resp, err := p.Push.HTTP.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", path, resp.Status, err)
	}
	return body
}

// The command fails with a reason, and shows no secret.
func TestCommandFails(t *testing.T) {
	t.Parallel()
	empty := config(t, "empty.yml", `{filesystem: {rootdirectory: '`+t.TempDir()+`'}}`)
	unreachable := config(t, "s3.yml", `{s3: {bucket: images, region: auto, accesskey: key,
  secretkey: marker-of-a-secret, regionendpoint: 'http://`+registrytest.FreeAddr(t)+`', forcepathstyle: true}}`)
	broken := config(t, "broken.yml", `{papyrus: {}}`)
	for from, want := range map[string]string{
		empty:       "the source has no docker/registry/v2",
		unreachable: "list the source",
		broken:      "papyrus",
		"absent":    "the source: open absent",
	} {
		t.Run(filepath.Base(from), func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), registrytest.Binary(t), "copy", "--from", from, empty)
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), want) || strings.Contains(string(out), "marker-of-a-secret") {
				t.Errorf("%v:\n%s", err, out)
			}
		})
	}
}
