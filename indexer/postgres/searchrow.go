package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer"
)

// searchForm is the form of the search rows that this program writes. Rows of
// another are made anew by Reform; raise it when what stands in them changes.
const searchForm = 3

const (
	// maxValues is the most values of one label or annotation that stand in the
	// terms of a repository: 4. Those of a key with more, as versions and revisions
	// are, belong to one image each, and are looked for among the images.
	maxValues = 4
	// maxKeys is the most keys that do: 1,000, a hundred times what build tools
	// set. It bounds the row at 40 KB, whatever is pushed.
	maxKeys = 1000
)

// maxKnown is how many bytes of a word stand in search_lexeme: 40. Longer ones are
// digests and the like, of which nobody types more.
const maxKnown = 40

// knownOf is what stands of a word in search_lexeme.
func knownOf(word string) string {
	for len(word) > maxKnown {
		_, n := utf8.DecodeLastRuneInString(word)
		word = word[:len(word)-n]
	}
	return word
}

// manyTerm stands in the terms of a repository in place of those of its images,
// if they have more than maxKeys keys. In place of the values of one key that has
// more than maxValues stands its bitwise opposite.
const manyTerm = "many:"

// termsOf are the terms of a repository: its facts, and those of its images as
// far as they are not too many. facts and id are expressions.
func termsOf(facts, id string) string {
	return fmt.Sprintf(`COALESCE((
		WITH pair AS (
			SELECT DISTINCT p.key, p.term FROM image_search i, unnest(i.keys, i.pairs) AS p (key, term) WHERE i.repository_id = %[2]s
		), all_keys AS (
			SELECT count(DISTINCT key) > %[4]d AS many FROM pair
		), counted AS (
			SELECT key, term, count(*) FILTER (WHERE term <> key) OVER (PARTITION BY key) AS values FROM pair WHERE NOT (SELECT many FROM all_keys)
		)
		SELECT array_agg(DISTINCT term) FROM (
			SELECT hashtextextended(fact, 0) AS term FROM unnest(%[1]s) AS fact
			UNION ALL SELECT key FROM counted
			UNION ALL SELECT CASE WHEN values <= %[3]d THEN term ELSE ~key END FROM counted
			UNION ALL SELECT %[5]s FROM all_keys WHERE many
		) AS terms), '{}')`, facts, id, maxValues, maxKeys, hash(manyTerm))
}

// hash is a literal text as a term.
func hash(text string) string { return "hashtextextended('" + text + "', 0)" }

// touched are manifests whose images may have to be found otherwise than before.
type touched struct {
	repositories []int32
	digests      [][]byte
}

func (t *touched) add(repository int32, digest []byte) {
	if len(digest) > 0 {
		t.repositories, t.digests = append(t.repositories, repository), append(t.digests, digest)
	}
}

// refresh brings the search rows up to date: those of images that were touched,
// and those of the changed repositories.
func (a *application) refresh() error {
	ids := a.changedIDs()
	if len(ids) == 0 {
		return nil
	}
	batch := &pgx.Batch{}
	batch.Queue("UPDATE repository SET updated_at = now() WHERE id = ANY($1)", ids)
	batch.Queue(imagesOf(touchedManifests), a.touched.repositories, a.touched.digests)
	return writeSearchRows(a.ctx, a.tx, batch, ids, a.touched, a.tier)
}

// touchedManifests are those of $1 and $2, and the images in them.
const touchedManifests = `
	SELECT m.repository_id, m.id, m.digest FROM unnest($1::int[], $2::bytea[]) AS t (repository_id, digest)
	JOIN manifest m ON m.repository_id = t.repository_id AND m.digest = t.digest
	UNION
	SELECT c.repository_id, c.id, c.digest FROM unnest($1::int[], $2::bytea[]) AS t (repository_id, digest)
	JOIN manifest m ON m.repository_id = t.repository_id AND m.digest = t.digest
	JOIN index_entry e ON e.repository_id = m.repository_id AND e.manifest_id = m.id
	JOIN manifest c ON c.repository_id = e.repository_id AND c.digest = e.digest`

