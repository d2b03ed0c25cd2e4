package query

// A Field is what a Condition or a Term looks at.
type Field string

const (
	FieldText       Field = "" // words of names, titles, descriptions and labels
	FieldRepository Field = "repository"
	FieldNamespace  Field = "namespace"
	FieldHas        Field = "has"
	FieldIs         Field = "is"
	FieldLicence    Field = "licence" // as Licence gives it
	FieldDigest     Field = "digest"

	// Of a tagged image, or of one in a tagged image index:
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

// fieldNames are how fields are written in a query.
var fieldNames = map[string]Field{
	"repo": FieldRepository, "repository": FieldRepository, "namespace": FieldNamespace, "ns": FieldNamespace,
	"has": FieldHas, "is": FieldIs, "licence": FieldLicence, "license": FieldLicence, "digest": FieldDigest, "tag": FieldTag, "os": FieldOS,
	"arch": FieldArchitecture, "architecture": FieldArchitecture, "platform": FieldPlatform, "type": FieldType,
	"label": FieldLabel, "annotation": FieldAnnotation, "size": FieldSize, "layers": FieldLayers,
	"created": FieldCreated, "pushed": FieldPushed,
}

// fieldForms show how the value of a field is written, for messages.
var fieldForms = map[Field]string{
	FieldRepository: "repo:team/app or repo:team/*", FieldNamespace: "namespace:team",
	FieldHas: "has:signature, has:sbom, has:attestation, has:provenance or has:referrer", FieldIs: "is:multiarch or is:tagged",
	FieldLicence: "licence:MIT or licence:Apache-*",
	FieldDigest:  "digest:sha256:0123ab", FieldTag: "tag:latest or tag:v1.*",
	FieldOS: "os:linux", FieldArchitecture: "arch:arm64", FieldPlatform: "platform:linux/arm64",
	FieldType:  "type:image, type:index, type:artifact or an artifact type such as type:application/spdx+json",
	FieldLabel: `label:key, label:key=value or label:"a=key"=value`, FieldAnnotation: `annotation:key, annotation:key=value or annotation:"a=key"=value`,
	FieldSize: "size:>100MB", FieldLayers: "layers:<5",
	FieldCreated: "created:>2026-01-31 or created:<30d", FieldPushed: "pushed:>2026-01-31 or pushed:<30d",
}

// fieldValues are all that has: and is: may ask.
var fieldValues = map[Field][]string{
	FieldHas: {"sbom", "signature", "attestation", "provenance", "referrer"},
	FieldIs:  {"tagged", "multiarch"},
}
