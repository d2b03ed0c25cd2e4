package catalogue

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/deliver"
	"github.com/portbook/portbook/indexer/web/answer"
	"github.com/portbook/portbook/indexer/web/login"
)

// A webhooksView is the page of the webhooks that a person manages.
type webhooksView struct {
	Webhooks   []deliver.Webhook
	Overseen   []access.Pattern
	Everything bool // whether the one who looks manages all webhooks
	Back, More string
	Wrong      string
	Form       webhookForm
	tabs
}

// A webhookForm has what is typed into the form of a webhook.
type webhookForm struct {
	Name, URL, Pattern string
	Events             []typedEvent
	Button             string
}

// A typedEvent is a type of events with a check box.
type typedEvent struct {
	Type    deliver.Type
	Text    string
	Checked bool
}

// eventTexts say when events are sent.
var eventTexts = map[deliver.Type]string{
	deliver.Pushed: "a tag is new", deliver.Moved: "a tag shows another manifest than before",
	deliver.Deleted: "a tag, a manifest or a repository is gone", deliver.Restored: "what was deleted is back",
	deliver.PlanApplied: "a retention plan was applied",
}

// formOf returns the form of a webhook.
func formOf(w deliver.Webhook, pattern, button string) webhookForm {
	f := webhookForm{Name: w.Name, URL: w.URL, Pattern: pattern, Button: button}
	for _, t := range deliver.Types {
		f.Events = append(f.Events, typedEvent{t, eventTexts[t], slices.Contains(w.Events, t)})
	}
	return f
}

// usualEvents are those that are checked in an empty form.
var usualEvents = []deliver.Type{deliver.Pushed, deliver.Moved, deliver.Deleted}

// Webhooks serves the webhooks that a person manages.
func (s *Catalogue) Webhooks(w http.ResponseWriter, r *http.Request) error {
	return s.webhooks(w, r, http.StatusOK, webhooksView{Form: formOf(deliver.Webhook{Events: usualEvents}, "", "Add")})
}

func (s *Catalogue) webhooks(w http.ResponseWriter, r *http.Request, code int, v webhooksView) error {
	after, _ := strconv.ParseInt(r.URL.Query().Get("after"), 10, 64) // what is no number is the first page
	return s.manage(w, r, access.Overseers, func(ctx context.Context, _ login.Changer, who access.Subject) (err error) {
		v.Overseen, v.Everything, v.tabs = who.Overseen(), who.Oversees(access.Every), tabsOf(who, "webhooks")
		q := deliver.Query{Within: v.Overseen, After: after, Limit: pageSize + 1}
		if v.Webhooks, err = s.config.Webhooks.WebhookPage(ctx, q); err != nil {
			return err
		}
		if after > 0 {
			v.Back = "/manage/webhooks"
		}
		if len(v.Webhooks) > pageSize {
			v.Webhooks = v.Webhooks[:pageSize]
			v.More = addressWith("/manage/webhooks", "after", strconv.FormatInt(v.Webhooks[pageSize-1].ID, 10))
		}
		return s.unstored(w, code, "webhooks", page{Title: "Webhooks", Account: true, Main: v})
	})
}

// typedWebhook returns the webhook of a form; err says what is wrong with it.
func typedWebhook(r *http.Request) (h deliver.Webhook, err error) {
	h = deliver.Webhook{Name: cleanField(r.PostForm, "name"), URL: cleanField(r.PostForm, "url"), Enabled: true}
	for _, text := range r.PostForm["events"] {
		t, err := deliver.ParseType(text)
		if err != nil {
			return h, err
		}
		h.Events = append(h.Events, t)
	}
	if h.Pattern, err = access.ParsePattern(cleanField(r.PostForm, "pattern")); err != nil {
		return h, err
	}
	return h, h.Check()
}

// AddWebhook adds a webhook, and shows its secret.
func (s *Catalogue) AddWebhook(w http.ResponseWriter, r *http.Request) error {
	who, err := s.changing(w, r)
	if err != nil {
		return err
	}
	var secret deliver.Secret
	h, err := typedWebhook(r)
	typed := h
	if err == nil {
		err = s.change(r, who, access.OverseersOf(h.Pattern), func(ctx context.Context, _ login.Changer) (err error) {
			h, secret, err = s.config.Webhooks.Add(ctx, h)
			return err
		})
	}
	if code, text := wrong(err); text != "" {
		v := webhooksView{Wrong: text, Form: formOf(typed, cleanField(r.PostForm, "pattern"), "Add")}
		return s.webhooks(w, r, code, v)
	}
	if err != nil {
		return err
	}
	return s.showWebhook(w, r, h.ID, http.StatusOK, webhookView{Secret: secret.Text(), Done: "The webhook is added."})
}