// imagesOf writes the search rows of the manifests that a statement selects, and
// deletes those of manifests that no tag shows any more. $1 must be their
// repositories: without it Postgres reads all tags there are. Values of the time of
// building are left out of the pairs: nobody asks for them, and they are of no
// two images the same.
func imagesOf(manifests string) string {
	return `
	WITH touched AS (` + manifests + `
	), shown AS (
		SELECT x.repository_id, x.id, t.name, t.moved_at, false AS listed FROM touched x
		JOIN tag t ON t.repository_id = x.repository_id AND t.manifest_id = x.id
		WHERE t.repository_id = ANY($1)
		UNION ALL
		SELECT x.repository_id, x.id, t.name, t.moved_at, true FROM touched x
		JOIN index_entry e ON e.repository_id = x.repository_id AND e.digest = x.digest
		JOIN tag t ON t.repository_id = e.repository_id AND t.manifest_id = e.manifest_id
		WHERE e.repository_id = ANY($1)
	), tagged AS (
		SELECT repository_id, id, bool_or(name = 'latest') AS latest, bool_or(listed) AS listed, array_agg(DISTINCT name) AS tags, max(moved_at) AS pushed_at
		FROM shown GROUP BY repository_id, id
	), gone AS (
		DELETE FROM image_search s USING touched x
		WHERE s.repository_id = x.repository_id AND s.manifest_id = x.id
			AND NOT EXISTS (SELECT FROM tagged g WHERE g.repository_id = x.repository_id AND g.id = x.id)
	)
	INSERT INTO image_search AS s (repository_id, manifest_id, latest, listed, tags, facts, keys, pairs, size, layers, created_at, pushed_at)
	SELECT m.repository_id, m.id, g.latest, g.listed, g.tags,
		ARRAY(
			SELECT f FROM (VALUES ('type:' || m.kind), ('type:' || lower(a.name)), ('os:' || lower(p.os)), ('arch:' || lower(p.architecture)),
				('platform:' || lower(p.os || '/' || p.architecture)),
				('platform:' || lower(p.os || '/' || p.architecture || '/' || NULLIF(p.variant, ''))),
				(CASE WHEN listed.platforms > 1 THEN 'is:multiarch' END)) AS facts (f)
			WHERE f IS NOT NULL),
		labelled.keys, labelled.pairs,
		COALESCE(listed.size, m.content_size), CASE WHEN m.kind <> 'index' THEN cardinality(m.layer_ids) END, m.created_at, g.pushed_at
	FROM tagged g
	JOIN manifest m ON m.repository_id = g.repository_id AND m.id = g.id
	LEFT JOIN media_type a ON a.id = m.artifact_type_id
	LEFT JOIN platform p ON p.id = m.platform_id AND (p.os, p.architecture) <> ('unknown', 'unknown') AND (p.os, p.architecture) <> ('', '')
	LEFT JOIN LATERAL (
		SELECT LEAST(COALESCE(sum(c.content_size), 0), 9007199254740991)::bigint AS size, -- 2^53-1: entries may name one image many times
			count(DISTINCT ep.id) FILTER (WHERE (ep.os, ep.architecture) <> ('unknown', 'unknown')) AS platforms
		FROM index_entry e
		LEFT JOIN platform ep ON ep.id = e.platform_id
		LEFT JOIN manifest c ON c.repository_id = e.repository_id AND c.digest = e.digest
		WHERE e.repository_id = m.repository_id AND e.manifest_id = m.id
	) listed ON m.kind = 'index'
	CROSS JOIN LATERAL (
		SELECT COALESCE(array_agg(key), '{}') AS keys, COALESCE(array_agg(COALESCE(pair, key)), '{}') AS pairs FROM (
			SELECT hashtextextended('label:' || left(key, 200), 0) AS key,
				CASE WHEN key NOT IN ('org.opencontainers.image.created', 'org.label-schema.build-date', 'build-date')
					THEN hashtextextended('label:' || left(key, 200) || chr(31) || left(value, 200), 0) END AS pair
			FROM jsonb_each_text(m.labels)
			UNION ALL
			SELECT hashtextextended('annotation:' || left(key, 200), 0), CASE WHEN key <> 'org.opencontainers.image.created'
				THEN hashtextextended('annotation:' || left(key, 200) || chr(31) || left(value, 200), 0) END
			FROM jsonb_each_text(m.annotations)
		) AS label
	) labelled
	ORDER BY m.repository_id, m.id
	ON CONFLICT (repository_id, manifest_id) DO UPDATE SET
		(latest, listed, tags, facts, keys, pairs, size, layers, created_at, pushed_at) =
		(excluded.latest, excluded.listed, excluded.tags, excluded.facts, excluded.keys, excluded.pairs, excluded.size, excluded.layers, excluded.created_at, excluded.pushed_at)`
}

