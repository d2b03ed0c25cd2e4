package postgres

import (
	"context"
	"encoding/json"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer"
)

// A headRow is what a repository says of itself: the metadata of the manifest
// that its leading tag shows, and of that index's first image.
type headRow struct {
	ID                            int32
	Name                          string
	Tags                          int
	Annotations, Labels           []byte
	ChildAnnotations, ChildLabels []byte
	OldTitle, OldDescription      *string
}

// refresh brings the search rows of the changed repositories up to date: one for
// each that has a tag.
func (a *application) refresh() error {
	ids := a.changedIDs()
	if len(ids) == 0 {
		return nil
	}
	if _, err := a.tx.Exec(a.ctx, "UPDATE repository SET updated_at = now() WHERE id = ANY($1)", ids); err != nil {
		return err
	}
	heads, err := collect[headRow](a.ctx, a.tx, headsQuery, ids)
	if err != nil {
		return err
	}
	batch := &pgx.Batch{}
	for _, h := range heads {
		queueSearchRow(batch, h)
	}
	return a.tx.SendBatch(a.ctx, batch).Close()
}

// headsQuery picks the leading tag: "latest", else the one that moved last.
const headsQuery = `
	SELECT r.id, r.name, (SELECT count(*) FROM tag t WHERE t.repository_id = r.id)::int AS tags,
		m.annotations, m.labels, c.annotations AS child_annotations, c.labels AS child_labels,
		s.title AS old_title, s.description AS old_description
	FROM repository r
	LEFT JOIN repository_search s ON s.repository_id = r.id
	LEFT JOIN LATERAL (
		SELECT t.manifest_id FROM tag t WHERE t.repository_id = r.id AND t.manifest_id IS NOT NULL
		ORDER BY t.name = 'latest' DESC, t.moved_at DESC, t.name DESC LIMIT 1
	) head ON true
	LEFT JOIN manifest m ON m.repository_id = r.id AND m.id = head.manifest_id
	LEFT JOIN LATERAL (
		SELECT c.annotations, c.labels FROM index_entry e
		JOIN manifest c ON c.repository_id = e.repository_id AND c.digest = e.digest
		WHERE e.repository_id = r.id AND e.manifest_id = m.id AND m.kind = 'index'
		ORDER BY e.position LIMIT 1
	) c ON true
	WHERE r.id = ANY($1) ORDER BY r.id`

// queueSearchRow writes words only if they differ: a row whose indexed columns
// stay the same is updated in place, without touching an index.
func queueSearchRow(batch *pgx.Batch, h headRow) {
	if h.Tags == 0 {
		batch.Queue("DELETE FROM repository_search WHERE repository_id = $1", h.ID)
		return
	}
	title, description := indexer.Describe(stringsFrom(h.Annotations), stringsFrom(h.Labels),
		stringsFrom(h.ChildAnnotations), stringsFrom(h.ChildLabels))
	if h.OldTitle != nil && *h.OldTitle == title && *h.OldDescription == description {
		batch.Queue("UPDATE repository_search SET tags = $2, updated_at = now() WHERE repository_id = $1", h.ID, h.Tags)
		return
	}
	name := indexer.Words(h.Name)
	all := indexer.Words(h.Name + " " + title + " " + description)
	const q = `
		INSERT INTO repository_search (repository_id, name, basename, title, description, tags, updated_at, name_words, all_words)
		VALUES ($1, $2, $3, $4, $5, $6, now(), array_to_tsvector($7), array_to_tsvector($8))
		ON CONFLICT (repository_id) DO UPDATE SET
			(title, description, tags, updated_at, all_words) =
			(excluded.title, excluded.description, excluded.tags, excluded.updated_at, excluded.all_words)`
	batch.Queue(q, h.ID, h.Name, path.Base(h.Name), title, description, h.Tags, lexemes(name), lexemes(all))
}

const (
	// maxLexeme is the most bytes of a word in a tsvector: 2,046 (PostgreSQL 15,
	// "Text Search Limitations"). A longer one is no word that anybody types.
	maxLexeme = 2046
	// maxLexemes and maxLexemeBytes keep a tsvector below its own limit of 1 MB,
	// and a description of many megabytes from filling the search index.
	maxLexemes     = 2000
	maxLexemeBytes = 512 << 10
)

