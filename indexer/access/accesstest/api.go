// Package accesstest has what tests of logins need from outside.
package accesstest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
)

// An API is a server with the methods of api.deploys.app that a Delegate calls. It fails the
// test if a call has another form.
type API struct {
	*httptest.Server
	t      *testing.T
	rights map[string]string

	mu     sync.Mutex
	answer func(w http.ResponseWriter, question string)
	calls  map[string]int
}

// New returns an API that answers by rights: what each client may do, known by its
// Authorization field, as in "acme:push other:pull". One without an entry has wrong
// credentials.
func New(t *testing.T, rights map[string]string) *API {
	t.Helper()
	a := &API{t: t, rights: rights, calls: map[string]int{}}
	a.answer = a.Rights
	a.Server = httptest.NewServer(http.HandlerFunc(a.serve))
	t.Cleanup(a.Close)
	return a
}

// Rights answers by the rights of the client. A question is METHOD|AUTHORIZATION, and for
// me.authorized |PROJECT|PERMISSION.
func (a *API) Rights(w http.ResponseWriter, question string) {
	words := strings.Split(question, "|")
	rights, known := a.rights[words[1]]
	if words[0] == "me.get" {
		fmt.Fprintf(w, `{"ok":%v,"result":{"email":"%x@example.org"}}`, known, words[1])
		return
	}
	yes := slices.Contains(strings.Fields(rights), words[2]+":"+strings.TrimPrefix(words[3], "registry."))
	fmt.Fprintf(w, `{"ok":true,"result":{"authorized":%v,"project":{"billingAccount":{"active":true}}}}`, yes)
}

// Answers makes the API answer by f from now on.
func (a *API) Answers(f func(w http.ResponseWriter, question string)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answer = f
}

// Called returns how often each question was asked since Called or Forget.
func (a *API) Called() map[string]int {
	a.mu.Lock()
	defer a.mu.Unlock()
	calls := a.calls
	a.calls = map[string]int{}
	return calls
}

// Count returns the number of calls since Called or Forget.
func (a *API) Count() (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range a.calls {
		n += c
	}
	return n
}

// Forget is Count, and forgets the calls.
func (a *API) Forget() (n int) {
	for _, c := range a.Called() {
		n += c
	}
	return n
}

func (a *API) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" {
		a.t.Errorf("got %s %s with content type %q, error %v", r.Method, r.URL, r.Header.Get("Content-Type"), err)
	}
	question := strings.TrimPrefix(r.URL.Path, "/") + "|" + strings.Join(r.Header.Values("Authorization"), ",")
	switch r.URL.Path {
	case "/me.get":
		if string(body) != "{}" {
			a.t.Errorf("me.get with %s", body)
		}
	case "/me.authorized":
		var asked struct {
			Project     string
			Permissions []string
		}
		err := json.Unmarshal(body, &asked)
		permission := strings.Join(asked.Permissions, ",")
		if err != nil || string(body) != fmt.Sprintf(`{"project":%q,"permissions":[%q]}`, asked.Project, permission) {
			a.t.Errorf("me.authorized with %s", body)
			http.Error(w, "bad", http.StatusBadRequest)
			return
		}
		question += "|" + asked.Project + "|" + permission
	default:
		a.t.Errorf("unknown method %q", r.URL.Path)
	}
	a.mu.Lock()
	a.calls[question]++
	answer := a.answer
	a.mu.Unlock()
	answer(w, question)
}
