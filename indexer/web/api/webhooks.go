package api

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/deliver"
	"github.com/portbook/portbook/indexer/query"
	"github.com/portbook/portbook/indexer/web/answer"
	"github.com/portbook/portbook/indexer/web/login"
)

// webhookEndpoints returns the endpoints for those who manage webhooks, in the order of
// doc/api.md; none if there are no accounts.
func (s *API) webhookEndpoints() []endpoint {
	if s.config.Webhooks == nil || s.config.Login == nil || s.config.Login.Accounts == nil {
		return nil
	}
	limit := answer.Parameter{Name: "limit", Doc: "maximum number of elements (default 100)", Max: maxList}
	made, done, accepted := []int{http.StatusCreated}, []int{http.StatusNoContent}, []int{http.StatusAccepted}
	const webhook = "/webhooks/{id}"
	const delivery = webhook + "/deliveries/{delivery}"
	return []endpoint{
		{path: "/webhooks", id: "webhooks",
			summary: "List the webhooks that you manage: those for patterns within which you have the action admin",
			gives:   webhooksAnswer{}, f: s.managing(s.webhooks), takes: []answer.Parameter{limit,
				{Name: "after", Doc: "only elements after this id", Max: query.MaxNumber}}},
		{method: "POST", path: "/webhooks", id: "addWebhook", summary: "Add a webhook; the answer has its secret",
			body: newWebhook{}, codes: made, gives: madeWebhook{}, f: s.managing(s.addWebhook)},
		{path: webhook, id: "webhook", summary: "Get a webhook", gives: webhookAnswer{}, f: s.managing(s.webhook)},
		{method: "PATCH", path: webhook, id: "changeWebhook", summary: "Change, enable or disable a webhook",
			body: webhookChange{}, gives: webhookAnswer{}, f: s.managing(s.changeWebhook)},
		{method: "DELETE", path: webhook, id: "removeWebhook", summary: "Remove a webhook",
			urgent: true, codes: done, f: s.managing(s.removeWebhook)},
		{method: "POST", path: webhook + "/rotate", id: "rotateWebhook",
			summary: "Give a webhook another secret; the old one signs too for a time",
			body:    webhookRotation{}, gives: webhookSecret{}, f: s.managing(s.rotateWebhook)},
		{method: "POST", path: webhook + "/test", id: "testWebhook",
			summary: "Send the event ping to a webhook; the delivery tells what the receiver answered",
			codes:   accepted, gives: deliveryAnswer{}, f: s.managing(s.testWebhook)},
		{path: webhook + "/deliveries", id: "deliveries", summary: "List the deliveries to a webhook, the latest first",
			gives: deliveriesAnswer{}, f: s.managing(s.deliveries), takes: []answer.Parameter{
				{Name: "before", Doc: "only deliveries older than the one with this id", Max: query.MaxNumber}, limit}},
		{path: delivery, id: "delivery", summary: "Get a delivery", gives: deliveryAnswer{}, f: s.managing(s.delivery)},
		{method: "POST", path: delivery + "/redeliver", id: "redeliver", summary: "Send a delivery that has ended again",
			codes: accepted, gives: deliveryAnswer{}, f: s.managing(s.redeliver)},
	}
}

// A webhookAnswer is a webhook in the API. It never has the secret.
type webhookAnswer struct {
	ID           int64             `json:"id"`
	Name         string            `json:"name" doc:"for people"`
	URL          string            `json:"url"`
	Pattern      string            `json:"pattern" doc:"the repositories that it hears of: * for all, team/* for those below team, or one name"`
	Events       []string          `json:"events" doc:"of pushed, moved, deleted, restored and plan.applied"`
	State        string            `json:"state" doc:"enabled, disabled by somebody, or paused by the indexer because of the problem"`
	Problem      string            `json:"problem,omitempty" doc:"why the indexer has paused it"`
	Waiting      int               `json:"waiting" doc:"number of deliveries that wait, as counted some seconds ago"`
	Failures     int               `json:"failures" doc:"number of attempts that failed since the last that did not"`
	FailingSince *answer.Timestamp `json:"failing_since,omitempty" doc:"since when all attempts have failed"`
	MissingSince *answer.Timestamp `json:"missing_since,omitempty" doc:"since when no events are queued, because too many wait or it is not enabled"`
	OldUntil     *answer.Timestamp `json:"old_secret_until,omitempty" doc:"until when the secret of before a rotation signs too"`
	CreatedBy    string            `json:"created_by"`
	CreatedAt    answer.Timestamp  `json:"created_at"`
}

