package postgres

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	sq "github.com/Masterminds/squirrel"
	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/pg"
)

const (
	// maxHeld is the maximum number of manifests of a Holding: 100,000. Those of more
	// return ErrTooSlow.
	maxHeld = 100_000
	// maxLinked is the maximum number of manifests that are found from one: those that it
	// lists and those attached to them. An image index may list 1,000 others. maxDepth is
	// how often a manifest may lead to another one: 10, where an index of signed images
	// needs 2.
	maxLinked = 5000
	maxDepth  = 10
)

// Holding returns what a namespace, repository, tag or manifest takes, and what deleting
// it would free. It returns ErrNotFound if the book does not have it; to an asker, what it
// may not see is not there. Like Freed, it ends in time.
func (v *View) Holding(ctx context.Context, of indexer.HoldingOf) (h indexer.Holding, err error) {
	end := freedEnd(ctx, of.Within)
	switch ref := of.Reference; {
	case of.Namespace != nil:
		h, err = v.holdingOfAll(ctx, end, v.inSpace(*of.Namespace))
		err = pg.Wrap(fmt.Sprintf("storage of the namespace %q", *of.Namespace), err)
	case ref.Tag == "" && ref.Digest == "":
		h, err = v.holdingOfAll(ctx, end, sq.Eq{"r.name": indexer.CleanText(ref.Repository)})
		err = pg.Wrap(fmt.Sprintf("storage of the repository %q", ref.Repository), err)
	default:
		h, err = v.holdingOfManifest(ctx, end, ref)
		err = pg.Wrap(fmt.Sprintf("storage of the manifest %q", ref), err)
	}
	return h, err
}

// inSpace returns the condition that a repository r is in a namespace.
func (v *View) inSpace(namespace string) sq.Sqlizer {
	namespace = indexer.CleanText(namespace)
	if namespace == "" {
		return sq.Expr("r.name NOT LIKE '%/%'")
	}
	return sq.Expr("r.name > ? AND r.name < ?", namespace+"/", namespace+"0") // '0' comes after '/'
}

// holdingOfAll returns the holding of all manifests of the repositories for which a
// condition holds.
func (v *View) holdingOfAll(ctx context.Context, end time.Time, which sq.Sqlizer) (h indexer.Holding, err error) {
	type row struct {
		Name   string
		Digest []byte
	}
	rows, err := pg.Stated[row](ctx, v.tx, `
		SELECT r.name, m.digest FROM repository r JOIN manifest m ON m.repository_id = r.id WHERE ? AND ? LIMIT ?`,
		which, v.names.Name("r.name"), maxHeld+1)
	switch {
	case err != nil:
		return h, err
	case len(rows) == 0:
		return h, indexer.ErrNotFound
	case len(rows) > maxHeld:
		return h, fmt.Errorf("more than %d manifests: %w", maxHeld, indexer.ErrTooSlow)
	}
	refs := make([]indexer.ManifestRef, len(rows))
	for i, r := range rows {
		refs[i] = indexer.ManifestRef{Repository: r.Name, Digest: pg.DigestFrom(r.Digest)}
	}
	_, h.Frees, err = v.freedUntil(ctx, refs, end)
	h.Own, h.Shared = h.Frees.Own(), h.Frees.SharedContent()
	return h, err
}

func (v *View) holdingOfManifest(
	ctx context.Context, end time.Time, ref indexer.Reference,
) (h indexer.Holding, err error) {
	root, err := v.manifestRow(ctx, ref)
	if err != nil {
		return h, err
	}
	l := linkage{tx: v.tx, repository: root.RepositoryID, root: root.ID}
	if err := l.walk(ctx, root.Digest); err != nil {
		return h, err
	}
	m := &indexer.ManifestHolding{Digest: pg.DigestFrom(root.Digest), Tags: l.members[root.ID].tags}
	m.ListedBy = len(l.members[root.ID].indexes)
	listed, gone, all := l.sets()
	m.Attached = len(all) - len(gone)
	whole := indexer.Freed{}
	var known []knownFreed
	for _, part := range []knownFreed{
		{listed, &whole}, {gone, &h.Frees}, {[]digest.Digest{m.Digest}, &m.Alone}, {all, &m.All},
	} {
		if err := v.freedOf(ctx, end, ref.Repository, part, known); err != nil {
			return h, err
		}
		known = append(known, part)
	}
	h.Manifest, h.Own, h.Shared = m, whole.Own(), whole.SharedContent()
	return h, nil
}

// A knownFreed is what deleting some manifests of a repository would free.
type knownFreed struct {
	manifests []digest.Digest
	freed     *indexer.Freed
}

// freedOf sets what deleting the manifests of part would free. Often it is known already:
// most manifests list nothing, and nothing is attached to them.
func (v *View) freedOf(ctx context.Context, end time.Time, repository string, part knownFreed,
	known []knownFreed) (err error) {
	for _, k := range known {
		if slices.Equal(k.manifests, part.manifests) {
			*part.freed = *k.freed
			return nil
		}
	}
	refs := make([]indexer.ManifestRef, len(part.manifests))
	for i, d := range part.manifests {
		refs[i] = indexer.ManifestRef{Repository: repository, Digest: d}
	}
	_, *part.freed, err = v.freedUntil(ctx, refs, end)
	return err
}

// A linkage has the manifests of a repository that are found from one of them: those that it
// lists, those that these list, and those attached to any of them.
type linkage struct {
	tx         pg.Querier
	repository int32
	root       int64
	members    map[int64]*member
}

// A member is one of the manifests of a linkage.
type member struct {
	ID       int64
	Digest   []byte
	listed   bool     // it is the root, or the root lists it, itself or by another index
	tags     []string // that show it
	indexes  []int64  // that list it; at most indexer.MaxEntries
	subjects []int64  // to which it is attached, among the members
}

