package main_test

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/registry/push"
	"github.com/portbook/portbook/registry/registrytest"
)

// curls returns the examples of doc/api.md. Each is shell code that a reader may paste.
func curls(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("../../../doc/api.md")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		if strings.Contains(block[1], "-u root") { // they need logins: TestAccessDoc runs them
			continue
		}
		if strings.HasPrefix(block[1], "version=") { // its lines belong together
			all = append(all, block[1])
			continue
		}
		all = append(all, strings.Split(strings.TrimSpace(block[1]), "\n")...)
	}
	if len(all) < 20 {
		t.Fatalf("got only %d examples", len(all))
	}
	return all
}

// decode requests a URL and decodes its JSON. It fails the test unless the status is
// 200.
func decode[T any](t *testing.T, url string) (v T, header http.Header) {
	t.Helper()
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", url, resp.Status)
	}
	if err := json.NewDecoder(resp.Body).Decode(&v); err != nil {
		t.Fatalf("%s: %v", url, err)
	}
	return v, resp.Header
}

// checkStorageCommand checks that the command says the same as the API.
func checkStorageCommand(t *testing.T, f *fleet, url string) {
	t.Helper()
	for argument, path := range map[string]string{
		"samples/harbour:latest": "repositories/samples/harbour/-/manifests/latest/storage",
		"samples/harbour":        "repositories/samples/harbour/-/storage",
		"samples/*":              "namespaces/samples/storage",
	} {
		want, _ := decode[map[string]any](t, url+"/api/v1/"+path)
		var got map[string]any
		if err := json.Unmarshal([]byte(f.must("storage", argument, "--json")), &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("portbook storage %s (-API +command)\n%s", argument, diff)
		}
		if frees, ok := want["frees"].(map[string]any); !ok || frees["bytes"] == 0. {
			t.Errorf("%s frees nothing: %v", argument, want)
		}
	}
	text := f.must("storage", "samples/harbour:latest")
	for _, word := range []string{"own", "shared", "frees", "frees with attached", "frees nothing: the manifest stays"} {
		if !strings.Contains(text, word) {
			t.Errorf("%q is not in\n%s", word, text)
		}
	}
	if out, err := f.run("storage", "samples/none"); err == nil || !strings.Contains(out, "not found") {
		t.Errorf("an unknown repository: %v %s", err, out)
	}
}

