package postgres

import (
	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer"
)

// maxRefs is the maximum number of flatpaks that are kept for one repository: 1,000.
// They are never deleted; a repository has one or a few.
const maxRefs = 1000

// refColumns holds the flatpaks among the manifests being stored, as columns.
type refColumns struct{ repository, ref []string }

func (c *refColumns) add(m indexer.Manifest) {
	if ref := m.Labels[indexer.FlatpakRefLabel]; m.Kind == indexer.KindImage && indexer.IsFlatpakRef(ref) {
		c.repository, c.ref = append(c.repository, m.Repository), append(c.ref, ref)
	}
}

// queue queues a statement that stores the flatpaks that are new in their
// repository. The locks of repositories prevent two transactions from adding the
// same flatpak.
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
