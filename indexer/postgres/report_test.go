package postgres_test

import (
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/postgres/postgrestest"
	"github.com/portbook/portbook/schema/schematest"
)

// What the registry reports is recorded once, however often it is sent, with the name that
// our token proves, or with the name that the client claims, or not at all.
func TestReports(t *testing.T) {
	t.Parallel()
	at := time.Now().Add(-time.Hour).Truncate(time.Microsecond)
	m := postgrestest.Made("team/app", "linux/amd64", 1, 1, "2026-11-01")
	layer, other := m.Layers[0].Digest, image("team/app", "other").Digest
	event := func(id, action, tag string, d string) indexer.Event {
		return indexer.Event{
			ID: id, At: at, Action: action, Repository: "team/app", Tag: tag, Digest: digest.Digest(d), Actor: "alice+7f3a12bc",
			Source: "192.0.2.1", Request: "r" + id,
		}
	}
	ancient, own := event("6", "delete", "", other.String()), event("7", "delete", "v1", "")
	ancient.At, own.Actor = at.Add(-30*24*time.Hour), access.Ourselves
	events := []indexer.Event{
		event("1", "push", "v1", m.Digest.String()), event("2", "push", "", m.Digest.String()), event("3", "delete", "v1", ""),
		event("4", "delete", "", m.Digest.String()), event("5", "delete", "", layer.String()), ancient, own,
	}
	type row struct{ Event, Request, Target, Detail string }
	want := []row{ // the latest first
		{"image.delete", "r6", "team/app@" + other.String(), ""},
		{"blob.delete", "r5", "team/app@" + layer.String(), ""},
		{"image.delete", "r4", "team/app@" + m.Digest.String(), ""},
		{"tag.delete", "r3", "team/app:v1", ""},
		{"image.push", "r2", "team/app@" + m.Digest.String(), ""},
		{"image.push", "r1", "team/app:v1", m.Digest.String()},
	}
	for how, actor := range map[postgres.Reports]access.Actor{
		postgres.NoReports:      {},
		postgres.ProvedReports:  {Name: "alice", Token: "7f3a12bc", Source: "192.0.2.1"},
		postgres.ClaimedReports: {Claimed: "alice+7f3a12bc", Source: "192.0.2.1"},
	} {
		shelf := postgrestest.New(t)
		shelf.Find("team/app", "v1", m)
		s := postgres.New(shelf.Pool, postgres.Config{Reports: how})
		for range 2 {
			_, err := s.Receive(t.Context(), append(events, events...))
			must(t, err)
		}
		records, err := s.Audit(t.Context(), access.AuditQuery{Limit: 100, Repository: "team/app"})
		must(t, err)
		var got []row
		for _, r := range records {
			if r.Target == "team/app:v1" && r.Request == "r7" { // nobody has proved that it was us
				continue
			}
			got = append(got, row{string(r.Event), r.Request, r.Target, r.Detail})
			if wrong := r.Request != "r6" && !r.Reported.Equal(at) || time.Since(r.Reported) > 2*time.Hour; wrong || r.Actor != actor || r.Refused {
				t.Errorf("%q: recorded as %+v", how, r)
			}
		}
		all := want
		if how == postgres.NoReports {
			all = nil
		}
		if diff := cmp.Diff(all, got); diff != "" {
			t.Errorf("%q (-want +got)\n%s", how, diff)
		}
		if count := map[postgres.Reports]int{postgres.ProvedReports: 6, postgres.ClaimedReports: 7}[how]; len(records) != count {
			t.Errorf("%q: %d records, want %d", how, len(records), count)
		}
	}
}

// A plus sign in the name that an API gives does not begin the id of a token.
func TestReportsOfDelegates(t *testing.T) {
	t.Parallel()
	s := postgres.New(schematest.New(t), postgres.Config{Reports: postgres.ProvedReports})
	for _, want := range []access.Actor{
		{Name: "delegated"}, {Name: "delegated/bob@example.org"}, {Name: "delegated/bob+x@example.org"},
		{Name: "alice"}, {Name: "alice", Token: "7f3a12bc"},
	} {
		actor := access.Subject{Name: want.Name, Token: want.Token}.Actor()
		_, err := s.Receive(t.Context(), []indexer.Event{{
			ID: actor, At: time.Now(), Action: "delete", Repository: "team/app", Tag: "v1", Actor: actor,
		}})
		must(t, err)
		all, err := s.Audit(t.Context(), access.AuditQuery{Limit: 1})
		if err != nil || len(all) != 1 || all[0].Actor != want {
			t.Errorf("%q: recorded as %+v, %v, want %+v", actor, all, err, want)
		}
	}
}