func webhookOf(w deliver.Webhook) webhookAnswer {
	return webhookAnswer{
		ID: w.ID, Name: w.Name, URL: w.URL, Pattern: w.Pattern.String(),
		Events: answer.Map(w.Events, func(t deliver.Type) string { return string(t) }),
		State:  w.State(), Problem: w.Problem, Waiting: w.Waiting, Failures: w.Failures,
		FailingSince: timestampOf(w.FailingSince), MissingSince: timestampOf(w.MissingSince),
		OldUntil: timestampOf(w.OldUntil), CreatedBy: w.CreatedBy, CreatedAt: answer.Timestamp{Time: w.CreatedAt},
	}
}

type webhooksAnswer struct {
	Items []webhookAnswer `json:"items"`
	Next  string          `json:"next,omitempty" doc:"the address of the next page"`
}

func (s *API) webhooks(w http.ResponseWriter, r asked, who access.Subject) error {
	if err := access.Overseers(who); err != nil {
		return err
	}
	n := r.number("limit", defaultList)
	var list []deliver.Webhook
	err := s.look(r, func(ctx context.Context, _ login.Changer) (err error) {
		list, err = s.config.Webhooks.WebhookPage(ctx, deliver.Query{
			Within: who.Overseen(), After: int64(r.number("after", 0)), Limit: n + 1})
		return err
	})
	if err != nil {
		return err
	}
	list, next := turn(w, r, list, n, func(h deliver.Webhook) string { return strconv.FormatInt(h.ID, 10) })
	return answer.WriteJSON(w, http.StatusOK, webhooksAnswer{answer.Map(list, webhookOf), next})
}

// id returns a number in the path, 0 if it is none that anything can have.
func (r asked) id(name string) int64 {
	n, err := strconv.ParseInt(r.PathValue(name), 10, 64)
	if err != nil || n < 1 {
		return 0
	}
	return n
}

// webhookIn returns the webhook in the path, if the one who asks may know of it: one for other
// repositories answers as one that does not exist.
func (s *API) webhookIn(r asked, who access.Subject) (h deliver.Webhook, err error) {
	if err := access.Overseers(who); err != nil {
		return h, err
	}
	err = s.look(r, func(ctx context.Context, _ login.Changer) (err error) {
		h, err = s.config.Webhooks.Webhook(ctx, r.id("id"))
		return err
	})
	if err == nil && !who.Oversees(h.Pattern) {
		err = indexer.ErrNotFound
	}
	return h, orNone(err, "webhook %.20q", r.PathValue("id"))
}

// A newWebhook is the body of a request to add a webhook.
type newWebhook struct {
	Name    string   `json:"name" doc:"for people; at most 100 characters"`
	URL     string   `json:"url" doc:"of the receiver: https, unless webhooks.allow_networks has its address; at most 2,048 bytes"`
	Pattern string   `json:"pattern" doc:"the repositories that it hears of: * for all, team/* for those below team, or one name"`
	Events  []string `json:"events" doc:"of pushed, moved, deleted, restored and plan.applied"`
	Enabled *bool    `json:"enabled,omitempty" doc:"whether events are sent (default true)"`
}

func (n newWebhook) webhook() (h deliver.Webhook, err error) {
	h = deliver.Webhook{Name: n.Name, URL: n.URL, Enabled: n.Enabled == nil || *n.Enabled}
	if h.Pattern, err = access.ParsePattern(n.Pattern); err != nil {
		return h, err
	}
	h.Events, err = typesOf(n.Events)
	return h, err
}

func typesOf(texts []string) (types []deliver.Type, err error) {
	for _, text := range texts {
		t, err := deliver.ParseType(text)
		if err != nil {
			return nil, err
		}
		types = append(types, t)
	}
	return types, nil
}

// A webhookSecret has a secret, which is shown once.
type webhookSecret struct {
	Secret string `json:"secret" doc:"by which the receiver verifies signatures (Standard Webhooks); it is shown only now"`
}

type madeWebhook struct {
	Secret  string        `json:"secret" doc:"by which the receiver verifies signatures (Standard Webhooks); it is shown only now"`
	Webhook webhookAnswer `json:"webhook"`
}

