package main_test

import (
	"strings"
	"testing"

	"github.com/portbook/portbook/schema/localpg"
)

// A reader on a standby must show which jobs the leader runs, and must not say so for ever
// if the leader dies while one runs.
func TestReaderShowsJobs(t *testing.T) {
	t.Parallel()
	f := launch(t)
	ctx := t.Context()
	standby := f.standby(localpg.Config{})
	leader := f.indexer(f.address, "PORTBOOK_INTERVAL_GARBAGE_COLLECT=500ms")
	reader := f.reader(standby)
	shows := func(what string) func() bool {
		return func() bool { return strings.Contains(body("http://"+reader.address+"/status"), what) }
	}
	showsJob := func(name, what string) func() bool {
		return func() bool {
			_, job, _ := strings.Cut(body("http://"+reader.address+"/status"), "<b>"+name+"</b>")
			job, _, _ = strings.Cut(job, "</li>")
			return strings.Contains(job, what)
		}
	}
	within(t, patience, "a job has run", showsJob("partitions", "last run ended <time"))
	pool := f.pool()
	const tidyLock = 0x706f7274_74696479 // blocks the leader in the middle of tidying
	holder, err := pool.Acquire(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Release()
	if _, err := holder.Exec(ctx, "SELECT pg_advisory_lock_shared($1)", int64(tidyLock)); err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(ctx, "INSERT INTO blob (digest, size) VALUES (sha256('x'), 1)"); err != nil {
		t.Fatal(err)
	}
	within(t, patience, "a job runs", showsJob("tidy", "running, began <time"))
	leader.process.Kill()
	if _, err := pool.Exec(ctx, "UPDATE leader SET reported_at = now() - interval '2 minutes'"); err != nil {
		t.Fatal(err)
	}
	within(t, patience, "no leader is left", shows(`<p class="problem">No leader has reported for 2 min`))
	within(t, patience, "the job may run no longer", showsJob("tidy", "was running, began <time"))
	f.indexer(f.address)
	within(t, patience, "another leads", shows("One indexer became the leader <time"))
}
