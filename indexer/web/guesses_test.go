package web_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/web"
	"github.com/portbook/portbook/indexer/web/login"
)

// Writers count wrong passwords together. Guesses at one account do not keep others out.
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

// A limited token, which changes nothing, does not use up the changes of its owner; nor does
// changing the password need any of them.
func TestLimitedTokenUsesNothingUp(t *testing.T) {
	t.Parallel()
	m := manage(t)
	m.token(t, "narrow", access.PersonalToken{Account: "bob", Narrowed: true, Rules: access.Rules{ruleOf(t, "*:pull")}})
	for range access.Writes.AtOnce + 1 {
		m.wants(t, "narrow", "POST", "/api/v1/tokens", `{"note":"n"}`, 403)
	}
	end := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	m.wants(t, "bob", "POST", "/api/v1/tokens", `{"note":"n","expires_at":"`+end+`"}`, 201)
	for range access.Writes.AtOnce + 1 {
		m.wants(t, "bob", "PUT", "/api/v1/users/bob/password", `{"password":"another password","current_password":"x"}`, 403)
	}
}

// A token that was made with one that ends does not last longer, also a robot's.
func TestTokenOfATokenEnds(t *testing.T) {
	t.Parallel()
	m := manage(t)
	end := time.Now().Add(time.Hour)
	m.token(t, "hour", access.PersonalToken{Account: "root", ExpiresAt: end})
	later := end.Add(time.Minute).UTC().Format(time.RFC3339)
	m.wants(t, "hour", "POST", "/api/v1/tokens", `{"account":"ci"}`, 403, "must not be valid for longer")
	m.wants(t, "hour", "POST", "/api/v1/tokens", `{"account":"ci","expires_at":"`+later+`"}`, 403, "must not be valid for longer")
	m.wants(t, "hour", "POST", "/api/v1/tokens/"+m.ids["ci"]+"/rotate", `{}`, 201, `"expires_at"`)
	m.wants(t, "root", "GET", "/api/v1/users?q=%00", "", 200)
	m.wants(t, "root", "GET", "/api/v1/users?q=%ff", "", 200)
}
