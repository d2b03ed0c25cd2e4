package postgres

import (
	"context"

	"github.com/portbook/portbook/indexer/postgres/pg"
)

// maxVersions is how many tags that look like versions are read of one repository:
// 1,000, the last in bytewise order. More have a few builds of large registries,
// and an answer names 50 repositories.
const maxVersions = 1000

// Versions returns the tags of repositories that look like versions, in no order, at
// most maxVersions each.
func (v *View) Versions(ctx context.Context, repositories []string) (map[string][]string, error) {
	const q = `
		SELECT r.name AS repository, t.name AS tag FROM repository r CROSS JOIN LATERAL (
			SELECT t.name FROM tag t WHERE t.repository_id = r.id AND t.name ~ '^[vV]?[0-9]+([._-]|$)' ORDER BY t.name DESC LIMIT $2
		) t WHERE r.name = ANY($1)`
	type row struct{ Repository, Tag string }
	rows, err := pg.Collect[row](ctx, v.tx, q, pg.Cleaned(repositories), maxVersions)
	versions := map[string][]string{}
	for _, r := range rows {
		versions[r.Repository] = append(versions[r.Repository], r.Tag)
	}
	return versions, pg.Wrap("versions", err)
}
