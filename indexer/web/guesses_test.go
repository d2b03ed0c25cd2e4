package web_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/portbook/portbook/indexer/web"
	"github.com/portbook/portbook/indexer/web/login"
)

// Writers count wrong passwords together, and one that nobody has guessed at lets others in.
func TestGuessesAreShared(t *testing.T) {
	t.Parallel()
	var c web.Config
	m := manage(t, func(first *web.Config) { c = *first })
	c.Login = login.New(c.Login.Config)
	other := httptest.NewServer(web.New(c))
	t.Cleanup(other.Close)
	guess := func(url, name string) int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/auth/token", nil)
		m.must(t, err)
		req.SetBasicAuth(name, "a guess")
		resp, err := http.DefaultClient.Do(req)
		m.must(t, err)
		resp.Body.Close()
		return resp.StatusCode
	}
	begin, tried := time.Now(), 0
	for range 30 {
		for _, url := range []string{m.URL, other.URL} {
			switch status := guess(url, "bob"); status {
			case http.StatusUnauthorized:
				tried++
			case http.StatusTooManyRequests:
			default:
				t.Fatalf("a guess: %d", status)
			}
		}
	}
	// 20, one that the second server did not know of, and in each 3 s one of each.
	if most := 21 + 2*(1+int(time.Since(begin)/(3*time.Second))); tried < 20 || tried > most {
		t.Errorf("%d guesses were tried in %v, want 20 to %d", tried, time.Since(begin), most)
	}
	if status := guess(other.URL, "alice"); status != http.StatusUnauthorized {
		t.Errorf("alice cannot log in because somebody guesses the password of bob: %d", status)
	}
}
