package search

import (
	"context"
	"path"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/pg"
	"github.com/portbook/portbook/indexer/query"
)

// A Change names the repositories whose search rows Refresh updates.
type Change struct {
	Repositories []int32 // in ascending order
	Touched      Touched
	Linked       Linked // whether any of the repositories is linked or becomes so
}

// Refresh updates the search rows of the touched images and of the changed
// repositories, which the caller has locked. It returns the repositories whose row it
// wrote or deleted, in ascending order.
func Refresh(ctx context.Context, tx pgx.Tx, c Change) (written []int32, err error) {
	pending := &pg.Pending{Tx: tx}
	pending.Queue("UPDATE repository SET updated_at = now() WHERE id = ANY($1)", c.Repositories)
	pending.Queue(writeTouched[c.Linked], pg.Arrays(c.Touched.manifests)...)
	return writeSearchRows(ctx, pending, c)
}

// writeTouched has the statements that write the search rows of touched images.
var writeTouched = map[Linked]string{
	false: imagesOf(touchedManifests(false), false),
	true:  imagesOf(touchedManifests(true), true),
}

// writeSearchRows flushes pending, writes the search rows of repositories, and
// deletes the rows of repositories without a tag. It returns the repositories whose
// row it wrote or deleted, in ascending order. An indexed column that keeps its value
// needs no new index entry.
func writeSearchRows(ctx context.Context, pending *pg.Pending, c Change) (written []int32, err error) {
	var heads []headRow
	pg.Queue(&pending.Batch, &heads, headsQueries[c.Linked], headsArgs(c.Touched, c.Repositories, searchForm)...)
	if err := pending.Flush(ctx); err != nil {
		return nil, err
	}
	var rows searchRows
	for _, h := range heads {
		rows.add(h)
	}
	rows.queue(&pending.Batch)
	err = pending.Flush(ctx)
	return rows.written(), err
}

// A searchRow is a row of repository_search, without what the database adds. One
// statement writes many, in a third of the time of one statement for each.
type searchRow struct {
	RepositoryID    int32
	Name            string
	Basename        string
	Title           string
	Description     string
	Tags            int32
	Size            int64
	Facts           string // joined by pg.Separator
	SameTerms       bool   // whether the terms of the stored row are still right
	Form            int16
	NameWords       string
	AllWords        string
	LeadingTag      string
	OwnTags         int32
	SignatureTags   int32
	SBOMTags        int32
	AttestationTags int32
}

// searchRows are the search rows of some repositories.
type searchRows struct {
	rows    []searchRow
	empty   []int32                        // repositories without a tag
	deleted []struct{ RepositoryID int32 } // rows of those, after queue
}

func (r *searchRows) add(h headRow) {
	if h.Tags == 0 {
		r.empty = append(r.empty, h.ID)
		return
	}
	metadata := h.metadata()
	facts := h.allFacts(metadata)
	title, description := indexer.Describe(metadata...)
	nameWords, allWords := h.vectors(title, description, metadata)
	r.rows = append(r.rows, searchRow{
		RepositoryID: h.ID, Name: h.Name, Basename: path.Base(h.Name), Title: title, Description: description,
		Tags: int32(h.Tags), Size: h.Size, Facts: joined(facts),
		NameWords: nameWords, AllWords: allWords,
		SameTerms: h.Covered && slices.Equal(facts, h.OldFacts), Form: formOf(h),
		LeadingTag: h.LeadingTag, OwnTags: int32(h.OwnTags),
		SignatureTags: int32(h.Signature), SBOMTags: int32(h.SBOM), AttestationTags: int32(h.Attestation),
	})
}

// metadata returns the annotations and labels, those that describe best first.
func (h headRow) metadata() []map[string]string {
	return []map[string]string{
		pg.StringsFrom(h.Annotations), pg.StringsFrom(h.Labels),
		pg.StringsFrom(h.ChildAnnotations), pg.StringsFrom(h.ChildLabels),
	}
}

// vectors returns the tsvectors of the name and of all text.
func (h headRow) vectors(title, description string, metadata []map[string]string) (inName, inAll string) {
	name, texts := query.WordsInOrder(h.Name), []string{title, description}
	for _, m := range metadata {
		texts = append(texts, LabelTexts(m)...)
	}
	return tsvector(name), tsvector(name, texts...)
}

// searchRowColumns are the columns of repository_search that follow from manifests, tags
// and the counts of pulls. The first three never change.
var searchRowColumns = []string{"repository_id", "name", "basename",
	"title", "description", "tags", "updated_at", "size", "facts", "terms", "form", "name_words", "all_words",
	"leading_tag", "own_tags", "signature_tags", "sbom_tags", "attestation_tags", "pulls", "pulled_at"}

// searchRowValue returns the value of a column, from a searchRow called row and its
// repository r.
func searchRowValue(column string) string {
	const facts = "string_to_array(row.facts, chr(31))"
	switch column {
	case "updated_at":
		return "r.updated_at"
	case "facts":
		return facts
	case "terms":
		return `CASE WHEN row.same_terms THEN (SELECT terms FROM repository_search old WHERE old.repository_id = row.repository_id)
			ELSE ` + termsOf(facts, "row.repository_id") + ` END`
	case "name_words", "all_words":
		return "row." + column + "::tsvector"
	case "pulls":
		return "COALESCE((SELECT u.pulls FROM usage_repository u WHERE u.name = row.name), 0)"
	case "pulled_at":
		return "(SELECT u.pulled_at FROM usage_repository u WHERE u.name = row.name)"
	}
	return "row." + column
}

// selectSearchRows returns a query for searchRowColumns, from the parameters from
// $first on.
func selectSearchRows(first int) string {
	var values []string
	for _, column := range searchRowColumns {
		values = append(values, searchRowValue(column)+" AS "+column)
	}
	return `
	SELECT ` + strings.Join(values, ", ") + `
	FROM ` + pg.Unnest[searchRow]("row", first) + `
	JOIN repository r ON r.id = row.repository_id`
}

// writeRows writes search rows.
var writeRows = `
	INSERT INTO repository_search (` + strings.Join(searchRowColumns, ", ") + `)
	SELECT row.* FROM (` + selectSearchRows(1) + `) AS row ORDER BY 1
	ON CONFLICT (repository_id) DO UPDATE SET (` + strings.Join(searchRowColumns[3:], ", ") + `) = (excluded.` +
	strings.Join(searchRowColumns[3:], ", excluded.") + `)`

func (r *searchRows) queue(batch *pgx.Batch) {
	if len(r.empty) > 0 {
		const q = "DELETE FROM repository_search WHERE repository_id = ANY($1) RETURNING repository_id"
		pg.Queue(batch, &r.deleted, q, r.empty)
	}
	if len(r.rows) == 0 {
		return
	}
	batch.Queue(writeRows, pg.Arrays(r.rows)...)
}

// written returns the repositories whose row was written or deleted, in ascending
// order, after the batch of queue was sent.
func (r *searchRows) written() (ids []int32) {
	for _, row := range r.rows {
		ids = append(ids, row.RepositoryID)
	}
	for _, row := range r.deleted {
		ids = append(ids, row.RepositoryID)
	}
	slices.Sort(ids)
	return ids
}
