package harness

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// warmed selects the relations that searches read: the tables of search rows and
// repositories, and all indexes of the tables that answers are made of. The tables of
// manifests, tags and images are not included; a page reads only a few of their rows.
const warmed = `
	SELECT c.oid::regclass FROM pg_class c
	WHERE c.oid IN ('repository'::regclass, 'repository_search'::regclass) OR c.oid IN (
		SELECT indexrelid FROM pg_index
		WHERE indrelid = ANY ('{repository,repository_search,image_search,manifest,tag}'::regclass[]))`

// Warm loads the relations that searches read into the buffers, as far as they fit, the
// state after some hours of use (contrib/pg_prewarm, which is in Debian's server package).
func (s *System) Warm(ctx context.Context, database string) error {
	return s.On(ctx, database, func(conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, "CREATE EXTENSION IF NOT EXISTS pg_prewarm"); err != nil {
			return err
		}
		if _, err := conn.Exec(ctx, "SELECT pg_prewarm(oid) FROM ("+warmed+") AS warmed (oid)"); err != nil {
			return err
		}
		_, err := conn.Exec(ctx, "DROP EXTENSION pg_prewarm") // kept books must not contain it: their schema is compared
		return err
	})
}
