package search

import (
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/pg"
	"github.com/portbook/portbook/indexer/query"
)

// searchForm is the form of the search rows that this program writes. Rows of
// another are made anew by Reform; raise it when what stands in them changes.
const searchForm = 4

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

// touched are manifests whose images may have to be found otherwise than before,
// and tags that moved.
type Touched struct {
	repositories []int32
	digests      [][]byte
	whole        []bool // whether it came, went or has other referrers; else only its tags moved

	tagRepositories []int32
	tags            []string
}

// add takes in a manifest whose tags moved.
func (t *Touched) Add(repository int32, digest []byte) { t.manifest(repository, digest, false) }

// change takes in a manifest that came, went or has other referrers: the image
// indexes that list it differ too.
func (t *Touched) Change(repository int32, digest []byte) { t.manifest(repository, digest, true) }

func (t *Touched) manifest(repository int32, digest []byte, whole bool) {
	if len(digest) > 0 {
		t.repositories, t.digests, t.whole = append(t.repositories, repository), append(t.digests, digest), append(t.whole, whole)
	}
}

func (t *Touched) Tag(repository int32, name string) {
	t.tagRepositories, t.tags = append(t.tagRepositories, repository), append(t.tags, name)
}

// A Change names the repositories whose search rows are to be brought up to date.
type Change struct {
	Repositories []int32 // in ascending order
	Touched      Touched
	Linked       Linked // whether any of the repositories is, or becomes so
	Tier         int    // of new rows
}

// Refresh brings search rows up to date: those of images that were touched, and
// those of the changed repositories, which the caller has locked.
func Refresh(ctx context.Context, tx pgx.Tx, c Change) error {
	batch := &pgx.Batch{}
	batch.Queue("UPDATE repository SET updated_at = now() WHERE id = ANY($1)", c.Repositories)
	manifests := imagesOf(touchedManifests(c.Linked), c.Linked)
	batch.Queue(manifests, c.Touched.repositories, c.Touched.digests, c.Touched.whole)
	return writeSearchRows(ctx, tx, batch, c)
}

// Linked says whether manifests of a repository may belong to each other: whether it
// has an image index or a referrer. Most have neither, and the statements for those
// are planned in a third of the time (5 ms instead of 15) and run in half of it.
type Linked bool

// text returns what a statement has in it for linked repositories, and what for
// others.
func (l Linked) text(yes, no string) string {
	if l {
		return yes
	}
	return no
}

// linkedQuery reports whether any of the repositories named $1 is linked.
const LinkedQuery = `
	SELECT EXISTS (SELECT FROM repository r WHERE r.name = ANY($1) AND (
		EXISTS (SELECT FROM index_entry e WHERE e.repository_id = r.id)
		OR EXISTS (SELECT FROM referrer f WHERE f.repository_id = r.id)
		OR EXISTS (SELECT FROM tag t WHERE t.repository_id = r.id AND t.name >= 'sha256-' AND t.name < 'sha256.')))`

// maxListing is the most entries of image indexes that one transaction reads
// again because a manifest in them came or went: 20,000, a tenth of a second. An
// image that stands in many large indexes would else make each push of it as long
// as all of them together. What is beyond is left to Reform.
const maxListing = 20_000

// touchedParts are what touchedManifests and headsQuery begin with. 'changed' are
// the manifests that are not what they were: those of $1 and $2 with $3, and those
// that these are attached to by an image index. 'parents' are the tagged indexes
// that list them, and up_to how many entries they have together with all before.
func touchedParts(l Linked) string { return givenPart + l.text(linkedParts, noParents) }

const (
	givenPart = `
	given AS (
		SELECT DISTINCT repository_id, digest, whole FROM unnest($1::int[], $2::bytea[], $3::bool[]) AS t (repository_id, digest, whole)
	)`
	noParents = `, parents AS (SELECT repository_id, 0 AS up_to FROM given WHERE false)`
)

