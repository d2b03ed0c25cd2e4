package search

import (
	"context"
	"slices"

	sq "github.com/Masterminds/squirrel"

	"github.com/portbook/portbook/indexer/memory"
	"github.com/portbook/portbook/indexer/postgres/pg"
	"github.com/portbook/portbook/indexer/query"
)

// imagesRead is how many index entries having reads for each repository that it may
// return: 10, as many images as a repository has on average.
const imagesRead = 10

// having returns the repositories, visible or not, that fulfil a term which is not
// negated and which an index decides: a tag, a digest, a label or an annotation without
// a pattern. It returns at most limit repositories, in order of id; complete is false if
// there may be more, or if no index decides the term.
func (rd *Reader) having(ctx context.Context, t query.Term, limit int) (ids []int32, complete bool, err error) {
	from := entriesOf(t)
	if from == nil {
		return nil, false, nil
	}
	most := imagesRead * limit
	sql, args, err := pg.Statement("SELECT repository_id FROM ? LIMIT ?", from, most)
	if err != nil {
		return nil, false, err
	}
	if ids, err = pg.Column[int32](ctx, rd.db, sql, args...); err != nil {
		return nil, false, pg.Wrap("having", err)
	}
	complete = len(ids) < most
	slices.Sort(ids)
	ids = slices.Compact(ids)
	return ids[:min(len(ids), limit)], complete && len(ids) <= limit, nil
}

// entriesOf returns the table and the condition of the index entries for a term, nil if
// no index decides it.
func entriesOf(t query.Term) sq.Sqlizer {
	switch t.Field {
	case query.FieldTag:
		if !isGlob(t.Value) {
			return sq.Expr("tag t WHERE t.name = ? AND t.manifest_id IS NOT NULL AND "+isListed, t.Value)
		}
	case query.FieldDigest:
		return sq.Expr("manifest m WHERE ?", hasDigest(t.Value))
	case query.FieldLabel, query.FieldAnnotation:
		if term, exact := memory.TermOf(t); term != "" && exact {
			return sq.Expr("image_search i WHERE ?", imageHas(term))
		}
	}
	return nil
}
