package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content/memory"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/portbook/portbook/registry/push"
	"github.com/portbook/portbook/registry/registrytest"
)

// tortureTime returns for how long TestTorture changes things: 12 s, or what
// PORTBOOK_TEST_TORTURE says.
func tortureTime(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("PORTBOOK_TEST_TORTURE")
	if text == "" {
		return 12 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("PORTBOOK_TEST_TORTURE: %v", err)
	}
	return d
}

// Images, indexes and referrers are pushed, tagged, deleted, put back and rolled back, while a
// plan of retention is applied again and again, loose blobs are removed, and the writers,
// PostgreSQL and the registry are killed. All images share blobs. Afterwards each repository
// must have what its user expects and a client must be able to pull it whole; what was deleted
// must be gone; and the book must equal the registry.
func TestTorture(t *testing.T) {
	t.Parallel()
	f := launchWith(t, func(f *fleet) registrytest.ProcessConfig {
		keys := filepath.Join(f.dir, "keys.json")
		f.settings = []string{"PORTBOOK_AUTH_KEYS=" + keys, "PORTBOOK_AUTH_METHOD=accounts",
			"PORTBOOK_REGISTRY_PUBLIC_URL=http://" + f.address}
		f.must("keys", "rotate", keys)
		return registrytest.ProcessConfig{}
	})
	rig := &torture{t: t, f: f, done: map[string]int{}}
	rig.writers = []*indexerProcess{f.indexer(f.address), f.indexer(registrytest.FreeAddr(t))}
	rig.addresses = []string{rig.writers[0].address, rig.writers[1].address}
	f.input = password + "\n"
	f.must("user", "add", "--admin", "root")
	rule := map[string]any{"pattern": "torture/*", "action": "delete", "tag": "tmp-*"}
	if status, body := rig.ask(t.Context(), http.MethodPost, "/api/v1/retention", rule); status != http.StatusCreated {
		t.Fatalf("rule: %d %s", status, body)
	}
	ctx, cancel := context.WithTimeout(t.Context(), tortureTime(t))
	defer cancel()
	var users []*tortured
	var work sync.WaitGroup
	for i := range 4 {
		u := &tortured{torture: rig, name: fmt.Sprintf("torture/user-%d", i), r: random(t), tags: map[string]digest.Digest{},
			gone: map[string]bool{}, attached: map[digest.Digest][]digest.Digest{}}
		users = append(users, u)
		work.Go(func() { u.work(ctx) })
	}
	work.Go(func() { rig.tidy(ctx) })
	kills := rig.kill(ctx)
	work.Wait()
	t.Logf("done: %v; killed: %d", rig.done, kills)
	pool := f.pool()
	within(t, time.Minute, "all operations are over", func() bool {
		return f.query(pool, "SELECT count(*) FROM operation WHERE ended_at IS NULL") == 0
	})
	for _, u := range users {
		u.check(t.Context())
	}
	f.equal(patience)
	if kills == 0 {
		t.Error("nothing was killed")
	}
}

// A torture is one run of TestTorture.
type torture struct {
	t         *testing.T
	f         *fleet
	writers   []*indexerProcess
	addresses []string

	mu   sync.Mutex
	done map[string]int // how often what was done
}

func (x *torture) count(what string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.done[what]++
}

// kill kills processes until the context ends, and returns how many.
func (x *torture) kill(ctx context.Context) (kills int) {
	r := random(x.t)
	for {
		select {
		case <-ctx.Done():
			return kills
		case <-time.After(time.Duration(500+r.IntN(2000)) * time.Millisecond):
		}
		kills++
		switch n := r.IntN(10); {
		case n < 7:
			x.writers[n%2].process.Kill()
			x.writers[n%2] = x.f.indexer(x.addresses[n%2])
		case n < 8:
			x.f.postgres.Kill()
			if err := x.f.postgres.Restart(x.t.Context()); err != nil {
				x.t.Fatal(err)
			}
		default:
			x.f.registry.Kill()
			x.f.registry.Start()
		}
	}
}

