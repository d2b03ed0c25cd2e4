package main_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
)

// A recording is a call of the registry of Deploys.app, and what it answered.
type recording struct {
	name   string
	method string
	path   string
	header http.Header
	user   string // of Basic; "": none
	body   string
	code   int
	fields http.Header // of the answer
	answer string
}

// recorded returns a recording of testdata/deploys.
func recorded(t *testing.T, name string) recording {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", "deploys", name+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	r := recording{name: name, method: "GET", header: http.Header{}}
	text := string(raw)
	for strings.HasPrefix(text, "#") {
		line, rest, _ := strings.Cut(text, "\n")
		text = rest
		if command, found := strings.CutPrefix(line, "# curl "); found {
			r.parse(t, command)
		}
	}
	resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(text)), &http.Request{Method: r.method})
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	r.code, r.fields, r.answer = resp.StatusCode, resp.Header, string(body)
	return r
}

// parse reads the arguments of curl, which are not quoted.
func (r *recording) parse(t *testing.T, command string) {
	t.Helper()
	command, address, _ := strings.Cut(command, "http://")
	_, path, _ := strings.Cut(address, "/")
	r.path = "/" + path
	form := true
	for _, option := range regexp.MustCompile(`-(H|d|u|X|I)( |$)`).FindAllStringIndex(command, -1) {
		value := command[option[1]:]
		if next := regexp.MustCompile(` -(H|d|u|X|I)( |$)`).FindStringIndex(value); next != nil {
			value = value[:next[0]]
		}
		value = strings.TrimSuffix(value, " ")
		switch command[option[0]+1] {
		case 'H':
			name, v, _ := strings.Cut(value, ":")
			form = form && name != "Content-Type"
			if v != "" {
				r.header.Set(name, strings.TrimSpace(v))
			}
		case 'd':
			r.body, r.method = value, "POST"
		case 'u':
			r.user = value
		case 'X':
			r.method = value
		case 'I':
			r.method = "HEAD"
		}
	}
	if form && r.body != "" {
		r.header.Set("Content-Type", "application/x-www-form-urlencoded") // as curl does
	}
}

// instant matches the times in recordings.
var instant = regexp.MustCompile(`"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,5}[1-9])?Z"`)

// A replay sends recorded calls to an indexer.
type replay struct {
	t       *testing.T
	i       *indexerProcess
	digests *strings.Replacer // recorded ones to those of the test
	count   int
}

// call sends a recorded call, and checks that the answer is the recorded one but for its times.
func (p *replay) call(name string) {
	p.t.Helper()
	p.count++
	r := recorded(p.t, name)
	began := time.Now()
	defer func() { p.t.Logf("%s took %v", name, time.Since(began)) }()
	code, fields, answer := p.send(r)
	want := instant.ReplaceAllString(p.digests.Replace(r.answer), "TIME")
	if code != r.code || instant.ReplaceAllString(answer, "TIME") != want {
		p.t.Errorf("%s: %d %s\nwant %d %s", name, code, answer, r.code, want)
	}
	for _, field := range []string{"Content-Type", "Allow", "X-Content-Type-Options"} {
		if want := r.fields.Get(field); want != "" && fields.Get(field) != want || field == "Allow" && fields.Get(field) != want {
			p.t.Errorf("%s: %s is %q, want %q", name, field, fields.Get(field), want)
		}
	}
}

func (p *replay) send(r recording) (code int, fields http.Header, answer string) {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), r.method, "http://"+p.i.address+r.path, strings.NewReader(p.digests.Replace(r.body)))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header = r.header
	c := &http.Client{Timeout: patience}
	resp, err := c.Do(req)
	if err != nil {
		p.t.Fatalf("%v\n%s", err, p.i.process.Tail())
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(body)
}

// held pushes an image with blobs of some sizes through the proxy of the indexer.
func held(t *testing.T, r *remote.Repository, tag string, blobs ...[]byte) ocispec.Descriptor {
	t.Helper()
	ctx := t.Context()
	var all []ocispec.Descriptor
	for i, b := range blobs {
		d := content.NewDescriptorFromBytes(ocispec.MediaTypeImageLayer, b)
		if i == 0 {
			d.MediaType = ocispec.MediaTypeImageConfig
		}
		if err := r.Blobs().Push(ctx, d, bytes.NewReader(b)); err != nil {
			t.Fatal(err)
		}
		all = append(all, d)
	}
	raw, err := json.Marshal(ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: all[0], Layers: all[1:]})
	if err != nil {
		t.Fatal(err)
	}
	d := content.NewDescriptorFromBytes(ocispec.MediaTypeImageManifest, raw)
	if err := r.Manifests().PushReference(ctx, d, bytes.NewReader(raw), tag); err != nil {
		t.Fatal(err)
	}
	return d
}

func basicField(secret string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte("a:"+secret))
}

