package postgres

import (
	"context"
	"math"
	"sync"
	"time"

	"github.com/portbook/portbook/indexer/postgres/pg"
)

// A Lag says how far a server is behind its primary.
type Lag struct {
	Standby bool
	Behind  time.Duration // 0 on a primary; UnknownLag if it cannot be known
}

// UnknownLag is the lag of a standby that has neither replayed a commit nor been
// connected to its primary since it started.
const UnknownLag = time.Duration(math.MaxInt64)

// A LagMeter measures how far the server that a store reads from is behind its
// primary. It is safe for concurrent use.
//
// A connected standby that has replayed everything it received is not behind.
// Otherwise Postgres reports the time of the last commit that was replayed. That may
// be hours ago if nothing was written for hours, so the meter remembers when it last
// saw the standby up to date, and uses the later time. Frequent measurements make it
// more accurate: see Run.
//
// Commits that the primary has not sent yet are not counted. If a network drops all
// packets, the standby notices only after wal_receiver_timeout, 60 s by default.
type LagMeter struct {
	Store *Store

	mu       sync.Mutex
	upToDate map[string]time.Time // by server: when it last was, on the server's clock
}

// lagEvery is how often Run measures: 1 s. It is the upper limit of the error when
// an idle primary starts writing again.
const lagEvery = time.Second

// Run measures every second until ctx ends. It ignores errors and tries again.
func (m *LagMeter) Run(ctx context.Context) error {
	for wait(ctx, lagEvery) == nil {
		ask, cancel := context.WithTimeout(ctx, leaderTimeout)
		_, _ = m.Measure(ask) // callers that need the error call Measure
		cancel()
	}
	return nil
}

// Measure queries the server. It works for every user: without pg_read_all_stats a
// user sees only the pid in pg_stat_wal_receiver, and that is enough.
func (m *LagMeter) Measure(ctx context.Context) (Lag, error) {
	// The receive position is read before the replay position, so that a standby
	// that looks up to date was up to date.
	const q = `
		SELECT pg_is_in_recovery(), COALESCE(host(inet_server_addr()) || ' ' || inet_server_port(), ''), clock_timestamp(),
			pg_is_in_recovery() AND EXISTS (SELECT FROM pg_stat_wal_receiver WHERE pid IS NOT NULL)
				AND COALESCE(pg_last_wal_receive_lsn() <= pg_last_wal_replay_lsn(), false),
			pg_last_xact_replay_timestamp()`
	var (
		standby, upToDate bool
		server            string
		now               time.Time
		commit            *time.Time // nil if none was replayed
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
