package postgres

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/pg"
	"github.com/portbook/portbook/indexer/query"
)

const (
	// pastChunk is how many repositories are read at a time: 50.
	pastChunk = 50
	// pastWalked is how many repositories and tags together SearchAt looks at for one page:
	// 4,000, about 0.5 s. A limit in time would make two answers about one state differ.
	pastWalked = 4000
	// maxPastTags is the maximum number of tags of a repository that are looked at: 2,000.
	// maxPastManifests is that of manifests of a chunk, and of those that its indexes list:
	// 5,000, each with some KB of labels.
	maxPastTags      = 2000
	maxPastManifests = 5000
)

// SearchAt returns the repositories that matched q at a time, by name after q.After, at most
// q.Limit. It walks the repositories that had a tag then, and ends a page early after
// pastWalked; so a page may be empty and have a next one. Names, tags, digests and the times
// of moves are those of the history; all other conditions are tested on the manifests that
// the book still has. It returns ErrInvalid for a condition that cannot be tested so.
func (v *View) SearchAt(ctx context.Context, q query.Query, at time.Time) (found indexer.PastResults, err error) {
	match, err := newPastQuery(q)
	if err != nil {
		return found, err
	}
	walked := 0
	after, last := match.span(q.After)
	for {
		names, err := v.RepositoriesAt(ctx, at, after, pastChunk)
		if err != nil {
			return found, err
		}
		whole := len(names) == pastChunk // there may be more
		if i := slices.IndexFunc(names, func(name string) bool { return name > last }); i >= 0 {
			names, whole = names[:i], false
		}
		all, err := v.past(ctx, names, at, match.needs)
		if err != nil {
			return found, err
		}
		for i, r := range all {
			walked += 1 + len(r.tags)
			item, matched := match.holds(r)
			found.Incomplete = found.Incomplete || item.Incomplete
			if matched {
				found.Items = append(found.Items, item)
			}
			if len(found.Items) == q.Limit && (i < len(all)-1 || whole) {
				found.Next = r.name
				return found, nil
			}
		}
		if !whole {
			return found, nil
		}
		if after = names[len(names)-1]; walked >= pastWalked {
			found.Next = after
			return found, nil
		}
	}
}

// RepositoryAt returns a repository as it was at a time. It returns ErrNotFound if it had no
// tag then, as far as the history goes back.
func (v *View) RepositoryAt(ctx context.Context, name string, at time.Time) (indexer.PastRepository, error) {
	missing := pg.Wrap(fmt.Sprintf("repository %q at %s", name, at.Format(time.RFC3339)), indexer.ErrNotFound)
	if !v.visible.Sees(name) {
		return indexer.PastRepository{}, missing
	}
	all, err := v.past(ctx, []string{indexer.CleanText(name)}, at, needs{texts: true})
	if err != nil {
		return indexer.PastRepository{}, pg.Wrap(fmt.Sprintf("repository %q at %v", name, at), err)
	}
	if len(all) == 0 {
		return indexer.PastRepository{}, missing
	}
	return all[0].repository(), nil
}

// needs says what of the manifests of the past is read.
type needs struct {
	texts  bool // of the leading tag's
	images bool // of all that a tag showed, itself or by an index
}

// A pastRepository is a repository with its tags at a time, and the manifests that the book
// still has of those that they showed.
type pastRepository struct {
	name      string
	tags      []indexer.Tag // with name, digest and time of the last move
	more      bool          // there are more tags than maxPastTags
	count     int
	leading   indexer.Tag
	manifests map[digest.Digest]*pastManifest
	missing   bool // the book does not have one that was needed
}

// A pastManifest is a manifest that the book still has, as far as a search looks at it.
type pastManifest struct {
	Name                      string
	Digest                    []byte
	Kind, ArtifactType        string
	OS, Architecture, Variant string
	ContentSize               int64
	Layers                    int
	CreatedAt                 *time.Time
	Labels, Annotations       []byte
	Entries                   int    // how many an index lists
	Index                     []byte // the digest of the index that lists it; nil if a tag showed it itself
	children                  []*pastManifest
}

