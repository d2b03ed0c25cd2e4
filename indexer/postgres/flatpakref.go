package postgres

import (
	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer"
)

// maxRefs is how many flatpaks are remembered of one repository: 1,000. Nothing
// deletes them, and a repository holds one or a few.
const maxRefs = 1000

// refColumns are the flatpaks among manifests that are stored.
type refColumns struct{ repository, ref []string }

func (c *refColumns) add(m indexer.Manifest) {
	if ref := m.Labels[indexer.FlatpakRefLabel]; m.Kind == indexer.KindImage && indexer.IsFlatpakRef(ref) {
		c.repository, c.ref = append(c.repository, m.Repository), append(c.ref, ref)
	}
}

// queue remembers the flatpaks that were not seen in their repository before. The
// locks of repositories keep two transactions from adding the same.
func (c *refColumns) queue(batch *pgx.Batch) {
	if len(c.ref) == 0 {
		return
	}
	const q = `
		INSERT INTO flatpak_ref (repository, ref)
		SELECT DISTINCT new.repository, new.ref FROM unnest($1::text[], $2::text[]) AS new (repository, ref)
		WHERE (SELECT count(*) FROM flatpak_ref known WHERE known.repository = new.repository) < $3
		ORDER BY new.repository, new.ref ON CONFLICT DO NOTHING`
	batch.Queue(q, c.repository, c.ref, maxRefs)
}
