package postgres_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/santhosh-tekuri/jsonschema/v6"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/deliver"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/schema/schematest"
)

// A desk is a store with webhooks, and what sends to them.
type desk struct {
	t      *testing.T
	pool   *pgxpool.Pool
	store  *postgres.Store
	hooks  *deliver.Webhooks
	config deliver.Config
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	pool := schematest.New(t)
	s := postgres.New(pool, postgres.Config{})
	box, err := deliver.NewBox(strings.Repeat("k", 32))
	if err != nil {
		t.Fatal(err)
	}
	return &desk{t, pool, s, deliver.NewWebhooks(s, box), deliver.Config{
		Store: s, Box: box, Source: "https://registry.example.org", Log: slog.New(slog.DiscardHandler),
		Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Timeout: 5 * time.Second,
	}}
}

// add adds a webhook, and returns it with its secret.
func (d *desk) add(url, pattern string, events ...deliver.Type) (deliver.Webhook, deliver.Secret) {
	d.t.Helper()
	p, err := access.ParsePattern(pattern)
	if err != nil {
		d.t.Fatal(err)
	}
	if len(events) == 0 {
		events = deliver.Types
	}
	w, secret, err := d.hooks.Add(d.t.Context(), deliver.Webhook{Name: "test", URL: url, Pattern: p, Events: events, Enabled: true})
	if err != nil {
		d.t.Fatal(err)
	}
	return w, secret
}

func (d *desk) exec(sql string, args ...any) {
	d.t.Helper()
	if _, err := d.pool.Exec(d.t.Context(), sql, args...); err != nil {
		d.t.Fatal(err)
	}
}

// later makes all pauses end.
func (d *desk) later() {
	d.t.Helper()
	d.exec("UPDATE webhook SET rest_until = NULL")
	d.exec("UPDATE webhook_delivery SET next_at = LEAST(next_at, now())")
}

// send sends all that is due with each of the senders.
func (d *desk) send(senders ...*deliver.Sender) {
	d.t.Helper()
	if len(senders) == 0 {
		senders = []*deliver.Sender{deliver.NewSender(d.config)}
	}
	var group sync.WaitGroup
	for _, s := range senders {
		group.Go(func() {
			for {
				found, err := s.Step(d.t.Context())
				if err != nil {
					d.t.Error(err)
				}
				if !found {
					s.Wait() // what it has begun may leave something due
					if found, _ = s.Step(d.t.Context()); !found {
						return
					}
				}
			}
		})
	}
	group.Wait()
}

// log returns the deliveries of a webhook, the oldest first.
func (d *desk) log(w deliver.Webhook) []deliver.Delivery {
	d.t.Helper()
	all, err := d.hooks.Deliveries(d.t.Context(), w.ID, 0, 100)
	if err != nil {
		d.t.Fatal(err)
	}
	slices.Reverse(all)
	return all
}

func (d *desk) webhook(w deliver.Webhook) deliver.Webhook {
	d.t.Helper()
	w, err := d.hooks.Webhook(d.t.Context(), w.ID)
	if err != nil {
		d.t.Fatal(err)
	}
	return w
}

func told(all []deliver.Delivery) (texts []string) {
	for _, d := range all {
		texts = append(texts, string(d.Type)+" "+d.Subject)
	}
	return texts
}

