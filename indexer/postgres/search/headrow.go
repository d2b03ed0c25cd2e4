package search

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/memory"
	"github.com/portbook/portbook/indexer/postgres/pg"
)

// A headRow is the data of a repository for its search row: the metadata of the
// manifest that the leading tag points to and, if that is an index, of its first
// image; and the facts of all tagged images.
type headRow struct {
	ID                            int32
	Name                          string
	Tags                          int
	Size                          int64
	Annotations, Labels           []byte
	ChildAnnotations, ChildLabels []byte
	Facts                         []indexer.Fact
	LeadingTag                    string         // "" if there is none
	OwnTags                       int            // tags that keep no referrer, and are not yanked
	Signature, SBOM, Attestation  int            // how many of OwnTags point to a manifest that has one
	OldFacts                      []indexer.Fact // in its search row so far
	Yanked, AllYanked             bool           // whether some of it is yanked, and whether all own tags are
	Deprecated                    bool
	Covered                       bool // whether the terms in that row are still right
	Unfinished                    bool // whether some image indexes are left to Reform
}

// leadingOrder sorts tags t so that the leading tag comes first. It is
// indexer.LeadingTag in SQL.
const leadingOrder = `t.name = 'latest' DESC, version.is IS NOT NULL DESC, version.is[2] IS NULL DESC,
	string_to_array(version.is[1], '.')::bigint[] DESC NULLS LAST, version.is[2] COLLATE "C" DESC, t.moved_at DESC, t.name DESC`

// versionOfTag is the version numbers in the name of a tag t, and its suffix.
const versionOfTag = `LATERAL (SELECT regexp_match(t.name, '` + indexer.VersionPattern + `') AS is) version`

// isOwn holds for tags t that keep no referrer. The first half spares most tags the
// regular expression.
const isOwn = `(t.name NOT LIKE 'sha%' OR t.name !~ '` + indexer.ReferrerTagPattern + `')`

// tagsWith counts the own tags of a repository r whose manifest has a kind of
// referrer.
func tagsWith(kind indexer.ReferrerKind) string {
	fact := indexer.FactHas.Fact(string(kind))
	return fmt.Sprintf("count(*) FILTER (WHERE s.facts @> ARRAY['%s'])::int AS %s", fact, kind)
}

// tagFacts are the facts that tagsWith counts.
const tagFacts = string(indexer.HasSignature + "," + indexer.HasSBOM + "," + indexer.HasAttestation)

// headsQueries has the texts of headsQuery.
var headsQueries = map[Linked]string{false: headsQuery(false), true: headsQuery(true)}

// headsArgs returns the parameters of headsQuery.
func headsArgs(t Touched, repositories []int32, form int) []any {
	args := append(pg.Arrays(t.manifests), repositories, form)
	return append(args, pg.Arrays(t.tags)...)
}