var linkedParts = `, changed AS (
		SELECT repository_id, digest FROM given WHERE whole
		UNION
		SELECT e.repository_id, ` + Attests + ` FROM given g JOIN index_entry e ON e.repository_id = g.repository_id AND e.digest = g.digest
		WHERE g.whole AND ` + Attests + ` IS NOT NULL
		UNION
		SELECT e.repository_id, ` + Attests + ` FROM given g JOIN manifest m ON m.repository_id = g.repository_id AND m.digest = g.digest
		JOIN index_entry e ON e.repository_id = m.repository_id AND e.manifest_id = m.id
		WHERE g.whole AND ` + Attests + ` IS NOT NULL
		UNION
		SELECT i.repository_id, decode(substr(tag, 8), 'hex') FROM given g JOIN index_entry e ON e.repository_id = g.repository_id AND e.digest = g.digest
		JOIN image_search i ON i.repository_id = e.repository_id AND i.manifest_id = e.manifest_id
		CROSS JOIN unnest(i.tags) AS tag WHERE g.whole AND tag ~ '^sha256-[0-9a-f]{64}$'
	), parents AS (
		SELECT p.repository_id, p.manifest_id, sum(p.entries) OVER (ORDER BY p.repository_id, p.manifest_id) AS up_to FROM (
			SELECT DISTINCT i.repository_id, i.manifest_id, (
				SELECT last.position + 1 FROM index_entry last WHERE last.repository_id = i.repository_id AND last.manifest_id = i.manifest_id
				ORDER BY last.position DESC LIMIT 1) AS entries
			FROM changed c JOIN index_entry e ON e.repository_id = c.repository_id AND e.digest = c.digest
			JOIN image_search i ON i.repository_id = e.repository_id AND i.manifest_id = e.manifest_id
		) AS p
	)`

// touchedManifests are those of $1 and $2, the images in them, what has other
// referrers, and the indexes that list what came or went. Those that are not whole
// have other tags that show them, and stay the same otherwise.
func touchedManifests(l Linked) string {
	return `
	WITH ` + touchedParts(l) + `
	SELECT repository_id, id, digest, bool_or(whole) AS whole FROM (
		SELECT m.repository_id, m.id, m.digest, g.whole FROM given g JOIN manifest m ON m.repository_id = g.repository_id AND m.digest = g.digest` +
		l.text(touchedBeside, "") + `
	) AS manifests GROUP BY repository_id, id, digest`
}

// touchedBeside are those of touchedManifests that are touched because others are.
var touchedBeside = `
		UNION ALL
		SELECT c.repository_id, c.id, c.digest, false FROM given g
		JOIN manifest m ON m.repository_id = g.repository_id AND m.digest = g.digest
		JOIN index_entry e ON e.repository_id = m.repository_id AND e.manifest_id = m.id
		` + listedC + `
		UNION ALL
		SELECT m.repository_id, m.id, m.digest, true FROM changed c JOIN manifest m ON m.repository_id = c.repository_id AND m.digest = c.digest
		UNION ALL
		SELECT m.repository_id, m.id, m.digest, true FROM parents p JOIN manifest m ON m.repository_id = p.repository_id AND m.id = p.manifest_id
		WHERE p.up_to <= ` + strconv.Itoa(maxListing)

