package postgres

import (
	"context"

	"github.com/portbook/portbook/indexer/postgres/pg"
)

// Namespaces returns the namespaces of all repositories, each once, at most limit of them. It
// reads one entry of the index for each, because a namespace may have many repositories: after
// those of "team/" the next possible name is "team0", since 0 is the byte after the slash.
func (s *Store) Namespaces(ctx context.Context, limit int) ([]string, error) {
	const q = `
		WITH RECURSIVE first (name) AS (
			(SELECT name FROM repository WHERE name LIKE '%/%' ORDER BY name LIMIT 1)
			UNION ALL
			SELECT (SELECT r.name FROM repository r WHERE r.name LIKE '%/%' AND r.name >= split_part(f.name, '/', 1) || '0'
				ORDER BY r.name LIMIT 1)
			FROM first f WHERE f.name IS NOT NULL
		)
		SELECT split_part(name, '/', 1) FROM first WHERE name IS NOT NULL LIMIT $1`
	names, err := pg.Column[string](ctx, s.pool, q, limit)
	return names, pg.Wrap("namespaces", err)
}
