package registrytest_test

import (
	"errors"
	"net/http"
	"slices"
	"testing"

	"github.com/distribution/distribution/v3/configuration"

	"github.com/portbook/portbook/registry/push"
	"github.com/portbook/portbook/registry/registrytest"
)

// The registry sends one event for a push, with the token, and none for its blobs.
func TestEvents(t *testing.T) {
	t.Parallel()
	receiver := registrytest.NewReceiver(t)
	r := registrytest.Start(t, registrytest.Config{Notify: receiver.URL, Token: "secret"})
	pushImage(t, r.Push, "demo/app", "v1")
	e := receiver.Wait(t, "push", tagged("v1"))
	if got, want := e.Authorization, []string{"Bearer secret"}; !slices.Equal(got, want) {
		t.Errorf("got Authorization %q, want %q", got, want)
	}
	if e.Action != "push" || e.Target.Repository != "demo/app" {
		t.Errorf("got event %+v, want a push to demo/app", e)
	}
	// Events are sent in order, so events of the blobs would have come before this one.
	if n := len(receiver.Events()); n != 1 {
		t.Errorf("got %d events, want 1: %+v", n, receiver.Events())
	}
}

// A restart keeps the address and the content, loses pending events, and changes the
// instance id.
func TestRestart(t *testing.T) {
	t.Parallel()
	receiver := registrytest.NewReceiver(t)
	r := registrytest.Start(t, registrytest.Config{Notify: receiver.URL, Root: t.TempDir()})
	pushImage(t, r.Push, "demo/app", "before")
	before := receiver.Wait(t, "push", tagged("before"))

	receiver.Answer(http.StatusServiceUnavailable)
	pushImage(t, r.Push, "demo/app", "lost")
	receiver.WaitRefused(t, 1, tagged("lost"))
	url := r.URL
	r.Restart()
	lost := receiver.Refused(tagged("lost"))
	pushImage(t, r.Push, "demo/app", "after")
	receiver.WaitRefused(t, 10, tagged("after")) // gives the lost event time to come again
	receiver.Answer(http.StatusOK)
	after := receiver.Wait(t, "push", tagged("after"))

	if r.URL != url {
		t.Errorf("after restart: got URL %q, want %q", r.URL, url)
	}
	if after.Source.InstanceID == before.Source.InstanceID || after.Source.InstanceID == "" {
		t.Errorf("got instance %q after the restart, want another than %q", after.Source.InstanceID, before.Source.InstanceID)
	}
	// One delivery may have begun before the restart.
	if n := receiver.Refused(tagged("lost")); n > lost+1 || slices.ContainsFunc(receiver.Events(), tagged("lost")) {
		t.Errorf("an event from before the restart was sent %d more times", n-lost)
	}
	if _, _, err := r.Push.Fetch(t.Context(), "demo/app", "lost"); err != nil {
		t.Errorf("content from before the restart: %v", err)
	}
}

// A stopped registry does not answer. Restart starts it again.
func TestStop(t *testing.T) {
	t.Parallel()
	r := registrytest.Start(t, registrytest.Config{Root: t.TempDir()})
	pushImage(t, r.Push, "demo/app", "v1")
	r.Stop()
	r.Stop()
	if _, _, err := r.Push.Fetch(t.Context(), "demo/app", "v1"); err == nil {
		t.Error("the registry answers after Stop")
	}
	r.Restart()
	if _, _, err := r.Push.Fetch(t.Context(), "demo/app", "v1"); err != nil {
		t.Error(err)
	}
}

