package web_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/query"
	"github.com/portbook/portbook/indexer/web"
)

type assertReply struct {
	Success  bool
	Results  []any
	Failures []any
	Error    string `json:"error"`
}

func postAssert(t *testing.T, url, body string) (int, assertReply) {
	t.Helper()
	resp, text := do(t, http.MethodPost, url, body)
	var reply assertReply
	if err := json.Unmarshal([]byte(text), &reply); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return resp.StatusCode, reply
}

func assertBook() *book {
	return &book{images: []indexer.RepositoryImages{
		repo("aisleriot", image("1", ref, "amd64", "latest", "v1"), image("2", "-", "arm64", "old")),
		list("multi", "7", "latest", image("2", "-", "arm64")),
	}}
}

func TestAssertContains(t *testing.T) {
	t.Parallel()
	s := serve(t, assertBook())
	for test, want := range map[string]bool{
		`[]`:                     true,
		`[{}]`:                   true,
		`{}`:                     false,
		`null`:                   false,
		`"aisleriot"`:            false,
		`[{"Name":"aisleriot"}]`: true,
		`[{"Name":"multi"},{"Name":"aisleriot"}]`:  true,
		`[{"Name":"aisleriot"},{"Name":"absent"}]`: false,
		`[{"Name":"aisler"}]`:                      false,
		`[{"name":"aisleriot"}]`:                   false,
		`[{"Name":["aisleriot"]}]`:                 false,
		`[{"Name":{}}]`:                            false,
		`[{"Name":null}]`:                          false,
		`[{"Images":[]}]`:                          true,
		`[{"Images":null}]`:                        false,
		`[{"Name":"aisleriot","Images":[{"Tags":["v1"],"OS":"linux"}]}]`:                    true,
		`[{"Name":"aisleriot","Images":[{"Tags":["v1","old"]}]}]`:                           false,
		`[{"Name":"aisleriot","Images":[{"Tags":["v1"]},{"Tags":["old"]}]}]`:                true,
		`[{"Name":"multi","Images":[{}]}]`:                                                  false,
		`[{"Name":"multi","Lists":[{"Images":[{"Architecture":"arm64"}]}]}]`:                true,
		`[{"Images":[{"Labels":{"org.flatpak.ref":"app/org.example.App/x86_64/stable"}}]}]`: true,
		`[{"Images":[{"Labels":{"org.flatpak.ref":1}}]}]`:                                   false,
	} {
		for kind, want := range map[string]bool{"contains": want, "not-contains": !want} {
			code, reply := postAssert(t, s.URL+"/assert", fmt.Sprintf(`{"Assertions":[{"Type":%q,"Test":%s}]}`, kind, test))
			if reply.Success != want || (code == 200) != want || len(reply.Results) != 2 || (len(reply.Failures) == 0) != want {
				t.Errorf("%s %s: %d %v with failures %v, want %v", kind, test, code, reply.Success, reply.Failures, want)
			}
		}
	}
}

func TestAssertReply(t *testing.T) {
	t.Parallel()
	s := serve(t, &book{})
	resp, body := do(t, http.MethodPost, s.URL+"/assert", `{"Query":{},"Assertions":[]}`)
	if got := resp.Header.Get("Portbook-Version"); got != "e1.7" {
		t.Errorf("version %q, want e1.7", got)
	}
	if want := `{"Success":true,"Results":[],"Failures":[]}` + "\n"; body != want {
		t.Errorf("%s, want %s", body, want)
	}
	_, body = do(t, http.MethodPost, s.URL+"/assert", `{"Assertions":[{"Type":"contains","Test":[{"Name":"x"}]}]}`)
	if want := `{"Success":false,"Results":[],"Failures":[{"Type":"contains","Test":[{"Name":"x"}]}]}` + "\n"; body != want {
		t.Errorf("%s, want %s", body, want)
	}
}

