package main_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/registry/push"
	"github.com/portbook/portbook/registry/registrytest"
)

// withBlobEvents starts a fleet whose registry also reports blobs, to an endpoint of their own as
// in doc/manage.md, but with pulls, and without logins.
func withBlobEvents(t *testing.T, settings ...string) *fleet {
	t.Helper()
	return launchWith(t, func(f *fleet) registrytest.ProcessConfig {
		f.settings = settings
		const blobs = "REGISTRY_NOTIFICATIONS_ENDPOINTS_2_"
		return registrytest.ProcessConfig{Env: []string{
			blobs + "NAME=blobs", blobs + "URL=http://" + f.address + "/events",
			blobs + `HEADERS={Authorization: ["Bearer ` + token + `"]}`,
			blobs + "IGNORE={actions: [delete], mediatypes: [application/vnd.oci.image.manifest.v1+json]}",
		}}
	})
}

// job requests a job with a secret, and returns the status and the text of the answer.
func (i *indexerProcess) job(t *testing.T, name, secret string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+i.address+"/internal/"+name, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+secret)
	resp, err := (&http.Client{Timeout: 2 * patience}).Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	var text bytes.Buffer
	_, _ = text.ReadFrom(resp.Body)
	return resp.StatusCode, text.String()
}

// blob returns the status of a HEAD request for a blob, which the registry does not report to
// anybody who would take it for a use: the test counts on the age of the rows.
func (f *fleet) blob(repository string, d digest.Digest) int {
	f.t.Helper()
	resp, err := client.Head(f.registry.URL + "/v2/" + repository + "/blobs/" + d.String())
	if err != nil {
		f.t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// backdate makes the row of a loose blob 25 hours old.
func (f *fleet) backdate(repository string, d digest.Digest) {
	f.t.Helper()
	pool := f.pool()
	within(f.t, patience, "there is a row of the blob", func() bool {
		changed, err := pool.Exec(f.t.Context(), `
			UPDATE loose_blob SET since = now() - interval '25 hours' WHERE repository = $1 AND digest = decode($2, 'hex')`, repository, d.Encoded())
		return err == nil && changed.RowsAffected() == 1
	})
}

// runBlobGC removes the blobs that no manifest uses and nothing has touched for a day, and no
// others: not a fresh one, one that was pushed again, one that a manifest uses, or one that can
// be restored with its manifest.
func TestBlobGC(t *testing.T) {
	t.Parallel()
	f := withBlobEvents(t, "INTERNAL_SECRET=s3")
	i := f.indexer(f.address)
	ctx, p := t.Context(), f.registry.Push
	upload := func(text string) digest.Digest {
		d, err := p.Blob(ctx, "acme/img", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return d.Digest
	}
	image, err := p.Image(ctx, "acme/img", "v1", push.ImageSpec{})
	if err != nil {
		t.Fatal(err)
	}
	_, body, err := p.Fetch(ctx, "acme/img", "v1")
	if err != nil {
		t.Fatal(err)
	}
	old, fresh, again := upload("old"), upload("fresh"), upload("again")
	for _, d := range []digest.Digest{old, fresh, again} {
		f.backdate("acme/img", d)
	}
	if _, err := f.pool().Exec(ctx, "UPDATE loose_blob SET since = now() WHERE digest = decode($1, 'hex')", fresh.Encoded()); err != nil {
		t.Fatal(err)
	}
	// A blob that exists is not uploaded again by clients that look first: the registry reports
	// the look as a pull.
	upload("again")
	within(t, patience, "the row of the touched blob is renewed", func() bool {
		return f.query(f.pool(), "SELECT count(*) FROM loose_blob WHERE digest = decode($1, 'hex') AND since > now() - interval '1 hour'", again.Encoded()) == 1
	})
	f.equal(patience)
	// The blobs of the image were pushed before its manifest. Their rows are old, too.
	if _, err := f.pool().Exec(ctx, "UPDATE loose_blob SET since = now() - interval '25 hours' WHERE digest NOT IN (decode($1, 'hex'), decode($2, 'hex'))",
		fresh.Encoded(), again.Encoded()); err != nil {
		t.Fatal(err)
	}
	if code, text := i.job(t, "runBlobGC", "wrong"); code != 401 || text != "unauthorized\n" {
		t.Errorf("with a wrong secret: %d %q", code, text)
	}
	if code, text := i.job(t, "runBlobGC", "s3"); code != 204 {
		t.Fatalf("runBlobGC: %d %s\n%s", code, text, i.process.Tail())
	}
	for d, want := range map[digest.Digest]int{old: 404, fresh: 200, again: 200} {
		if got := f.blob("acme/img", d); got != want {
			t.Errorf("%s: %d, want %d\n%s", d, got, want, i.process.Tail())
		}
	}
	if got := f.blob("portbook-hold", old); got != 404 {
		t.Errorf("the removed blob is still held: %d", got)
	}
	used := digest.FromBytes(body)
	if used != image.Digest {
		t.Fatalf("fetched %s, want %s", used, image.Digest)
	}
	for _, hex := range hexes(body) {
		if got := f.blob("acme/img", digest.Digest("sha256:"+hex)); got != 200 {
			t.Errorf("a blob of the image: %d", got)
		}
	}
	if n := f.query(f.pool(), "SELECT count(*) FROM loose_blob"); n != 2 {
		t.Errorf("%d loose blobs are left, want 2", n)
	}
}

// hexes returns what follows sha256: in a manifest.
func hexes(body []byte) (all []string) {
	for _, part := range strings.Split(string(body), "sha256:")[1:] {
		all = append(all, part[:64])
	}
	return all
}

// A manifest that is pushed while a blob of it is removed is whole afterwards: the blob is put
// back. Here the manifest comes between the removal and the second look, and the process is
// killed in between; the next run finishes the work.
func TestBlobIsPutBack(t *testing.T) {
	t.Parallel()
	f := withBlobEvents(t, "INTERNAL_SECRET=s3")
	i := f.indexer(f.address)
	ctx, p := t.Context(), f.registry.Push
	image, err := p.Image(ctx, "acme/img", "v1", push.ImageSpec{})
	if err != nil {
		t.Fatal(err)
	}
	f.equal(patience)
	_, body, err := p.Fetch(ctx, "acme/img", image.Digest.String())
	if err != nil {
		t.Fatal(err)
	}
	layer := digest.Digest("sha256:" + hexes(body)[0])
	i.process.Kill()
	// The state that a killed run leaves: the blob is in the repository that holds it, and not in
	// its own.
	resp, err := client.Post(f.registry.URL+"/v2/portbook-hold/blobs/uploads/?mount="+layer.String()+"&from=acme/img", "application/octet-stream", nil)
	if err != nil || resp.StatusCode != 201 {
		t.Fatalf("mount: %v %v", resp, err)
	}
	resp.Body.Close()
	req, _ := http.NewRequestWithContext(ctx, "DELETE", f.registry.URL+"/v2/acme/img/blobs/"+layer.String(), nil)
	if resp, err = client.Do(req); err != nil || resp.StatusCode != 202 {
		t.Fatalf("delete: %v %v", resp, err)
	}
	resp.Body.Close()
	if _, err := f.pool().Exec(ctx, `
		INSERT INTO loose_blob (repository, digest, size, since, held_at) VALUES ('acme/img', decode($1, 'hex'), 1, now() - interval '25 hours', now())
		ON CONFLICT (repository, digest) DO UPDATE SET held_at = now()`, layer.Encoded()); err != nil {
		t.Fatal(err)
	}
	i = f.indexer(f.address)
	if got := f.blob("acme/img", layer); got != 404 {
		t.Fatalf("the blob is there: %d", got)
	}
	if code, text := i.job(t, "runBlobGC", "s3"); code != 204 {
		t.Fatalf("runBlobGC: %d %s\n%s", code, text, i.process.Tail())
	}
	if got := f.blob("acme/img", layer); got != 200 {
		t.Errorf("the blob was not put back: %d\n%s", got, i.process.Tail())
	}
	if got := f.blob("portbook-hold", layer); got != 404 {
		t.Errorf("it is still held: %d", got)
	}
}

// Runs that are asked for at the same time, at two writers, do not overlap; one whose leader is
// killed is done by the next leader, and the request to the other writer ends well.
func TestJobsRunOneAfterTheOther(t *testing.T) {
	t.Parallel()
	f := withBlobEvents(t, "INTERNAL_SECRET=s3")
	one := f.indexer(f.address)
	two := f.indexer(registrytest.FreeAddr(t))
	for n := range 20 {
		if _, err := f.registry.Push.Image(t.Context(), fmt.Sprintf("p%d/app", n), "v1", push.ImageSpec{}); err != nil {
			t.Fatal(err)
		}
	}
	f.equal(patience)
	var group sync.WaitGroup
	for n := range 4 {
		i := []*indexerProcess{one, two}[n%2]
		group.Go(func() {
			if code, text := i.job(t, "runAll", "s3"); code != 204 {
				t.Errorf("runAll: %d %s", code, text)
			}
		})
	}
	group.Wait()
	overlap := f.query(f.pool(), `
		SELECT count(*) FROM job_run a JOIN job_run b ON a.id < b.id AND a.started_at < b.ended_at AND b.started_at < a.ended_at
			AND a.name <> b.name`)
	runs := f.query(f.pool(), "SELECT count(*) FROM job_run WHERE ended_at IS NOT NULL AND error = ''")
	if overlap > 0 || runs < 1 || runs > 4 {
		t.Errorf("of %d runs, %d overlap", runs, overlap)
	}
	for _, line := range []string{"job begins", "job done"} {
		if log := one.log.String() + two.log.String(); !strings.Contains(log, line) || overlaps(log) {
			t.Errorf("the log says that jobs overlap, or does not say %q:\n%s", line, log)
		}
	}
	if n := f.query(f.pool(), "SELECT count(*) FROM project_storage WHERE size > 0"); n != 20 {
		t.Errorf("storage of %d projects, want 20", n)
	}
	leader, other := one, two
	if two.leads() {
		leader, other = two, one
	}
	// The scan of the next run waits for the registry, which is stopped.
	f.registry.Kill()
	answered := make(chan string, 1)
	go func() {
		code, text := other.job(t, "runAll", "s3")
		answered <- fmt.Sprint(code, text)
	}()
	within(t, patience, "the run has begun", func() bool {
		return f.query(f.pool(), "SELECT count(*) FROM job_run WHERE started_at IS NOT NULL AND ended_at IS NULL") == 1
	})
	leader.process.Kill()
	f.registry.Start()
	select {
	case got := <-answered:
		if got != "204" {
			t.Errorf("after the leader was killed: %s\n%s", got, other.process.Tail())
		}
	case <-time.After(2 * patience):
		t.Fatalf("no answer after the leader was killed\n%s", other.process.Tail())
	}
}

// overlaps reports whether a log says that a part of runAll begins before another one is done.
func overlaps(log string) bool {
	running := 0
	for line := range strings.Lines(log) {
		switch {
		case strings.Contains(line, `msg="job begins"`):
			if running++; running > 1 {
				return true
			}
		case strings.Contains(line, `msg="job done"`):
			running--
		}
	}
	return false
}
