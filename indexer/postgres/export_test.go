package postgres

import "context"

// Sleep keeps a view's connection busy for some seconds, as a long query does.
func Sleep(ctx context.Context, v *View, seconds int) error {
	_, err := v.tx.Exec(ctx, "SELECT pg_sleep($1)", seconds)
	return wrap("sleep", err)
}
