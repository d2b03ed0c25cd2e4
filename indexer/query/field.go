package query

import (
	"slices"
	"strings"

	"github.com/portbook/portbook/indexer"
)

// A Field is what a Term or a Condition looks at.
type Field string

const (
	FieldText       Field = "" // words of names, titles, descriptions and labels
	FieldRepository Field = "repository"
	FieldNamespace  Field = "namespace"
	FieldHas        Field = "has"
	FieldIs         Field = "is"
	FieldLicence    Field = "licence"
	FieldDigest     Field = "digest"
	FieldPulls      Field = "pulls"
	FieldPulled     Field = "pulled"

	FieldSort Field = "sort" // no condition: it sets Query.Sort

	// Fields of an image that has a tag or is in an image index that has one:
	FieldTag          Field = "tag"
	FieldOS           Field = "os"
	FieldArchitecture Field = "architecture"
	FieldPlatform     Field = "platform"
	FieldType         Field = "type"
	FieldLabel        Field = "label"
	FieldAnnotation   Field = "annotation"
	FieldSize         Field = "size"
	FieldLayers       Field = "layers"
	FieldCreated      Field = "created"
	FieldPushed       Field = "pushed"
)

// A syntax says how a field is written in a query.
type syntax struct {
	field  Field
	names  []string // in lower case; completion offers the first
	form   string   // how to write a condition, for error messages
	values []string // that completion offers; FieldHas, FieldIs and FieldSort take no others
}

// fields are all fields but FieldText, in the order in which completion offers
// them: what people need most comes first.
var fields = []syntax{
	{FieldRepository, []string{"repo", "repository"}, "repo:team/app or repo:team/*", nil},
	{FieldNamespace, []string{"namespace", "ns"}, "namespace:team", nil},
	{FieldTag, []string{"tag"}, "tag:latest or tag:v1.*", nil},
	{FieldLabel, []string{"label"}, `label:key, label:key=value or label:"a=key"=value`, nil},
	{FieldAnnotation, []string{"annotation"},
		`annotation:key, annotation:key=value or annotation:"a=key"=value`, nil},
	{FieldPlatform, []string{"platform"}, "platform:linux/arm64", nil},
	{FieldOS, []string{"os"}, "os:linux", nil},
	{FieldArchitecture, []string{"arch", "architecture"}, "arch:arm64", nil},
	{FieldType, []string{"type"},
		"type:image, type:index, type:artifact or an artifact type such as type:application/spdx+json",
		[]string{string(indexer.KindImage), string(indexer.KindIndex), string(indexer.KindArtifact)}},
	{FieldHas, []string{"has"}, "has:signature, has:sbom, has:attestation, has:provenance or has:referrer",
		[]string{string(indexer.SBOM), string(indexer.Signature), string(indexer.Attestation), string(indexer.Provenance),
			string(indexer.AnyReferrer)}},
	{FieldIs, []string{"is"}, "is:multiarch, is:tagged, is:yanked, is:deprecated or is:unlisted",
		[]string{"tagged", indexer.IsMultiarch.Value(), indexer.IsYanked.Value(), indexer.IsDeprecated.Value(),
			indexer.IsUnlisted.Value()}},
	{FieldLicence, []string{"licence", "license"}, "licence:MIT or licence:Apache-*", nil},
	{FieldSize, []string{"size"}, "size:>100MB", nil},
	{FieldLayers, []string{"layers"}, "layers:<5", nil},
	{FieldCreated, []string{"created"}, "created:>2026-01-31 or created:<30d", nil},
	{FieldPushed, []string{"pushed"}, "pushed:>2026-01-31 or pushed:<30d", nil},
	{FieldPulls, []string{"pulls"}, "pulls:>100", nil},
	{FieldPulled, []string{"pulled"}, "pulled:<90d, pulled:>2026-01-31 or pulled:never", []string{Never}},
	{FieldDigest, []string{"digest"}, "digest:sha256:0123ab", nil},
	{FieldSort, []string{"sort"}, "sort:pulls or sort:name",
		[]string{string(SortPulls), string(SortUpdated), string(SortSize), string(SortName)}},
}

// fieldNamed returns the field that is written as name, in any case.
func fieldNamed(name string) (f Field, ok bool) {
	name = strings.ToLower(name)
	i := slices.IndexFunc(fields, func(s syntax) bool { return slices.Contains(s.names, name) })
	if i < 0 {
		return "", false
	}
	return fields[i].field, true
}

// syntax returns the row of fields for f, or an empty one for FieldText.
func (f Field) syntax() syntax {
	for _, s := range fields {
		if s.field == f {
			return s
		}
	}
	return syntax{}
}

// FieldsFrom returns the names of the fields that begin with text, in the order in
// which they are offered. For less than two letters it returns none, because one
// letter begins too many words.
func FieldsFrom(text string) []string {
	var names []string
	for _, s := range fields {
		if name := s.names[0]; len(text) >= 2 && strings.HasPrefix(name, strings.ToLower(text)) {
			names = append(names, name)
		}
	}
	return names
}

// Never is the value of FieldPulled for a repository of which no pull was counted.
const Never = "never"

// FieldValues returns the values of f if they are few, else nil. For FieldType, it
// returns the kinds of manifest; artifact types are values too.
func FieldValues(f Field) []string { return slices.Clone(f.syntax().values) }

// nearestField returns the name of a field that is one edit from name, or "".
// Names of fewer than four letters are too short to be misspelt names of fields.
func nearestField(name string) string {
	name = strings.ToLower(name)
	if len(name) < 3 {
		return ""
	}
	for _, s := range fields {
		for _, known := range s.names {
			if len(known) > 3 && indexer.EditDistance(name, known) == 1 {
				return known
			}
		}
	}
	return ""
}
