package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"
)

// Settings of PostgreSQL while a book is loaded, and while it is measured. An
// interrupted load starts again from the beginning, so loading syncs nothing;
// measurements sync everything. All other settings have PostgreSQL's defaults.
var (
	loadSettings = []string{
		"fsync=off", "full_page_writes=off", "synchronous_commit=off", "wal_level=minimal", "max_wal_senders=0",
		"autovacuum=off",
		"max_wal_size=8GB", "checkpoint_timeout=1h", "maintenance_work_mem=1GB", "work_mem=64MB",
	}
	planSettings = []string{
		"session_preload_libraries=auto_explain", "auto_explain.log_min_duration=10ms", "auto_explain.log_analyze=on",
		"auto_explain.log_buffers=on",
		"auto_explain.log_timing=on",
	}
	measureSettings = []string{
		"work_mem=32MB",        // a bitmap of a million rows stays exact
		"random_page_cost=1.1", // of a solid-state disk
		"max_wal_size=4GB",     // a checkpoint every five minutes, not after each thousand pushes
	}
)

// settings restarts PostgreSQL with these settings and no others. Everything written
// before is on disk afterwards.
func (b *bench) settings(ctx context.Context, settings []string) error {
	err := b.On(ctx, "postgres", func(conn *pgx.Conn) error {
		for _, q := range []string{"CHECKPOINT", "ALTER SYSTEM RESET ALL"} {
			if _, err := conn.Exec(ctx, q); err != nil {
				return err
			}
		}
		for _, setting := range append(memorySettings(), settings...) {
			name, value, _ := strings.Cut(setting, "=")
			if strings.HasPrefix(name, "auto_explain.") { // unknown until the library is loaded
				if _, err := conn.Exec(ctx, "LOAD 'auto_explain'"); err != nil {
					return err
				}
			}
			if _, err := conn.Exec(ctx, fmt.Sprintf("ALTER SYSTEM SET %s = '%s'", name, value)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	unix.Sync() // a checkpoint of a server without fsync does not sync
	return b.Postgres.Restart(ctx)
}

// memorySettings returns the settings that depend on the memory of the machine: a
// quarter of it for PostgreSQL's shared buffers (its documentation's "reasonable
// starting value"), at most 6 GB, and the expected size of the kernel's cache.
func memorySettings() []string {
	memory := memoryKiB() >> 10 // in MiB
	return []string{
		fmt.Sprintf("shared_buffers=%dMB", max(min(memory/4, 6<<10), 128)),
		fmt.Sprintf("effective_cache_size=%dMB", max(memory/2, 256)),
	}
}

func memoryKiB() int64 {
	b, _ := os.ReadFile("/proc/meminfo") // without it PostgreSQL gets the minimum
	rest, _ := strings.CutPrefix(string(b), "MemTotal:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0
	}
	n, _ := strconv.ParseInt(fields[0], 10, 64) // the kernel writes numbers
	return n
}