// A webhookView is the page of a webhook, with its deliveries.
type webhookView struct {
	deliver.Webhook
	Form       webhookForm
	Deliveries []deliver.Delivery
	Secret     string // the new one, which is shown once
	Back, More string
	Wrong      string
	Done       string
	tabs
}

// Webhook serves the page of a webhook.
func (s *Catalogue) Webhook(w http.ResponseWriter, r *http.Request) error {
	return s.showWebhook(w, r, webhookID(r), http.StatusOK, webhookView{})
}

// webhookID returns the number in the path, 0 if it is none.
func webhookID(r *http.Request) int64 {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil || id < 1 {
		return 0
	}
	return id
}

// webhookOf returns a webhook, if the one who looks may know of it.
func (s *Catalogue) webhookOf(ctx context.Context, who access.Subject, id int64) (deliver.Webhook, error) {
	h, err := s.config.Webhooks.Webhook(ctx, id)
	if errors.Is(err, indexer.ErrNotFound) || err == nil && !who.Oversees(h.Pattern) {
		err = answer.Refuse(http.StatusNotFound, "there is no such webhook")
	}
	return h, err
}

func (s *Catalogue) showWebhook(w http.ResponseWriter, r *http.Request, id int64, code int, v webhookView) error {
	before, _ := strconv.ParseInt(r.URL.Query().Get("before"), 10, 64) // what is no number is the first page
	return s.manage(w, r, access.Overseers, func(ctx context.Context, _ login.Changer, who access.Subject) (err error) {
		if v.Webhook, err = s.webhookOf(ctx, who, id); err != nil {
			return err
		}
		if v.Deliveries, err = s.config.Webhooks.Deliveries(ctx, id, before, pageSize+1); err != nil {
			return err
		}
		address := fmt.Sprintf("/manage/webhooks/%d", id)
		if before > 0 {
			v.Back = address
		}
		if len(v.Deliveries) > pageSize {
			v.Deliveries = v.Deliveries[:pageSize]
			v.More = addressWith(address, "before", strconv.FormatInt(v.Deliveries[pageSize-1].ID, 10))
		}
		if v.Form.Button == "" {
			v.Form = formOf(v.Webhook, v.Pattern.String(), "Change")
		}
		v.tabs = tabsOf(who, "webhooks")
		return s.unstored(w, code, "webhook", page{Title: v.Name, Account: true, Main: v})
	})
}

// changeWebhook runs f, which changes the webhook in the path, and shows the page of the webhook
// with what was done or what is wrong. permit returns who may.
func (s *Catalogue) changeWebhook(w http.ResponseWriter, r *http.Request, permit func(deliver.Webhook) access.Permit,
	f func(ctx context.Context, h deliver.Webhook) (webhookView, error)) error {
	who, err := s.changing(w, r)
	if err != nil {
		return err
	}
	h, err := s.webhookOfForm(r, who)
	if err != nil {
		return err
	}
	var v webhookView
	err = s.change(r, who, permit(h), func(ctx context.Context, _ login.Changer) (err error) {
		v, err = f(ctx, h)
		return err
	})
	if errors.Is(err, indexer.ErrNotFound) {
		return answer.Refuse(http.StatusNotFound, "there is no such webhook or delivery")
	}
	code := http.StatusOK
	if problem, text := wrong(err); text != "" {
		code, err, v = problem, nil, webhookView{Wrong: text, Form: v.Form}
	}
	if err != nil {
		return err
	}
	return s.showWebhook(w, r, h.ID, code, v)
}

// webhookOfForm returns the webhook of a request that changes it.
func (s *Catalogue) webhookOfForm(r *http.Request, who access.Subject) (h deliver.Webhook, err error) {
	err = s.config.Login.Forbidden(r, who, access.Overseers(who))
	if err == nil {
		err = s.config.Login.Managing(r, func(ctx context.Context) (err error) {
			h, err = s.webhookOf(ctx, who, webhookID(r))
			return err
		})
	}
	return h, err
}

func overseersOf(h deliver.Webhook) access.Permit { return access.OverseersOf(h.Pattern) }

// ChangeWebhook changes what is typed into the form of a webhook.
func (s *Catalogue) ChangeWebhook(w http.ResponseWriter, r *http.Request) error {
	var e deliver.Edit
	var typed deliver.Webhook
	var mistake error
	permit := func(h deliver.Webhook) access.Permit {
		typed, mistake = typedWebhook(r)
		e = deliver.Edit{Name: &typed.Name, URL: &typed.URL, Pattern: &typed.Pattern, Events: &typed.Events}
		if mistake != nil {
			return overseersOf(h)
		}
		return deliver.ChangersOf(h, e)
	}
	return s.changeWebhook(w, r, permit, func(ctx context.Context, h deliver.Webhook) (webhookView, error) {
		v := webhookView{Form: formOf(typed, cleanField(r.PostForm, "pattern"), "Change")}
		if mistake != nil {
			return v, mistake
		}
		if err := s.config.Webhooks.ChangeWebhook(ctx, h, e); err != nil {
			return v, err
		}
		return webhookView{Done: "The webhook is changed."}, nil
	})
}