// tidy makes and applies plans, undoes some, and removes loose blobs, half of which it makes
// old. That some fail is part of the test.
func (x *torture) tidy(ctx context.Context) {
	r := random(x.t)
	pool := x.f.pool()
	for ctx.Err() == nil {
		_, body := x.ask(ctx, http.MethodPost, "/api/v1/plans", map[string]any{"scope": "torture/*"})
		var plan struct{ ID int64 }
		if json.Unmarshal(body, &plan) == nil && plan.ID > 0 {
			address := fmt.Sprintf("/api/v1/plans/%d", plan.ID)
			if status, _ := x.ask(ctx, http.MethodPost, address+"/apply", map[string]any{"accept_percent": 100}); status < 300 {
				x.count("plan applied")
			}
			if r.IntN(4) == 0 {
				if status, _ := x.ask(ctx, http.MethodPost, address+"/undo", nil); status < 300 {
					x.count("plan undone")
				}
			}
		}
		_, _ = pool.Exec(ctx, "UPDATE loose_blob SET since = since - interval '2 days' WHERE random() < 0.5")
		if status, _ := x.ask(ctx, http.MethodPost, "/api/v1/jobs/runBlobGC", nil); status < 300 {
			x.count("loose blobs removed")
		}
		pause(ctx.Done(), time.Duration(r.IntN(300))*time.Millisecond)
	}
}

// ask sends a request of the administrator to one of the writers. It returns status 0 without an
// answer.
func (x *torture) ask(ctx context.Context, method, path string, in any) (status int, answer []byte) {
	body := []byte("{}")
	if in != nil {
		body, _ = json.Marshal(in) // maps of strings and numbers
	}
	address := x.addresses[rand.IntN(len(x.addresses))]
	req, err := http.NewRequestWithContext(ctx, method, "http://"+address+path, bytes.NewReader(body))
	if err != nil {
		x.t.Error(err)
		return 0, nil
	}
	if in == nil {
		req.Body, req.ContentLength = http.NoBody, 0
	} else {
		req.Header.Set("Content-Type", "application/json")
	}
	req.SetBasicAuth("root", password)
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	if err != nil {
		return 0, nil
	}
	return resp.StatusCode, answer
}

// A tortured is a user who alone changes one repository, and knows what it must hold.
type tortured struct {
	*torture
	name string
	r    *rand.Rand

	tags     map[string]digest.Digest          // that must exist; none that retention may delete
	gone     map[string]bool                   // tags that must not exist
	images   []ocispec.Descriptor              // that were pushed; some are deleted
	attached map[digest.Digest][]digest.Digest // referrers that must exist while their subject is tagged
	deletion int64                             // the last deletion of a manifest; 0: none
	undone   map[string]digest.Digest          // tags that its undoing brings back
}

func (u *tortured) work(ctx context.Context) {
	for i := 0; ctx.Err() == nil && !u.t.Failed(); i++ {
		u.step(u.t.Context(), i)
	}
}

// step makes one change, and repeats it until the outcome is certain.
func (u *tortured) step(ctx context.Context, i int) {
	tag := fmt.Sprintf("t%d", u.r.IntN(6))
	switch n := u.r.IntN(100); {
	case n < 35 || len(u.images) == 0:
		u.push(ctx, tag, i)
	case n < 45:
		u.push(ctx, fmt.Sprintf("tmp-%d", u.r.IntN(4)), i)
	case n < 55:
		u.index(ctx, tag)
	case n < 62:
		u.attach(ctx)
	case n < 72:
		u.untag(ctx, tag)
	case n < 82:
		u.deleteManifest(ctx, tag)
	case n < 88:
		u.rollback(ctx, tag)
	case n < 98:
		u.undo(ctx)
	default:
		u.deleteRepository(ctx)
	}
}

// expects notes that a tag shows a digest now.
func (u *tortured) expects(tag string, d digest.Digest) {
	if strings.HasPrefix(tag, "tmp-") {
		return
	}
	u.tags[tag] = d
	delete(u.gone, tag)
	delete(u.undone, tag)
}

// insist repeats f, which pushes, until it succeeds.
func (u *tortured) insist(what string, f func() error) {
	var err error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if err = f(); err == nil {
			u.count(what)
			return
		}
	}
	u.t.Errorf("%s: %s: %v", u.name, what, err)
}

// push pushes an image whose layers others have too.
func (u *tortured) push(ctx context.Context, tag string, i int) {
	spec := push.ImageSpec{Labels: map[string]string{"user": u.name, "change": fmt.Sprint(i)}}
	for range 1 + u.r.IntN(3) {
		spec.Layers = append(spec.Layers, tortureLayer(u.r.IntN(12)))
	}
	u.insist("push", func() error {
		d, err := u.f.registry.Push.Image(ctx, u.name, tag, spec)
		if err == nil {
			u.images = append(u.images, d)
			u.expects(tag, d.Digest)
		}
		return err
	})
}

// tortureLayer returns one of some layers.
func tortureLayer(i int) []byte {
	return bytes.Repeat([]byte(fmt.Sprintf("layer %d ", i)), 100)
}

