package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// robots is how many robots there are: as many as one page of a list has names.
const robots = 50

// fillAccounts adds accounts, tokens and grants, some with the longest and with hostile texts,
// and makes records of what was done and of what was refused.
func (s *site) fillAccounts(ctx context.Context) error {
	s.known["long"] = strings.Repeat("unbreakable-", 5) + "name" // 64 bytes, the most
	s.known["administrator"], s.known["lead"], s.known["note"] = administrator, lead, hostileNote
	for _, step := range []func(context.Context) error{
		s.pushManaged, s.addUsers, s.addGrants, s.addTokens, s.addWebhooks,
		s.addRefusals, s.manage,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

type object = map[string]any

func (s *site) addUsers(ctx context.Context) error {
	long := s.known["long"]
	users := []object{
		{"name": lead, "password": password, "groups": []string{"dev", "platform", "release-managers"}},
		{"name": newcomer, "password": password},
		{"name": "former", "password": password, "groups": []string{"dev"}},
		{"name": long, "password": password, "groups": []string{"dev", long, "on-call"}},
		{"name": "ci", "robot": true, "groups": []string{"builders"}},
	}
	for i := range robots {
		users = append(users, object{"name": fmt.Sprintf("robot-%02d", i), "robot": true})
	}
	for _, u := range users {
		if _, err := s.ask(ctx, administrator, http.MethodPost, "/users", u, http.StatusCreated); err != nil {
			return err
		}
	}
	_, err := s.ask(ctx, administrator, http.MethodPatch, "/users/former", object{"disabled": true}, http.StatusOK)
	return err
}

func (s *site) addGrants(ctx context.Context) error {
	for _, g := range []struct{ grantee, pattern, actions string }{
		{"everybody", "samples/*", "pull"},
		{"group:dev", "team/*", "pull,push"},
		{"group:dev", "samples/*", "push"},
		{"group:release-managers", "platform/gateway", "push,delete"},
		{lead, "team/*", "admin"},
		{lead, "samples/harbour", "admin"},
		{"former", "archive/*", "delete"},
		{"ci", "team/app", "push"},
		{"group:" + s.known["long"], s.known["hostile"], "pull"},
		{s.known["long"], s.known["hostile"] + "/*", "push,delete"},
	} {
		body := object{"grantee": g.grantee, "pattern": g.pattern, "actions": strings.Split(g.actions, ",")}
		if _, err := s.ask(ctx, administrator, http.MethodPut, "/grants", body, http.StatusCreated); err != nil {
			return err
		}
	}
	return nil
}

// hostileNote is markup in what a token is for, which may have 100 characters.
const hostileNote = `"'></td><script>` + trap + `</script><img src=x onerror=` + trap + `>`

func (s *site) addTokens(ctx context.Context) error {
	soon := time.Now().Add(30 * 24 * time.Hour)
	wide := []string{s.known["hostile"] + "/*:push,delete", "team/*:pull", "samples/*:pull"}
	for _, t := range []struct {
		as   string
		body object
	}{
		{administrator, object{"note": "laptop", "expires_at": soon}},
		{administrator, object{"note": hostileNote, "rules": wide, "expires_at": soon}},
		{administrator, object{"note": strings.Repeat("unbreakable", 9), "expires_at": time.Now().Add(time.Second)}},
		{administrator, object{"account": "ci", "note": "build server"}},
		{administrator, object{"account": "ci", "note": hostileNote, "rules": wide, "expires_at": soon}},
		{lead, object{"note": "\u202egnp.exe\u202c \u2066isolated", "rules": []string{"team/*:pull"}, "expires_at": soon}},
	} {
		b, err := s.ask(ctx, t.as, http.MethodPost, "/tokens", t.body, http.StatusCreated)
		if err != nil {
			return err
		}
		var made struct{ ID, Account, Token string }
		if err := json.Unmarshal(b, &made); err != nil {
			return err
		}
		s.known["token-"+made.Account] = made.ID
	}
	return nil
}

// addWebhooks adds webhooks, and sends a test to one, which fails, because its receiver is in our
// own network.
func (s *site) addWebhooks(ctx context.Context) error {
	var tested int64
	for _, w := range []struct{ name, url, pattern string }{
		{hostileNote, "https://127.0.0.1:8443/" + strings.Repeat("unbreakable", 20), "*"},
		{"\u202egnp.exe\u202c", "https://hooks.example.org/", s.known["hostile"] + "/*"},
		{"deploys", "https://deploys.example.org/hooks", "team/*"},
	} {
		body := object{"name": w.name, "url": w.url, "pattern": w.pattern, "events": []string{"pushed", "moved", "deleted"}}
		b, err := s.ask(ctx, administrator, http.MethodPost, "/webhooks", body, http.StatusCreated)
		if err != nil {
			return err
		}
		var made struct{ Webhook struct{ ID int64 } }
		if err := json.Unmarshal(b, &made); err != nil {
			return err
		}
		if tested == 0 {
			tested = made.Webhook.ID
		}
	}
	s.known["webhook"] = fmt.Sprint(tested)
	address := fmt.Sprintf("/webhooks/%d", tested)
	if _, err := s.ask(ctx, administrator, http.MethodPost, address+"/test", nil, http.StatusAccepted); err != nil {
		return err
	}
	return eventually(ctx, func() error {
		b, err := s.ask(ctx, administrator, http.MethodGet, address+"/deliveries", nil, http.StatusOK)
		if err == nil && !strings.Contains(string(b), "private") {
			err = fmt.Errorf("the test has not failed: %s", b)
		}
		return err
	})
}

// addRefusals makes records of refused logins, and waits until they are written.
func (s *site) addRefusals(ctx context.Context) error {
	for _, name := range []string{"admin", `"><script>` + trap + `</script>`, strings.Repeat("endless", 60), "\u202egnp"} {
		if _, err := s.ask(ctx, name, http.MethodGet, "/me", nil, http.StatusUnauthorized); err != nil {
			return err
		}
	}
	if _, err := s.ask(ctx, lead, http.MethodGet, "/audit", nil, http.StatusForbidden); err != nil {
		return err
	}
	return eventually(ctx, func() error {
		b, err := s.ask(ctx, administrator, http.MethodGet, "/audit?outcome=refused", nil, http.StatusOK)
		if err == nil && !strings.Contains(string(b), "administrator") {
			err = fmt.Errorf("the refusals are not recorded: %s", b)
		}
		return err
	})
}