// A headRow is what a repository says of itself: the metadata of the manifest
// that its leading tag shows, and of that index's first image; and what all its
// tagged images are.
type headRow struct {
	ID                            int32
	Name                          string
	Tags                          int
	Size                          int64
	Annotations, Labels           []byte
	ChildAnnotations, ChildLabels []byte
	Facts                         []string
	ReferrerTypes, ReferrerTags   []string
	OldFacts                      []string // as its search row had them
	Covered                       bool     // whether the terms of that row still hold what they should of the images
}

// headsQuery picks the leading tag: "latest", else the one that moved last. $2
// and $3 are what was touched in the repositories $1, for which the terms of their
// rows, if they have the form $4, are covered or not: one more image of many that
// say the same does not change them, and to find all terms of ten thousand images
// takes 100 ms. An image that went may have been the last to have a term; one that
// stays only gains some, when it is read again.
var headsQuery = `
	WITH touched AS (
		SELECT t.repository_id, m.id FROM unnest($2::int[], $3::bytea[]) AS t (repository_id, digest)
		LEFT JOIN manifest m ON m.repository_id = t.repository_id AND m.digest = t.digest
		UNION
		SELECT c.repository_id, c.id FROM unnest($2::int[], $3::bytea[]) AS t (repository_id, digest)
		JOIN manifest m ON m.repository_id = t.repository_id AND m.digest = t.digest
		JOIN index_entry e ON e.repository_id = m.repository_id AND e.manifest_id = m.id
		JOIN manifest c ON c.repository_id = e.repository_id AND c.digest = e.digest
	)
	SELECT r.id, r.name, (SELECT count(*) FROM tag t WHERE t.repository_id = r.id)::int AS tags,
		COALESCE(s.size, 0)::bigint AS size,
		m.annotations, m.labels, c.annotations AS child_annotations, c.labels AS child_labels,
		ARRAY(SELECT DISTINCT f FROM image_search i, unnest(i.facts) AS f WHERE i.repository_id = r.id ORDER BY f) AS facts,
		ARRAY(SELECT DISTINCT t.name FROM referrer f
			JOIN manifest a ON a.repository_id = f.repository_id AND a.id = f.manifest_id
			JOIN media_type t ON t.id = COALESCE(a.artifact_type_id, a.media_type_id)
			WHERE f.repository_id = r.id) AS referrer_types,
		ARRAY(SELECT DISTINCT substring(f.tag FROM '\.[a-z]+$') FROM referrer f
			WHERE f.repository_id = r.id AND f.tag LIKE '%.%') AS referrer_tags,
		old.facts AS old_facts,
		old.repository_id IS NOT NULL AND NOT EXISTS (
			SELECT FROM touched x LEFT JOIN image_search i ON i.repository_id = x.repository_id AND i.manifest_id = x.id
			WHERE x.repository_id = r.id AND (i.manifest_id IS NULL OR EXISTS (
				SELECT FROM unnest(i.keys, i.pairs) AS p (key, term) WHERE NOT old.terms && ARRAY[p.term, ~p.key, ` + hash(manyTerm) + `]))
		) AS covered
	FROM repository r
	LEFT JOIN repository_search old ON old.repository_id = r.id AND old.form = $4
	LEFT JOIN LATERAL (
		SELECT t.manifest_id FROM tag t WHERE t.repository_id = r.id AND t.manifest_id IS NOT NULL
		ORDER BY t.name = 'latest' DESC, t.moved_at DESC, t.name DESC LIMIT 1
	) head ON true
	LEFT JOIN manifest m ON m.repository_id = r.id AND m.id = head.manifest_id
	LEFT JOIN image_search s ON s.repository_id = r.id AND s.manifest_id = head.manifest_id
	LEFT JOIN LATERAL (
		SELECT c.annotations, c.labels FROM index_entry e
		JOIN manifest c ON c.repository_id = e.repository_id AND c.digest = e.digest
		WHERE e.repository_id = r.id AND e.manifest_id = m.id AND m.kind = 'index'
		ORDER BY e.position LIMIT 1
	) c ON true
	WHERE r.id = ANY($1) ORDER BY r.id`