// Webhooks hear of what they have chosen, of their repositories, and of nothing else. What did not
// change is not told.
func TestWebhooksHearWhatTheyChoose(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	one, two, other := image("demo/app", "one"), image("demo/app", "two"), image("other/app", "x")
	setTag(t, d.store, "before", one) // nobody hears
	all, _ := d.add("https://a.example.org/", "*")
	moves, _ := d.add("https://b.example.org/", "demo/*", deliver.Moved)
	exact, _ := d.add("https://c.example.org/", "demo/app")
	deaf, _ := d.add("https://d.example.org/", "demo/ap")
	setTag(t, d.store, "v1", one)
	setTag(t, d.store, "v1", one)
	setTag(t, d.store, "v1", two)
	setTag(t, d.store, "x", other)
	gone := indexer.Finding{Task: indexer.Task{Repository: "demo/app"}, Outcome: indexer.Gone}
	store(t, d.store, "v1", gone)
	store(t, d.store, "v1", gone)
	store(t, d.store, two.Digest.String(), gone)
	plan, err := access.ParsePattern("demo/*")
	if err != nil {
		t.Fatal(err)
	}
	err = d.store.Tell(t.Context(), deliver.NewPlanEvent(plan, deliver.Data{Plan: 7}),
		deliver.NewEvent(deliver.Restored, deliver.Data{Repository: "demo/app", Digest: one.Digest, Operation: 3, Actor: "ann"}))
	if err != nil {
		t.Fatal(err)
	}
	ofApp := []string{
		"pushed demo/app:v1", "moved demo/app:v1", "deleted demo/app:v1", "deleted demo/app@" + two.Digest.String(),
		"restored demo/app@" + one.Digest.String(),
	}
	for _, c := range []struct {
		webhook deliver.Webhook
		want    []string
	}{
		{all, slices.Concat(ofApp[:2], []string{"pushed other/app:x"}, ofApp[2:4], []string{"plan.applied demo/*"}, ofApp[4:])},
		{moves, ofApp[1:2]}, {exact, ofApp}, {deaf, nil},
	} {
		if diff := cmp.Diff(c.want, told(d.log(c.webhook))); diff != "" {
			t.Errorf("%s (-want +got)\n%s", c.webhook.Pattern, diff)
		}
	}
	if a, b := d.log(all)[1], d.log(moves)[0]; a.Event != b.Event || a.Event == d.log(all)[0].Event {
		t.Errorf("ids of events: %s, %s", a.Event, b.Event)
	}
	var data deliver.Data
	if err := json.Unmarshal(d.log(moves)[0].Data, &data); err != nil {
		t.Fatal(err)
	}
	if data.Previous != one.Digest || data.Digest != two.Digest || data.Move == 0 || data.SeenBy != "event" {
		t.Errorf("%+v", data)
	}
}

