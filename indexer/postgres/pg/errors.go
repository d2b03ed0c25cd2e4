package pg

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/portbook/portbook/indexer"
)

// Wrap adds context to an error: what was done, ErrTooSlow if the statement timed
// out, and ErrUnavailable if the database is unavailable or shutting down. It
// returns nil for nil.
func Wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	if timedOut(err) {
		return fmt.Errorf("%s: %w: %w", what, err, indexer.ErrTooSlow)
	}
	if unavailable(err) {
		return fmt.Errorf("%s: %w: %w", what, err, indexer.ErrUnavailable)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// timedOut reports whether err is query_canceled, the error of a statement that ran
// into its timeout. An administrator can cause it too, which is treated the same.
func timedOut(err error) bool { return hasCode(err, "57014") }

// IsLockTimeout reports whether err is lock_not_available.
func IsLockTimeout(err error) bool { return hasCode(err, "55P03") }

func hasCode(err error, code string) bool {
	var failed *pgconn.PgError
	return errors.As(err, &failed) && failed.Code == code
}

// unavailable reports whether the same call may succeed later: the connection was
// lost or refused, or the server is starting, stopping or out of resources.
func unavailable(err error) bool {
	var failed *pgconn.PgError
	if errors.As(err, &failed) {
		switch failed.Code[:2] {
		case "08", "53", "57", "40": // connection, resources, operator intervention, rollback
			return true
		}
		return failed.Code == "25006" // read_only_sql_transaction: the primary has become a standby
	}
	var connect *pgconn.ConnectError
	var network net.Error
	return errors.As(err, &connect) || errors.As(err, &network) || pgconn.SafeToRetry(err) ||
		errors.Is(err, net.ErrClosed) || broke(err)
}

// broke reports whether the connection broke during a statement. pgx returns plain
// io errors in that case.
func broke(err error) bool {
	var failed *pgconn.PgError
	return !errors.As(err, &failed) && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF))
}

// IsLost reports whether a read-only transaction was interrupted and an immediate
// retry may succeed. It is false if the server refuses connections, because that
// lasts longer than a client should wait.
func IsLost(err error) bool {
	var failed *pgconn.PgError
	if errors.As(err, &failed) {
		switch failed.Code {
		case "40001", "40P01": // recovery conflict (statement or session), or deadlock with the replay process
			return true
		case "57P01", "57P02": // the server stopped or crashed while the session was idle
			return true
		}
		return false
	}
	var connect *pgconn.ConnectError
	if err == nil || errors.As(err, &connect) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	var network net.Error
	return pgconn.SafeToRetry(err) || broke(err) || errors.Is(err, net.ErrClosed) ||
		errors.As(err, &network) && !network.Timeout()
}