// writeSearchRows runs a batch, then writes the search rows of repositories, and
// deletes those of repositories without a tag. Columns under an index that keep
// their value do not cost a new index entry.
//
// New rows begin in a tier: 0 if somebody has just pushed, and 2 if they come of a
// scan, which may bring a million at once; Retier finds out more.
func writeSearchRows(ctx context.Context, tx pgx.Tx, before *pgx.Batch, ids []int32, touched touched, tier int) error {
	var heads []headRow
	queue(before, &heads, headsQuery, ids, touched.repositories, touched.digests, searchForm)
	if err := tx.SendBatch(ctx, before).Close(); err != nil {
		return err
	}
	var rows searchColumns
	for _, h := range heads {
		rows.add(h)
	}
	batch := &pgx.Batch{}
	rows.queue(batch, tier)
	return tx.SendBatch(ctx, batch).Close()
}

// searchColumns are search rows by column: one statement writes them all, which
// takes a third of the time of one statement each.
type searchColumns struct {
	empty, id                          []int32 // empty are those without a tag
	name, basename, title, description []string
	tags                               []int32
	size                               []int64
	facts, nameWords, allWords         []string
	sameTerms                          []bool
	lexemes                            map[string]bool // of all rows, as search_lexeme has them
}

func (c *searchColumns) add(h headRow) {
	if h.Tags == 0 {
		c.empty = append(c.empty, h.ID)
		return
	}
	metadata := []map[string]string{stringsFrom(h.Annotations), stringsFrom(h.Labels), stringsFrom(h.ChildAnnotations), stringsFrom(h.ChildLabels)}
	title, description := indexer.Describe(metadata...)
	name := indexer.WordsInOrder(h.Name)
	var values []string
	for _, m := range metadata {
		values = append(values, labelTexts(m)...)
	}
	c.id, c.tags, c.size = append(c.id, h.ID), append(c.tags, int32(h.Tags)), append(c.size, h.Size)
	c.name, c.basename = append(c.name, h.Name), append(c.basename, path.Base(h.Name))
	c.title, c.description = append(c.title, title), append(c.description, description)
	facts := h.allFacts(metadata)
	c.facts, c.sameTerms = append(c.facts, strings.Join(facts, separator)), append(c.sameTerms, h.Covered && slices.Equal(facts, h.OldFacts))
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

// queueLexemes writes the words that were not known yet, before the rows that have
// them: whoever sees a row knows its words.
func (c *searchColumns) queueLexemes(batch *pgx.Batch) {
	const q = `
		INSERT INTO search_lexeme (word) SELECT word FROM unnest($1::text[]) AS used (word)
		WHERE NOT EXISTS (SELECT FROM search_lexeme l WHERE l.word = used.word COLLATE "C") ORDER BY word COLLATE "C" ON CONFLICT DO NOTHING`
	batch.Queue(q, slices.Collect(maps.Keys(c.lexemes)))
}

func (c *searchColumns) queue(batch *pgx.Batch, tier int) {
	if len(c.empty) > 0 {
		batch.Queue("DELETE FROM repository_search WHERE repository_id = ANY($1)", c.empty)
	}
	if len(c.id) == 0 {
		return
	}
	c.queueLexemes(batch)
	q := `
		INSERT INTO repository_search (repository_id, name, basename, title, description, tags, updated_at, size, facts, terms, form, tier, name_words, all_words)
		SELECT row.id, row.name, row.basename, row.title, row.description, row.tags, r.updated_at, row.size,
			string_to_array(row.facts, chr(31)),
			CASE WHEN row.same_terms THEN (SELECT terms FROM repository_search old WHERE old.repository_id = row.id)
				ELSE ` + termsOf("string_to_array(row.facts, chr(31))", "row.id") + ` END,
			$10, $12, row.name_words::tsvector, row.all_words::tsvector
		FROM unnest($1::int[], $2::text[], $3::text[], $4::text[], $5::text[], $6::int[], $7::bigint[], $8::text[], $9::text[], $11::text[], $13::bool[])
			AS row (id, name, basename, title, description, tags, size, facts, name_words, all_words, same_terms)
		JOIN repository r ON r.id = row.id
		ORDER BY row.id
		ON CONFLICT (repository_id) DO UPDATE SET
			(title, description, tags, updated_at, size, facts, terms, form, all_words, name_words) =
			(excluded.title, excluded.description, excluded.tags, excluded.updated_at, excluded.size, excluded.facts, excluded.terms,
				excluded.form, excluded.all_words, excluded.name_words)`
	batch.Queue(q, c.id, c.name, c.basename, c.title, c.description, c.tags, c.size, c.facts, c.nameWords, searchForm, c.allWords, tier, c.sameTerms)
}

// maxLabelKeys is how many keys of labels stand in the facts of a repository: 100,
// several times what build tools set.
const maxLabelKeys = 100

// licencePrefix is before the fact of a licence.
const licencePrefix = "licence:"

// allFacts are those of the images and, as words of the query language too, what
// belongs to the repository as a whole.
func (h headRow) allFacts(metadata []map[string]string) []string {
	facts := slices.Clone(h.Facts)
	has := map[string]bool{"referrer": len(h.ReferrerTypes) > 0}
	for _, t := range append(h.ReferrerTypes, h.ReferrerTags...) {
		has[indexer.ReferrerKind(t)] = true
	}
	for kind, yes := range has {
		if yes && kind != "" {
			facts = append(facts, "has:"+kind)
		}
	}
	facts = append(facts, labelFacts(h.Labels, h.ChildLabels)...)
	if licence := indexer.Licence(metadata...); licence != "" && len(licence) <= 200 {
		facts = append(facts, licencePrefix+licence)
	}
	facts = slices.DeleteFunc(facts, func(f string) bool { return strings.Contains(f, separator) }) // nobody can ask for it
	slices.Sort(facts)
	return slices.Compact(facts)
}

// labelFacts returns the keys of labels as facts, the first maxLabelKeys by name.
// Keys of annotations are not among them: label: does not find those.
func labelFacts(labels ...[]byte) []string {
	var facts []string
	for _, raw := range labels {
		for key := range stringsFrom(raw) {
			if len(key) <= maxTerm {
				facts = append(facts, "label:"+key)
			}
		}
	}
	slices.Sort(facts)
	facts = slices.Compact(facts)
	return facts[:min(len(facts), maxLabelKeys)]
}

// labelTexts are the values of labels and annotations that a person may search
// for, in order of key: no times, digests or addresses.
func labelTexts(m map[string]string) []string {
	var keys, texts []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		if v := m[k]; len(v) <= 1000 && !strings.Contains(v, "://") && !strings.HasSuffix(k, ".created") && !strings.HasSuffix(k, ".revision") {
			texts = append(texts, v)
		}
	}
	return texts
}