func lexemes(words []string) []string {
	kept := make([]string, 0, min(len(words), maxLexemes))
	size := 0
	for _, w := range words {
		if len(w) <= maxLexeme && len(kept) < maxLexemes && size+len(w) <= maxLexemeBytes {
			kept = append(kept, w)
			size += len(w)
		}
	}
	return kept
}

// stringsFrom reads an object of strings that stringsJSON stored.
func stringsFrom(raw []byte) map[string]string {
	if len(raw) == 0 {
		return nil
	}
	var m map[string]string
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil // not written by us; the row shows without it
	}
	return m
}

// Search gives one page of the repositories that q selects: first the one whose
// name is the text, then those whose last path component is, then those where
// that begins with it, then those that have every word in their name, then those
// that have them anywhere; the latest change first among equals.
func (v *View) Search(ctx context.Context, q indexer.Query) (indexer.Results, error) {
	if len(q.Words) == 0 {
		return v.everything(ctx, q)
	}
	// '~' is above every character that a repository's name may hold.
	const statement = `
		WITH hit AS (
			SELECT repository_id, CASE
				WHEN name = $2 THEN 0
				WHEN basename = $2 THEN 1
				WHEN basename > $2 AND basename < $2 || '~' THEN 2
				WHEN name_words @@ $1::tsquery THEN 3
				ELSE 4 END AS class
			FROM repository_search WHERE all_words @@ $1::tsquery)
		SELECT s.name, s.title, s.description, s.tags, s.updated_at
		FROM hit JOIN repository_search s USING (repository_id)
		ORDER BY hit.class, s.updated_at DESC, s.name LIMIT $3 OFFSET $4`
	const count = `SELECT count(*) FROM (SELECT FROM repository_search WHERE all_words @@ $1::tsquery LIMIT $2) capped`
	words := tsquery(q.Words)
	return v.results(ctx, q, count, []any{words, indexer.MaxTotal}, statement, words, strings.ToLower(q.Text), q.Limit, q.Offset)
}

// everything is the search without a word: by the latest change.
func (v *View) everything(ctx context.Context, q indexer.Query) (indexer.Results, error) {
	const statement = `
		SELECT name, title, description, tags, updated_at FROM repository_search
		ORDER BY updated_at DESC, name LIMIT $1 OFFSET $2`
	const count = `SELECT count(*) FROM (SELECT FROM repository_search LIMIT $1) capped`
	return v.results(ctx, q, count, []any{indexer.MaxTotal}, statement, q.Limit, q.Offset)
}

type resultRow struct {
	Name, Title, Description string
	Tags                     int
	UpdatedAt                time.Time
}

func (r resultRow) repository() indexer.Repository {
	return indexer.Repository{Name: r.Name, Title: r.Title, Description: r.Description, Tags: r.Tags, UpdatedAt: r.UpdatedAt}
}

// results asks for a page, and counts all pages only if there may be others.
func (v *View) results(ctx context.Context, q indexer.Query, count string, countArgs []any, statement string, args ...any) (indexer.Results, error) {
	var results indexer.Results
	rows, err := collect[resultRow](ctx, v.tx, statement, args...)
	if err != nil {
		return results, wrap("search", err)
	}
	for _, r := range rows {
		found := r.repository()
		results.Items = append(results.Items, indexer.Result{Repository: found, Official: slices.Contains(v.official, found.Namespace())})
	}
	if results.Total = len(rows); q.Offset > 0 || len(rows) == q.Limit {
		err = v.tx.QueryRow(ctx, count, countArgs...).Scan(&results.Total)
	}
	return results, wrap("search", err)
}

// tsquery asks for every word, the last also as the beginning of one. Words hold
// letters and digits only; the quotes keep them from being operators.
func tsquery(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = "'" + strings.ReplaceAll(w, "'", "''") + "'"
	}
	return strings.Join(quoted, " & ") + ":*"
}
