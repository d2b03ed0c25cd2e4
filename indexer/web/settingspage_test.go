package web_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/portbook/portbook/indexer/web"
)

// The settings page shows only what is public, and no internal addresses.
func TestSettingsPage(t *testing.T) {
	t.Parallel()
	inner, err := url.Parse("http://registry.internal:5000")
	if err != nil {
		t.Fatal(err)
	}
	_, body := get(t, serve(t, &book{}, func(c *web.Config) {
		c.Version, c.Revision, c.Writes, c.FetchAll, c.LogLevel, c.Address = "1.2.3", "abc", true, time.Hour, "warn", "10.1.2.3:8080"
		c.RegistryProxy, c.PublicURL, c.MaxAgeHTML = inner, "https://user:hunter2@r.example/x?token=hunter2", 5*time.Second
	}).URL+"/settings")
	checkPage(t, "/settings", body)
	for _, want := range []string{"1.2.3", "abc", "writer", "https://r.example/x", "1 h 0 min", "5 s", "warn"} {
		if !strings.Contains(body, want) {
			t.Errorf("%q is not in %s", want, body)
		}
	}
	for _, secret := range []string{"internal", "hunter2", "10.1.2.3"} {
		if strings.Contains(body, secret) {
			t.Errorf("%q is shown", secret)
		}
	}
}

// Other spellings of an address redirect to the page.
func TestRedirects(t *testing.T) {
	t.Parallel()
	s := serve(t, stocked("x"))
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for path, want := range map[string]string{
		"/r/app/":                    "/r/app",
		"/r/app:v1/":                 "/r/app:v1",
		"/r/team/app/?tag=v":         "/r/team/app?tag=v",
		"/n/team/":                   "/n/team",
		"/status/":                   "/status",
		"/storage/?namespace=a":      "/storage?namespace=a",
		"/compare/?a=app:v1":         "/compare?a=app:v1",
		"/activity/":                 "/activity",
		"/settings/":                 "/settings",
		"/repositories":              "/?sort=name",
		"/repositories?q=os%3Alinux": "/?q=os%3Alinux&sort=name",
		"/nothing/":                  "", // there is no such page
		"/r/":                        "",
		"/r/UPPER/":                  "",
		"/%2F/evil.example/":         "",
		"/%5Cevil.example/":          "",
	} {
		resp, err := client.Get(s.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := resp.Header.Get("Location"); got != want && (want != "" || !strings.HasPrefix(got, "/") || strings.HasPrefix(got, "//")) {
			t.Errorf("%s: %d to %q, want %q", path, resp.StatusCode, got, want)
		}
		if want == "" && resp.StatusCode < 300 {
			t.Errorf("%s: %d", path, resp.StatusCode)
		}
	}
}