const (
	// maxLexeme is the most bytes of a word in a tsvector: 2,046 (PostgreSQL 15,
	// "Text Search Limitations"). A longer one is no word that anybody types.
	maxLexeme = 2046
	// maxLexemes and maxLexemeBytes keep a tsvector below its own limit of 1 MB,
	// and a description of many megabytes from filling the search index.
	maxLexemes     = 2000
	maxLexemeBytes = 512 << 10
	// maxPlace is the last place in a tsvector: 16,383 (the same page); a word
	// behind it is found, but not as part of a phrase.
	maxPlace = 16383
	// maxPlaces is the most places of one word in a tsvector: 256.
	maxPlaces = 256
)

// tsvector gives words with their places, as a literal of that type, and each word
// once. Between two texts lies a place without a word, so that no phrase reaches
// from one into the other.
func tsvector(name []string, texts ...string) (literal string, order []string) {
	places := map[string][]int{}
	place, size := 0, 0
	add := func(words []string) {
		for _, w := range words {
			place++
			if len(w) > maxLexeme {
				continue
			}
			if _, known := places[w]; !known {
				if len(order) == maxLexemes || size+len(w) > maxLexemeBytes {
					continue
				}
				order = append(order, w)
				size += len(w)
			}
			if n := len(places[w]); n < maxPlaces {
				places[w] = append(places[w], min(place, maxPlace))
			}
		}
		place++
	}
	add(name)
	for _, text := range texts {
		add(indexer.WordsInOrder(text))
	}
	var b strings.Builder
	for _, w := range order { // words are letters and digits: nothing to escape
		fmt.Fprintf(&b, "'%s':", w)
		for i, p := range slices.Compact(places[w]) {
			if i > 0 {
				b.WriteByte(',')
			}
			fmt.Fprint(&b, p)
		}
		b.WriteByte(' ')
	}
	return b.String(), order
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

// reformBatch is how many repositories one transaction of Reform makes anew: 200
// take a few tenths of a second, as long as pushes to them wait.
const reformBatch = 200

// Reform makes the search rows anew that a program of another form wrote, and
// returns how many repositories it did. It is called until that is 0.
func (s *Store) Reform(ctx context.Context) (n int, err error) {
	n, _, err = s.ReformAfter(ctx, "")
	return n, err
}

// ReformAfter is Reform for repositories behind one in order of name; last is the
// last that it did. Whoever goes on from there passes over no row twice, which
// takes minutes where there are a million.
func (s *Store) ReformAfter(ctx context.Context, after string) (n int, last string, err error) {
	err = s.beginAs(ctx, beginPlanned, func(tx pgx.Tx, c cluster) error {
		// The number is in the text: of a parameter Postgres expects a tenth of all
		// rows, and reads and sorts them all for each batch.
		old := `
			SELECT r.id, r.name FROM repository r LEFT JOIN repository_search s ON s.repository_id = r.id
			WHERE r.name > $2 AND (s.form <> $1 OR s.form IS NULL AND EXISTS (SELECT FROM tag t WHERE t.repository_id = r.id))
			ORDER BY r.name LIMIT ` + strconv.Itoa(reformBatch) + ` FOR NO KEY UPDATE OF r`
		type row struct {
			ID   int32
			Name string
		}
		rows, err := collect[row](ctx, tx, old, searchForm, after)
		if err != nil || len(rows) == 0 {
			return err
		}
		n, last = len(rows), rows[len(rows)-1].Name
		var ids []int32
		for _, r := range rows {
			ids = append(ids, r.ID)
		}
		slices.Sort(ids)
		const all = "SELECT repository_id, id, digest FROM manifest WHERE repository_id = ANY($1)"
		batch := &pgx.Batch{}
		batch.Queue(imagesOf(all), ids)
		if err := writeSearchRows(ctx, tx, batch, ids, touched{}, 2); err != nil {
			return err
		}
		return bump(ctx, tx, c)
	})
	return n, last, wrap("reform search rows", err)
}

// column runs a statement that gives one column.
func column[T any](ctx context.Context, db querier, sql string, args ...any) ([]T, error) {
	rows, err := db.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[T])
}
