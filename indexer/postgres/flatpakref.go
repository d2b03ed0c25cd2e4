package postgres

import (
	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer/postgres/pg"
)

// maxRefs is the maximum number of flatpaks that are kept for one repository: 1,000.
// They are never deleted; a repository has one or a few.
const maxRefs = 1000

type newFlatpak struct {
	Repository string
	Ref        string
}

var insertFlatpaks = `
	INSERT INTO flatpak_ref (repository, ref)
	SELECT DISTINCT new.repository, new.ref FROM ` + pg.Unnest[newFlatpak]("new", 1) + `
	WHERE (SELECT count(*) FROM flatpak_ref known WHERE known.repository = new.repository) < $3
	ORDER BY new.repository, new.ref ON CONFLICT DO NOTHING`

// queueFlatpaks queues a statement that stores the flatpaks that are new in their
// repository. The locks of repositories prevent two transactions from adding the
// same flatpak.
func queueFlatpaks(batch *pgx.Batch, flatpaks []newFlatpak) {
	if len(flatpaks) > 0 {
		batch.Queue(insertFlatpaks, append(pg.Arrays(flatpaks), maxRefs)...)
	}
}