// The examples of doc/api.md must work unchanged with the sample images and the real
// programs, and the pushed content must be in every answer about it.
func TestAPI(t *testing.T) {
	t.Parallel()
	f := launch(t)
	writer := f.indexer(f.address, "PORTBOOK_COMPONENTS_REGISTRY_PROXY=true")
	if err := push.Samples(t.Context(), f.registry.Push); err != nil {
		t.Fatal(err)
	}
	f.equal(patience)
	url := "http://" + writer.address

	if _, err := exec.LookPath("curl"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("curl is not installed: apt-get install curl")
		}
		t.Skip("curl is not installed")
	}
	// The examples write the time in whole seconds; the past begins with the first push.
	begun := time.Now()
	within(t, patience, "a second is over since the first push", func() bool { return time.Since(begun) > time.Second })
	dir := t.TempDir()
	for _, example := range curls(t) {
		cmd := exec.Command("sh", "-ec", strings.ReplaceAll(example, "http://127.0.0.1:7080", url))
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil || len(out) == 0 && !strings.Contains(example, ">") {
			t.Errorf("%s\n%v, %s", example, err, out)
		}
	}

	manifest, _ := decode[struct{ Digest string }](t, url+"/api/v1/repositories/samples/harbour/-/manifests/latest")
	ours, _ := decode[struct {
		Referrers []struct{ Digest, Kind string }
	}](t, url+"/api/v1/repositories/samples/harbour/-/manifests/latest/referrers")
	oci, header := decode[struct {
		Manifests []struct{ Digest, ArtifactType string }
	}](t, url+"/v2/samples/harbour/referrers/"+manifest.Digest)
	if len(ours.Referrers) != 2 || len(oci.Manifests) != 2 || header.Get("Content-Type") != "application/vnd.oci.image.index.v1+json" {
		t.Errorf("referrers of %s: %+v, by OCI %+v", manifest.Digest, ours, oci)
	}
	checkStorageCommand(t, f, url)
	uses, _ := decode[struct{ Uses []struct{ As string } }](t, url+"/api/v1/digests/"+manifest.Digest)
	if len(uses.Uses) == 0 || uses.Uses[0].As != "manifest" && uses.Uses[0].As != "subject" {
		t.Errorf("uses of %s: %+v", manifest.Digest, uses)
	}
	moves, _ := decode[struct {
		Moves []struct {
			ID       int64
			From, To string
			SeenAt   time.Time `json:"seen_at"`
		}
	}](t, url+"/api/v1/repositories/samples/harbour/-/tags/latest/history")
	if n := len(moves.Moves); n == 0 || moves.Moves[0].To != manifest.Digest || moves.Moves[n-1].From != "" {
		t.Fatalf("moves of latest: %+v", moves)
	}
	first := moves.Moves[len(moves.Moves)-1]
	then, _ := decode[struct {
		Moves []struct {
			SeenAt time.Time `json:"seen_at"`
		}
	}](t, url+"/api/v1/history?at="+first.SeenAt.UTC().Format(time.RFC3339Nano))
	for _, m := range then.Moves {
		if m.SeenAt.After(first.SeenAt) {
			t.Errorf("a move of %v is in the history at %v", m.SeenAt, first.SeenAt)
		}
	}
	if len(then.Moves) == 0 {
		t.Errorf("no moves at %v", first.SeenAt)
	}
	all, _ := decode[struct{ Moves []struct{ ID int64 } }](t, url+"/api/v1/history?at="+time.Now().UTC().Format(time.RFC3339Nano))
	if len(all.Moves) == 0 {
		t.Error("got no moves at the current time")
	}

	// A reader that receives no events waits until it sees the push.
	reader := f.indexer(registrytest.FreeAddr(t), "PORTBOOK_ROLE=reader")
	pushed, err := f.registry.Push.Image(t.Context(), "my/own", "push", push.ImageSpec{})
	if err != nil {
		t.Fatal(err)
	}
	address := "/api/v1/repositories/my/own/-/manifests/" + pushed.Digest.String()
	within(t, patience, "the book has the push", func() bool { return status(url+address) == http.StatusOK })
	_, header = decode[any](t, url+address)
	decode[any](t, "http://"+reader.address+address+"?min_version="+header.Get("Portbook-Version"))

	checkDump(t, f, body(url+"/api/v1/dump"))
	if page := body(url + "/api/v1/"); !strings.Contains(page, "OpenAPI") {
		t.Errorf("the page of the API: %.200s", page)
	}
	if got := body(url + "/api/v1/config"); strings.Contains(got, token) || strings.Contains(got, "postgres") || !strings.Contains(got, f.address) {
		t.Errorf("got config %s", got)
	}
}

// checkDump fails the test unless a dump has as many records as the tables.
func checkDump(t *testing.T, f *fleet, dump string) {
	t.Helper()
	counts := map[string]int{}
	for line := range strings.Lines(dump) {
		var r struct {
			Type     string
			Manifest struct {
				Digest string
				Body   []byte
			}
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%v: %.200s", err, line)
		}
		counts[r.Type]++
		if r.Type == "manifest" {
			if d, err := indexer.ParseDigest(r.Manifest.Digest); err != nil || d.Algorithm().FromBytes(r.Manifest.Body) != d {
				t.Errorf("the bytes of %s do not match its digest: %v", r.Manifest.Digest, err)
			}
		}
	}
	pool := f.pool()
	for kind, table := range map[string]string{"repository": "repository_search", "manifest": "manifest", "tag": "tag", "move": "tag_history"} {
		if want := f.query(pool, "SELECT count(*) FROM "+table); counts[kind] != want || want == 0 {
			t.Errorf("got %d records of type %s, want %d", counts[kind], kind, want)
		}
	}
	if counts["dump"] != 1 || counts["end"] != 1 {
		t.Errorf("records: %v", counts)
	}
}
