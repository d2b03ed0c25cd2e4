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
	Tier         int    // the tier of new rows
}

// Refresh updates the search rows of the touched images and of the changed
// repositories, which the caller has locked.
func Refresh(ctx context.Context, tx pgx.Tx, c Change) error {
	pending := &pg.Pending{Tx: tx}
	pending.Queue("UPDATE repository SET updated_at = now() WHERE id = ANY($1)", c.Repositories)
	manifests := imagesOf(touchedManifests(c.Linked), c.Linked)
	pending.Queue(manifests, c.Touched.repositories, c.Touched.digests, c.Touched.whole)
	return writeSearchRows(ctx, pending, c)
}

// writeSearchRows flushes pending, writes the search rows of repositories, and
// deletes the rows of repositories without a tag. An indexed column that keeps its
// value needs no new index entry.
//
// A new row is put into tier 0 after a push, and into tier 2 by a scan, which may add
// a million at once. Retier moves it later.
func writeSearchRows(ctx context.Context, pending *pg.Pending, c Change) error {
	var heads []headRow
	t := c.Touched
	pg.Queue(&pending.Batch, &heads, headsQuery(c.Linked), t.repositories, t.digests, t.whole, c.Repositories, searchForm,
		t.tagRepositories, t.tags)
	if err := pending.Flush(ctx); err != nil {
		return err
	}
	var rows searchColumns
	for _, h := range heads {
		rows.add(h)
	}
	rows.queue(&pending.Batch, c.Tier)
	return pending.Flush(ctx)
}

// searchColumns are search rows by column. One statement writes them all, in a third
// of the time of one statement for each.
type searchColumns struct {
	empty, id                                   []int32 // empty: repositories without a tag
	name, basename, title, description          []string
	tags, ownTags, signature, sbom, attestation []int32
	size                                        []int64
	leading, facts, nameWords, allWords         []string
	sameTerms                                   []bool
	form                                        []int16
	lexemes                                     map[string]bool // words of all rows, as search_lexeme stores them
}

func (c *searchColumns) add(h headRow) {
	if h.Tags == 0 {
		c.empty = append(c.empty, h.ID)
		return
	}
	metadata := []map[string]string{pg.StringsFrom(h.Annotations), pg.StringsFrom(h.Labels), pg.StringsFrom(h.ChildAnnotations), pg.StringsFrom(h.ChildLabels)}
	title, description := indexer.Describe(metadata...)
	name := query.WordsInOrder(h.Name)
	var values []string
	for _, m := range metadata {
		values = append(values, labelTexts(m)...)
	}
	c.id, c.tags, c.size = append(c.id, h.ID), append(c.tags, int32(h.Tags)), append(c.size, h.Size)
	c.leading, c.ownTags, c.signature = append(c.leading, h.LeadingTag), append(c.ownTags, int32(h.OwnTags)), append(c.signature, int32(h.Signature))
	c.sbom, c.attestation = append(c.sbom, int32(h.SBOM)), append(c.attestation, int32(h.Attestation))
	c.name, c.basename = append(c.name, h.Name), append(c.basename, path.Base(h.Name))
	c.title, c.description = append(c.title, title), append(c.description, description)
	facts := h.allFacts(metadata)
	c.facts, c.sameTerms = append(c.facts, joined(facts)), append(c.sameTerms, h.Covered && slices.Equal(facts, h.OldFacts))
	c.form = append(c.form, formOf(h))
	inName, _ := tsvector(name)
	inAll, words := tsvector(name, append([]string{title, description}, values...)...)
	c.nameWords, c.allWords = append(c.nameWords, inName), append(c.allWords, inAll)
	if c.lexemes == nil {
		c.lexemes = map[string]bool{}
	}
	for _, w := range words {
		c.lexemes[knownOf(w)] = true
	}
}

// searchRowColumns are the columns of repository_search that searchRows selects, in
// its order. The first three never change.
var searchRowColumns = []string{"repository_id", "name", "basename",
	"title", "description", "tags", "updated_at", "size", "facts", "terms", "form", "name_words", "all_words",
	"leading_tag", "own_tags", "signature_tags", "sbom_tags", "attestation_tags"}

// searchRows selects search rows from the parameters that searchColumns.args returns.
var searchRows = `
	SELECT row.id, row.name, row.basename, row.title, row.description, row.tags, r.updated_at, row.size,
		string_to_array(row.facts, chr(31)) AS facts,
		CASE WHEN row.same_terms THEN (SELECT terms FROM repository_search old WHERE old.repository_id = row.id)
			ELSE ` + termsOf("string_to_array(row.facts, chr(31))", "row.id") + ` END AS terms,
		row.form, row.name_words::tsvector, row.all_words::tsvector,
		row.leading_tag, row.own_tags, row.signature, row.sbom, row.attestation
	FROM unnest($1::int[], $2::text[], $3::text[], $4::text[], $5::text[], $6::int[], $7::bigint[], $8::text[], $9::text[], $10::text[], $11::bool[],
			$12::smallint[], $13::text[], $14::int[], $15::int[], $16::int[], $17::int[])
		AS row (id, name, basename, title, description, tags, size, facts, name_words, all_words, same_terms,
			form, leading_tag, own_tags, signature, sbom, attestation)
	JOIN repository r ON r.id = row.id`

func (c *searchColumns) args() []any {
	return []any{c.id, c.name, c.basename, c.title, c.description, c.tags, c.size, c.facts, c.nameWords, c.allWords, c.sameTerms,
		c.form, c.leading, c.ownTags, c.signature, c.sbom, c.attestation}
}

func (c *searchColumns) queue(batch *pgx.Batch, tier int) {
	if len(c.empty) > 0 {
		batch.Queue("DELETE FROM repository_search WHERE repository_id = ANY($1)", c.empty)
	}
	if len(c.id) == 0 {
		return
	}
	c.queueLexemes(batch)
	written := searchRowColumns[3:]
	q := `
		INSERT INTO repository_search (` + strings.Join(searchRowColumns, ", ") + `, tier)
		SELECT row.*, $18::smallint FROM (` + searchRows + `) AS row ORDER BY 1
		ON CONFLICT (repository_id) DO UPDATE SET (` + strings.Join(written, ", ") + `) = (excluded.` + strings.Join(written, ", excluded.") + `)`
	batch.Queue(q, append(c.args(), tier)...)
}