// shown returns an image that a tag shows, or false if there is none.
func (u *tortured) shown() (ocispec.Descriptor, bool) {
	for _, i := range u.r.Perm(len(u.images)) {
		if slices.Contains(slices.Collect(maps.Values(u.tags)), u.images[i].Digest) {
			return u.images[i], true
		}
	}
	return ocispec.Descriptor{}, false
}

// index pushes an index of two images, which it pushes too.
func (u *tortured) index(ctx context.Context, tag string) {
	var specs []push.ImageSpec
	for _, architecture := range []string{"amd64", "arm64"} {
		specs = append(specs, push.ImageSpec{Architecture: architecture, Layers: [][]byte{tortureLayer(u.r.IntN(12))}})
	}
	u.insist("index", func() error {
		var children []ocispec.Descriptor
		for _, spec := range specs {
			d, err := u.f.registry.Push.Image(ctx, u.name, "", spec)
			if err != nil {
				return err
			}
			children = append(children, d)
		}
		d, err := u.f.registry.Push.Index(ctx, u.name, tag, children, nil)
		if err == nil {
			u.expects(tag, d.Digest)
		}
		return err
	})
}

// attach attaches a referrer to an image that a tag shows.
func (u *tortured) attach(ctx context.Context) {
	subject, ok := u.shown()
	if !ok {
		return
	}
	u.insist("attach", func() error {
		d, err := u.f.registry.Push.Artifact(ctx, u.name, "", push.ArtifactSpec{
			ArtifactType: "application/vnd.torture", Subject: &subject, Annotations: map[string]string{"n": fmt.Sprint(u.r.IntN(1000))},
		})
		if err == nil {
			u.attached[subject.Digest] = append(u.attached[subject.Digest], d.Digest)
		}
		return err
	})
}

// An operated is an operation, as far as the test needs it.
type operated struct {
	ID       int64
	State    string
	Error    string
	Notes    []string
	Deleted  int
	Untagged int
}

// operate asks for an operation, until there is an answer, and waits for its end. It returns
// false if it was refused.
func (u *tortured) operate(ctx context.Context, what, method, path string, in any) (o operated, done bool) {
	for deadline := time.Now().Add(2 * patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		status, body := u.ask(ctx, method, path, in)
		var got struct{ Operation *operated }
		switch {
		case status == http.StatusNotFound || status == http.StatusConflict:
			u.count(what + " refused")
			return o, false
		case status != http.StatusOK && status != http.StatusAccepted:
			continue
		case json.Unmarshal(body, &got) != nil || got.Operation == nil:
			u.t.Errorf("%s: %s: no operation in %s", u.name, what, body)
			return o, false
		}
		o = *got.Operation
		for o.State == "waiting" || o.State == "running" {
			if time.Now().After(deadline) {
				break
			}
			time.Sleep(30 * time.Millisecond)
			var next operated
			status, body := u.ask(ctx, http.MethodGet, fmt.Sprintf("/api/v1/operations/%d", o.ID), nil)
			if status == http.StatusOK && json.Unmarshal(body, &next) == nil {
				o = next
			}
		}
		if o.State == "failed" {
			u.count(what + " failed")
			return o, false
		}
		u.count(what)
		return o, o.State == "done"
	}
	u.t.Errorf("%s: %s: no end of the operation: %+v", u.name, what, o)
	return o, false
}

// stays reports whether an operation says that it left a tag or put it back, since it was pushed
// meanwhile. It cannot know better if the event of the push came late, as when a writer was dead.
func (u *tortured) stays(o operated, tag string) bool {
	return slices.ContainsFunc(o.Notes, func(note string) bool {
		return strings.HasPrefix(note, u.name+":"+tag+" was pushed meanwhile, and ")
	})
}

func (u *tortured) address(rest string) string { return "/api/v1/repositories/" + u.name + rest }

// untag deletes a tag.
func (u *tortured) untag(ctx context.Context, tag string) {
	_, there := u.tags[tag]
	o, done := u.operate(ctx, "untag", http.MethodDelete, u.address("/-/tags/"+tag), nil)
	if done && u.stays(o, tag) {
		u.count("untag undone by a push")
		return
	}
	if !done && there {
		// Whoever asks again after a lost answer may hear that there is no such tag any more.
		if _, _, err := u.f.registry.Push.Fetch(ctx, u.name, tag); !isStatus(err, http.StatusNotFound) {
			u.t.Errorf("%s:%s was not deleted: %v", u.name, tag, err)
		}
	}
	delete(u.tags, tag)
	u.gone[tag] = true
}

