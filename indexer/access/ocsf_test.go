package access_test

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/portbook/portbook/indexer/access"
)

// Each event has a class of OCSF, and each record is a valid CloudEvent, whatever its actor and
// target. The actor is never a name that was only claimed.
func TestCloudEvents(t *testing.T) {
	t.Parallel()
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	schema, err := c.Compile("testdata/ocsf.json")
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 30, 12, 0, 0, 5e8, time.FixedZone("", 3600))
	targets := map[string]string{"token": "7f3a12bc", "workload": "w7f3a12bc", "webhook": "webhook 3", "account": "alice", "image": "team/app:v1", "session": "alice", "login": ""}
	for _, e := range append([]access.Event{"later.event"}, access.Events...) {
		kind, _, _ := strings.Cut(string(e), ".")
		wanted := []string{targets[kind]}
		if kind == "grant" {
			wanted = []string{"alice", "group:dev", "everybody"}
		}
		for _, target := range wanted {
			for _, a := range []access.Actor{
				{Name: "root", Token: "12345678", Source: "192.0.2.1"}, {Name: "cli:root", Source: "host.example"}, {Claimed: "<b>\u2028", Source: "2001:db8::"}, {},
			} {
				for _, reported := range []time.Time{{}, at.Add(-time.Hour)} {
					r := access.Record{ID: 7, At: at, Event: e, Actor: a, Target: target, Refused: a.Name == "", Detail: "team/*:pull", Reported: reported}
					body, err := json.Marshal(r.CloudEvent("/api/v1/audit", "v1"))
					if err != nil {
						t.Fatal(err)
					}
					v, err := jsonschema.UnmarshalJSON(strings.NewReader(string(body)))
					if err != nil {
						t.Fatal(err)
					}
					if err := schema.Validate(v); err != nil {
						t.Errorf("%s: %v\n%s", e, err, body)
					}
					if r.CloudEvent("", "").Data.Actor.User != nil && a.Name == "" {
						t.Errorf("%s: the actor is what a client claimed: %s", e, body)
					}
				}
			}
		}
		if n := r(e).ActivityName; e != "later.event" && n == string(e) {
			t.Errorf("event %s has no class", e)
		}
	}
	for what, c := range map[string]struct {
		event   access.Event
		target  string
		typeUID int
	}{
		"a grant to an account": {access.GrantAdd, "alice", 300501},
		"a grant to a group":    {access.GrantRemove, "group:dev", 300602},
		"a grant to everybody":  {access.GrantAdd, "everybody", 300601},
		"a push":                {access.ImagePush, "a:b", 600301},
		"a refused login":       {access.Login, "alice", 300201},
		"a password":            {access.AccountPassword, "alice", 300103},
	} {
		got := access.Record{Event: c.event, Target: c.target, At: at}.CloudEvent("/", "v1").Data
		if got.TypeUID != c.typeUID || got.ClassUID != c.typeUID/100 || got.Time != at.UnixMilli() {
			t.Errorf("%s: %+v, want type %d", what, got, c.typeUID)
		}
	}
}

// Events has every event that there is, which filters and exports go by.
func TestEvents(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("audit.go")
	if err != nil {
		t.Fatal(err)
	}
	all := regexp.MustCompile(`(?m)^\t\w+ +Event = "([a-z.]+)"`).FindAllSubmatch(source, -1)
	for _, m := range all {
		if !slices.Contains(access.Events, access.Event(m[1])) {
			t.Errorf("%s is not in Events", m[1])
		}
	}
	if len(all) < 20 || len(all) != len(access.Events) {
		t.Errorf("%d events are declared, and %d are in Events", len(all), len(access.Events))
	}
}

// r returns a record of an event as OCSF.
func r(e access.Event) access.OCSF {
	return access.Record{Event: e, Target: "alice"}.CloudEvent("/", "v1").Data
}