func (s *API) addWebhook(w http.ResponseWriter, r asked, who access.Subject) error {
	if err := access.Overseers(who); err != nil {
		return err
	}
	var n newWebhook
	if err := r.read(w, &n); err != nil {
		return err
	}
	h, err := n.webhook()
	if err != nil {
		return err
	}
	var secret deliver.Secret
	err = s.change(r, who, access.OverseersOf(h.Pattern), func(ctx context.Context, _ login.Changer) (err error) {
		h, secret, err = s.config.Webhooks.Add(ctx, h)
		return err
	})
	if err != nil {
		return err
	}
	return created(w, answer.APIPrefix+"/webhooks/"+strconv.FormatInt(h.ID, 10), madeWebhook{secret.Text(), webhookOf(h)})
}

func (s *API) webhook(w http.ResponseWriter, r asked, who access.Subject) error {
	h, err := s.webhookIn(r, who)
	if err != nil {
		return err
	}
	return answer.WriteJSON(w, http.StatusOK, webhookOf(h))
}

// A webhookChange is the body of a request to change a webhook. What is absent stays.
type webhookChange struct {
	Name    *string   `json:"name,omitempty"`
	URL     *string   `json:"url,omitempty"`
	Pattern *string   `json:"pattern,omitempty" doc:"you have to administer it, and the one of before"`
	Events  *[]string `json:"events,omitempty" doc:"all events that are sent"`
	Enabled *bool     `json:"enabled,omitempty" doc:"whether events are sent; true also ends a pause"`
}

func (n webhookChange) edit() (e deliver.Edit, err error) {
	e = deliver.Edit{Name: n.Name, URL: n.URL, Enabled: n.Enabled}
	if n.Pattern != nil {
		p, err := access.ParsePattern(*n.Pattern)
		if err != nil {
			return e, err
		}
		e.Pattern = &p
	}
	if n.Events != nil {
		types, err := typesOf(*n.Events)
		if err != nil {
			return e, err
		}
		e.Events = &types
	}
	return e, nil
}

func (s *API) changeWebhook(w http.ResponseWriter, r asked, who access.Subject) error {
	h, err := s.webhookIn(r, who)
	if err != nil {
		return err
	}
	var n webhookChange
	if err := r.read(w, &n); err != nil {
		return err
	}
	e, err := n.edit()
	if err != nil {
		return err
	}
	err = s.change(r, who, deliver.ChangersOf(h, e), func(ctx context.Context, _ login.Changer) (err error) {
		if err = s.config.Webhooks.ChangeWebhook(ctx, h, e); err == nil {
			h, err = s.config.Webhooks.Webhook(ctx, h.ID)
		}
		return err
	})
	if err != nil {
		return orNone(err, "webhook %d", h.ID)
	}
	return answer.WriteJSON(w, http.StatusOK, webhookOf(h))
}

func (s *API) removeWebhook(w http.ResponseWriter, r asked, who access.Subject) error {
	h, err := s.webhookIn(r, who)
	if err != nil {
		return err
	}
	err = s.change(r, who, access.OverseersOf(h.Pattern), func(ctx context.Context, _ login.Changer) error {
		return s.config.Webhooks.RemoveWebhook(ctx, h)
	})
	if err != nil {
		return orNone(err, "webhook %d", h.ID)
	}
	return noContent(w)
}

// A webhookRotation is the body of a request for another secret.
type webhookRotation struct {
	Overlap *int `json:"overlap_seconds,omitempty" doc:"how long the old secret signs too: at most 2592000 (default 86400)"`
}

func (s *API) rotateWebhook(w http.ResponseWriter, r asked, who access.Subject) error {
	h, err := s.webhookIn(r, who)
	if err != nil {
		return err
	}
	var n webhookRotation
	if err := r.read(w, &n); err != nil {
		return err
	}
	overlap := deliver.Overlap
	if n.Overlap != nil {
		if *n.Overlap < 0 || *n.Overlap > int(deliver.MaxOverlap/time.Second) {
			return answer.Invalid("the field", "\"overlap_seconds\" is %d: write 0 to 2592000", *n.Overlap)
		}
		overlap = time.Duration(*n.Overlap) * time.Second
	}
	var secret deliver.Secret
	err = s.change(r, who, access.OverseersOf(h.Pattern), func(ctx context.Context, _ login.Changer) (err error) {
		secret, err = s.config.Webhooks.Rotate(ctx, h, overlap)
		return err
	})
	if err != nil {
		return orNone(err, "webhook %d", h.ID)
	}
	return answer.WriteJSON(w, http.StatusOK, webhookSecret{secret.Text()})
}