// imagesOf writes the search rows of the manifests that a statement selects, and
// deletes those of manifests that no tag shows any more. $1 must be their
// repositories: without it Postgres reads all tags there are.
//
// Of manifests that are not whole it writes only what tags say, where that differs:
// an index may list a thousand images, and a tag that comes to it changes of each
// no more than a time, which is not indexed.
func imagesOf(manifests string, l Linked) string {
	columns := strings.Join(imageColumns, ", ")
	return shownImages(manifests, l) + `, gone AS (
		DELETE FROM image_search s USING touched x
		WHERE s.repository_id = x.repository_id AND s.manifest_id = x.id
			AND NOT EXISTS (SELECT FROM tagged g WHERE g.repository_id = x.repository_id AND g.id = x.id)
	), moved AS (
		UPDATE image_search s SET latest = g.latest, listed = g.listed, tags = g.tags, pushed_at = g.pushed_at FROM tagged g
		WHERE NOT g.whole AND s.repository_id = g.repository_id AND s.manifest_id = g.id
			AND (s.latest, s.listed, s.pushed_at, s.tags) IS DISTINCT FROM (g.latest, g.listed, g.pushed_at, g.tags)
	), due AS MATERIALIZED (
		SELECT * FROM tagged g
		WHERE g.whole OR NOT EXISTS (SELECT FROM image_search s WHERE s.repository_id = g.repository_id AND s.manifest_id = g.id)
	)
	INSERT INTO image_search AS s (repository_id, manifest_id, ` + columns + `)
	` + imageRows("due", l) + `
	ORDER BY m.repository_id, m.id
	ON CONFLICT (repository_id, manifest_id) DO UPDATE SET (` + columns + `) = (excluded.` + strings.Join(imageColumns, ", excluded.") + `)`
}

// imageColumns are the columns of image_search but for its key, in the order in
// which imageRows has them.
var imageColumns = []string{"latest", "listed", "tags", "facts", "keys", "pairs", "size", "layers", "created_at", "pushed_at"}

// shownImages begins a statement: 'touched' are the manifests that another selects,
// 'tagged' those of them that tags show, themselves or by an index that lists them.
//
// The tags of a row are those that show the manifest itself. If the images in an
// index had its tags too, each tag of it would cost all tags before it, a thousand
// times. So what the tags of an index say is found once for the index, and the
// condition tag: asks for them by the index: see isShownBy.
func shownImages(manifests string, l Linked) string {
	return `
	WITH touched AS MATERIALIZED (` + manifests + `
	), listing AS MATERIALIZED (
		` + l.text(`SELECT DISTINCT x.repository_id, x.id, x.whole, e.manifest_id FROM touched x
		JOIN index_entry e ON e.repository_id = x.repository_id AND e.digest = x.digest
		WHERE e.repository_id = ANY($1)`, `SELECT repository_id, id, whole, id AS manifest_id FROM touched WHERE false`) + `
	), own AS MATERIALIZED (
		SELECT t.repository_id, t.manifest_id, bool_or(t.name = 'latest') AS latest, max(t.moved_at) AS pushed_at, array_agg(t.name ORDER BY t.name) AS tags
		FROM tag t WHERE t.repository_id = ANY($1) AND (t.repository_id, t.manifest_id) IN (
			SELECT repository_id, id FROM touched UNION SELECT repository_id, manifest_id FROM listing)
		GROUP BY t.repository_id, t.manifest_id
	), shown AS (
		SELECT x.repository_id, x.id, x.whole, own.latest, own.pushed_at, own.tags, false AS listed FROM touched x
		JOIN own ON own.repository_id = x.repository_id AND own.manifest_id = x.id
		UNION ALL
		SELECT l.repository_id, l.id, l.whole, own.latest, own.pushed_at, NULL, true FROM listing l
		JOIN own ON own.repository_id = l.repository_id AND own.manifest_id = l.manifest_id
	), tagged AS MATERIALIZED (
		SELECT repository_id, id, whole, bool_or(latest) AS latest, bool_or(listed) AS listed, COALESCE(max(tags), '{}') AS tags, max(pushed_at) AS pushed_at
		FROM shown GROUP BY repository_id, id, whole
	)`
}

