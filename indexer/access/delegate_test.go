package access_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/access/accesstest"
)

// delegate returns a Delegate to a server, and a function that moves its clock.
func delegate(server *accesstest.API, c access.DelegateConfig) (*access.Delegate, func(time.Duration)) {
	var moved atomic.Int64
	c.URL = server.URL + "/"
	begin := time.Now()
	delegate := access.NewDelegate(c)
	access.SetClock(delegate, func() time.Time { return begin.Add(time.Duration(moved.Load())) })
	return delegate, func(by time.Duration) { moved.Add(int64(by)) }
}

func total(calls map[string]int) (n int) {
	for _, c := range calls {
		n += c
	}
	return n
}

// subject returns the subject of an Authorization field; of nobody for "".
func subject(t *testing.T, d *access.Delegate, field string) access.Subject {
	t.Helper()
	s, err := d.Anonymous(t.Context())
	if field != "" {
		s, err = d.Verify(t.Context(), access.Credentials{Secret: "not used", Field: field})
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// grants returns what a client is granted of scopes.
func grants(ctx context.Context, s access.Subject, scopes string) (string, error) {
	wanted := access.ParseScopes([]string{scopes})
	s, err := s.About(ctx, wanted)
	var granted []string
	for _, a := range s.Grant(wanted) {
		granted = append(granted, a.Scope())
	}
	return strings.Join(granted, " "), err
}

// The API decides about projects; who may push may pull and delete. What nobody has to decide
// is not asked.
func TestDelegateDecides(t *testing.T) {
	t.Parallel()
	server := accesstest.New(t, map[string]string{
		"all": "acme:push other:pull", "ro": "acme:pull", "lists": "acme:list acme:get", "new": "new:push other:pull", "none": "", "": "public:pull",
	})
	d, _ := delegate(server, access.DelegateConfig{Anonymous: true, Namespaces: func(context.Context, int) ([]string, error) {
		return []string{"other", "acme", "secret"}, nil
	}})
	const every = "repository:acme/a/b:pull,push,delete"
	for _, c := range []struct {
		field, scopes, want string
		err                 error
		calls               int
	}{
		{"all", "repository:acme/app:pull", "repository:acme/app:pull", nil, 2},
		{"all", every, every, nil, 0}, // push is known from the case before
		{"all", "repository:acme/a/b:*", every, nil, 0},
		{"all", "repository:acme/app:push,pull repository:other/app:pull", "repository:acme/app:pull,push repository:other/app:pull", nil, 1},
		{"ro", "repository:acme/app:push,pull", "repository:acme/app:pull", nil, 2},
		{"ro", "repository:acme/app:delete", "", nil, 0},
		{"lists", "repository:acme/app:pull", "", nil, 3},
		{"none", "repository:acme/app:pull", "", nil, 3},
		{"none", "", "", nil, 0},
		{"wrong", "repository:acme/app:pull", "", access.ErrDenied, 3},
		{"wrong", "", "", access.ErrDenied, 0},
		{"", "repository:public/app:pull,push", "repository:public/app:pull", nil, 2},
		{"", "repository:acme/app:pull", "", nil, 2},
		{"", "", "", nil, 0},
		// Names without a project, and others that the registry cannot have.
		{"all", "repository:acme:pull repository:app:push repository:acme/App:pull repository:/app:pull", "", nil, 1},
		// What may be seen of the catalogue.
		{"all", "registry:catalog:*", "repository:acme/*:pull repository:other/*:pull", nil, 2},
		{"none", "registry:catalog:*", "", nil, 4},
		{"wrong", "registry:catalog:*", "", access.ErrDenied, 4},
		{"", "registry:catalog:*", "", nil, 4},
		// That with repositories, also of a project that the book does not have.
		{"new", "repository:new/app:push registry:catalog:*", "repository:new/app:push repository:new/*:pull repository:other/*:pull", nil, 6},
		{"new", "registry:catalog:* repository:other/app:push", "repository:other/*:pull", nil, 1},
	} {
		got, err := grants(t.Context(), subject(t, d, c.field), c.scopes)
		calls := server.Called()
		if got != c.want || !errors.Is(err, c.err) || total(calls) != c.calls {
			t.Errorf("%q wants %q: got %q, %v with calls %v, want %q, %v with %d", c.field, c.scopes, got, err, calls, c.want, c.err, c.calls)
		}
	}
	for field, want := range map[string]string{"all": "delegated/616c6c@example.org", "wrong": "delegated", "": ""} {
		if got := subject(t, d, field).WithName(t.Context()).Actor(); got != want {
			t.Errorf("the name of %q is %q, want %q", field, got, want)
		}
	}
	closed, _ := delegate(server, access.DelegateConfig{})
	if _, err := closed.Anonymous(t.Context()); !errors.Is(err, access.ErrDenied) {
		t.Errorf("without credentials: %v", err)
	}
	var many []string
	for i := range access.MaxProjects + 5 {
		many = append(many, fmt.Sprintf("repository:p%d/app:pull", i))
	}
	server.Called()
	if _, err := grants(t.Context(), subject(t, d, "none"), strings.Join(many, " ")); err != nil || server.Forget() != 2*access.MaxProjects {
		t.Errorf("a token for %d projects: %v, or too many calls", len(many), err)
	}
}

// Only one form of answer allows anything; what is not an answer is not remembered.
func TestDelegateAnswers(t *testing.T) {
	t.Parallel()
	const yes = `{"ok":true,"result":{"authorized":true,"project":{"billingAccount":{"active":true}}}}`
	for what, c := range map[string]struct {
		status       int
		body         string
		allowed      bool
		err          error
		asked, again int // calls for two times the same question
	}{
		"yes":                {200, yes, true, nil, 1, 0},
		"not authorized":     {200, strings.Replace(yes, `"authorized":true`, `"authorized":false`, 1), false, nil, 3, 0},
		"inactive billing":   {200, strings.Replace(yes, `"active":true`, `"active":false`, 1), false, nil, 3, 0},
		"no billing":         {200, `{"ok":true,"result":{"authorized":true}}`, false, nil, 3, 0},
		"not ok":             {200, strings.Replace(yes, `"ok":true`, `"ok":false`, 1), false, access.ErrDenied, 3, 0},
		"an error":           {200, `{"ok":false,"error":{"message":"x"}}`, false, access.ErrDenied, 3, 0},
		"unauthorized":       {401, yes, false, access.ErrDenied, 3, 0},
		"forbidden":          {403, yes, false, access.ErrDenied, 3, 0},
		"500":                {500, yes, false, access.ErrUnsure, 1, 1},
		"404":                {404, yes, false, access.ErrUnsure, 1, 1},
		"too many requests":  {429, yes, false, access.ErrUnsure, 1, 1},
		"a redirect":         {302, yes, false, access.ErrUnsure, 1, 1},
		"created":            {201, yes, false, access.ErrUnsure, 1, 1},
		"garbage":            {200, "<html>", false, access.ErrUnsure, 1, 1},
		"empty":              {200, "", false, access.ErrUnsure, 1, 1},
		"null":               {200, "null", false, access.ErrUnsure, 1, 1},
		"half":               {200, yes[:len(yes)-1], false, access.ErrUnsure, 1, 1},
		"no ok":              {200, strings.Replace(yes, `"ok":true,`, "", 1), false, access.ErrUnsure, 1, 1},
		"ok is a text":       {200, strings.Replace(yes, `"ok":true`, `"ok":"true"`, 1), false, access.ErrUnsure, 1, 1},
		"no result":          {200, `{"ok":true}`, false, access.ErrUnsure, 1, 1},
		"a result of a kind": {200, `{"ok":true,"result":[]}`, false, access.ErrUnsure, 1, 1},
		"huge":               {200, yes + strings.Repeat(" ", 64<<10), false, access.ErrUnsure, 1, 1},
		"cut off":            {-1, "", false, access.ErrUnsure, 1, 1},
	} {
		server := accesstest.New(t, nil)
		d, _ := delegate(server, access.DelegateConfig{})
		server.Answers(func(w http.ResponseWriter, _ string) {
			if c.status < 0 {
				panic(http.ErrAbortHandler)
			}
			w.Header().Set("Location", server.URL+"/elsewhere")
			w.WriteHeader(c.status)
			_, _ = io.WriteString(w, c.body)
		})
		for round, calls := range []int{c.asked, c.again} {
			got, err := grants(t.Context(), subject(t, d, "Bearer x"), "repository:acme/app:pull")
			if (got != "") != c.allowed || !errors.Is(err, c.err) {
				t.Errorf("%s: got %q, %v, want it to be allowed: %v, %v", what, got, err, c.allowed, c.err)
			}
			if n := server.Forget(); n != calls {
				t.Errorf("%s: %d calls in round %d, want %d", what, n, round, calls)
			}
		}
	}
}

// A hundred who need an answer at the same time make one call, even if the first one leaves;
// its answer is used for 30 s, whatever it is, and also while the API does not answer.
func TestDelegateAsksOnce(t *testing.T) {
	t.Parallel()
	server := accesstest.New(t, map[string]string{"all": "acme:pull", "none": ""})
	plain := server.Rights
	d, move := delegate(server, access.DelegateConfig{})
	release := make(chan struct{})
	server.Answers(func(w http.ResponseWriter, question string) {
		<-release
		plain(w, question)
	})
	all, none := subject(t, d, "all"), subject(t, d, "none")
	ctx, leave := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() { _, _ = grants(ctx, all, "repository:acme/app:pull") })
	within(t, "the first one asks", func() bool { return server.Count() == 1 })
	for i := range 100 {
		group.Go(func() {
			got, err := grants(t.Context(), all, fmt.Sprintf("repository:acme/app%d:pull", i))
			if got == "" || err != nil {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
	leave()
	close(release)
	group.Wait()
	if calls := server.Called(); total(calls) != 1 {
		t.Errorf("100 at once: calls %v, want 1", calls)
	}

	ask := func(what string, s access.Subject, want bool, wantErr error, wantCalls int) {
		t.Helper()
		got, err := grants(t.Context(), s, "repository:acme/app:pull")
		if calls := server.Called(); (got != "") != want || !errors.Is(err, wantErr) || total(calls) != wantCalls {
			t.Errorf("%s: got %q, %v with calls %v, want %v, %v with %d", what, got, err, calls, want, wantErr, wantCalls)
		}
	}
	ask("no", none, false, nil, 3)
	server.Answers(func(http.ResponseWriter, string) { panic(http.ErrAbortHandler) })
	move(access.DelegateAge - time.Second)
	ask("yes, after 29 s", all, true, nil, 0)
	ask("no, after 29 s", none, false, nil, 0)
	move(2 * time.Second)
	ask("yes, after 31 s", all, false, access.ErrUnsure, 1)
	ask("no, after 31 s", none, false, access.ErrUnsure, 1)
	server.Answers(plain)
	ask("yes, once it answers", all, true, nil, 1)
	ask("no, once it answers", none, false, nil, 3)
}

// A slow API holds nobody up for long, and clients who wait for it do not hold up others. The
// log says once that it is away, and nothing secret.
func TestDelegateIsSlow(t *testing.T) {
	t.Parallel()
	server := accesstest.New(t, map[string]string{"quick": "acme:pull"})
	plain := server.Rights
	var text lockedBuffer
	d, _ := delegate(server, access.DelegateConfig{Log: slog.New(slog.NewTextHandler(&text, nil))})
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	server.Answers(func(w http.ResponseWriter, question string) {
		if strings.Contains(question, "slow") {
			<-hang
		}
		plain(w, question)
	})
	begin := time.Now()
	var group sync.WaitGroup
	for i := range 40 {
		group.Go(func() {
			_, err := grants(t.Context(), subject(t, d, "slow secret"), fmt.Sprintf("repository:p%d/app:pull", i))
			if !errors.Is(err, access.ErrUnsure) {
				t.Errorf("a slow answer: %v", err)
			}
		})
	}
	within(t, "the slow one has all the calls that it may have", func() bool { return server.Count() == access.CallsAtOnce })
	got, err := grants(t.Context(), subject(t, d, "quick"), "repository:acme/app:pull")
	calls := server.Forget()
	if inTime := time.Since(begin) < access.DelegateTime; inTime && (got == "" || err != nil || calls != access.CallsAtOnce+1) {
		t.Errorf("another client: %q, %v, and %d calls, want %d", got, err, calls, access.CallsAtOnce+1)
	}
	group.Wait()
	if took := time.Since(begin); took < access.DelegateTime || took > access.DelegateTime+20*time.Second {
		t.Errorf("calls that hang ended after %v, want %v", took, access.DelegateTime)
	}
	if log := text.String(); strings.Count(log, "level=WARN") != 1 || !strings.Contains(log, "did not answer in time") || strings.Contains(log, "secret") {
		t.Errorf("the log:\n%s", log)
	}
}

// A client sees the namespaces that the API lets it pull, and all of them are asked about, or
// none.
func TestDelegateBook(t *testing.T) {
	t.Parallel()
	server := accesstest.New(t, map[string]string{"bob": "p7:pull p9:push", "none": ""})
	many := 150
	d, move := delegate(server, access.DelegateConfig{Namespaces: func(_ context.Context, limit int) (names []string, err error) {
		for i := range min(many, limit) {
			names = append(names, fmt.Sprintf("p%d", i))
		}
		return names, nil
	}})
	s, err := subject(t, d, "bob").AboutAll(t.Context())
	patterns := s.Asker().Visibility().Patterns()
	if slices.Sort(patterns); err != nil || !slices.Equal(patterns, []string{"p7/*", "p9/*"}) {
		t.Errorf("bob sees %q, %v", patterns, err)
	}
	if n := server.Forget(); n != 2*many-1 {
		t.Errorf("%d calls, want %d", n, 2*many-1)
	}
	if s, err := subject(t, d, "none").AboutAll(t.Context()); err != nil || len(s.Rules) != 0 {
		t.Errorf("a client without rights: %v, %v", s.Rules, err)
	}
	if _, err := subject(t, d, "wrong").AboutAll(t.Context()); !errors.Is(err, access.ErrDenied) {
		t.Errorf("wrong credentials: %v", err)
	}
	// The texts of questions are apart, whatever a client sends.
	if _, err := subject(t, d, "namespaces").AboutAll(t.Context()); !errors.Is(err, access.ErrDenied) {
		t.Errorf("wrong credentials that are a word: %v", err)
	}
	many = access.MaxNamespaces + 1
	move(2 * time.Second)
	server.Called()
	if s, err := subject(t, d, "bob").AboutAll(t.Context()); !errors.Is(err, access.ErrTooManyNamespaces) || len(s.Rules) != 0 || server.Forget() != 0 {
		t.Errorf("with %d namespaces: %v, %v, or it was asked", many, s.Rules, err)
	}
	if got, err := grants(t.Context(), subject(t, d, "bob"), "repository:p9/app:push"); got == "" || err != nil {
		t.Errorf("the registry, with %d namespaces: %q, %v", many, got, err)
	}
}

// Half of the namespaces are never shown because the other half got no answer.
func TestDelegateBookIsWhole(t *testing.T) {
	t.Parallel()
	server := accesstest.New(t, map[string]string{"bob": "p1:pull p2:pull p3:pull"})
	plain := server.Rights
	d, _ := delegate(server, access.DelegateConfig{Namespaces: func(context.Context, int) ([]string, error) { return []string{"p1", "p2", "p3"}, nil }})
	server.Answers(func(w http.ResponseWriter, question string) {
		if strings.Contains(question, "p2") {
			panic(http.ErrAbortHandler)
		}
		plain(w, question)
	})
	if s, err := subject(t, d, "bob").AboutAll(t.Context()); !errors.Is(err, access.ErrUnsure) || len(s.Rules) != 0 {
		t.Errorf("got %v, %v", s.Rules, err)
	}
}

// A token for the catalogue names all projects that a client may see, and shows no other ones;
// there is none if these are too many.
func TestDelegateCatalogue(t *testing.T) {
	t.Parallel()
	for _, projects := range []int{0, 1, access.MaxSeen, access.MaxSeen + 1, 199} {
		var names []string
		rights := ""
		for i := range projects {
			names = append(names, fmt.Sprintf("a-project-of-length-%03d", i))
			rights += names[i] + ":pull "
		}
		server := accesstest.New(t, map[string]string{"bob": rights})
		d, _ := delegate(server, access.DelegateConfig{Namespaces: func(context.Context, int) ([]string, error) { return append(names, "hidden"), nil }})
		wanted := access.ParseScopes([]string{"registry:catalog:*"})
		s, err := subject(t, d, "bob").About(t.Context(), wanted)
		if projects > access.MaxSeen {
			if !errors.Is(err, access.ErrTooManySeen) {
				t.Errorf("a token for %d projects: %v", projects, err)
			}
			continue
		}
		granted := s.Grant(wanted)
		if err != nil || len(granted) != projects {
			t.Errorf("of %d projects the token names %d, %v", projects, len(granted), err)
		}
		named, err := d.Named(t.Context(), s.Actor())
		if err != nil {
			t.Fatal(err)
		}
		sees := named.Narrow(granted).Asker().Visibility()
		if sees.Sees("hidden/app") || projects > 0 && !sees.Sees(names[projects-1]+"/app") {
			t.Errorf("with the token for %d projects one sees %q", projects, sees.Patterns())
		}
	}
}

// A token for the registry is worth what it says, and one of another method nothing.
func TestDelegateNamed(t *testing.T) {
	t.Parallel()
	for actor, want := range map[string]access.Actions{
		"delegated": access.Push, "delegated/bob@example.org": access.Push, "bob": 0, "": 0, "anonymous": access.Push,
	} {
		d := access.NewDelegate(access.DelegateConfig{URL: "http://127.0.0.1:1", Anonymous: actor == "anonymous"})
		actor = strings.TrimPrefix(actor, "anonymous")
		s, err := d.Named(t.Context(), actor)
		s = s.Narrow([]access.Access{{Type: "repository", Name: "acme/app", Actions: []string{"pull", "push"}}})
		if got := s.Allowed("acme/app"); got != want || s.Allowed("acme/other") != 0 || (err != nil) != (actor == "bob") {
			t.Errorf("%q: %q, %v, want %q", actor, got, err, want)
		}
	}
}

// Each permission allows, and needs, what the table says.
func TestPermissions(t *testing.T) {
	t.Parallel()
	for p, want := range map[access.Permission]string{
		access.MayPull: "pull", access.MayPush: "pull,push,delete", access.MayList: "", access.MayGet: "", "registry.other": "",
	} {
		if got := p.Allows().String(); got != want {
			t.Errorf("%s allows %q, want %q", p, got, want)
		}
	}
	for actions, want := range map[access.Actions][]access.Permission{
		0: nil, access.Pull: {access.MayPull, access.MayList, access.MayGet}, access.Push: {access.MayPull, access.MayList, access.MayGet},
		access.Push | access.Delete: {access.MayPull, access.MayPush, access.MayList, access.MayGet},
		access.Admin:                {access.MayPull, access.MayPush, access.MayList, access.MayGet},
	} {
		var got []access.Permission
		for _, p := range []access.Permission{access.MayPull, access.MayPush, access.MayList, access.MayGet, "registry.other"} {
			if p.Of(actions) {
				got = append(got, p)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("who may %q has %q, want %q", actions, got, want)
		}
	}
}

// within fails the test if something is not true within 30 s.
func within(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 30 s", what)
		}
	}
}

// A lockedBuffer is a buffer for concurrent use.
type lockedBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}