var pastTags = `
	SELECT k.name AS repository, t.name, t.digest, t.moved_at, t.n FROM unnest($1::text[]) AS k (name) CROSS JOIN LATERAL (
		SELECT shown.*, count(*) OVER ()::int AS n FROM (` + tagsThen("k.name", "$2", "%s IS NOT NULL") + `) AS shown ORDER BY name LIMIT $3
	) AS t ORDER BY k.name, t.name`

// past reads repositories as they were at a time, in order. Those that had no tag are left
// out.
func (v *View) past(ctx context.Context, names []string, at time.Time, n needs) (all []*pastRepository, err error) {
	type row struct {
		Repository, Name string
		Digest           []byte
		MovedAt          *time.Time
		N                int
	}
	rows, err := pg.Collect[row](ctx, v.tx, pastTags, names, at, maxPastTags)
	if err != nil {
		return nil, err
	}
	for _, t := range rows {
		if len(all) == 0 || all[len(all)-1].name != t.Repository {
			all = append(all, &pastRepository{name: t.Repository, count: t.N, more: t.N > maxPastTags})
		}
		r := all[len(all)-1]
		r.tags = append(r.tags, indexer.Tag{Name: t.Name, Digest: pg.DigestFrom(t.Digest), MovedAt: pg.TimeOrZero(t.MovedAt)})
	}
	for _, r := range all {
		name := indexer.LeadingTag(r.tags)
		if i := slices.IndexFunc(r.tags, func(t indexer.Tag) bool { return t.Name == name }); i >= 0 {
			r.leading = r.tags[i]
		}
	}
	return all, v.readPast(ctx, all, n)
}

// A pastRef is a manifest that a tag showed.
type pastRef struct {
	Repository string
	Digest     []byte
}

const pastColumns = `
	m.kind, COALESCE(mt.name, '') AS artifact_type, COALESCE(p.os, '') AS os, COALESCE(p.architecture, '') AS architecture,
	COALESCE(p.variant, '') AS variant, m.content_size, cardinality(m.layer_ids) AS layers,
	(SELECT count(*)::int FROM index_entry e WHERE e.repository_id = m.repository_id AND e.manifest_id = m.id) AS entries, m.created_at, m.labels, m.annotations
	FROM ` // and what has m

const pastJoins = `
	LEFT JOIN media_type mt ON mt.id = m.artifact_type_id LEFT JOIN platform p ON p.id = m.platform_id`

// pastManifests reads the manifests that tags showed, and those that these list.
var (
	pastManifests = `SELECT w.repository AS name, m.digest, NULL::bytea AS index, ` + pastColumns + pg.Unnest[pastRef]("w", 1) + `
		JOIN repository r ON r.name = w.repository JOIN manifest m ON m.repository_id = r.id AND m.digest = w.digest` + pastJoins
	pastListed = `SELECT w.repository AS name, e.digest, w.digest AS index, ` + pastColumns + pg.Unnest[pastRef]("w", 1) + `
		JOIN repository r ON r.name = w.repository JOIN manifest i ON i.repository_id = r.id AND i.digest = w.digest AND i.kind = 'index'
		JOIN index_entry e ON e.repository_id = i.repository_id AND e.manifest_id = i.id
		JOIN manifest m ON m.repository_id = e.repository_id AND m.digest = e.digest` + pastJoins + `
		ORDER BY w.repository, w.digest, e.position LIMIT $3`
)

// readPast reads the manifests that are needed, and notes what the book does not have.
func (v *View) readPast(ctx context.Context, all []*pastRepository, n needs) error {
	var refs []pastRef
	byName := map[string]*pastRepository{}
	for _, r := range all {
		byName[r.name], r.manifests = r, map[digest.Digest]*pastManifest{}
		for _, d := range r.wanted(n) {
			if len(refs) < maxPastManifests {
				refs = append(refs, pastRef{r.name, pg.DigestBytes(d)})
			}
		}
	}
	if len(refs) == 0 {
		return nil
	}
	args := pg.Arrays(refs)
	shown, err := pg.Collect[pastManifest](ctx, v.tx, pastManifests, args...)
	if err != nil {
		return err
	}
	for i := range shown {
		byName[shown[i].Name].manifests[pg.DigestFrom(shown[i].Digest)] = &shown[i]
	}
	listed, err := pg.Collect[pastManifest](ctx, v.tx, pastListed, append(args, maxPastManifests)...)
	if err != nil {
		return err
	}
	for i := range listed {
		index := byName[listed[i].Name].manifests[pg.DigestFrom(listed[i].Index)]
		index.children = append(index.children, &listed[i])
	}
	for _, r := range all {
		r.missing = r.more && n.images || len(listed) == maxPastManifests && n.images
		for _, d := range r.wanted(n) {
			m := r.manifests[d]
			r.missing = r.missing || m == nil || n.images && len(m.children) < m.Entries
		}
	}
	return nil
}