// imageRows are the search rows of those of tagged that stand in a table. Values of
// the time of building are left out of the pairs: nobody asks for them, and they
// are of no two images the same.
func imageRows(tagged string, l Linked) string {
	return `
	SELECT m.repository_id, m.id, g.latest, g.listed, g.tags,
		ARRAY(
			SELECT DISTINCT f COLLATE "C" FROM (
				SELECT f FROM (VALUES ('type:' || m.kind), ('type:' || lower(a.name)), ('os:' || lower(p.os)), ('arch:' || lower(p.architecture)),
					('platform:' || lower(p.os || '/' || p.architecture)),
					('platform:' || lower(p.os || '/' || p.architecture || '/' || NULLIF(p.variant, ''))),
					(CASE WHEN listed.platforms > 1 THEN 'is:multiarch' END)) AS facts (f)
				` + l.text("UNION ALL SELECT 'has:' || kind FROM ("+Has("m")+") AS had (kind)", "") + `
			) AS facts WHERE f IS NOT NULL ORDER BY 1),
		labelled.keys, labelled.pairs,
		COALESCE(listed.size, m.content_size), CASE WHEN m.kind <> 'index' THEN cardinality(m.layer_ids) END, m.created_at, g.pushed_at
	FROM ` + tagged + ` g
	JOIN manifest m ON m.repository_id = g.repository_id AND m.id = g.id
	LEFT JOIN media_type a ON a.id = m.artifact_type_id
	LEFT JOIN platform p ON p.id = m.platform_id AND (p.os, p.architecture) <> ('unknown', 'unknown') AND (p.os, p.architecture) <> ('', '')
	` + l.text(listedFigures, "LEFT JOIN (SELECT NULL::bigint AS size, 0 AS platforms) listed ON false") + `
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
	) labelled`
}

// listedFigures are what an image index m tells of its entries.
const listedFigures = `LEFT JOIN LATERAL (
		SELECT (
			SELECT LEAST(COALESCE(sum(c.content_size), 0), 9007199254740991)::bigint FROM ( -- 2^53-1
				SELECT DISTINCT e.digest FROM index_entry e WHERE e.repository_id = m.repository_id AND e.manifest_id = m.id
			) e CROSS JOIN LATERAL ( -- as listedC
				SELECT c.content_size FROM manifest c WHERE c.repository_id = m.repository_id AND c.digest = e.digest OFFSET 0) c) AS size, (
			SELECT count(DISTINCT ep.id) FROM index_entry e JOIN platform ep ON ep.id = e.platform_id AND (ep.os, ep.architecture) <> ('unknown', 'unknown')
			WHERE e.repository_id = m.repository_id AND e.manifest_id = m.id) AS platforms
	) listed ON m.kind = 'index'`

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
	LeadingTag                    string   // "" if there is none
	OwnTags                       int      // without those of referrers
	Signature, SBOM, Attestation  int      // of those, how many show what has one
	OldFacts                      []string // as its search row had them
	Covered                       bool     // whether the terms of that row still hold what they should of the images
	Unfinished                    bool     // whether image indexes were left to Reform
}

// leadingOrder puts first, of tags t, the one that speaks for a repository: latest,
// else the highest version, those without a suffix ("-rc1", "-alpine") before
// others, else the one that moved last.
const leadingOrder = `t.name = 'latest' DESC, version.is IS NOT NULL DESC, version.is[2] IS NULL DESC,
	string_to_array(version.is[1], '.')::bigint[] DESC NULLS LAST, version.is[2] COLLATE "C" DESC, t.moved_at DESC, t.name DESC`

// versionOfTag gives a tag's numbers, of which each fits a bigint, and what follows.
const versionOfTag = `LATERAL (SELECT regexp_match(t.name, '^[vV]?([0-9]{1,18}(?:\.[0-9]{1,18})*)(?:[._-](.*))?$') AS is) version`

// isOwn is true of tags t that keep no referrer. The first half spares most of
// them the pattern.
const isOwn = `(t.name NOT LIKE 'sha%' OR t.name !~ '` + indexer.ReferrerTagPattern + `')`

// tagsWith counts the own tags of a repository r whose manifest has something.
func tagsWith(kind string) string {
	return "count(*) FILTER (WHERE s.facts @> ARRAY['has:" + kind + "'])::int AS " + kind
}