// Two registries in one process do not share content or events.
func TestTwoRegistries(t *testing.T) {
	t.Parallel()
	receiverA, receiverB := registrytest.NewReceiver(t), registrytest.NewReceiver(t)
	a := registrytest.Start(t, registrytest.Config{Notify: receiverA.URL})
	b := registrytest.Start(t, registrytest.Config{Notify: receiverB.URL})
	pushImage(t, a.Push, "demo/app", "a")
	pushImage(t, b.Push, "demo/app", "b")
	eventA := receiverA.Wait(t, "push", tagged("a"))
	eventB := receiverB.Wait(t, "push", tagged("b"))
	if eventA.Source.InstanceID == eventB.Source.InstanceID {
		t.Errorf("both registries have the instance id %q", eventA.Source.InstanceID)
	}
	if len(receiverA.Events()) != 1 || len(receiverB.Events()) != 1 {
		t.Errorf("got events %+v and %+v, want one each", receiverA.Events(), receiverB.Events())
	}
	if status := fetchStatus(t, a.Push, "demo/app", "b"); status != http.StatusNotFound {
		t.Errorf("tag of the other registry: got status %d, want 404", status)
	}
}

// If a user is set, the registry refuses everybody else, and events name the user.
func TestPassword(t *testing.T) {
	t.Parallel()
	receiver := registrytest.NewReceiver(t)
	r := registrytest.Start(t, registrytest.Config{Notify: receiver.URL, User: "indexer", Password: "correct horse"})
	pushImage(t, r.Push, "demo/app", "v1")
	if e := receiver.Wait(t, "push", tagged("v1")); e.Actor.Name != "indexer" {
		t.Errorf("got actor %q, want indexer", e.Actor.Name)
	}
	for _, password := range []string{"", "wrong"} {
		other := *r.Push
		other.Password = password
		if status := fetchStatus(t, &other, "demo/app", "v1"); status != http.StatusUnauthorized {
			t.Errorf("password %q: got status %d, want 401", password, status)
		}
	}
}

// With Config.Pulls, the registry sends an event for a pull.
func TestPulls(t *testing.T) {
	t.Parallel()
	receiver := registrytest.NewReceiver(t)
	r := registrytest.Start(t, registrytest.Config{Notify: receiver.URL, Pulls: true})
	pushImage(t, r.Push, "demo/app", "v1")
	if _, _, err := r.Push.Fetch(t.Context(), "demo/app", "v1"); err != nil {
		t.Fatal(err)
	}
	receiver.Wait(t, "pull", func(e registrytest.Event) bool { return e.Action == "pull" && e.Target.Tag == "v1" })
}

// Configure changes the configuration of the registry.
func TestConfigure(t *testing.T) {
	t.Parallel()
	r := registrytest.Start(t, registrytest.Config{Configure: func(c *configuration.Configuration) {
		c.Storage["delete"]["enabled"] = false
	}})
	pushImage(t, r.Push, "demo/app", "v1")
	var refused *push.Error
	err := r.Push.Delete(t.Context(), "demo/app", "v1")
	if !errors.As(err, &refused) || refused.Status != http.StatusMethodNotAllowed {
		t.Errorf("delete: got %v, want status 405", err)
	}
}

// REGISTRY_* variables do not change the registry.
func TestEnvironment(t *testing.T) {
	t.Setenv("REGISTRY_STORAGE_DELETE_ENABLED", "false")
	t.Setenv("REGISTRY_HTTP_PREFIX", "/elsewhere/")
	r := registrytest.Start(t, registrytest.Config{})
	pushImage(t, r.Push, "demo/app", "v1")
	if err := r.Push.Delete(t.Context(), "demo/app", "v1"); err != nil {
		t.Error(err)
	}
}

func tagged(tag string) func(registrytest.Event) bool {
	return func(e registrytest.Event) bool { return e.Target.Tag == tag }
}

func pushImage(t *testing.T, c *push.Client, repository, tag string) {
	t.Helper()
	spec := push.ImageSpec{Files: map[string]string{"hello": tag}}
	if _, err := c.Image(t.Context(), repository, tag, spec); err != nil {
		t.Fatal(err)
	}
}

// fetchStatus fetches a manifest, which must fail, and returns the status.
func fetchStatus(t *testing.T, c *push.Client, repository, reference string) int {
	t.Helper()
	_, _, err := c.Fetch(t.Context(), repository, reference)
	var refused *push.Error
	if !errors.As(err, &refused) {
		t.Fatalf("fetch %s:%s: got error %v, want a push.Error", repository, reference, err)
	}
	return refused.Status
}
