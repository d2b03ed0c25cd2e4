package query

import (
	"slices"

	"github.com/portbook/portbook/indexer"
)

// imageFields are the fields about an image, and not about the repository as a whole.
var imageFields = []Field{
	FieldTag, FieldOS, FieldArchitecture, FieldPlatform, FieldType, FieldHas, FieldLabel, FieldAnnotation,
	FieldSize, FieldLayers, FieldCreated, FieldPushed,
}

// OfImage reports whether a field is about an image, and not about the repository as a
// whole.
func (f Field) OfImage() bool { return slices.Contains(imageFields, f) }

// AboutImages reports whether a clause is one of those that a single image must fulfil
// together: all its terms are about images, and none is negated.
func (c Clause) AboutImages() bool {
	return !slices.ContainsFunc(c, func(t Term) bool { return t.Not || !t.Field.OfImage() })
}

// OnlyWords reports whether a clause is words only.
func (c Clause) OnlyWords() bool {
	return !slices.ContainsFunc(c, func(t Term) bool { return t.Field != FieldText || t.Tag != "" || t.Not })
}

// Effective returns q with each clause that is a single pasted reference ("nginx:1.25")
// split into its words and a condition on the tag of an image, and with a condition that
// leaves out what is unlisted, unless q asks for it.
func (q Query) Effective() Query {
	var all []Clause
	for _, c := range q.Clauses {
		if len(c) == 1 && c[0].Tag != "" && !c[0].Not {
			words := c[0]
			words.Tag = ""
			all = append(all, Clause{words}, Clause{TagTerm(c[0].Tag)})
			continue
		}
		all = append(all, c)
	}
	if !q.asksUnlisted() {
		all = append(all, Clause{{Not: true, Field: FieldIs, Value: indexer.IsUnlisted.Value()}})
	}
	q.Clauses = all
	return q
}

// asksUnlisted reports whether q asks for unlisted repositories too: with Unlisted, or by a term,
// negated or not, about what is yanked, deprecated or unlisted.
func (q Query) asksUnlisted() bool {
	if q.Unlisted {
		return true
	}
	about := []string{indexer.IsYanked.Value(), indexer.IsDeprecated.Value(), indexer.IsUnlisted.Value()}
	return slices.ContainsFunc(q.Clauses, func(c Clause) bool {
		return slices.ContainsFunc(c, func(t Term) bool { return t.Field == FieldIs && slices.Contains(about, t.Value) })
	})
}

// TagTerm returns the condition on an image to have a tag.
func TagTerm(tag string) Term { return Term{Field: FieldTag, Value: tag} }
