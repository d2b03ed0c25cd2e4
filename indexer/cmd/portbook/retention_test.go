package main_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/portbook/portbook/registry/push"
)

// An operator's day by the command line: what the handbook shows works as it is written, and says
// what it has done. Webhooks hear of a plan that was applied, and of what is put back.
func TestCommandsOfManagement(t *testing.T) {
	t.Parallel()
	f := launch(t)
	r := receiveHooks(t, f.dir)
	close(r.hold)
	f.settings = append(f.settings, "PORTBOOK_WEBHOOKS_KEY="+strings.Repeat("k", 32),
		"PORTBOOK_WEBHOOKS_ALLOW_NETWORKS=127.0.0.0/8", "SSL_CERT_FILE="+r.certificate)
	f.indexer(f.address)
	says := func(args string, texts ...string) string {
		t.Helper()
		out := f.must(strings.Fields(args)...)
		for _, text := range texts {
			if !strings.Contains(out, text) {
				t.Errorf("%s: %q is not in %s", args, text, out)
			}
		}
		return out
	}
	fails := func(args, text string) {
		t.Helper()
		if out, err := f.run(strings.Fields(args)...); err == nil || !strings.Contains(out, text) {
			t.Errorf("%s: %v, want an error with %q: %s", args, err, text, out)
		}
	}
	var id, secret string
	made := says("webhook add deploys --url " + r.URL + "/hooks --pattern team/* --events restored,plan.applied")
	if _, err := fmt.Sscanf(made, "webhook %s\nsecret %s", &id, &secret); err != nil {
		t.Fatalf("%s: %v", made, err)
	}
	r.mu.Lock()
	r.secrets = []string{secret}
	r.mu.Unlock()
	tags := []string{"v1", "pr-1", "pr-2"}
	digests := map[string]string{}
	for _, tag := range tags {
		d, err := f.registry.Push.Image(t.Context(), "team/app", tag, push.ImageSpec{Labels: map[string]string{"tag": tag}})
		if err != nil {
			t.Fatal(err)
		}
		digests[tag] = d.Digest.String()
	}
	f.equal(patience)
	pool := f.pool()
	within(t, patience, "nothing waits to be read", func() bool { return f.query(pool, "SELECT count(*) FROM task") == 0 })
	shows := func(want string) {
		t.Helper()
		got := ""
		for _, tag := range tags {
			if _, _, err := f.registry.Push.Fetch(t.Context(), "team/app", tag); err == nil {
				got += tag + " "
			}
		}
		if strings.TrimSpace(got) != want {
			t.Errorf("the registry has the tags %q, want %q", got, want)
		}
	}

	says("retention add team/* keep --newest 1 --tag v*", "rule 1 (team/*): keep the tag that was pushed last")
	says("retention add team/* delete --tag pr-*", "rule 2 (team/*): delete tags whose name matches pr-*")
	fails("retention add team/* delete", "needs a condition")
	says("retention list --repository team/app", "delete tags whose name matches pr-*", "cli:")
	says("retention plan team/*", "plan 1 for team/*, made: it deletes 2 of 3 tags and 2 of 3 manifests", "team/app:pr-1", "it frees")
	says("retention show", "team/*")
	if out := says("retention show 1 --stays", "team/app:v1"); strings.Contains(out, "team/app:pr-1") {
		t.Errorf("what stays: %s", out)
	}
	fails("retention apply 1", "accept_percent 67")
	f.input = "team/app@" + digests["pr-2"] + "\n"
	says("retention report-in-use prod --for 1h", "1 manifests run in prod")
	says("retention in-use --repository team/app", digests["pr-2"], "prod")
	says("retention apply 1 --accept-percent 67", "done", "1 tags deleted, 1 manifests deleted")
	shows("v1 pr-2")
	says("retention show 1", "plan 1 for team/*, applied", "skipped: it would stay now: a cluster runs it")
	fails("retention apply 1 --accept-percent 67", "was applied already")
	within(t, patience, "the plan is told", func() bool { return r.has("plan.applied team/*") })
	says("retention undo 1", "done")
	shows("v1 pr-1 pr-2")
	within(t, patience, "what is put back is told", func() bool { return r.has("restored team/app@" + digests["pr-1"]) })
	says("retention show 1", "plan 1 for team/*, undone")
	says("retention remove 1")
	fails("retention remove 1", "rule 1: not found")

	says("protect add team/* v* --reason stays")
	says("protect list", "team/*", "v*", "stays")
	fails("delete tag team/app:v1", "protected")
	says("protect remove team/* v*")
	says("freeze add team/app")
	says("freeze list", "team/app")
	fails("delete tag team/app:v1", "frozen")
	says("freeze remove team/app")
	says("quota add team/* 500GB")
	says("quota list", "500000000000")
	fails("quota add team/* much", "not a number of bytes")
	says("quota remove team/*")
	fails("quota remove team/*", "not found")
	says("yank add team/app:v1 --reason broken")
	says("yank remove team/app:v1")
	says("deprecate add team/app --reason old")
	fails("deprecate add team/app --reason old", "already")
	says("deprecate remove team/app")

	says("job list", "JOB", "runAll", "usage")
	for _, job := range []string{"usage", "calculateProjectStorage"} {
		says("job run "+job, job+" has run in")
	}
	fails("job run collect", "turned off")
	fails("job run nothing", "there is no job")

	says("collect status", "the collection has not begun")
	says("collect list")
	says("collect pause")
	says("collect status", "paused by cli:")
	says("collect resume")
	says("collect retry", "0")
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.wrong) > 0 || len(r.got) != 2 {
		t.Errorf("webhooks heard %v; signatures %q", r.got, r.wrong)
	}
	shows("v1 pr-1 pr-2")
}
