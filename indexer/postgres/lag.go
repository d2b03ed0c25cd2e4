package postgres

import (
	"context"
	"math"
	"sync"
	"time"

	"github.com/portbook/portbook/indexer/postgres/pg"
)

// A Lag says how old the state may be that a server shows.
type Lag struct {
	Standby bool
	Behind  time.Duration // 0 on a primary; UnknownLag if the standby cannot tell
}

// UnknownLag is the lag of a standby that has neither replayed a commit nor been
// connected to its primary since it started.
const UnknownLag = time.Duration(math.MaxInt64)

// A LagMeter measures how far the server that a store reads from is behind its
// primary. It is safe for concurrent use.
//
// A standby that is connected and has replayed all it received is not behind. Of
// another, Postgres tells the time of the last commit that it replayed, which is
// hours ago if nothing was written for hours; so the meter remembers when it
// last saw the standby up to date, and counts from the later of the two. The
// more often it measures, the better it knows: see Run.
//
// What the primary has committed and not sent is not counted, and of a network
// that swallows everything the standby itself hears only after
// wal_receiver_timeout, 60 s if nobody changed it.
type LagMeter struct {
	Store *Store

	mu       sync.Mutex
	upToDate map[string]time.Time // by server: when it last was, by its own clock
}

// lagEvery is how often Run measures: it bounds what a standby is thought to be
// behind in the moment after an idle primary writes again.
const lagEvery = time.Second

// Run measures again and again until the context ends. A database that is away
// is asked again.
func (m *LagMeter) Run(ctx context.Context) error {
	for wait(ctx, lagEvery) == nil {
		ask, cancel := context.WithTimeout(ctx, leaderTimeout)
		_, _ = m.Measure(ask) // whoever wants to know why not asks too
		cancel()
	}
	return nil
}

// Measure asks the server. It works for every user: of pg_stat_wal_receiver
// those without pg_read_all_stats see the pid, and no more is needed.
func (m *LagMeter) Measure(ctx context.Context) (Lag, error) {
	// What was received is read before what was replayed, so that the standby was
	// up to date if it says so.
	const q = `
		SELECT pg_is_in_recovery(), COALESCE(host(inet_server_addr()) || ' ' || inet_server_port(), ''), clock_timestamp(),
			pg_is_in_recovery() AND EXISTS (SELECT FROM pg_stat_wal_receiver WHERE pid IS NOT NULL)
				AND COALESCE(pg_last_wal_receive_lsn() <= pg_last_wal_replay_lsn(), false),
			pg_last_xact_replay_timestamp()`
	var (
		standby, upToDate bool
		server            string
		now               time.Time
		commit            *time.Time // null if none was replayed
	)
	if err := m.Store.pool.QueryRow(ctx, q).Scan(&standby, &server, &now, &upToDate, &commit); err != nil {
		return Lag{}, pg.Wrap("replication lag", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.upToDate == nil {
		m.upToDate = map[string]time.Time{}
	}
	switch {
	case !standby:
		return Lag{}, nil
	case upToDate:
		m.upToDate[server] = now
		return Lag{Standby: true}, nil
	}
	since := m.upToDate[server]
	if commit != nil && commit.After(since) {
		since = *commit
	}
	if since.IsZero() {
		return Lag{Standby: true, Behind: UnknownLag}, nil
	}
	return Lag{Standby: true, Behind: max(now.Sub(since), 0)}, nil // the primary's clock may be ahead
}
