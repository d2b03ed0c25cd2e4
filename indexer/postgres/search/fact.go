package search

import (
	"fmt"
	"strings"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/pg"
	"github.com/portbook/portbook/indexer/query"
)

// factFields are the fields of the query language that facts of images decide. A
// repository has the facts of all its images.
var factFields = map[query.Field]indexer.FactKind{
	query.FieldOS: indexer.FactOS, query.FieldArchitecture: indexer.FactArchitecture,
	query.FieldPlatform: indexer.FactPlatform, query.FieldType: indexer.FactType, query.FieldHas: indexer.FactHas,
}

// sqlFact returns an expression for the fact of a kind with a value, an expression. It
// is null if the value is.
func sqlFact(kind indexer.FactKind, value string) string {
	return "'" + string(kind.Fact("")) + "' || " + value
}

// factValues returns a query for the values of the facts of a kind in a list, an
// expression.
func factValues(kind indexer.FactKind, facts string) string {
	prefix := kind.Fact("")
	return fmt.Sprintf("SELECT substr(fact, %d) FROM unnest(%s) AS fact WHERE fact LIKE '%s%%'",
		len(prefix)+1, facts, prefix)
}

// joined returns facts as one text, which Postgres splits at pg.Separator.
func joined(facts []indexer.Fact) string {
	texts := make([]string, len(facts))
	for i, f := range facts {
		texts[i] = string(f)
	}
	return strings.Join(texts, pg.Separator)
}