// The predecessor treated any query as the empty one.
func TestAssertQuery(t *testing.T) {
	t.Parallel()
	b := assertBook()
	postAssert(t, serve(t, b).URL+"/assert", `{"Query":{"repository":["x","y"],"label:K:exists":"1"},"Assertions":[]}`)
	want := query.Images{
		{Field: query.FieldLabel, Name: "K", Op: query.OpExists},
		{Field: query.FieldRepository, Op: query.OpEquals, Values: []string{"x", "y"}},
	}
	if diff := cmp.Diff(want, b.imageQuery); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAssertRefuses(t *testing.T) {
	t.Parallel()
	b := &book{}
	s := serve(t, b)
	for _, body := range []string{
		``, `[]`, `{`, `{} {}`, `{"Query":{"repository":1}}`, `{"Query":{"bogus":"1"}}`, `{"Query":{"os:matches":"x"}}`,
		`{"Queries":{}}`, `{"Assertions":[{"Type":"equals","Test":[]}]}`, `{"Assertions":[{"Type":"contains"}]}`,
		`{"Assertions":[{"Type":"contains","Test":["` + strings.Repeat("x", 1<<20) + `"]}]}`,
	} {
		if code, reply := postAssert(t, s.URL+"/assert", body); code != 400 || reply.Error == "" {
			t.Errorf("%.80s: %d %+v, want 400 and an error", body, code, reply)
		}
	}
	for _, timeout := range []string{"x", "-1", "1s", "1.5"} {
		if code, reply := postAssert(t, s.URL+"/assert?timeout="+timeout, `{}`); code != 400 || reply.Error == "" {
			t.Errorf("timeout %s: %d %+v", timeout, code, reply)
		}
	}
	if b.questions > 0 {
		t.Errorf("%d questions reached the book", b.questions)
	}
}

// The handler waits for what does not exist yet, and reads the book again only after
// a change.
func TestAssertWaits(t *testing.T) {
	t.Parallel()
	b := &book{}
	go func() {
		for {
			b.mu.Lock()
			asked := b.questions
			if asked == 1 {
				b.version = indexer.Version{Epoch: "e1", Number: 8}
				b.images = assertBook().images
				b.mu.Unlock()
				return
			}
			b.mu.Unlock()
			select {
			case <-t.Context().Done():
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	start := time.Now()
	code, reply := postAssert(t, serve(t, b).URL+"/assert?timeout=30", `{"Assertions":[{"Type":"contains","Test":[{"Name":"multi"}]}]}`)
	if code != 200 || !reply.Success || b.questions != 2 {
		t.Errorf("%d %+v after %d questions", code, reply, b.questions)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestAssertTimesOut(t *testing.T) {
	t.Parallel()
	b := assertBook()
	start := time.Now()
	code, reply := postAssert(t, serve(t, b).URL+"/assert?timeout=1", `{"Assertions":[{"Type":"contains","Test":[{"Name":"x"}]}]}`)
	if took := time.Since(start); code != 400 || reply.Success || len(reply.Results) != 2 || took < time.Second || took > 10*time.Second {
		t.Errorf("%d %+v after %v", code, reply, took)
	}
	if b.questions != 1 {
		t.Errorf("%d questions, although nothing changed", b.questions)
	}
}

// If the client has gone, the handler must not wait until its minute is over.
func TestAssertEndsWithItsClient(t *testing.T) {
	t.Parallel()
	s := serve(t, &book{})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+"/assert?timeout=60", strings.NewReader(`{"Assertions":[{"Type":"contains","Test":1}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := client.Do(r); err == nil {
		resp.Body.Close()
		t.Fatalf("status %d before the client went", resp.StatusCode)
	}
	ended := make(chan struct{})
	go func() { s.Close(); close(ended) }() // waits for the handler
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("the assertion still waits after its client has gone")
	}
}

func TestAssertOff(t *testing.T) {
	t.Parallel()
	s := serve(t, &book{}, func(c *web.Config) { c.AssertEndpoint = false })
	if resp, _ := do(t, http.MethodPost, s.URL+"/assert", `{}`); resp.StatusCode != 404 {
		t.Errorf("status %d, want 404", resp.StatusCode)
	}
}