// headsQuery tells what repositories say of themselves. What was touched in them is
// given as to touchedManifests, the repositories themselves as $4, and the form of
// their rows as $5. Rows of that form tell:
//
// whether their terms still hold: one more image of many that say the same does not
// change them, and to find all terms of ten thousand images takes 100 ms. An image
// that went may have been the last to have a term; one that stays only gains some,
// when it is read again;
//
// and which tag led. If it still shows something, only the tags that moved, $6 and
// $7, can lead instead.
func headsQuery(l Linked) string {
	return `
	WITH ` + touchedParts(l) + `, touched AS (
		SELECT g.repository_id, m.id FROM given g
		LEFT JOIN manifest m ON m.repository_id = g.repository_id AND m.digest = g.digest
		` + l.text(`UNION
		SELECT c.repository_id, c.id FROM given g
		JOIN manifest m ON m.repository_id = g.repository_id AND m.digest = g.digest
		JOIN index_entry e ON e.repository_id = m.repository_id AND e.manifest_id = m.id
		JOIN manifest c ON c.repository_id = e.repository_id AND c.digest = e.digest`, "") + `
	)
	SELECT r.id, r.name, tags.all AS tags, tags.own AS own_tags, COALESCE(head.name, '') AS leading_tag,
		COALESCE(s.size, 0)::bigint AS size,
		m.annotations, m.labels, c.annotations AS child_annotations, c.labels AS child_labels,
		facts.facts, counted.signature, counted.sbom, counted.attestation,
		old.facts AS old_facts,
		old.repository_id IS NOT NULL AND NOT EXISTS (
			SELECT FROM touched x LEFT JOIN image_search i ON i.repository_id = x.repository_id AND i.manifest_id = x.id
			WHERE x.repository_id = r.id AND (i.manifest_id IS NULL OR EXISTS (
				SELECT FROM unnest(i.keys, i.pairs) AS p (key, term) WHERE NOT old.terms && ARRAY[p.term, ~p.key, ` + hash(manyTerm) + `]))
		) AS covered,
		EXISTS (SELECT FROM parents p WHERE p.repository_id = r.id AND p.up_to > ` + strconv.Itoa(maxListing) + `) AS unfinished
	FROM repository r
	LEFT JOIN repository_search old ON old.repository_id = r.id AND old.form = $5 AND old.leading_tag IS NOT NULL
	CROSS JOIN LATERAL (SELECT count(*)::int AS all, (count(*) FILTER (WHERE ` + isOwn + `))::int AS own FROM tag t WHERE t.repository_id = r.id) tags
	CROSS JOIN LATERAL (
		SELECT ARRAY(SELECT DISTINCT f FROM image_search i, unnest(i.facts) AS f WHERE i.repository_id = r.id ORDER BY f) AS facts OFFSET 0
	) facts
	CROSS JOIN LATERAL (
		SELECT ` + tagsWith("signature") + `, ` + tagsWith("sbom") + `, ` + tagsWith("attestation") + `
		FROM tag t JOIN image_search s ON s.repository_id = t.repository_id AND s.manifest_id = t.manifest_id
		WHERE facts.facts && '{has:signature,has:sbom,has:attestation}' AND t.repository_id = r.id AND ` + isOwn + `
	) counted
	CROSS JOIN LATERAL (
		SELECT EXISTS (SELECT FROM tag t WHERE t.repository_id = r.id AND t.name IN ('latest', old.leading_tag) AND t.manifest_id IS NOT NULL) AS stays
	) leader
	LEFT JOIN LATERAL (
		SELECT t.manifest_id, t.name FROM (
			SELECT t.manifest_id, t.name, t.moved_at FROM tag t WHERE t.repository_id = r.id AND t.name = ANY (
				ARRAY['latest', old.leading_tag] || ARRAY(SELECT moved.name FROM unnest($6::int[], $7::text[]) AS moved (repository_id, name) WHERE moved.repository_id = r.id))
			UNION ALL
			SELECT t.manifest_id, t.name, t.moved_at FROM tag t WHERE NOT leader.stays AND t.repository_id = r.id
		) t CROSS JOIN ` + versionOfTag + `
		WHERE t.manifest_id IS NOT NULL AND ` + isOwn + ` ORDER BY ` + leadingOrder + ` LIMIT 1
	) head ON true
	LEFT JOIN manifest m ON m.repository_id = r.id AND m.id = head.manifest_id
	LEFT JOIN image_search s ON s.repository_id = r.id AND s.manifest_id = head.manifest_id
	LEFT JOIN LATERAL (
		SELECT c.annotations, c.labels FROM index_entry e
		JOIN manifest c ON c.repository_id = e.repository_id AND c.digest = e.digest
		WHERE e.repository_id = r.id AND e.manifest_id = m.id AND m.kind = 'index'
		ORDER BY e.position LIMIT 1
	) c ON true
	WHERE r.id = ANY($4) ORDER BY r.id`
}

