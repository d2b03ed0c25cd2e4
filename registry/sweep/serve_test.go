package sweep_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/portbook/portbook/registry/sweep"
)

// The service answers only who has the token, and refuses orders that are not valid or not
// allowed.
func TestHandler(t *testing.T) {
	t.Parallel()
	s := open(t, "filesystem", false)
	alone := s.blob("acme/app", "alone")
	if err := unlink(t.Context(), s.push, "acme/app", alone); err != nil {
		t.Fatal(err)
	}
	only := httptest.NewServer(s.sweeper(sweep.Config{}).Handler("a long token"))
	t.Cleanup(only.Close)
	tests := map[string]struct {
		path, token, body string
		status            int
		want              string
	}{
		"no token":       {"/look", "", "", 401, "unauthorized"},
		"wrong token":    {"/look", "a long toke", "", 401, "unauthorized"},
		"look":           {"/look", "a long token", "{}", 200, `"stored":true`},
		"only looks":     {"/trash", "a long token", `{"digests":["` + alone + `"]}`, 403, "--delete"},
		"restore":        {"/restore", "a long token", `{"digests":["` + alone + `"]}`, 200, `"outcome":"absent"`},
		"unknown field":  {"/trash", "a long token", `{"digest":"x"}`, 400, "not valid"},
		"not a digest":   {"/restore", "a long token", `{"digests":["sha256:../../x"]}`, 500, "not a digest"},
		"not a name":     {"/relink", "a long token", `{"repository":"../x","digests":["` + alone + `"]}`, 500, "repository"},
		"too long":       {"/restore", "a long token", `{"digests":["` + strings.Repeat("x", 1<<20) + `"]}`, 400, "not valid"},
		"linked again":   {"/relink", "a long token", `{"repository":"acme/b","digests":["` + alone + `"]}`, 200, "restored"},
		"unknown method": {"/", "a long token", "", 404, "not found"},
	}
	for name, test := range tests {
		r, err := http.NewRequestWithContext(context.Background(), "POST", only.URL+test.path, strings.NewReader(test.body))
		if err != nil {
			t.Fatal(err)
		}
		if test.token != "" {
			r.Header.Set("Authorization", "Bearer "+test.token)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != test.status || !strings.Contains(string(b), test.want) {
			t.Errorf("%s: %d %.300s, %v, want %d and %q", name, resp.StatusCode, b, err, test.status, test.want)
		}
	}
	if b, err := s.push.FetchBlob(t.Context(), "acme/b", digestType(alone)); err != nil || string(b) != "alone" {
		t.Errorf("what was linked again: %q, %v", b, err)
	}
}