// walk finds all members, and what each of them is needed for.
func (l *linkage) walk(ctx context.Context, root []byte) error {
	l.members = map[int64]*member{l.root: {ID: l.root, Digest: root, listed: true}}
	next := l.members
	for depth := 0; len(next) > 0; depth++ {
		found := map[int64]*member{}
		if err := l.walkListed(ctx, next, found); err != nil {
			return err
		}
		if err := l.walkAttached(ctx, next, found); err != nil {
			return err
		}
		maps.Copy(l.members, found)
		if len(l.members) > maxLinked || depth > maxDepth {
			return fmt.Errorf("too many manifests are listed or attached: %w", indexer.ErrTooSlow)
		}
		next = found
	}
	return l.readNeeds(ctx)
}

// A link leads from one manifest to another.
type link struct {
	From, ID int64
	Digest   []byte
}

// reach returns the member to which a link leads, which is new if it is not known yet.
func (l *linkage) reach(to link, found map[int64]*member) *member {
	for _, known := range []map[int64]*member{l.members, found} {
		if m := known[to.ID]; m != nil {
			return m
		}
	}
	m := &member{ID: to.ID, Digest: to.Digest}
	found[m.ID] = m
	return m
}

// walkListed adds the manifests that indexes list. What is found as attached first, and is
// listed too, is looked at once more as listed.
func (l *linkage) walkListed(ctx context.Context, from, found map[int64]*member) error {
	const q = `
		SELECT DISTINCT e.manifest_id AS "from", c.id, c.digest FROM index_entry e
		JOIN manifest c ON c.repository_id = e.repository_id AND c.digest = e.digest
		WHERE e.repository_id = $1 AND e.manifest_id = ANY($2) LIMIT $3`
	rows, err := pg.Collect[link](ctx, l.tx, q, l.repository, slices.Sorted(maps.Keys(from)), maxLinked+1)
	for _, to := range rows {
		if m := l.reach(to, found); from[to.From].listed && !m.listed {
			m.listed, found[m.ID] = true, m
		}
	}
	return err
}

func (l *linkage) walkAttached(ctx context.Context, from, found map[int64]*member) error {
	const q = `
		SELECT DISTINCT s.id AS "from", m.id, m.digest FROM manifest s
		JOIN referrer f ON f.repository_id = s.repository_id AND f.subject = s.digest
		JOIN manifest m ON m.repository_id = f.repository_id AND m.id = f.manifest_id
		WHERE s.repository_id = $1 AND s.id = ANY($2) LIMIT $3`
	rows, err := pg.Collect[link](ctx, l.tx, q, l.repository, slices.Sorted(maps.Keys(from)), maxLinked+1)
	for _, to := range rows {
		if m := l.reach(to, found); to.ID != to.From {
			m.subjects = append(m.subjects, to.From)
		}
	}
	return err
}

// readNeeds reads the tags that show members, and the indexes that list them.
func (l *linkage) readNeeds(ctx context.Context) error {
	type shown struct {
		ID   int64
		Name string
	}
	ids := slices.Sorted(maps.Keys(l.members))
	tags, err := pg.Collect[shown](ctx, l.tx, `
		SELECT manifest_id AS id, name FROM tag WHERE repository_id = $1 AND manifest_id = ANY($2) ORDER BY name`, l.repository, ids)
	if err != nil {
		return err
	}
	for _, t := range tags {
		m := l.members[t.ID]
		m.tags = append(m.tags, t.Name)
	}
	type row struct {
		ID, Index int64
	}
	indexes, err := pg.Collect[row](ctx, l.tx, `
		SELECT m.id, e.manifest_id AS index FROM manifest m CROSS JOIN LATERAL (
			SELECT e.manifest_id FROM index_entry e WHERE e.digest = m.digest AND e.repository_id = m.repository_id LIMIT $3
		) AS e WHERE m.repository_id = $1 AND m.id = ANY($2)`, l.repository, ids, indexer.MaxEntries)
	for _, i := range indexes {
		m := l.members[i.ID]
		m.indexes = append(m.indexes, i.Index)
	}
	return err
}

// sets returns the digests of the root and of everything that it lists; of the root and
// what only it needs; and of these with what is attached to them. Each is in order.
func (l *linkage) sets() (listed, gone, all []digest.Digest) {
	whole := map[int64]*member{}
	for id, m := range l.members {
		if m.listed {
			whole[id] = m
		}
	}
	return memberDigests(whole), memberDigests(l.needless(maps.Clone(whole))),
		memberDigests(l.needless(maps.Clone(l.members)))
}

// needless returns the root and those of some members that nothing else needs. A tag needs
// what it shows, unless it is one that older tools use for referrers; an index needs what
// it lists; and what is attached to a manifest goes only with it. What is needed may need
// others, so this is repeated until nothing is left that is needed.
func (l *linkage) needless(some map[int64]*member) map[int64]*member {
	for again := true; again; {
		again = false
		for id, m := range some {
			stays := func(other int64) bool { return some[other] == nil && other != id }
			proper := func(tag string) bool { return m.listed || !indexer.IsReferrerTag(tag) }
			needed := slices.ContainsFunc(m.tags, proper) || slices.ContainsFunc(m.indexes, stays) ||
				!m.listed && slices.ContainsFunc(m.subjects, stays)
			if id != l.root && needed {
				delete(some, id)
				again = true
			}
		}
	}
	return some
}

func memberDigests(members map[int64]*member) (list []digest.Digest) {
	for _, m := range members {
		list = append(list, pg.DigestFrom(m.Digest))
	}
	slices.Sort(list)
	return list
}