// Webhooks hear once of a rollback that is done, and not of one that failed.
func TestWebhooksHearOfRollbacks(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	hook, _ := d.add("https://a.example.org/", "demo/*")
	one := image("demo/app", "one")
	for _, state := range []indexer.OperationState{indexer.OperationFailed, indexer.OperationDone} {
		ctx := access.WithActor(t.Context(), access.Actor{Name: "ann"})
		o := indexer.Operation{Kind: indexer.Rollback, Repository: "demo/app", Tag: "v1", Digest: one.Digest}
		if _, err := d.store.AddOperation(ctx, o); err != nil {
			t.Fatal(err)
		}
		o, err := d.store.ClaimOperation(ctx, []indexer.OperationKind{indexer.Rollback}, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		o.State, o.Result.Tagged = state, 1
		if err := d.store.EndOperation(ctx, o); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{"restored demo/app:v1"}, told(d.log(hook))); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// A receiver is a server that webhooks call.
type receiver struct {
	*httptest.Server
	t      *testing.T
	schema *jsonschema.Schema

	mu       sync.Mutex
	secret   deliver.Secret
	answers  []int // status codes of the next answers; 0: the connection is dropped; then 200
	got      []string
	inFlight map[string]bool
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	schema, err := c.Compile("../deliver/event.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	r := &receiver{t: t, schema: schema, inFlight: map[string]bool{}}
	r.Server = httptest.NewServer(http.HandlerFunc(r.receive))
	t.Cleanup(r.Close)
	return r
}

// receive checks the signature as a receiver does, and the form of the event.
func (r *receiver) receive(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		r.t.Error(err)
	}
	id := req.Header.Get("webhook-id")
	r.begin(id, req, body)
	defer r.end(id)
	r.mu.Lock()
	status := http.StatusOK
	if len(r.answers) > 0 {
		status, r.answers = r.answers[0], r.answers[1:]
	}
	if status == http.StatusOK {
		var e struct{ Type, Subject string }
		if err := json.Unmarshal(body, &e); err != nil {
			r.t.Error(err)
		}
		r.got = append(r.got, strings.TrimPrefix(e.Type, "io.github.portbook.")+" "+e.Subject)
	}
	r.mu.Unlock()
	if status == 0 {
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(status)
	_, _ = w.Write([]byte("secret of the receiver"))
}

func (r *receiver) begin(id string, req *http.Request, body []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	verifier, err := standardwebhooks.NewWebhook(r.secret.Text())
	if err != nil {
		r.t.Error(err)
		return
	}
	if err := verifier.Verify(body, req.Header); err != nil {
		r.t.Errorf("signature: %v", err)
	}
	instance, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		r.t.Error(err)
	}
	if err := r.schema.Validate(instance); err != nil {
		r.t.Errorf("%s: %v", body, err)
	}
	if e, ok := instance.(map[string]any); !ok || e["id"] != id {
		r.t.Errorf("webhook-id %s, and %s", id, body)
	}
	if got := req.Header.Get("Content-Type"); got != "application/cloudevents+json; charset=utf-8" {
		r.t.Error(got)
	}
	if r.inFlight[id] {
		r.t.Errorf("event %s is sent twice at the same time", id)
	}
	r.inFlight[id] = true
}

func (r *receiver) end(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.inFlight, id)
}

// An event is sent until the receiver accepts it, and what it answers is not stored.
func TestDelivery(t *testing.T) {
	t.Parallel()
	d, r := newDesk(t), newReceiver(t)
	w, secret := d.add(r.URL, "demo/app")
	r.secret = secret
	r.answers = []int{500, 0, 302, 404}
	setTag(t, d.store, "v1", image("demo/app", "one"))
	setTag(t, d.store, "v2", image("demo/app", "one"))
	for i, want := range []string{
		"the receiver answered 500", "the connection to the receiver broke",
		"the receiver answered 302, a redirect, which is not followed", "the receiver answered 404",
	} {
		d.send()
		first, now := d.log(w)[0], d.webhook(w)
		if first.Reason != want || first.Attempts != i+1 || first.State != deliver.Waiting || now.Failures != i+1 || !now.Enabled {
			t.Fatalf("after attempt %d: %+v, %+v", i+1, first, now)
		}
		if second := d.log(w)[1]; second.Attempts > 0 {
			t.Fatalf("the webhook did not rest: %+v", second)
		}
		// The one that has failed waits for longer than the webhook rests: let it be first again.
		d.later()
		d.exec("UPDATE webhook_delivery SET next_at = queued_at")
	}
	d.send()
	if diff := cmp.Diff([]string{"pushed demo/app:v1", "pushed demo/app:v2"}, r.got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	for _, l := range d.log(w) {
		if l.State != deliver.Delivered || l.Status != 200 || l.Reason != "" || l.EndedAt.IsZero() {
			t.Errorf("%+v", l)
		}
	}
	if now := d.webhook(w); now.Failures != 0 || !now.FailingSince.IsZero() {
		t.Errorf("%+v", now)
	}
	// Again, by hand, also as two deliveries of one event.
	if err := d.hooks.Redeliver(t.Context(), w, d.log(w)[0].ID); err != nil {
		t.Fatal(err)
	}
	d.send()
	if len(r.got) != 3 || r.got[2] != r.got[0] {
		t.Errorf("redelivered: %v", r.got)
	}
	if err := d.hooks.Redeliver(t.Context(), w, 999); !errors.Is(err, indexer.ErrNotFound) {
		t.Errorf("redeliver what is not there: %v", err)
	}
	// Neither the secret nor what the receiver says is in the database.
	var dump string
	err := d.pool.QueryRow(t.Context(), `SELECT concat((SELECT string_agg(w::text, ' ') FROM webhook w),
		(SELECT string_agg(l::text, ' ') FROM webhook_delivery l), (SELECT string_agg(a::text, ' ') FROM audit a))`).Scan(&dump)
	if err != nil || strings.Contains(dump, "secret of the receiver") || strings.Contains(dump, strings.TrimPrefix(secret.Text(), "whsec_")) {
		t.Errorf("%v: %s", err, dump)
	}
}

// The secrets of before and after a rotation both sign, until the overlap is over.
func TestRotation(t *testing.T) {
	t.Parallel()
	d, r := newDesk(t), newReceiver(t)
	w, old := d.add(r.URL, "demo/app")
	next, err := d.hooks.Rotate(t.Context(), w, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range []deliver.Secret{old, next} {
		r.secret = s
		setTag(t, d.store, "v1", image("demo/app", fmt.Sprint(i)))
		d.send()
	}
	d.exec("UPDATE webhook SET old_until = now()")
	setTag(t, d.store, "v1", image("demo/app", "x"))
	d.send()
	if len(r.got) != 3 || d.webhook(w).OldUntil != (time.Time{}) {
		t.Errorf("%v", r.got)
	}
	// Without the key of the configuration nothing is sent, and the log says why.
	d.config.Box = nil
	setTag(t, d.store, "v1", image("demo/app", "y"))
	d.send()
	if l := d.log(w)[3]; !strings.Contains(l.Reason, "webhooks.key") || l.State != deliver.Waiting || len(r.got) != 3 {
		t.Errorf("%+v", l)
	}
}

// A receiver that wants no more, or has failed for days, is not called any more; once it is
// enabled again, it is told that it has missed something.
func TestPause(t *testing.T) {
	t.Parallel()
	d, r := newDesk(t), newReceiver(t)
	w, secret := d.add(r.URL, "demo/app")
	r.secret = secret
	for i, c := range []struct {
		answer int
		before string
		reason string
	}{
		{410, "SELECT 1", "410 Gone"},
		{500, "UPDATE webhook SET failing_since = now() - interval '73 hours'", "for three days"},
	} {
		r.answers = []int{c.answer}
		d.exec(c.before)
		setTag(t, d.store, "v1", image("demo/app", fmt.Sprint("paused", i)))
		d.send()
		now := d.webhook(w)
		if now.State() != deliver.StatePaused || !strings.Contains(now.Problem, c.reason) || now.MissingSince.IsZero() {
			t.Fatalf("%+v", now)
		}
		before := len(d.log(w))
		setTag(t, d.store, "v1", image("demo/app", fmt.Sprint("missed", i)))
		if len(d.log(w)) != before {
			t.Error("events are queued for a paused webhook")
		}
		id, err := d.hooks.PingWebhook(t.Context(), now) // it can be tested before it is enabled
		if err != nil {
			t.Fatal(err)
		}
		d.send()
		if p, err := d.hooks.Delivery(t.Context(), w.ID, id); err != nil || p.State != deliver.Delivered {
			t.Errorf("ping: %+v, %v", p, err)
		}
		if again := d.webhook(w); again.State() != deliver.StatePaused {
			t.Errorf("a ping changes the state: %+v", again)
		}
		enabled := true
		if err := d.hooks.ChangeWebhook(t.Context(), now, deliver.Edit{Enabled: &enabled}); err != nil {
			t.Fatal(err)
		}
		if n, err := d.store.TidyWebhooks(t.Context()); err != nil || n.Told != 1 {
			t.Fatalf("%+v, %v", n, err)
		}
		d.later()
		d.send()
		if got := slices.DeleteFunc(slices.Clone(r.got), func(g string) bool { return g != "missed " }); len(got) != i+1 {
			t.Errorf("after it was enabled: %q", r.got)
		}
	}
}

// A receiver that hangs delays no other.
func TestSlowReceiver(t *testing.T) {
	t.Parallel()
	d, r := newDesk(t), newReceiver(t)
	called, release := make(chan struct{}, 100), make(chan struct{})
	hangs := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		called <- struct{}{}
		<-release
	}))
	defer hangs.Close()
	defer close(release)
	slow, _ := d.add(hangs.URL, "demo/app")
	_, r.secret = d.add(r.URL, "demo/app")
	for i := range 30 {
		setTag(t, d.store, fmt.Sprint("v", i), image("demo/app", "one"))
	}
	ctx, stop := context.WithCancel(t.Context())
	s := deliver.NewSender(d.config)
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Run(ctx) }()
	<-called
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		r.mu.Lock()
		n := len(r.got)
		r.mu.Unlock()
		if n == 30 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of 30 were received", n)
		}
	}
	if l := d.log(slow)[0]; l.State != deliver.Waiting || l.Attempts > 1 {
		t.Errorf("%+v", l)
	}
	stop()
	<-done
	// A delivery that our own end has cut off counts as no attempt.
	if l := d.log(slow)[0]; l.State != deliver.Waiting {
		t.Errorf("%+v", l)
	}
}

