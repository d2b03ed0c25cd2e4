package postgres

import (
	"context"
	"slices"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/pg"
)

// maxVersions is the maximum number of tags that look like versions and are read
// from one repository: 1,000, the last in bytewise order. Only a few builds in large
// registries have more, and an answer has 50 repositories.
const maxVersions = 1000

// Versions returns the tags of each repository that look like versions, at most
// maxVersions each, in no order.
func (v *View) Versions(ctx context.Context, repositories []string) (map[string][]string, error) {
	const q = `
		SELECT r.name AS repository, t.name AS tag FROM repository r CROSS JOIN LATERAL (
			SELECT t.name FROM tag t WHERE t.repository_id = r.id AND t.name ~ '` + indexer.VersionTagPattern + `' ORDER BY t.name DESC LIMIT $2
		) t WHERE r.name = ANY($1)`
	type row struct{ Repository, Tag string }
	visible := slices.DeleteFunc(pg.Cleaned(repositories), func(name string) bool { return !v.visible.Sees(name) })
	rows, err := pg.Collect[row](ctx, v.tx, q, visible, maxVersions)
	versions := map[string][]string{}
	for _, r := range rows {
		versions[r.Repository] = append(versions[r.Repository], r.Tag)
	}
	return versions, pg.Wrap("versions", err)
}
