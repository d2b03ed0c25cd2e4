package localpg_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/schema/localpg"
)

// A standby has what its primary commits, and accepts writes after Promote.
func TestStandby(t *testing.T) {
	t.Parallel()
	for _, durable := range []bool{true, false} {
		primary := start(t, localpg.Config{Dir: tempDir(t), Durable: durable})
		execute(t, primary.URL("postgres"), "CREATE TABLE ship AS SELECT 'Argo' AS name")
		standby := standbyOf(t, primary, localpg.Config{Settings: map[string]string{"max_standby_streaming_delay": "0"}})
		if got := query(t, standby.URL("postgres"), "SELECT name FROM ship"); got != "Argo" {
			t.Errorf("before streaming: got %q, want Argo", got)
		}
		execute(t, primary.URL("postgres"), "INSERT INTO ship VALUES ('Beagle')")
		replayed(t, primary, standby)
		if got := query(t, standby.URL("postgres"), "SELECT string_agg(name, ' ' ORDER BY name) FROM ship"); got != "Argo Beagle" {
			t.Errorf("got %q, want Argo Beagle", got)
		}
		if got := query(t, standby.URL("postgres"), "SHOW max_standby_streaming_delay"); got != "0" {
			t.Errorf("max_standby_streaming_delay is %q, want 0", got)
		}
		if got := query(t, standby.URL("postgres"), "SELECT pg_is_in_recovery()::text"); got != "true" {
			t.Error("the standby is not in recovery")
		}
		primary.Kill()
		if err := standby.Promote(t.Context()); err != nil {
			t.Fatal(err)
		}
		execute(t, standby.URL("postgres"), "INSERT INTO ship VALUES ('Calypso')")
	}
}

// PauseReplay delays what the primary commits, and loses none of it. After Disconnect
// a standby never receives it.
func TestStandbyBehind(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	primary := start(t, localpg.Config{Dir: tempDir(t)})
	execute(t, primary.URL("postgres"), "CREATE TABLE ship (name text)")
	standby := standbyOf(t, primary, localpg.Config{})
	ships := func() string {
		return query(t, standby.URL("postgres"), "SELECT COALESCE(string_agg(name, ' ' ORDER BY name), '') FROM ship")
	}
	if err := standby.PauseReplay(ctx); err != nil {
		t.Fatal(err)
	}
	execute(t, primary.URL("postgres"), "INSERT INTO ship VALUES ('Argo')")
	short, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := primary.WaitReplayed(short, standby); err == nil || ships() != "" {
		t.Errorf("replay is not paused: error %v, ships %q", err, ships())
	}
	if err := standby.ResumeReplay(ctx); err != nil {
		t.Fatal(err)
	}
	replayed(t, primary, standby)
	if got := ships(); got != "Argo" {
		t.Errorf("after ResumeReplay: %q, want Argo", got)
	}
	if err := standby.Disconnect(ctx); err != nil {
		t.Fatal(err)
	}
	execute(t, primary.URL("postgres"), "INSERT INTO ship VALUES ('Beagle')")
	primary.Kill()
	if err := standby.Promote(ctx); err != nil {
		t.Fatal(err)
	}
	if got := ships(); got != "Argo" {
		t.Errorf("the promoted standby has %q, want Argo", got)
	}
}

// The caller's pg_hba.conf decides who may connect, and may refuse the superuser.
func TestFiles(t *testing.T) {
	t.Parallel()
	s := start(t, localpg.Config{
		Dir:   tempDir(t),
		Files: map[string][]byte{"pg_hba.conf": []byte("host all portbook 127.0.0.1/32 reject\nhost all all 127.0.0.1/32 trust\n")},
	})
	conn, err := pgx.Connect(t.Context(), s.URL("postgres"))
	if err == nil {
		conn.Close(t.Context())
	}
	if err == nil || !strings.Contains(err.Error(), "28000") {
		t.Errorf("got %v, want error 28000 because of pg_hba.conf", err)
	}
}

func standbyOf(t *testing.T, primary *localpg.Server, cfg localpg.Config) *localpg.Server {
	t.Helper()
	cfg.Dir = tempDir(t)
	s, err := primary.Standby(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

func replayed(t *testing.T, primary, standby *localpg.Server) {
	t.Helper()
	if err := primary.WaitReplayed(t.Context(), standby); err != nil {
		t.Fatal(err)
	}
}
