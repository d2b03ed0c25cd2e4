package postgres

import "context"

// Sleep keeps a view's connection busy for some seconds, as a long query does.
func Sleep(ctx context.Context, v *View, seconds int) error {
	_, err := v.tx.Exec(ctx, "SELECT pg_sleep($1)", seconds)
	return wrap("sleep", err)
}

// Scan reads the one row of a query of a view's snapshot.
func Scan(ctx context.Context, v *View, q string, into ...any) error {
	return wrap(q, v.tx.QueryRow(ctx, q).Scan(into...))
}