// A deliveryAnswer is a delivery in the API.
type deliveryAnswer struct {
	ID       int64             `json:"id"`
	Event    string            `json:"event" doc:"its type, such as pushed"`
	EventID  string            `json:"event_id" doc:"the id of the CloudEvent, and webhook-id"`
	Subject  string            `json:"subject" doc:"what the event is about, such as team/app:v1"`
	Time     answer.Timestamp  `json:"time" doc:"when it happened"`
	State    string            `json:"state" doc:"waiting, delivered or failed"`
	Attempts int               `json:"attempts" doc:"number of requests that were sent"`
	Status   int               `json:"status,omitempty" doc:"status code of the last answer; absent if there was none"`
	Reason   string            `json:"reason,omitempty" doc:"why the last attempt failed"`
	TookMS   int64             `json:"took_ms,omitempty" doc:"milliseconds of the last attempt"`
	TriedAt  *answer.Timestamp `json:"tried_at,omitempty" doc:"when the last attempt ended"`
	NextAt   *answer.Timestamp `json:"next_at,omitempty" doc:"when the next attempt may be, if it waits"`
}

func deliveryOf(d deliver.Delivery) deliveryAnswer {
	a := deliveryAnswer{
		ID: d.ID, Event: string(d.Type), EventID: d.Event, Subject: d.Subject, Time: answer.Timestamp{Time: d.HappenedAt},
		State: d.State, Attempts: d.Attempts, Status: d.Status, Reason: d.Reason, TookMS: d.Took.Milliseconds(),
		TriedAt: timestampOf(d.TriedAt),
	}
	if d.State == deliver.Waiting {
		a.NextAt = timestampOf(d.NextAt)
	}
	return a
}

type deliveriesAnswer struct {
	Items []deliveryAnswer `json:"items"`
	Next  string           `json:"next,omitempty" doc:"the address of the next page"`
}

func (s *API) deliveries(w http.ResponseWriter, r asked, who access.Subject) error {
	h, err := s.webhookIn(r, who)
	if err != nil {
		return err
	}
	n := r.number("limit", defaultList)
	var list []deliver.Delivery
	err = s.look(r, func(ctx context.Context, _ login.Changer) (err error) {
		list, err = s.config.Webhooks.Deliveries(ctx, h.ID, int64(r.number("before", 0)), n+1)
		return err
	})
	if err != nil {
		return err
	}
	next := ""
	if len(list) > n {
		list = list[:n]
		next = r.page("before", strconv.FormatInt(list[n-1].ID, 10))
		w.Header().Set("Link", "<"+next+`>; rel="next"`)
	}
	return answer.WriteJSON(w, http.StatusOK, deliveriesAnswer{answer.Map(list, deliveryOf), next})
}

func (s *API) delivery(w http.ResponseWriter, r asked, who access.Subject) error {
	h, err := s.webhookIn(r, who)
	if err != nil {
		return err
	}
	return s.writeDelivery(w, r, http.StatusOK, h, r.id("delivery"))
}

func (s *API) writeDelivery(w http.ResponseWriter, r asked, code int, h deliver.Webhook, id int64) error {
	var d deliver.Delivery
	err := s.look(r, func(ctx context.Context, _ login.Changer) (err error) {
		d, err = s.config.Webhooks.Delivery(ctx, h.ID, id)
		return err
	})
	if err != nil {
		return orNone(err, "delivery %d of webhook %d", id, h.ID)
	}
	if code == http.StatusAccepted {
		w.Header().Set("Location", fmt.Sprintf("%s/webhooks/%d/deliveries/%d", answer.APIPrefix, h.ID, id))
	}
	return answer.WriteJSON(w, code, deliveryOf(d))
}

func (s *API) testWebhook(w http.ResponseWriter, r asked, who access.Subject) error {
	h, err := s.webhookIn(r, who)
	if err != nil {
		return err
	}
	var id int64
	err = s.change(r, who, access.OverseersOf(h.Pattern), func(ctx context.Context, _ login.Changer) (err error) {
		id, err = s.config.Webhooks.PingWebhook(ctx, h)
		return err
	})
	if err != nil {
		return orNone(err, "webhook %d", h.ID)
	}
	return s.writeDelivery(w, r, http.StatusAccepted, h, id)
}

func (s *API) redeliver(w http.ResponseWriter, r asked, who access.Subject) error {
	h, err := s.webhookIn(r, who)
	if err != nil {
		return err
	}
	id := r.id("delivery")
	err = s.change(r, who, access.OverseersOf(h.Pattern), func(ctx context.Context, _ login.Changer) error {
		return s.config.Webhooks.Redeliver(ctx, h, id)
	})
	if err != nil {
		return orNone(err, "delivery %d of webhook %d", id, h.ID)
	}
	return s.writeDelivery(w, r, http.StatusAccepted, h, id)
}