// headsQuery returns the query for the headRows of repositories. $1 to $3 are what
// was touched, as in touchedManifests; $4 are the repositories and $5 is the form of
// search rows; $6 and $7 are the tags that moved. If the stored row has the form $5,
// two things in it are used:
//
// The terms. To find all terms of ten thousand images takes 100 ms, and one more
// image with the same terms changes nothing. If an image was removed, it may have
// been the last one with a term. An image that stays can only gain terms, when it is
// read again.
//
// The leading tag. If it still points to a manifest, only the tags that moved can
// replace it.
func headsQuery(l Linked) string {
	return `
	WITH ` + yankedParts("$4") + `, ` + touchedParts(l) + `, touched AS (
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
		tags.yanked > 0 OR EXISTS (SELECT FROM yanked_manifest y WHERE y.repository_id = r.id)
			OR EXISTS (SELECT FROM yanked_repository y WHERE y.repository_id = r.id) AS yanked,
		tags.yanked > 0 AND tags.own = 0 OR EXISTS (SELECT FROM yanked_repository y WHERE y.repository_id = r.id) AS all_yanked,
		EXISTS (SELECT FROM yanked y WHERE y.repository_id = r.id AND y.deprecated) AS deprecated,
		old.repository_id IS NOT NULL AND NOT EXISTS (
			SELECT FROM touched x LEFT JOIN image_search i ON i.repository_id = x.repository_id AND i.manifest_id = x.id
			WHERE x.repository_id = r.id AND (i.manifest_id IS NULL OR EXISTS (
				SELECT FROM unnest(i.keys, i.pairs) AS p (key, term) WHERE NOT old.terms && ARRAY[p.term, ~p.key, ` + hash(memory.ManyKeys) + `]))
		) AS covered,
		EXISTS (SELECT FROM parents p WHERE p.repository_id = r.id AND p.up_to > ` + strconv.Itoa(maxListing) + `) AS unfinished
	FROM repository r
	LEFT JOIN repository_search old ON old.repository_id = r.id AND old.form = $5 AND old.leading_tag IS NOT NULL
	CROSS JOIN LATERAL (SELECT count(*)::int AS all, (count(*) FILTER (WHERE ` + isOwn + ` AND NOT ` + isYanked + `))::int AS own,
		(count(*) FILTER (WHERE ` + isOwn + ` AND ` + isYanked + `))::int AS yanked FROM tag t WHERE t.repository_id = r.id) tags
	CROSS JOIN LATERAL (
		SELECT ARRAY(SELECT DISTINCT f FROM image_search i, unnest(i.facts) AS f WHERE i.repository_id = r.id ORDER BY f) AS facts OFFSET 0
	) facts
	CROSS JOIN LATERAL (
		SELECT ` + tagsWith(indexer.Signature) + `, ` + tagsWith(indexer.SBOM) + `, ` + tagsWith(indexer.Attestation) + `
		FROM tag t JOIN image_search s ON s.repository_id = t.repository_id AND s.manifest_id = t.manifest_id
		WHERE facts.facts && '{` + tagFacts + `}' AND t.repository_id = r.id AND ` + isOwn + `
	) counted
	CROSS JOIN LATERAL (
		SELECT EXISTS (SELECT FROM tag t WHERE t.repository_id = r.id AND t.name IN ('latest', old.leading_tag) AND t.manifest_id IS NOT NULL AND NOT ` + isYanked + `) AS stays
	) leader
	LEFT JOIN LATERAL (
		SELECT t.manifest_id, t.name FROM (
			SELECT t.repository_id, t.manifest_id, t.name, t.moved_at FROM tag t WHERE t.repository_id = r.id AND t.name = ANY (
				ARRAY['latest', old.leading_tag] || ARRAY(SELECT moved.name FROM ` + pg.Unnest[movedTag]("moved", 6) + ` WHERE moved.repository_id = r.id))
			UNION ALL
			SELECT t.repository_id, t.manifest_id, t.name, t.moved_at FROM tag t WHERE NOT leader.stays AND t.repository_id = r.id
		) t CROSS JOIN ` + versionOfTag + `
		WHERE t.manifest_id IS NOT NULL AND ` + isOwn + ` ORDER BY ` + isYanked + `, ` + leadingOrder + ` LIMIT 1
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

// maxLabelKeys is the maximum number of keys of labels among the facts of a repository:
// 100, several times what build tools set.
const maxLabelKeys = 100

// allFacts returns the facts of the images and of the repository as a whole: keys of
// labels and the licence.
func (h headRow) allFacts(metadata []map[string]string) []indexer.Fact {
	facts := append(slices.Clone(h.Facts), h.withdrawn()...)
	facts = append(facts, labelFacts(h.Labels, h.ChildLabels)...)
	if licence := indexer.Licence(metadata...); licence != "" && len(licence) <= 200 {
		facts = append(facts, indexer.FactLicence.Fact(licence))
	}
	facts = slices.DeleteFunc(facts, func(f indexer.Fact) bool { // no query can name it
		return strings.Contains(string(f), pg.Separator)
	})
	slices.Sort(facts)
	return slices.Compact(facts)
}

// withdrawn returns the facts about what is yanked or deprecated.
func (h headRow) withdrawn() (facts []indexer.Fact) {
	if h.Yanked {
		facts = append(facts, indexer.IsYanked)
	}
	if h.Deprecated {
		facts = append(facts, indexer.IsDeprecated)
	}
	if h.AllYanked || h.Deprecated {
		facts = append(facts, indexer.IsUnlisted)
	}
	return facts
}

// labelFacts returns the keys of labels as facts, the first maxLabelKeys by name.
// Keys of annotations are left out, since label: does not find them.
func labelFacts(labels ...[]byte) []indexer.Fact {
	var facts []indexer.Fact
	for _, raw := range labels {
		for key := range pg.StringsFrom(raw) {
			if len(key) <= memory.MaxTerm {
				facts = append(facts, indexer.FactLabel.Fact(key))
			}
		}
	}
	slices.Sort(facts)
	facts = slices.Compact(facts)
	return facts[:min(len(facts), maxLabelKeys)]
}

// LabelTexts returns the values of labels and annotations that are searched as text,
// in order of key. Times, revisions, URLs and values of more than 1,000 bytes are
// left out.
func LabelTexts(m map[string]string) []string {
	var keys, texts []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		v := m[k]
		if strings.HasSuffix(k, ".created") || strings.HasSuffix(k, ".revision") {
			continue
		}
		if len(v) <= 1000 && !strings.Contains(v, "://") {
			texts = append(texts, v)
		}
	}
	return texts
}