// EnableWebhook enables or disables a webhook.
func (s *Catalogue) EnableWebhook(w http.ResponseWriter, r *http.Request) error {
	return s.changeWebhook(w, r, overseersOf, func(ctx context.Context, h deliver.Webhook) (webhookView, error) {
		enabled := r.PostForm.Get("enabled") == "yes"
		done := "The webhook is disabled: no events are queued for it."
		if enabled {
			done = "The webhook is enabled."
		}
		return webhookView{Done: done}, s.config.Webhooks.ChangeWebhook(ctx, h, deliver.Edit{Enabled: &enabled})
	})
}

// RotateWebhook gives a webhook another secret, and shows it.
func (s *Catalogue) RotateWebhook(w http.ResponseWriter, r *http.Request) error {
	return s.changeWebhook(w, r, overseersOf, func(ctx context.Context, h deliver.Webhook) (webhookView, error) {
		hours, err := strconv.Atoi(r.PostForm.Get("hours"))
		if err != nil {
			return webhookView{}, indexer.Invalid("%.20q is not a number of hours", r.PostForm.Get("hours"))
		}
		secret, err := s.config.Webhooks.Rotate(ctx, h, time.Duration(hours)*time.Hour)
		return webhookView{Secret: secret.Text(), Done: "The webhook has a new secret."}, err
	})
}

// TestWebhook sends a ping.
func (s *Catalogue) TestWebhook(w http.ResponseWriter, r *http.Request) error {
	return s.changeWebhook(w, r, overseersOf, func(ctx context.Context, h deliver.Webhook) (webhookView, error) {
		id, err := s.config.Webhooks.PingWebhook(ctx, h)
		if err != nil {
			return webhookView{}, err
		}
		return webhookView{Done: s.pinged(ctx, h, id)}, nil
	})
}

// pingPatience is how long the page of a webhook waits for the answer to a ping: a second. What
// takes longer is seen when the page is loaded again.
const pingPatience = time.Second

// pinged returns what became of a ping.
func (s *Catalogue) pinged(ctx context.Context, h deliver.Webhook, id int64) string {
	for end := time.Now().Add(pingPatience); time.Now().Before(end); {
		d, err := s.config.Webhooks.Delivery(ctx, h.ID, id)
		switch {
		case err != nil:
			return "The test is queued: load this page again to see what the receiver answered."
		case d.State == deliver.Delivered:
			return fmt.Sprintf("The receiver answered %d.", d.Status)
		case d.State == deliver.Failed:
			return "The test failed: " + d.Reason + "."
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
	return "The test is queued: load this page again to see what the receiver answered."
}

// Redeliver sends a delivery again.
func (s *Catalogue) Redeliver(w http.ResponseWriter, r *http.Request) error {
	return s.changeWebhook(w, r, overseersOf, func(ctx context.Context, h deliver.Webhook) (webhookView, error) {
		id, err := strconv.ParseInt(r.PathValue("delivery"), 10, 64)
		if err != nil {
			return webhookView{}, indexer.ErrNotFound
		}
		return webhookView{Done: "The delivery is queued again."}, s.config.Webhooks.Redeliver(ctx, h, id)
	})
}

// RemoveWebhook removes a webhook, once the person is sure.
func (s *Catalogue) RemoveWebhook(w http.ResponseWriter, r *http.Request) error {
	who, err := s.changing(w, r)
	if err != nil {
		return err
	}
	h, err := s.webhookOfForm(r, who)
	if err != nil {
		return err
	}
	if !isSure(r) {
		return s.confirm(w, r, confirmView{Question: "Remove the webhook " + answer.Cut(h.Name, 100) + "?",
			Advice: "What waits for it is not sent, and its log is deleted. To keep them, disable it instead.",
			Button: "Remove", Back: fmt.Sprintf("/manage/webhooks/%d", h.ID)})
	}
	err = s.change(r, who, overseersOf(h), func(ctx context.Context, _ login.Changer) error {
		return s.config.Webhooks.RemoveWebhook(ctx, h)
	})
	if code, text := wrong(err); text != "" {
		return s.showWebhook(w, r, h.ID, code, webhookView{Wrong: text})
	}
	if err != nil && !errors.Is(err, indexer.ErrNotFound) { // it may be gone already
		return err
	}
	seeOther(w, "/manage/webhooks")
	return nil
}