// Two writers send each event once, in order, and never at the same time.
func TestTwoSenders(t *testing.T) {
	t.Parallel()
	d, r := newDesk(t), newReceiver(t)
	_, r.secret = d.add(r.URL, "demo/app")
	var want []string
	for i := range 60 {
		tag := fmt.Sprintf("v%02d", i)
		setTag(t, d.store, tag, image("demo/app", "one"))
		want = append(want, "pushed demo/app:"+tag)
	}
	d.send(deliver.NewSender(d.config), deliver.NewSender(d.config))
	if diff := cmp.Diff(want, r.got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// A writer that has lost its lease stores nothing; the event is sent again by the next one.
func TestLostClaim(t *testing.T) {
	t.Parallel()
	d, r := newDesk(t), newReceiver(t)
	w, secret := d.add(r.URL, "demo/app")
	r.secret = secret
	setTag(t, d.store, "v1", image("demo/app", "one"))
	ctx := t.Context()
	dead, err := d.store.ClaimWebhook(ctx, time.Minute, 10)
	if err != nil || len(dead.Deliveries) != 1 {
		t.Fatalf("%+v, %v", dead, err)
	}
	d.send()
	if len(r.got) > 0 {
		t.Fatal("it was sent though another writer has claimed it")
	}
	d.exec("UPDATE webhook SET leased_until = now()") // the writer was killed, and its lease has run out
	d.send()
	err = d.store.EndAttempt(ctx, dead, dead.Deliveries[0], deliver.Result{State: deliver.Failed}, time.Minute)
	if !errors.Is(err, indexer.ErrNotFound) || len(r.got) != 1 || d.log(w)[0].State != deliver.Delivered {
		t.Errorf("%v, %v, %+v", err, r.got, d.log(w))
	}
	// One that was changed meanwhile goes on with nothing more of the claim.
	setTag(t, d.store, "v2", image("demo/app", "one"))
	claim, err := d.store.ClaimWebhook(ctx, time.Minute, 10)
	if err != nil {
		t.Fatal(err)
	}
	off := false
	if err := d.hooks.ChangeWebhook(ctx, w, deliver.Edit{Enabled: &off}); err != nil {
		t.Fatal(err)
	}
	err = d.store.EndAttempt(ctx, claim, claim.Deliveries[0], deliver.Result{State: deliver.Delivered}, time.Minute)
	if !errors.Is(err, indexer.ErrNotFound) || d.log(w)[1].State != deliver.Delivered {
		t.Errorf("%v, %+v", err, d.log(w)[1])
	}
}

// What waits and what is logged is bounded.
func TestWebhooksAreBounded(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	w, _ := d.add("https://a.example.org/", "demo/app")
	fill := func(n int, state string, ended string) {
		t.Helper()
		d.exec(`INSERT INTO webhook_delivery (webhook_id, event, type, subject, data, happened_at, state, ended_at)
			SELECT $1, 'e', 'pushed', 's', '{}', now(), $3, `+ended+` FROM generate_series(1, $2)`, w.ID, n, state)
	}
	tidy := func() postgres.TidiedWebhooks {
		t.Helper()
		n, err := d.store.TidyWebhooks(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	count := func(state string) (n int) {
		t.Helper()
		err := d.pool.QueryRow(t.Context(), "SELECT count(*) FROM webhook_delivery WHERE state = $1", state).Scan(&n)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	fill(deliver.MaxWaiting+1, "waiting", "NULL")
	if n := tidy(); n.Full != 1 || d.webhook(w).Waiting != deliver.MaxWaiting+1 {
		t.Errorf("%+v", n)
	}
	setTag(t, d.store, "v1", image("demo/app", "one"))
	if n := count("waiting"); n != deliver.MaxWaiting+1 {
		t.Errorf("%d wait", n)
	}
	d.exec("UPDATE webhook_delivery SET queued_at = now() - interval '4 days'")
	if n := tidy(); n.Expired != deliver.MaxWaiting+1 || n.Told != 0 {
		t.Errorf("%+v", n)
	}
	if n := tidy(); n.Told != 1 || count("failed") != deliver.MaxLog || count("waiting") != 1 {
		t.Errorf("%+v, %d are kept", n, count("failed"))
	}
	setTag(t, d.store, "v2", image("demo/app", "one"))
	if n := count("waiting"); n != 2 {
		t.Errorf("%d wait", n)
	}
	fill(5, "delivered", "now() - interval '31 days'")
	if tidy(); count("delivered") != 0 {
		t.Error("old deliveries are kept")
	}
	if err := d.hooks.RemoveWebhook(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	if tidy(); count("failed")+count("waiting") != 0 {
		t.Error("deliveries of a webhook that was removed are kept")
	}
	// Nobody makes more webhooks than a namespace may have.
	for i := range deliver.MaxOfNamespace {
		d.add("https://a.example.org/", fmt.Sprintf("team/app%d", i))
	}
	p, err := access.ParsePattern("team/*")
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = d.hooks.Add(t.Context(), deliver.Webhook{
		Name: "x", URL: "https://a.example.org/", Pattern: p, Events: deliver.Types, Enabled: true})
	if !errors.Is(err, indexer.ErrConflict) {
		t.Errorf("one more: %v", err)
	}
	outside, _ := d.add("https://a.example.org/", "team2/*")
	err = d.hooks.ChangeWebhook(t.Context(), outside, deliver.Edit{Pattern: &p})
	if !errors.Is(err, indexer.ErrConflict) {
		t.Errorf("one more by a change: %v", err)
	}
}

// Only who administers the pattern of a webhook changes it, also when the pattern changes
// meanwhile.
func TestWebhookPermits(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	ctx := t.Context()
	if err := d.store.AddAccount(ctx, access.Account{Name: "lead"}); err != nil {
		t.Fatal(err)
	}
	team, err := access.ParsePattern("team/*")
	if err != nil {
		t.Fatal(err)
	}
	if err := d.store.Grant(ctx, access.Grantee{Account: "lead"}, access.Rule{Pattern: team, Actions: access.Admin}); err != nil {
		t.Fatal(err)
	}
	mine, _ := d.add("https://a.example.org/", "team/app")
	theirs, _ := d.add("https://a.example.org/", "other/app")
	as := func(p access.Pattern) context.Context {
		return access.WithPermit(access.WithActor(ctx, access.Actor{Name: "lead"}), access.OverseersOf(p))
	}
	name := "renamed"
	edit := deliver.Edit{Name: &name}
	if err := d.hooks.ChangeWebhook(as(mine.Pattern), mine, edit); err != nil {
		t.Errorf("of the team: %v", err)
	}
	for what, err := range map[string]error{
		"change":    d.hooks.ChangeWebhook(as(theirs.Pattern), theirs, edit),
		"remove":    d.hooks.RemoveWebhook(as(theirs.Pattern), theirs),
		"rotate":    d.hooks.RotateWebhook(as(theirs.Pattern), theirs, []byte("x"), 0),
		"redeliver": d.hooks.Redeliver(as(theirs.Pattern), theirs, 1),
	} {
		if !errors.Is(err, indexer.ErrForbidden) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := d.hooks.PingWebhook(as(theirs.Pattern), theirs); !errors.Is(err, indexer.ErrForbidden) {
		t.Errorf("ping: %v", err)
	}
	d.exec("UPDATE webhook SET pattern = '*' WHERE id = $1", mine.ID)
	if err := d.hooks.RemoveWebhook(as(mine.Pattern), mine); !errors.Is(err, indexer.ErrConflict) {
		t.Errorf("the pattern has changed: %v", err)
	}
	if _, err := d.hooks.PingWebhook(as(mine.Pattern), mine); !errors.Is(err, indexer.ErrConflict) {
		t.Errorf("ping when the pattern has changed: %v", err)
	}
	records, err := d.store.Audit(ctx, access.AuditQuery{Event: access.WebhookChange, Limit: 9})
	if err != nil || len(records) != 1 || records[0].Actor.Name != "lead" || strings.Contains(records[0].Detail, "https") {
		t.Errorf("%+v, %v", records, err)
	}
}