// wanted returns the digests of the manifests that are needed, each once, in order.
func (r *pastRepository) wanted(n needs) []digest.Digest {
	digests := map[digest.Digest]bool{}
	if n.texts && r.leading.Digest != "" {
		digests[r.leading.Digest] = true
	}
	for _, t := range r.tags {
		if n.images && t.Digest != "" {
			digests[t.Digest] = true
		}
	}
	return slices.Sorted(maps.Keys(digests))
}

// metadata returns the annotations and labels of the leading tag's manifest, and of the
// first image that it lists.
func (r *pastRepository) metadata() (all []map[string]string) {
	m := r.manifests[r.leading.Digest]
	if m == nil {
		return nil
	}
	for _, each := range append([]*pastManifest{m}, m.children[:min(len(m.children), 1)]...) {
		all = append(all, pg.StringsFrom(each.Annotations), pg.StringsFrom(each.Labels))
	}
	return all
}

func (r *pastRepository) repository() indexer.PastRepository {
	p := indexer.PastRepository{
		Name: r.name, Tags: r.count, Leading: r.leading.Name, Digest: r.leading.Digest, Incomplete: r.missing,
	}
	p.Title, p.Description = indexer.Describe(r.metadata()...)
	for _, t := range r.tags {
		if t.MovedAt.After(p.MovedAt) {
			p.MovedAt = t.MovedAt
		}
	}
	return p
}

// images returns what the tags showed: manifests, and those that indexes among them list.
// One that the book no longer has is known by its digest only.
func (r *pastRepository) images() (all []pastImage) {
	place := map[digest.Digest]int{}
	show := func(d digest.Digest, m *pastManifest, t indexer.Tag) {
		i, known := place[d]
		if !known {
			i, place[d] = len(all), len(all)
			all = append(all, newPastImage(m))
		}
		all[i].tags = append(all[i].tags, t.Name)
		if t.MovedAt.After(all[i].pushed) {
			all[i].pushed = t.MovedAt
		}
	}
	for _, t := range r.tags {
		m := r.manifests[t.Digest]
		show(t.Digest, m, t)
		if m == nil {
			continue
		}
		for _, c := range m.children {
			show(pg.DigestFrom(c.Digest), c, t)
		}
	}
	return all
}

func newPastImage(m *pastManifest) pastImage {
	if m == nil {
		return pastImage{}
	}
	image := pastImage{
		known: true, size: m.ContentSize, layers: int64(m.Layers), created: pg.TimeOrZero(m.CreatedAt), facts: m.facts(),
		labels: pg.StringsFrom(m.Labels), annotations: pg.StringsFrom(m.Annotations),
		index: m.Kind == string(indexer.KindIndex),
	}
	for _, c := range m.children {
		image.size = indexer.AddSizes(image.size, c.ContentSize)
	}
	return image
}

// spanEnd is greater than all names.
const spanEnd = "~"

// span returns the names between which all results are: the first is before them, and no
// result is after the last.
func (q *pastQuery) span(after string) (first, last string) {
	first, last = after, spanEnd
	for _, c := range q.clauses {
		if len(c) != 1 || c[0].Not {
			continue
		}
		pattern := c[0].Value
		switch c[0].Field {
		case query.FieldNamespace:
			pattern += "/*"
		case query.FieldRepository:
		default:
			continue
		}
		low, high := nameSpan(pattern)
		first, last = max(first, low), min(last, high)
	}
	return first, cmp.Or(last, spanEnd)
}
