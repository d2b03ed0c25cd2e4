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

// promoteTimeout bounds a promotion and the waits for what a standby replays,
// each of which takes milliseconds when little was written.
const promoteTimeout = 30 * time.Second

// Standby starts a hot standby of s, which follows it by streaming. It is a copy
// of the files of s, which is stopped for as long as that takes: its connections
// are cut. Of cfg, Dir must be new or empty, and User, BinDir, Env and Durable
// are those of s.
func (s *Server) Standby(ctx context.Context, cfg Config) (*Server, error) {
	cfg.User, cfg.Durable, cfg.Env = s.cfg.User, s.cfg.Durable, s.cfg.Env
	cfg.BinDir = s.cfg.BinDir // only the same version can read the files
	if err := s.copyTo(ctx, cfg.Dir); err != nil {
		return nil, fmt.Errorf("standby in %s: %w", cfg.Dir, err)
	}
	return Start(ctx, cfg)
}

// copyTo makes the files of a standby in dir.
func (s *Server) copyTo(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.proc.Stop(syscall.SIGINT, stopTimeout)
	err := errors.Join(s.copyFiles(dir), s.follow(filepath.Join(dir, dataName)))
	return errors.Join(err, s.start(ctx)) // whatever became of the copy
}

func (s *Server) copyFiles(dir string) error {
	// Not os.CopyFS: it makes directories that a group may read, which
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
			return fmt.Errorf("%s is no ordinary file", name)
		}
		content, err := os.ReadFile(name) // 16 MB at most, that of a WAL segment
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
		"wal_retrieve_retry_interval = '100ms'\n" // default 5 s: how long a primary is not tried again
	file, err := os.OpenFile(filepath.Join(data, "postgresql.auto.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteString(settings)
	return errors.Join(err, file.Close())
}

// quote makes a string literal of libpq's conninfo and of postgresql.conf alike.
func quote(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

// Promote ends the standby's following: it becomes a primary of its own, with
// everything that it had received.
func (s *Server) Promote(ctx context.Context) error {
	return s.ask(ctx, "promote", func(ctx context.Context, conn *pgx.Conn) error {
		var promoted bool
		err := conn.QueryRow(ctx, "SELECT pg_promote(true, $1)", int(promoteTimeout.Seconds())).Scan(&promoted)
		if err == nil && !promoted {
			err = fmt.Errorf("the standby is still one after %v", promoteTimeout)
		}
		return err
	})
}

// PauseReplay makes a standby keep showing what it shows now. What its primary
// writes is still received, and shown after ResumeReplay or Promote.
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

// Disconnect makes a standby receive nothing more, as when the network between
// the two is cut: what its primary writes from now on, it will never have.
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

// WaitReplayed waits until the standby shows everything that s, its primary, had
// written when it was called.
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

// until waits until a query is true.
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