// writeSearchRows runs a batch, then writes the search rows of repositories, and
// deletes those of repositories without a tag. Columns under an index that keep
// their value do not cost a new index entry.
//
// New rows begin in a tier: 0 if somebody has just pushed, and 2 if they come of a
// scan, which may bring a million at once; Retier finds out more.
func writeSearchRows(ctx context.Context, tx pgx.Tx, before *pgx.Batch, c Change) error {
	var heads []headRow
	t := c.Touched
	pg.Queue(before, &heads, headsQuery(c.Linked), t.repositories, t.digests, t.whole, c.Repositories, searchForm,
		t.tagRepositories, t.tags)
	if err := tx.SendBatch(ctx, before).Close(); err != nil {
		return err
	}
	var rows searchColumns
	for _, h := range heads {
		rows.add(h)
	}
	batch := &pgx.Batch{}
	rows.queue(batch, c.Tier)
	return tx.SendBatch(ctx, batch).Close()
}

// searchColumns are search rows by column: one statement writes them all, which
// takes a third of the time of one statement each.
type searchColumns struct {
	empty, id                                   []int32 // empty are those without a tag
	name, basename, title, description          []string
	tags, ownTags, signature, sbom, attestation []int32
	size                                        []int64
	leading, facts, nameWords, allWords         []string
	sameTerms                                   []bool
	form                                        []int16
	lexemes                                     map[string]bool // of all rows, as search_lexeme has them
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
	c.facts, c.sameTerms = append(c.facts, strings.Join(facts, pg.Separator)), append(c.sameTerms, h.Covered && slices.Equal(facts, h.OldFacts))
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

// formOf is 0, which no program writes, of a repository whose other rows are left
// to Reform.
func formOf(h headRow) int16 {
	if h.Unfinished {
		return 0
	}
	return searchForm
}

// queueLexemes writes the words that were not known yet, before the rows that have
// them: whoever sees a row knows its words.
func (c *searchColumns) queueLexemes(batch *pgx.Batch) {
	const q = `
		INSERT INTO search_lexeme (word) SELECT word FROM unnest($1::text[]) AS used (word)
		WHERE NOT EXISTS (SELECT FROM search_lexeme l WHERE l.word = used.word COLLATE "C") ORDER BY word COLLATE "C" ON CONFLICT DO NOTHING`
	batch.Queue(q, slices.Collect(maps.Keys(c.lexemes)))
}

// searchRowColumns are the columns of repository_search that searchRows selects, in
// its order. Those that a row has from the beginning come first.
var searchRowColumns = []string{"repository_id", "name", "basename",
	"title", "description", "tags", "updated_at", "size", "facts", "terms", "form", "name_words", "all_words",
	"leading_tag", "own_tags", "signature_tags", "sbom_tags", "attestation_tags"}

// searchRows makes rows of what searchColumns.args gives.
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

// maxLabelKeys is how many keys of labels stand in the facts of a repository: 100,
// several times what build tools set.
const maxLabelKeys = 100

// licencePrefix is before the fact of a licence.
const licencePrefix = "licence:"

// allFacts are those of the images and, as words of the query language too, what
// belongs to the repository as a whole.
func (h headRow) allFacts(metadata []map[string]string) []string {
	facts := slices.Clone(h.Facts)
	facts = append(facts, labelFacts(h.Labels, h.ChildLabels)...)
	if licence := indexer.Licence(metadata...); licence != "" && len(licence) <= 200 {
		facts = append(facts, licencePrefix+licence)
	}
	facts = slices.DeleteFunc(facts, func(f string) bool { return strings.Contains(f, pg.Separator) }) // nobody can ask for it
	slices.Sort(facts)
	return slices.Compact(facts)
}

// labelFacts returns the keys of labels as facts, the first maxLabelKeys by name.
// Keys of annotations are not among them: label: does not find those.
func labelFacts(labels ...[]byte) []string {
	var facts []string
	for _, raw := range labels {
		for key := range pg.StringsFrom(raw) {
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
		add(query.WordsInOrder(text))
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

// reformBatch is how many repositories one transaction of Reform makes anew: 200
// take a few tenths of a second, as long as pushes to them wait.
const reformBatch = 200

// Reform makes the next search rows again that a program of another form wrote, of
// repositories after one in order of name. It returns how many repositories it did,
// and the last of them; 0 if there are no more.
func Reform(ctx context.Context, tx pgx.Tx, after string) (n int, last string, err error) {
	// The number is in the text: for a parameter Postgres expects a tenth of all
	// rows, and reads and sorts them all for each batch.
	old := `
		SELECT r.id, r.name FROM repository r LEFT JOIN repository_search s ON s.repository_id = r.id
		WHERE r.name > $2 AND (s.form <> $1 OR s.leading_tag IS NULL AND EXISTS (SELECT FROM tag t WHERE t.repository_id = r.id))
		ORDER BY r.name LIMIT ` + strconv.Itoa(reformBatch) + ` FOR NO KEY UPDATE OF r`
	type row struct {
		ID   int32
		Name string
	}
	rows, err := pg.Collect[row](ctx, tx, old, searchForm, after)
	if err != nil || len(rows) == 0 {
		return 0, "", err
	}
	var ids []int32
	for _, r := range rows {
		ids = append(ids, r.ID)
	}
	slices.Sort(ids)
	return len(rows), rows[len(rows)-1].Name, rewrite(ctx, tx, ids)
}

// rewrite makes all search rows of repositories again.
func rewrite(ctx context.Context, tx pgx.Tx, ids []int32) error {
	const all = "SELECT repository_id, id, digest, true AS whole FROM manifest WHERE repository_id = ANY($1)"
	batch := &pgx.Batch{}
	batch.Queue(typesOfReferrers, ids)
	batch.Queue(imagesOf(all, true), ids)
	return writeSearchRows(ctx, tx, batch, Change{Repositories: ids, Linked: true, Tier: 2})
}

// typesOfReferrers gives images that name a subject the type of their config, as
// programs before form 3 did not. The manifest says which of the two it is.
const typesOfReferrers = `
	WITH untyped AS (
		SELECT m.repository_id, m.id, CASE WHEN position('application/vnd.docker.container.image.v1+json'::bytea IN b.body) > 0
			THEN 'application/vnd.docker.container.image.v1+json' ELSE 'application/vnd.oci.image.config.v1+json' END AS name
		FROM manifest m JOIN manifest_body b ON b.repository_id = m.repository_id AND b.manifest_id = m.id
		WHERE m.repository_id = ANY($1) AND m.kind = 'image' AND m.subject IS NOT NULL AND m.artifact_type_id IS NULL
	), types AS (
		INSERT INTO media_type (name) SELECT DISTINCT name FROM untyped ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING id, name
	)
	UPDATE manifest m SET artifact_type_id = types.id FROM untyped u JOIN types ON types.name = u.name
	WHERE m.repository_id = u.repository_id AND m.id = u.id`