// ofContract are the rights of the clients in the recordings.
var ofContract = map[string]string{
	basicField("all"): "acme:push acme:pull acme:list acme:get", basicField("ro"): "acme:pull",
	"Bearer all": "acme:push acme:pull acme:list acme:get", "Bearer ro": "acme:pull acme:list acme:get",
}

// Clients of the registry of Deploys.app get the answers that they know, beside the stock
// registry: each recording of the real system is sent again, in the recorded order.
func TestContract(t *testing.T) {
	t.Parallel()
	f, i, _ := delegating(t, ofContract, "INTERNAL_SECRET=s3")
	all := login("a", "all")
	my := i.oras(t, "acme/my-image", all)
	layer := bytes.Repeat([]byte("l"), 52)
	known := func(d digest.Digest) func() bool {
		return func() bool {
			return f.query(f.pool(), "SELECT count(*) FROM manifest WHERE digest = decode($1, 'hex')", d.Encoded()) == 1
		}
	}
	latest := held(t, my, "latest", bytes.Repeat([]byte("c"), 28), layer)
	within(t, patience, "the first image is in the book", known(latest.Digest))
	v2 := held(t, my, "v2", bytes.Repeat([]byte("d"), 28), layer)
	within(t, patience, "the second image is in the book", known(v2.Digest))
	held(t, i.oras(t, "acme/team/deep", all), "v1", bytes.Repeat([]byte("e"), 20), bytes.Repeat([]byte("m"), 32))
	f.equal(patience)

	p := &replay{t: t, i: i, digests: strings.NewReplacer(
		"sha256:1f025c71b307ab35ce64e0050bdc29a3cf2fbf7f84b018923554ec92e8ad7ebe", latest.Digest.String(),
		"sha256:7a8a12f9ecfd09ac81bcb21e03a19249c60d47fdbbbdec232ed44e2da2af941c", v2.Digest.String())}
	v2Files(t, p, i, all)
	for _, name := range []string{
		"09-list", "10-list-empty", "11-list-noauth", "13-list-badjson", "14-list-emptybody", "15-list-unknown-field",
		"17-list-noct", "18-list-formct", "19-list-GET", "21-get", "22-get-missing-repo-field", "23-get-notfound", "25-getTags",
		"26-getTags-notfound", "27-getManifests", "29-untag-forbidden-ro", "30-untag-missing", "31-untag-notfound",
	} {
		p.call(name)
	}
	untag := recorded(t, "31-untag-notfound")
	untag.body = strings.Replace(untag.body, "zzz", "v2", 1)
	if code, _, answer := p.send(untag); code != 200 || answer != `{"ok":true,"result":{}}`+"\n" {
		t.Fatalf("untag: %d %s", code, answer)
	}
	p.call("33-getTags-after-untag")
	if err := my.Manifests().(interface { // 34-manifest-after-untag
		Exists(ctx context.Context, d ocispec.Descriptor) (bool, error)
	}); err != nil {
		if there, err := err.Exists(t.Context(), v2); err != nil || !there {
			t.Errorf("34-manifest-after-untag: the manifest is gone: %v", err)
		}
	}
	for _, name := range []string{
		"35-deleteManifest-missing", "37-deleteManifest", "38-getTags-after-deleteManifest", "39-internal-noauth", "41-internal-GET",
		"42-internal-indexManifests", "43-internal-runBlobGC", "45-internal-runAll", "46-getProjectStorage-after",
		"47-get-after-deleteManifest", "49-get-after-gc-nothing-aged", "50-delete-notfound", "51-delete",
	} {
		p.call(name)
	}
	list := recorded(t, "09-list")
	if _, _, answer := p.send(list); strings.Contains(answer, "my-image") || !strings.Contains(answer, "team/deep") {
		t.Errorf("after delete, list answers %s", answer)
	}
	files, err := filepath.Glob("testdata/deploys/*.txt")
	if err != nil || len(files) != 45 {
		t.Errorf("%d recordings, %v", len(files), err)
	}
	f.postgres.Stop()
	list.name = "90-list-500"
	if code, fields, answer := p.send(list); code != 500 || answer != recorded(t, "90-list-500").answer ||
		fields.Get("Content-Type") != "application/json; charset=utf-8" {
		t.Errorf("without a database: %d %s", code, answer)
	}
}

