package localpg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// promoteTimeout limits a promotion and a wait for replay. Both take milliseconds
// if little was written.
const promoteTimeout = 30 * time.Second

// Standby starts a hot standby of s, with streaming replication. It copies the files
// of s, and stops s meanwhile, which breaks its connections. cfg.Dir must be new or
// empty; User, BinDir, Env and Durable of cfg are replaced by those of s.
func (s *Server) Standby(ctx context.Context, cfg Config) (*Server, error) {
	cfg.User, cfg.Durable, cfg.Env = s.cfg.User, s.cfg.Durable, s.cfg.Env
	cfg.BinDir = s.cfg.BinDir // only the same version can read the files
	if err := s.copyTo(ctx, cfg.Dir); err != nil {
		return nil, fmt.Errorf("standby in %s: %w", cfg.Dir, err)
	}
	return Start(ctx, cfg)
}

// copyTo creates the files of a standby in dir.
func (s *Server) copyTo(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.proc.Stop(syscall.SIGINT, stopTimeout)
	err := errors.Join(s.copyFiles(dir), s.follow(filepath.Join(dir, dataName)))
	return errors.Join(err, s.start(ctx)) // even if the copy failed
}

func (s *Server) copyFiles(dir string) error {
	// os.CopyFS does not work: it creates directories that a group can read, which
	// PostgreSQL refuses, and it refuses a link to the log's directory.
	return filepath.WalkDir(s.cfg.Dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		inner, err := filepath.Rel(s.cfg.Dir, name)
		if err != nil {
			return err
		}
		to := filepath.Join(dir, inner)
		switch {
		case inner == ".":
			return nil
		case d.IsDir():
			return os.Mkdir(to, 0o700)
		case !d.Type().IsRegular():
			return fmt.Errorf("%s is not a regular file", name)
		}
		content, err := os.ReadFile(name) // at most 16 MB, the size of a WAL segment
		if err != nil {
			return err
		}
		return os.WriteFile(to, content, 0o600)
	})
}

// follow makes the cluster in data a standby of s.
func (s *Server) follow(data string) error {
	if err := os.WriteFile(filepath.Join(data, "standby.signal"), nil, 0o600); err != nil {
		return err
	}
	conninfo := "host=127.0.0.1 port=" + strconv.Itoa(s.cfg.Port) + " user=" + quote(s.cfg.User) + " sslmode=prefer"
	if s.password != "" {
		conninfo += " password=" + quote(s.password)
	}
	settings := "primary_conninfo = " + quote(conninfo) + "\n" +
		"wal_retrieve_retry_interval = '100ms'\n" // the pause between attempts to connect; 5 s by default
	file, err := os.OpenFile(filepath.Join(data, "postgresql.auto.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteString(settings)
	return errors.Join(err, file.Close())
}

// quote quotes a value for conninfo strings of libpq and for postgresql.conf.
func quote(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

// Promote makes the standby a primary, with everything that it has received.
func (s *Server) Promote(ctx context.Context) error {
	return s.ask(ctx, "promote", func(ctx context.Context, conn *pgx.Conn) error {
		var promoted bool
		err := conn.QueryRow(ctx, "SELECT pg_promote(true, $1)", int(promoteTimeout.Seconds())).Scan(&promoted)
		if err == nil && !promoted {
			err = fmt.Errorf("the server is still a standby after %v", promoteTimeout)
		}
		return err
	})
}

// PauseReplay pauses replay on a standby. It still receives the primary's writes, and
// replays them after ResumeReplay or Promote.
func (s *Server) PauseReplay(ctx context.Context) error {
	return s.ask(ctx, "pause replay", func(ctx context.Context, conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, "SELECT pg_wal_replay_pause()"); err != nil {
			return err
		}
		return until(ctx, conn, "SELECT pg_get_wal_replay_pause_state() = 'paused'")
	})
}

// ResumeReplay ends PauseReplay.
func (s *Server) ResumeReplay(ctx context.Context) error {
	return s.ask(ctx, "resume replay", func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "SELECT pg_wal_replay_resume()")
		return err
	})
}

// Disconnect ends the replication to a standby, as a broken network would. It never
// receives what the primary writes from now on.
func (s *Server) Disconnect(ctx context.Context) error {
	return s.ask(ctx, "disconnect", func(ctx context.Context, conn *pgx.Conn) error {
		for _, q := range []string{"ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()"} {
			if _, err := conn.Exec(ctx, q); err != nil {
				return err
			}
		}
		return until(ctx, conn, "SELECT NOT EXISTS (SELECT FROM pg_stat_wal_receiver)")
	})
}

// WaitReplayed waits until the standby has replayed everything that s, its primary,
// has written so far.
func (s *Server) WaitReplayed(ctx context.Context, standby *Server) error {
	var written string
	err := s.ask(ctx, "what is written", func(ctx context.Context, conn *pgx.Conn) error {
		return conn.QueryRow(ctx, "SELECT pg_current_wal_lsn()::text").Scan(&written)
	})
	if err != nil {
		return err
	}
	return standby.ask(ctx, "wait for replay", func(ctx context.Context, conn *pgx.Conn) error {
		return until(ctx, conn, "SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn", written)
	})
}

// ask runs f on a connection as the superuser.
func (s *Server) ask(ctx context.Context, what string, f func(context.Context, *pgx.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, promoteTimeout)
	defer cancel()
	at := net.JoinHostPort("127.0.0.1", strconv.Itoa(s.cfg.Port))
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return fmt.Errorf("%s at %s: %w", what, at, err)
	}
	defer conn.Close(ctx)
	if err := f(ctx, conn); err != nil {
		return fmt.Errorf("%s at %s: %w", what, at, err)
	}
	return nil
}

// until waits until a query returns true.
func until(ctx context.Context, conn *pgx.Conn, query string, args ...any) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		var yes bool
		if err := conn.QueryRow(ctx, query, args...).Scan(&yes); err != nil || yes {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}
