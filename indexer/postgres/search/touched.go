package search

import (
	"strconv"

	"github.com/portbook/portbook/indexer/postgres/pg"
)

// Touched are manifests whose search rows may have to change, and tags that moved.
type Touched struct {
	manifests []touchedManifest
	tags      []movedTag
}

type touchedManifest struct {
	RepositoryID int32
	Digest       []byte
	Whole        bool // whether the manifest was added, was deleted or has other referrers; else only its tags moved
}

type movedTag struct {
	RepositoryID int32
	Name         string
}

// Add adds a manifest whose tags moved.
func (t *Touched) Add(repository int32, digest []byte) { t.manifest(repository, digest, false) }

// Change adds a manifest that was added, was deleted or has other referrers. The rows
// of image indexes that list it change too.
func (t *Touched) Change(repository int32, digest []byte) { t.manifest(repository, digest, true) }

func (t *Touched) manifest(repository int32, digest []byte, whole bool) {
	if len(digest) > 0 {
		t.manifests = append(t.manifests, touchedManifest{repository, digest, whole})
	}
}

// Tag adds a tag that was added, moved or deleted.
func (t *Touched) Tag(repository int32, name string) {
	t.tags = append(t.tags, movedTag{repository, name})
}

// Linked reports whether manifests of a repository may refer to each other: whether
// it has an image index or a referrer. Most repositories have neither; their
// statements are planned in a third of the time (5 ms instead of 15) and run in half
// of it.
type Linked bool

// text returns yes as part of a statement for linked repositories, and no for others.
func (l Linked) text(yes, no string) string {
	if l {
		return yes
	}
	return no
}

// LinkedQuery reports whether any of the repositories named $1 is linked.
const LinkedQuery = `
	SELECT EXISTS (SELECT FROM repository r WHERE r.name = ANY($1) AND (
		EXISTS (SELECT FROM index_entry e WHERE e.repository_id = r.id)
		OR EXISTS (SELECT FROM referrer f WHERE f.repository_id = r.id)
		OR EXISTS (SELECT FROM tag t WHERE t.repository_id = r.id AND t.name >= 'sha256-' AND t.name < 'sha256.')))`

// maxListing is the maximum number of entries of image indexes that one transaction
// reads again because a manifest in them was added or deleted: 20,000, a tenth of a
// second. Otherwise an image in many large indexes would make each of its pushes as
// slow as reading all of them. The remaining indexes are left to Reform.
const maxListing = 20_000

// touchedParts returns the tables with which touchedManifests and headsQuery begin.
// given are the manifests of $1, $2 and $3 (repository, digest, whole). changed are
// the given manifests that are whole, and those to which given ones are attached by
// an image index. parents are the tagged indexes that list changed manifests; up_to
// is the number of entries of an index and all before it.
func touchedParts(l Linked) string { return givenPart + l.text(linkedParts, noParents) }

var givenPart = `
	given AS (
		SELECT DISTINCT repository_id, digest, whole FROM ` + pg.Unnest[touchedManifest]("t", 1) + `
	)`

const noParents = `, parents AS (SELECT repository_id, 0 AS up_to FROM given WHERE false)`

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

// touchedManifests returns a query for the given manifests, the images in them,
// manifests with other referrers, and the indexes that list changed ones. Manifests
// that are not whole have other tags, and are unchanged otherwise.
func touchedManifests(l Linked) string {
	return `
	WITH ` + touchedParts(l) + `
	SELECT repository_id, id, digest, bool_or(whole) AS whole FROM (
		SELECT m.repository_id, m.id, m.digest, g.whole FROM given g JOIN manifest m ON m.repository_id = g.repository_id AND m.digest = g.digest` +
		l.text(touchedBeside, "") + `
	) AS manifests GROUP BY repository_id, id, digest`
}

// touchedBeside selects the manifests that are touched because given ones are.
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