// v2Files sends the recorded calls of the registry's own API. The stock registry answers them
// here, to clients that log in by a token. For each file, it says the status that it answers, and
// whether it has the recorded code of an error.
func v2Files(t *testing.T, p *replay, i *indexerProcess, all *auth.Client) {
	t.Helper()
	ro := login("a", "ro")
	for _, c := range []struct {
		name   string
		client *auth.Client
		code   int
		differ string // in what it differs from the recording
	}{
		{"01-v2-noauth", nil, 401, "the challenge"},
		{"02-v2-badauth", nil, 401, "the challenge"},
		{"03-v2-ok", all, 200, "the body"},
		{"05-v2-ro-push", ro, 401, "the challenge"},
		{"06-v2-otherproj", all, 401, "the challenge"},
		{"07-v2-noproject", all, 200, "the status: it lists what the client may see"},
		{"53-v2-blob-404", all, 400, "the status"},
		{"54-v2-manifest-404", all, 404, ""},
		{"55-v2-tags-unknown-repo", all, 404, "the status"},
		{"57-v2-method", all, 405, "the body"},
		{"58-v2-unknown", all, 404, "the body"},
	} {
		r := recorded(t, c.name)
		req, err := http.NewRequestWithContext(t.Context(), r.method, "http://"+i.address+r.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		send := client.Do
		if c.client != nil {
			send = c.client.Do
		} else {
			req.Header = r.header
		}
		resp, err := send(req)
		if err != nil && c.code == 401 && refused(err) {
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != c.code || c.differ != "the status" && c.name != "07-v2-noproject" && resp.StatusCode != r.code {
			t.Errorf("%s: %d %s %v, want %d", c.name, resp.StatusCode, body, err, c.code)
		}
		if slices.Contains([]string{"", "the challenge"}, c.differ) && codeOf(body) != codeOf([]byte(r.answer)) {
			t.Errorf("%s: %s, want the code %s", c.name, body, codeOf([]byte(r.answer)))
		}
	}
}

// codeOf returns the code of the first error of a registry.
func codeOf(body []byte) string {
	var e struct{ Errors []struct{ Code string } }
	if err := json.Unmarshal(body, &e); err != nil || len(e.Errors) == 0 {
		return ""
	}
	return e.Errors[0].Code
}

// By the wire of Deploys.app: what the book has lost is back after indexManifests, and a deletion
// whose client leaves at once is done, but for the repositories below.
func TestContractFaults(t *testing.T) {
	t.Parallel()
	f, i, _ := delegating(t, ofContract, "INTERNAL_SECRET=s3")
	all := login("a", "all")
	layer := bytes.Repeat([]byte("l"), 52)
	image := held(t, i.oras(t, "acme/team", all), "latest", bytes.Repeat([]byte("c"), 28), layer)
	deep := held(t, i.oras(t, "acme/team/deep", all), "v1", bytes.Repeat([]byte("e"), 20), layer)
	f.equal(patience)
	p := &replay{t: t, i: i, digests: strings.NewReplacer()}
	call := func(method, body string) string {
		t.Helper()
		_, _, answer := p.send(recording{method: "POST", path: "/api/" + method, body: body, header: http.Header{
			"Authorization": {"Bearer all"}, "Content-Type": {"application/json"}}})
		return answer
	}
	const team = `{"project":"acme","repository":"team"}`
	pool := f.pool()
	for what, lose := range map[string]string{
		"what it consists of": "UPDATE manifest SET config_id = NULL, layer_ids = '{}' WHERE digest = $1",
		"its rows": `WITH lost AS (DELETE FROM image_search s USING manifest m
			WHERE m.digest = $1 AND s.repository_id = m.repository_id AND s.manifest_id = m.id),
			untagged AS (DELETE FROM tag t USING manifest m WHERE m.digest = $1 AND t.repository_id = m.repository_id AND t.manifest_id = m.id)
			DELETE FROM manifest WHERE digest = $1`,
	} {
		raw, err := hex.DecodeString(image.Digest.Encoded())
		if err == nil {
			_, err = pool.Exec(t.Context(), lose, raw)
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := call("get", team); strings.Contains(got, `"size":80,`) {
			t.Errorf("without %s, get answers %s", what, got)
		}
		if code, text := i.job(t, "indexManifests", "s3"); code != http.StatusNoContent {
			t.Fatalf("indexManifests: %d %s", code, text)
		}
		if got := call("get", team); !strings.Contains(got, `"size":80,`) {
			t.Errorf("%s: after indexManifests, get answers %s", what, got)
		}
		if got := call("getTags", team); !strings.Contains(got, `"tag":"latest","digest":"`+image.Digest.String()) {
			t.Errorf("%s: after indexManifests, getTags answers %s", what, got)
		}
	}

	conn, err := net.Dial("tcp", i.address)
	if err != nil {
		t.Fatal(err)
	}
	_, err = fmt.Fprintf(conn, "POST /api/delete HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer all\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		i.address, len(team), team)
	if err = errors.Join(err, conn.Close()); err != nil {
		t.Fatal(err)
	}
	within(t, patience, "the repository is gone", func() bool { return strings.Contains(call("get", team), "repository not found") })
	if _, err := i.oras(t, "acme/team", all).Manifests().Resolve(t.Context(), image.Digest.String()); err == nil {
		t.Error("the registry still has the manifest")
	}
	if got, err := i.oras(t, "acme/team/deep", all).Manifests().Resolve(t.Context(), "v1"); err != nil || got.Digest != deep.Digest {
		t.Errorf("the repository below: %v, %v", got.Digest, err)
	}
	if got := call("list", `{"project":"acme"}`); strings.Contains(got, `"team"`) || !strings.Contains(got, `"team/deep"`) {
		t.Errorf("list answers %s", got)
	}
	f.equal(patience)
}
