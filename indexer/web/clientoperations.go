package web

// clientOperations are the operations of the protocols of others that answer JSON, in the
// order of doc/api.md. They have parameters and errors of their own.
func clientOperations() []operation {
	return []operation{
		{route: "/v1/_ping", id: "dockerPing", summary: "What docker asks before it searches",
			gives: true, errors: textErrors},
		{route: "/v1/search", id: "dockerSearch", summary: "docker search and podman search; with query or offset as /v0/search",
			gives: dockerSearchAnswer{}, errors: textErrors, book: true, takes: []parameter{
				{name: "q", doc: "a query in the language of doc/search.md; one that cannot be read is taken as words, one that finds nothing as one like it, and the descriptions say so"},
				{name: "n", doc: "how many, 25 if not said or less than 1; at most 100"},
				{name: "page", doc: "from 1"}}},
		{route: "/v0/search", id: "packageSearch", summary: "pesde's search: 50 packages",
			gives: packagesAnswer{}, errors: messageErrors, book: true, takes: []parameter{
				{name: "query", doc: "a query in the language of doc/search.md; without it, what changed last"},
				{name: "offset", doc: "how many to pass over"}}},
		{route: "/index/static", id: "flatpakIndex", summary: "flatpak's registry index; more parameters stand in doc/api.md",
			gives: flatpakIndex{}, errors: textErrors, book: true, takes: []parameter{
				{name: "repository", doc: "exactly that"}, {name: "tag", doc: "exactly that"},
				{name: "os", doc: "exactly that"}, {name: "architecture", doc: "exactly that"}}},
		{route: "/index/dynamic", id: "flatpakDynamicIndex", summary: "The same, never kept without asking",
			gives: flatpakIndex{}, errors: textErrors, book: true},
		{route: "/v2/{name}/referrers/{digest}", id: "ociReferrers", summary: "The referrers of a manifest (OCI distribution-spec 1.1)",
			gives: ociIndex{}, errors: registryShape, book: true, media: "application/vnd.oci.image.index.v1+json", takes: []parameter{
				{name: "artifactType", doc: "only those of this type"}, {name: "after", doc: "as the Link to the next page has it"}}},
	}
}

// ociIndex is an image index as far as /v2/NAME/referrers/DIGEST writes one; it
// describes, and is never filled.
type ociIndex struct {
	SchemaVersion int             `json:"schemaVersion"`
	MediaType     string          `json:"mediaType"`
	Manifests     []ociDescriptor `json:"manifests"`
}

type ociDescriptor struct {
	MediaType    string            `json:"mediaType"`
	Digest       string            `json:"digest"`
	Size         int64             `json:"size"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
}