// isStatus reports whether the registry answered with a status.
func isStatus(err error, status int) bool {
	var refused *push.Error
	return errors.As(err, &refused) && refused.Status == status
}

// deleteManifest deletes what a tag shows, with all its tags.
func (u *tortured) deleteManifest(ctx context.Context, tag string) {
	d, there := u.tags[tag]
	if !there {
		return
	}
	path := u.address("/-/manifests/" + d.String())
	switch u.r.IntN(3) {
	case 0:
		path += "?referrers=true&children=true"
	case 1:
		path += "?referrers=true"
	}
	o, done := u.operate(ctx, "delete-manifest", http.MethodDelete, path, nil)
	if !done {
		if _, _, err := u.f.registry.Push.Fetch(ctx, u.name, d.String()); err == nil {
			return // as a child of an index that stays
		}
	}
	u.deletion, u.undone = o.ID, map[string]digest.Digest{}
	for other, shows := range u.tags {
		if shows == d && !u.stays(o, other) {
			delete(u.tags, other)
			u.gone[other] = true
			u.undone[other] = d
		}
	}
	delete(u.attached, d)
}

// undo puts back what the last deletion of a manifest deleted.
func (u *tortured) undo(ctx context.Context) {
	if u.deletion == 0 {
		return
	}
	_, done := u.operate(ctx, "undo", http.MethodPost, fmt.Sprintf("/api/v1/operations/%d/undo", u.deletion), nil)
	back := u.undone
	u.deletion, u.undone = 0, nil
	if !done {
		for tag := range back { // it may have been done before an answer was lost
			delete(u.gone, tag)
		}
		return
	}
	for tag, d := range back {
		u.expects(tag, d)
	}
}

// rollback makes a tag show an image of before.
func (u *tortured) rollback(ctx context.Context, tag string) {
	d := u.images[u.r.IntN(len(u.images))].Digest
	if _, done := u.operate(ctx, "rollback", http.MethodPut, u.address("/-/tags/"+tag), map[string]any{"digest": d.String()}); done {
		u.expects(tag, d)
		return
	}
	// It may have been done before an answer was lost.
	got, _, err := u.f.registry.Push.Fetch(ctx, u.name, tag)
	if err == nil && got.Digest == d {
		u.expects(tag, d)
	}
}

// deleteRepository deletes everything.
func (u *tortured) deleteRepository(ctx context.Context) {
	o, done := u.operate(ctx, "delete-repository", http.MethodDelete, u.address(""), nil)
	if !done && len(u.tags) > 0 {
		for tag := range u.tags {
			if _, _, err := u.f.registry.Push.Fetch(ctx, u.name, tag); err == nil {
				u.t.Errorf("%s:%s was not deleted", u.name, tag)
			}
		}
	}
	for tag := range u.tags {
		if u.stays(o, tag) {
			continue
		}
		delete(u.tags, tag)
		u.gone[tag] = true
	}
	u.attached, u.deletion = map[digest.Digest][]digest.Digest{}, 0
}

// check fails the test unless the repository has what its user expects.
func (u *tortured) check(ctx context.Context) {
	repository, err := remote.NewRepository(strings.TrimPrefix(u.f.registry.URL, "http://") + "/" + u.name)
	if err != nil {
		u.t.Fatal(err)
	}
	repository.PlainHTTP = true
	for tag, want := range u.tags {
		got, err := oras.Copy(ctx, repository, tag, memory.New(), "", oras.DefaultCopyOptions)
		if err != nil || got.Digest != want {
			u.t.Errorf("%s:%s cannot be pulled whole, or is another image: got %s, %v, want %s", u.name, tag, got.Digest, err, want)
		}
		for _, referrer := range u.attached[want] {
			if _, err := oras.Copy(ctx, repository, referrer.String(), memory.New(), "", oras.DefaultCopyOptions); err != nil {
				u.t.Errorf("%s@%s, which is attached to %s, cannot be pulled: %v", u.name, referrer, tag, err)
			}
		}
	}
	for tag := range u.gone {
		if _, _, err := u.f.registry.Push.Fetch(ctx, u.name, tag); !isStatus(err, http.StatusNotFound) {
			u.t.Errorf("%s:%s was deleted and is there: %v", u.name, tag, err)
		}
	}
	u.t.Logf("%s: %d tags, %d deleted ones, %d images", u.name, len(u.tags), len(u.gone), len(u.images))
}
