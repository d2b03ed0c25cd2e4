package main_test

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/registry/push"
	"github.com/portbook/portbook/registry/registrytest"
)

// htpasswd is a line for the user me with password, hashed by bcrypt at cost 4.
const htpasswd = "me:$2a$04$mbwFXGFPKbqWRZV7GiiE7e8K0GjyqiSiRyuOR9bWRHZvv0bkK8/cy\n"

// The registry takes pushes and serves pulls while neither the indexer nor PostgreSQL runs. It
// keeps its events, and the book has them later.
func TestHalfASystem(t *testing.T) {
	t.Parallel()
	for name, credentials := range map[string]string{"nobody logs in": "", "passwords": "me:" + password} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := launchWith(t, func(f *fleet) registrytest.ProcessConfig {
				if credentials == "" {
					return registrytest.ProcessConfig{}
				}
				f.settings = []string{"PORTBOOK_REGISTRY_USERNAME=me", "PORTBOOK_REGISTRY_PASSWORD=" + password}
				return registrytest.ProcessConfig{
					File: "htpasswd.yml", Env: []string{"REGISTRY_AUTH_HTPASSWD_PATH=" + file(t, "htpasswd", htpasswd)},
				}
			})
			if credentials != "" {
				f.registry.Push.User, f.registry.Push.Password = "me", password
			}
			i := f.indexer(f.address)
			f.image(t, "team/before")
			f.equal(patience)
			i.stop(t)
			f.postgres.Stop()

			f.image(t, "team/during")
			if out, err := f.skopeo(t, credentials, "team/before", "team/copy"); err != nil {
				t.Fatalf("skopeo: %v: %s", err, out)
			}
			if err := f.postgres.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
			f.indexer(f.address)
			f.equal(patience)
			within(t, patience, "the events arrive that the registry kept", func() bool {
				return f.hasEvents(t, "team/during", "team/copy")
			})
		})
	}
}

// With our tokens, whoever has one goes on until it expires, and nobody gets a new one, because
// the registry trusts only ours.
func TestHalfASystemWithTokens(t *testing.T) {
	t.Parallel()
	f, i := guarded(t)
	var answer struct{ Token string }
	_, _, text := i.get(t, "/auth/token?scope=repository:team/app:pull,push", "alice", password)
	if err := json.Unmarshal([]byte(text), &answer); err != nil || answer.Token == "" {
		t.Fatalf("no token in %s: %v", text, err)
	}
	f.postgres.Stop()
	// The indexer remembers whom it has seen lately.
	for name, want := range map[string]int{"alice": http.StatusOK, "root": http.StatusServiceUnavailable} {
		if code, _, text := i.get(t, "/auth/token?scope=repository:team/app:pull", name, password); code != want {
			t.Errorf("without the database, a token for %s: got %d, want %d: %s", name, code, want, text)
		}
	}
	i.process.Stop(syscall.SIGTERM, patience)
	f.registry.Push.Token = answer.Token
	f.image(t, "team/app")
	if out, err := f.skopeo(t, "alice:"+password, "team/app", "team/copy"); err == nil {
		t.Errorf("skopeo got a token, and there is nobody to give it: %s", out)
	}
}

// image pushes an image to the registry.
func (f *fleet) image(t *testing.T, repository string) {
	t.Helper()
	if _, err := f.registry.Push.Image(t.Context(), repository, "v1", push.ImageSpec{}); err != nil {
		t.Fatal(err)
	}
}

// skopeo copies an image within the registry, by a pull and a push.
func (f *fleet) skopeo(t *testing.T, credentials, from, to string) (string, error) {
	t.Helper()
	program, err := exec.LookPath("skopeo")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("skopeo is not installed: apt-get install skopeo")
		}
		t.Skip("skopeo is not installed")
	}
	args := []string{"copy", "--src-tls-verify=false", "--dest-tls-verify=false"}
	if credentials != "" {
		args = append(args, "--src-creds", credentials, "--dest-creds", credentials)
	}
	at := "docker://" + strings.TrimPrefix(f.registry.URL, "http://") + "/"
	cmd := exec.CommandContext(t.Context(), program, append(args, at+from+":v1", at+to+":v1")...)
	cmd.Env = append(os.Environ(), "REGISTRY_AUTH_FILE="+filepath.Join(t.TempDir(), "auth.json"))
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// hasEvents reports whether the events of pushes to all these repositories have arrived.
func (f *fleet) hasEvents(t *testing.T, repositories ...string) bool {
	t.Helper()
	return len(f.column(t, "SELECT DISTINCT repository FROM event WHERE action = 'push' AND repository = ANY($1)", repositories)) ==
		len(repositories)
}

// column returns what a query selects, as text.
func (f *fleet) column(t *testing.T, query string, args ...any) []string {
	t.Helper()
	rows, err := f.pool().Query(t.Context(), query, args...)
	if err != nil {
		t.Fatal(err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// touched are the tables of what is kept that a writer without optional parts reads or writes
// while images are pushed and looked at; true: it has new rows then. They are empty, or say what
// happened to the images. Those of all other parts are not even read.
var touched = map[string]bool{
	"event": true, "registry_instance": true, "tag_history": true,
	// Pushes are counted; pulls only if the registry reports them.
	"usage_pending": true, "usage_day": true, "usage_repository": true, "usage_tag": true, "usage_manifest": true,
	"usage_seen": false, "usage_state": false,
	// Anybody may ask for a change or a plan, and each change looks whether a rule or a receiver is there.
	"operation": false, "plan": false, "plan_repository": false, "plan_item": false, "trash": false, "protection": false,
	"protected_move": false, "yank": false, "webhook": false, "webhook_delivery": false, "loose_blob": false,
	"flatpak_ref": false, "in_use": false, "retention_rule": false,
	"imported_time": false, // the leader looks whether there is one
}

// month is the end of the name of a partition.
var month = regexp.MustCompile(`_\d{4}_\d{2}$`)

// Optional parts that are off cost nothing: during a push, a search and a page, their tables are
// neither read nor written.
func TestPartsThatAreOff(t *testing.T) {
	t.Parallel()
	f := launch(t)
	i := f.indexer(f.address)
	f.image(t, "team/app")
	f.equal(patience)
	f.column(t, "SELECT pg_stat_reset()::text") // the migrations have read all tables
	f.image(t, "team/other")
	f.equal(patience)
	for _, path := range []string{"/v1/search?q=app", "/", "/repositories/team/app"} {
		i.get(t, path, "", "")
	}
	i.stop(t) // sessions write their statistics at the latest when they end
	used := f.column(t, `
		SELECT relname || CASE WHEN n_tup_ins > 0 THEN ' written' ELSE '' END FROM pg_stat_user_tables
		WHERE obj_description(relid) LIKE 'kept:%' AND coalesce(seq_scan, 0) + coalesce(idx_scan, 0) + n_tup_ins > 0`)
	if len(used) < 5 {
		t.Fatalf("got only %q: the statistics are missing", used)
	}
	for _, table := range used {
		name, written := strings.CutSuffix(table, " written")
		mayWrite, may := touched[month.ReplaceAllString(name, "")]
		if !may || written && !mayWrite {
			t.Errorf("%s: a part that is off reads or writes its table", table)
		}
	}
}
