package search

import (
	"context"
	"fmt"
	"slices"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/memory"
	"github.com/portbook/portbook/indexer/postgres/pg"
	"github.com/portbook/portbook/indexer/query"
)

const (
	// maxHaving is the maximum number of repositories that an index of the database may
	// return for one term: 20,000, about 20 ms. With more, the term is decided for each
	// repository that fulfils the others.
	maxHaving = 20_000
	// decidedAtOnce is the maximum number of repositories that one statement decides: 2,000,
	// about 20 ms at ten images each.
	decidedAtOnce = 2000
	// maxDecided is the maximum number of repositories that are decided for one page: 20,000.
	// If that does not fill the page, the database answers.
	maxDecided = 20_000
	// maxFacetedImages is the maximum number of repositories whose images are read for the
	// facets of a query about images that may find too many of them: 1,000, about 50 ms at
	// ten images each.
	maxFacetedImages = 1000
	// maxFacetedTags is the maximum number of tags of repositories that are not too many:
	// 50,000, about 0.3 s.
	maxFacetedTags = 50_000
)

// searchCopy is Search in the copy in memory. It reports false if the database must answer,
// because too many repositories may match and the copy does not know which.
func (rd *Reader) searchCopy(ctx context.Context, st *memory.State, q query.Query) (r indexer.Results, ok bool, err error) {
	m, err := rd.match(ctx, st, q)
	if err != nil {
		return r, false, err
	}
	defer m.Close()
	if ok, err = rd.decide(ctx, m, q, q.Offset+q.Limit); !ok || err != nil {
		return r, ok, err
	}
	hits := m.Top(q.Offset + q.Limit)
	if r.Items, err = rd.shown(ctx, st, hits[min(q.Offset, len(hits)):]); err != nil {
		return r, false, err
	}
	if q.After == "" {
		sure, maybe := m.Count()
		r.Total, r.AtLeast = sure, maybe > 0
	}
	return r, true, nil
}

// shown returns what results show of hits, in their order. It reads what the copy does not
// remember.
func (rd *Reader) shown(ctx context.Context, st *memory.State, hits []memory.Hit) ([]indexer.Result, error) {
	results := make([]indexer.Result, len(hits))
	var missing []int // places in hits
	for i, h := range hits {
		var known bool
		if results[i], known = st.Shown(h); !known {
			missing = append(missing, i)
		}
	}
	if len(missing) == 0 {
		return results, nil
	}
	var ids []int32
	for _, i := range missing {
		ids = append(ids, hits[i].ID)
	}
	read, err := rd.rows(ctx, ids)
	if err == nil && len(read) != len(missing) {
		err = fmt.Errorf("%d of %d repositories that the copy in memory has: %w", len(read), len(missing), indexer.ErrUnavailable)
	}
	if err != nil {
		return nil, err
	}
	for n, i := range missing {
		results[i] = read[n]
		st.Remember(hits[i], read[n])
	}
	return results, nil
}

// match finds the repositories that q selects. It asks the indexes of the database about
// the terms that the copy does not know. The caller must close the result.
func (rd *Reader) match(ctx context.Context, st *memory.State, q query.Query) (*memory.Matches, error) {
	known := map[string][]int32{}
	for _, t := range st.Outside(q) {
		ids, complete, err := rd.having(ctx, t, maxHaving)
		if err != nil {
			return nil, err
		}
		if complete {
			known[memory.KeyOf(t)] = ids
		}
	}
	return st.Match(ctx, memory.Question{Query: q, Visible: rd.visible, Known: known})
}

// decide asks the database which repositories match among those that may, until it is
// known of the first n results and, if they are few, of all. It reports false if it gave up
// before.
func (rd *Reader) decide(ctx context.Context, m *memory.Matches, q query.Query, n int) (bool, error) {
	_, maybe := m.Count()
	for asked := 0; maybe > 0; {
		ids := m.Maybes(decidedAtOnce)
		matching, err := rd.verify(ctx, q, ids)
		if err != nil {
			return false, err
		}
		m.Decide(ids, matching)
		asked, maybe = asked+len(ids), maybe-len(ids)
		switch certain := !slices.ContainsFunc(m.Top(n), func(h memory.Hit) bool { return h.Maybe }); {
		case certain:
			return true, nil
		case asked >= maxDecided:
			return false, nil
		}
	}
	return true, nil
}

func idsOf(hits []memory.Hit) []int32 {
	ids := make([]int32, len(hits))
	for i, h := range hits {
		ids[i] = h.ID
	}
	return ids
}

