//go:build unix

package registrytest_test

import (
	"net/http"
	"slices"
	"testing"

	"github.com/portbook/portbook/registry/registrytest"
)

// A killed registry starts again with its content and its address. It has another
// instance id, and does not deliver the events that were pending.
func TestProcessKill(t *testing.T) {
	t.Parallel()
	receiver := registrytest.NewReceiver(t)
	p := registrytest.StartProcess(t, registrytest.ProcessConfig{Notify: receiver.URL, Token: `a "secret"`})
	pushImage(t, p.Push, "demo/app", "before")
	before := receiver.Wait(t, "push", tagged("before"))
	if got, want := before.Authorization, []string{`Bearer a "secret"`}; !slices.Equal(got, want) {
		t.Errorf("got Authorization %q, want %q", got, want)
	}

	receiver.Answer(http.StatusServiceUnavailable)
	pushImage(t, p.Push, "demo/app", "lost")
	receiver.WaitRefused(t, 1, tagged("lost"))
	p.Kill()
	p.Kill()
	if _, _, err := p.Push.Fetch(t.Context(), "demo/app", "before"); err == nil {
		t.Error("the registry answers after Kill")
	}
	receiver.Answer(http.StatusOK)
	p.Start()
	pushImage(t, p.Push, "demo/app", "after")
	after := receiver.Wait(t, "push", tagged("after"))
	if before.Source.InstanceID == after.Source.InstanceID {
		t.Errorf("got instance %q before and after the kill, want another", after.Source.InstanceID)
	}
	if slices.ContainsFunc(receiver.Events(), tagged("lost")) {
		t.Error("an event from before the kill was delivered")
	}
	if _, _, err := p.Push.Fetch(t.Context(), "demo/app", "lost"); err != nil {
		t.Errorf("content from before the kill: %v", err)
	}
}

// A registry that Stop ended starts again with its content.
func TestProcessStop(t *testing.T) {
	t.Parallel()
	p := registrytest.StartProcess(t, registrytest.ProcessConfig{})
	pushImage(t, p.Push, "demo/app", "v1")
	p.Stop()
	p.Stop()
	p.Start()
	if _, _, err := p.Push.Fetch(t.Context(), "demo/app", "v1"); err != nil {
		t.Error(err)
	}
}
