package query

import "slices"

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

// WithoutReferences returns q with each clause that is a single pasted reference
// ("nginx:1.25") split into its words and a condition on the tag of an image.
func (q Query) WithoutReferences() Query {
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
	q.Clauses = all
	return q
}

// TagTerm returns the condition on an image to have a tag.
func TagTerm(tag string) Term { return Term{Field: FieldTag, Value: tag} }