// facetsCopy is Facets in the copy in memory. It reports false if the database must answer.
func (rd *Reader) facetsCopy(ctx context.Context, st *memory.State, q query.Query) (f indexer.Facets, ok bool, err error) {
	m, err := rd.match(ctx, st, q)
	if err != nil {
		return f, false, err
	}
	defer m.Close()
	if slices.ContainsFunc(q.Effective().Clauses, query.Clause.AboutImages) {
		if f, ok, err = rd.imageFacetsCopy(ctx, st, q, m); ok || err != nil {
			return f, ok, err
		}
		most, err := rd.mostFaceted(ctx, m)
		if err != nil {
			return f, false, err
		}
		if ok, err = rd.decide(ctx, m, q, most); !ok || err != nil {
			return f, ok, err
		}
		f, err = rd.facetsAmong(ctx, q, most, idsOf(m.Top(most)))
		return f, true, err
	}
	if ok, err = rd.decide(ctx, m, q, maxDecided); !ok || err != nil {
		return f, ok, err
	}
	sure, maybe := m.Count()
	f = indexer.Facets{Counted: sure, All: maybe == 0}
	f.Facets, err = m.Facets(maxFacetValues, func(ids []int32, keys []string) (map[string]int, error) {
		return rd.countKeys(ctx, ids, keys)
	})
	return f, true, err
}

// mostFaceted returns how many of the repositories that may match are counted for facets if
// their images must be read: more than all, or the most relevant maxFacetedImages.
func (rd *Reader) mostFaceted(ctx context.Context, m *memory.Matches) (int, error) {
	if sure, maybe := m.Count(); sure+maybe > maxDecided {
		return maxFacetedImages, nil
	}
	const q = "SELECT COALESCE(sum(tags), 0) <= $2 FROM repository_search WHERE repository_id = ANY($1)"
	few, err := pg.Column[bool](ctx, rd.db, q, idsOf(m.Top(maxDecided)), maxFacetedTags)
	if err == nil && few[0] {
		return maxDecided + 1, nil
	}
	return maxFacetedImages, err
}

// imageFacetsCopy is facetsCopy for a query with conditions on images, of which m are the
// matches. It reads the images of repositories whose images the copy has not read yet. It
// reports false if the copy cannot decide the conditions, or does not know the images of
// most of the repositories.
func (rd *Reader) imageFacetsCopy(
	ctx context.Context, st *memory.State, q query.Query, m *memory.Matches,
) (f indexer.Facets, ok bool, err error) {
	unread := m.Unread(maxFacetedImages + 1)
	if !m.DecidedByImages() || len(unread) > maxFacetedImages {
		return f, false, nil
	}
	if len(unread) > 0 {
		images, read, err := Source{DB: rd.db}.Images(ctx, unread)
		if err != nil {
			return f, false, err
		}
		st.Learn(read, images)
		if m, err = rd.match(ctx, st, q); err != nil {
			return f, false, err
		}
		defer m.Close()
	}
	if ok, err = rd.decide(ctx, m, q, maxDecided); !ok || err != nil {
		return f, false, err
	}
	f.Facets, f.Counted = m.ImageFacets(maxFacetValues)
	sure, maybe := m.Count()
	if f.All = maybe == 0 && f.Counted == sure; !f.All {
		for _, facet := range f.Facets {
			for i := range facet.Values {
				facet.Values[i].AtLeast = true
			}
		}
	}
	return f, f.All || f.Counted >= maxFacetedImages, nil
}

// countKeys returns how many repositories have any image with each key of a label.
func (rd *Reader) countKeys(ctx context.Context, ids []int32, keys []string) (map[string]int, error) {
	const q = `
		SELECT label.key, count(*)::int AS n FROM unnest($2::text[]) AS label (key) JOIN (
			SELECT DISTINCT i.repository_id, unnest(i.keys) AS hash FROM image_search i WHERE i.repository_id = ANY($1)
		) AS has ON has.hash = hashtextextended('label:' || label.key, 0) GROUP BY label.key`
	type row struct {
		Key string
		N   int
	}
	rows, err := pg.Collect[row](ctx, rd.db, q, ids, keys)
	counts := map[string]int{}
	for _, r := range rows {
		counts[r.Key] = r.N
	}
	return counts, err
}

// correctedCopy is corrected in the copy in memory.
func (rd *Reader) correctedCopy(st *memory.State, q query.Query, mistakes int) string {
	var unknown []string
	for _, t := range q.Correctable() {
		for _, word := range t.Words {
			if !st.Knows(rd.visible, word, t.Prefix) {
				unknown = append(unknown, word)
			}
		}
	}
	return q.Corrected(unknown, mistakes, func(word string, edits int) map[string]int {
		return st.Near(rd.visible, word, edits)
	})
}
