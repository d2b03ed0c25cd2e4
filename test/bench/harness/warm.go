package harness

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// warmed are the relations that searches read. Warm loads all of them that fit into
// PostgreSQL's buffers, the state after some hours of use. The tables of manifests and
// images are not included; a page reads only a few of their rows.
var warmed = []string{
	"repository_search", "repository_search_pkey", "repository_search_name_key", "repository_search_words_0",
	"repository_search_words_1", "repository_search_words_2", "repository_search_sample",
	"repository_search_basename", "repository_search_known", "repository", "repository_pkey",
	"repository_name_key", "repository_updated", "image_search_pairs", "image_search_latest",
	"image_search_sample", "image_search_pkey", "manifest_digest", "manifest_pkey", "tag_pkey", "tag_name",
	"search_lexeme_pkey", "search_word", "search_misspelling", "search_misspelling_pkey",
}

// Warm loads the relations into the buffers (contrib/pg_prewarm, which is in Debian's
// server package).
func (s *System) Warm(ctx context.Context, database string) error {
	return s.On(ctx, database, func(conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, "CREATE EXTENSION IF NOT EXISTS pg_prewarm"); err != nil {
			return err
		}
		if _, err := conn.Exec(ctx, "SELECT pg_prewarm(name::regclass) FROM unnest($1::text[]) AS name", warmed); err != nil {
			return err
		}
		_, err := conn.Exec(ctx, "DROP EXTENSION pg_prewarm") // kept books must not contain it: their schema is compared
		return err
	})
}