// A page of records is found by each filter, and goes on where the one before ended.
func TestAuditFilters(t *testing.T) {
	t.Parallel()
	pool := schematest.New(t)
	s := postgres.New(pool, postgres.Config{})
	begin := time.Now().Add(-24 * time.Hour).Truncate(time.Microsecond)
	for i := range 60 {
		execute(t, pool, fmt.Sprintf(`INSERT INTO audit (at, event, actor, token, source, target, repository, outcome, request, detail)
			VALUES ('%s', '%s', 'a%d', '', '', 't%d', '%s', '%s', '', '')`, begin.Add(time.Duration(i)*10*time.Minute).Format(time.RFC3339Nano),
			[]string{"image.push", "grant.add"}[i%2], i%3, i%5, []string{"", "team/app", "team/b", "b"}[i%4], []string{"done", "refused"}[i/30]))
	}
	all, err := s.Audit(t.Context(), access.AuditQuery{Limit: 1000})
	must(t, err)
	for what, c := range map[string]struct {
		q    access.AuditQuery
		want func(access.Record) bool
	}{
		"all":        {access.AuditQuery{}, func(access.Record) bool { return true }},
		"actor":      {access.AuditQuery{Actor: "a1"}, func(r access.Record) bool { return r.Actor.Name == "a1" }},
		"target":     {access.AuditQuery{Target: "t4"}, func(r access.Record) bool { return r.Target == "t4" }},
		"repository": {access.AuditQuery{Repository: "team/app"}, func(r access.Record) bool { return r.Repository == "team/app" }},
		"event":      {access.AuditQuery{Event: "grant.add"}, func(r access.Record) bool { return r.Event == "grant.add" }},
		"refused":    {access.AuditQuery{Outcome: access.Refused}, func(r access.Record) bool { return r.Refused }},
		"done":       {access.AuditQuery{Outcome: access.Done}, func(r access.Record) bool { return !r.Refused }},
		"since":      {access.AuditQuery{Since: all[20].At}, func(r access.Record) bool { return !r.At.Before(all[20].At) }},
		"until":      {access.AuditQuery{Until: all[20].At}, func(r access.Record) bool { return r.At.Before(all[20].At) }},
		"future":     {access.AuditQuery{Since: time.Now()}, func(r access.Record) bool { return false }},
		"some": {access.AuditQuery{Since: all[40].At, Until: all[10].At, Actor: "a2", Event: "image.push"}, func(r access.Record) bool {
			return !r.At.Before(all[40].At) && r.At.Before(all[10].At) && r.Actor.Name == "a2" && r.Event == "image.push"
		}},
	} {
		var want, got []int64
		for _, r := range all {
			if c.want(r) {
				want = append(want, r.ID)
			}
		}
		for c.q.Limit, c.q.Before = 7, math.MaxInt64; ; {
			page, err := s.Audit(t.Context(), c.q)
			must(t, err)
			for _, r := range page {
				got = append(got, r.ID)
			}
			if len(page) < c.q.Limit {
				break
			}
			c.q.Before = page[len(page)-1].ID
		}
		if diff := cmp.Diff(want, got); diff != "" || len(got) == len(all) && what != "all" {
			t.Errorf("%s (-want +got)\n%s", what, diff)
		}
	}

	// An export has them in their order, and none that another might still come before.
	execute(t, pool, `INSERT INTO audit (at, event, actor, token, source, target, outcome, request, detail)
		VALUES (now(), 'login', '', '', '', '', 'refused', '', '')`)
	var exported []int64
	for after := int64(0); len(exported) <= len(all); {
		page, err := s.AuditAfter(t.Context(), after, access.AuditQuery{Limit: 7})
		must(t, err)
		if len(page) == 0 {
			break
		}
		for _, r := range page {
			exported = append(exported, r.ID)
		}
		after = page[len(page)-1].ID
	}
	if len(exported) != len(all) || exported[0] != all[len(all)-1].ID || exported[len(exported)-1] != all[0].ID {
		t.Errorf("exported %v", exported)
	}
}

// The user that works with the book adds and reads records, and can do nothing else to them,
// nor to a month of them.
func TestNobodyChangesRecords(t *testing.T) {
	t.Parallel()
	address := schematest.URL(t)
	pool := connect(t, address)
	s := postgres.New(pool, postgres.Config{})
	must(t, s.RecordAll(t.Context(), []access.Record{{Event: access.Login, Refused: true}, {Event: access.Login, Refused: true}}))
	user := asWriter(t, pool, address)
	execute(t, pool, "GRANT EXECUTE ON FUNCTION create_partitions, drop_partitions TO "+user.Config().ConnConfig.User)
	month := "audit_" + time.Now().UTC().Format("2006_01")
	for _, q := range []string{
		"DELETE FROM audit", "UPDATE audit SET actor = 'x'", "TRUNCATE audit", "DELETE FROM " + month, "TRUNCATE " + month,
		"UPDATE " + month + " SET actor = 'x'", "DROP TABLE " + month, "SELECT drop_partitions('audit', interval '1 year')",
		"ALTER TABLE audit DISABLE TRIGGER ALL", "DROP TRIGGER audit_kept ON audit",
	} {
		_, err := user.Exec(t.Context(), q)
		var failed *pgconn.PgError
		if !errors.As(err, &failed) || failed.Code != "42501" { // insufficient_privilege
			t.Errorf("%s: %v", q, err)
		}
	}
	must(t, postgres.New(user, postgres.Config{}).RecordAll(t.Context(), []access.Record{{Event: access.Login, Refused: true}}))
	if all, err := postgres.New(user, postgres.Config{}).Audit(t.Context(), access.AuditQuery{Limit: 9}); err != nil || len(all) != 3 {
		t.Errorf("%d records, %v", len(all), err)
	}
	execute(t, pool, "SELECT drop_partitions('audit', interval '1 year')") // its owner may
}
