package web_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/deliver"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/postgres/postgrestest"
	"github.com/portbook/portbook/indexer/web"
	"github.com/portbook/portbook/indexer/web/answer"
	"github.com/portbook/portbook/indexer/web/login"
)

// webhook adds a webhook for a pattern, with a delivery that has the same number, and returns it
// with its secret.
func (m *managed) webhook(t testing.TB, pattern string) (deliver.Webhook, deliver.Secret) {
	t.Helper()
	w, secret, err := m.hooks.Add(t.Context(), deliver.Webhook{
		Name: "hook " + pattern, URL: "https://hooks.example.org/path", Pattern: ruleOf(t, pattern+":pull").Pattern,
		Events: deliver.Types, Enabled: true,
	})
	m.must(t, err)
	_, err = m.hooks.PingWebhook(t.Context(), w)
	m.must(t, err)
	return w, secret
}

// hooksOf returns webhooks, one for each of some repositories.
func hooksOf(t testing.TB, store *postgres.Store, members []postgrestest.Member) *deliver.Webhooks {
	t.Helper()
	box, err := deliver.NewBox(strings.Repeat("k", 32))
	if err != nil {
		t.Fatal(err)
	}
	hooks := deliver.NewWebhooks(store, box)
	for _, member := range members[:20] {
		w, _, err := hooks.Add(t.Context(), deliver.Webhook{
			Name: member.Name, URL: "https://hooks.example.org/" + member.Name, Pattern: ruleOf(t, member.Name+":pull").Pattern,
			Events: deliver.Types, Enabled: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		err = store.Tell(t.Context(), deliver.NewEvent(deliver.Restored, deliver.Data{Repository: member.Name}))
		if err != nil || w.ID == 0 {
			t.Fatal(err)
		}
	}
	return hooks
}

// webhookOr returns the number of a webhook of hooksOf for the path of one, and other for others.
func webhookOr(path, other string) string {
	if strings.Contains(path, "/webhooks/") {
		return "1"
	}
	return other
}

// By API: who administers the pattern manages a webhook; for others it does not exist. The
// secret is only in the answers that make one.
func TestWebhooksByAPI(t *testing.T) {
	t.Parallel()
	m := manage(t, unlimited)
	const body = `{"name":"deploys","url":"https://hooks.example.org/x","pattern":"team/app","events":["pushed","moved"]}`
	for who, status := range map[string]int{"": 401, "alice": 403, "bob": 403, "limited": 403} {
		m.wants(t, who, "POST", "/api/v1/webhooks", body, status)
	}
	text := m.wants(t, "lead", "POST", "/api/v1/webhooks", body, 201, `"secret":"whsec_`, `"state":"enabled"`, `"created_by":"lead"`)
	var made struct {
		Secret  string
		Webhook struct{ ID int64 }
	}
	m.must(t, json.Unmarshal([]byte(text), &made))
	if _, err := deliver.ParseSecret(made.Secret); err != nil {
		t.Error(err)
	}
	address := fmt.Sprintf("/api/v1/webhooks/%d", made.Webhook.ID)
	theirs, _ := m.webhook(t, "secret/x")
	all, _ := m.webhook(t, "*")
	var told []string
	wants := func(who, method, path, body string, status int, texts ...string) {
		t.Helper()
		told = append(told, m.wants(t, who, method, path, body, status, texts...))
	}
	wants("lead", "GET", "/api/v1/webhooks", "", 200, `"pattern":"team/app"`)
	if list := told[0]; strings.Contains(list, "secret/x") || strings.Contains(list, `"*"`) {
		t.Error(list)
	}
	wants("root", "GET", "/api/v1/webhooks?limit=2", "", 200, `"next":"/api/v1/webhooks?after=2`)
	wants("root", "GET", "/api/v1/webhooks?after=2", "", 200, `"*"`)
	for _, hidden := range []int64{theirs.ID, all.ID, 999} {
		other := fmt.Sprintf("/api/v1/webhooks/%d", hidden)
		for path, method := range map[string]string{
			"": "GET", "/rotate": "POST", "/test": "POST", "/deliveries": "GET", "/deliveries/1": "GET", "/deliveries/1/redeliver": "POST",
		} {
			m.wants(t, "lead", method, other+path, "", 404, fmt.Sprintf(`there is no webhook \"%d\"`, hidden))
		}
		m.wants(t, "lead", "PATCH", other, `{"enabled":false}`, 404)
		m.wants(t, "lead", "DELETE", other, "", 404)
	}
	wants("lead", "PATCH", address, `{"enabled":false,"name":"renamed"}`, 200, `"state":"disabled"`, "renamed", `"missing_since"`)
	wants("lead", "PATCH", address, `{"pattern":"*"}`, 403)
	wants("lead", "PATCH", address, `{"pattern":"team/*"}`, 200, `"team/*"`)
	wants("lead", "PATCH", address, `{"events":[]}`, 400, "choose at least one")
	wants("lead", "PATCH", address, `{"events":["ping"]}`, 400, "not an event that a webhook can choose")
	wants("lead", "PATCH", address, `{"url":"https://u:hunter2@x.example.org/"}`, 400, "contains a user")
	wants("lead", "POST", address+"/test", "", 202, `"event":"ping"`, `"state":"waiting"`)
	wants("lead", "GET", address+"/deliveries", "", 200, `"event":"ping"`)
	wants("lead", "POST", address+"/deliveries/3/redeliver", "", 409, "waits already")
	wants("root", "GET", "/api/v1/audit?target=webhook+1", "", 200, "webhook.add", "webhook.change", "webhook.test")
	m.wants(t, "lead", "POST", address+"/rotate", `{"overlap_seconds":60}`, 200, `"secret":"whsec_`)
	m.wants(t, "lead", "POST", address+"/rotate", `{"overlap_seconds":99999999}`, 400)
	wants("lead", "GET", address, "", 200, "old_secret_until")
	wants("lead", "DELETE", address, "", 204)
	wants("lead", "GET", address, "", 404)
	if all := strings.Join(told, "\n"); strings.Contains(all, "whsec_") || strings.Contains(all, "hunter2") {
		t.Errorf("a secret is told:\n%s", all)
	}
}

// In the browser: the same, by forms.
func TestWebhooksByPage(t *testing.T) {
	t.Parallel()
	m := manage(t, unlimited)
	lead, bob := m.browser(t, "lead"), m.browser(t, "bob")
	lead.wants(t, "GET", "/manage/webhooks", nil, 200, "There is no webhook yet for these repositories", "Add a webhook")
	form := url.Values{"name": {"deploys <b>"}, "url": {"http://u@x.example.org"}, "pattern": {"team/*"}, "events": {"pushed"}}
	lead.wants(t, "POST", "/manage/webhooks", form, 400, "contains a user", `value="deploys &lt;b&gt;"`)
	form.Set("url", "https://hooks.example.org/x?token=1")
	form.Set("pattern", "other/*")
	lead.wants(t, "POST", "/manage/webhooks", form, 403, "you do not administer other/*")
	form.Set("pattern", "team/*")
	lead.wants(t, "POST", "/manage/webhooks", form, 200, "whsec_", "shown only now", "deploys &lt;b&gt;")
	lead.wants(t, "GET", "/manage/webhooks", nil, 200, "deploys &lt;b&gt;", "hooks.example.org</td>", "enabled")
	page := lead.wants(t, "GET", "/manage/webhooks/1", nil, 200, "https://hooks.example.org/x?token=1", "Nothing was sent yet")
	if strings.Contains(page, "whsec_") {
		t.Error("the secret is shown again")
	}
	bob.wants(t, "GET", "/manage/webhooks/1", nil, 404)
	bob.wants(t, "POST", "/manage/webhooks/1/remove", url.Values{"sure": {"yes"}}, 404)
	lead.wants(t, "POST", "/manage/webhooks/1/test", nil, 200, "The test is queued", "ping")
	lead.wants(t, "POST", "/manage/webhooks/1/enable", nil, 200, "is disabled")
	lead.wants(t, "POST", "/manage/webhooks/1/enable", url.Values{"enabled": {"yes"}}, 200, "is enabled")
	lead.wants(t, "POST", "/manage/webhooks/1/rotate", url.Values{"hours": {"24"}}, 200, "whsec_", "signs too until")
	lead.wants(t, "POST", "/manage/webhooks/1/rotate", url.Values{"hours": {"x"}}, 400, "not a number of hours")
	form.Set("name", "renamed")
	lead.wants(t, "POST", "/manage/webhooks/1/change", form, 200, "The webhook is changed", "renamed")
	form.Del("events")
	lead.wants(t, "POST", "/manage/webhooks/1/change", form, 400, "choose at least one")
	lead.wants(t, "POST", "/manage/webhooks/1/deliveries/1/redeliver", nil, 409, "waits already")
	lead.wants(t, "POST", "/manage/webhooks/1/deliveries/99/redeliver", nil, 404)
	lead.wants(t, "POST", "/manage/webhooks/1/remove", nil, 200, "Remove the webhook renamed?")
	lead.wants(t, "POST", "/manage/webhooks/1/remove", url.Values{"sure": {"yes"}}, http.StatusSeeOther)
	lead.wants(t, "GET", "/manage/webhooks/1", nil, 404)
	records, err := m.store.Audit(t.Context(), access.AuditQuery{Actor: "lead", Limit: 20})
	m.must(t, err)
	for _, r := range records {
		if strings.Contains(r.Detail, "token=1") || strings.Contains(r.Detail, "whsec_") {
			t.Errorf("%+v", r)
		}
	}
}

// unlimited turns off the limit of changes, which has its own test.
func unlimited(c *web.Config) {
	l := *c.Login
	l.UseRate = nil
	c.Login = login.New(l.Config)
}

// A browser is that of a person who is signed in.
type browser struct {
	m       *managed
	session string
}

func (m *managed) browser(t testing.TB, who string) browser {
	t.Helper()
	session, _, err := m.signer.ForSession(who, time.Now(), time.Now())
	m.must(t, err)
	return browser{m, session}
}

// wants requests a page or sends a form, and fails the test unless the answer has a status and
// all texts.
func (b browser) wants(t testing.TB, method, path string, form url.Values, status int, texts ...string) string {
	t.Helper()
	resp, body := do(t, method, b.m.URL+path, form.Encode(),
		"Cookie", answer.SessionCookie+"="+b.session, "Content-Type", "application/x-www-form-urlencoded")
	if resp.StatusCode != status {
		t.Fatalf("%s %s: %d, want %d\n%.3000s", method, path, resp.StatusCode, status, body)
	}
	for _, text := range texts {
		if !strings.Contains(body, text) {
			t.Errorf("%s %s lacks %q\n%.3000s", method, path, text, body)
		}
	}
	return body
}
