package clients

import "github.com/portbook/portbook/indexer/web/answer"

// Operations returns the operations of other protocols that answer JSON, in the order
// of doc/api.md. They have their own parameters and errors.
func Operations() []answer.Operation {
	return []answer.Operation{
		{Route: "/v1/_ping", ID: "dockerPing", Summary: "What docker asks before it searches",
			Gives: true, Errors: answer.TextErrors},
		{Route: "/v1/search", ID: "dockerSearch", Summary: "docker search and podman search; with query or offset as /v0/search",
			Gives: dockerSearchAnswer{}, Errors: answer.TextErrors, Book: true, Takes: []answer.Parameter{
				{Name: "q", Doc: "a query in the language of doc/search.md; one that cannot be read is taken as words, one that finds nothing as one like it, and the descriptions say so"},
				{Name: "n", Doc: "how many, 25 if not said or less than 1; at most 100"},
				{Name: "page", Doc: "from 1"}}},
		{Route: "/v0/search", ID: "packageSearch", Summary: "pesde's search: 50 packages",
			Gives: packagesAnswer{}, Errors: answer.MessageErrors, Book: true, Takes: []answer.Parameter{
				{Name: "query", Doc: "a query in the language of doc/search.md; without it, what changed last"},
				{Name: "offset", Doc: "how many to pass over"}}},
		{Route: "/index/static", ID: "flatpakIndex", Summary: "flatpak's registry index; more parameters stand in doc/api.md",
			Gives: flatpakIndex{}, Errors: answer.TextErrors, Book: true, Takes: []answer.Parameter{
				{Name: "repository", Doc: "exactly that"}, {Name: "tag", Doc: "exactly that"},
				{Name: "os", Doc: "exactly that"}, {Name: "architecture", Doc: "exactly that"}}},
		{Route: "/index/dynamic", ID: "flatpakDynamicIndex", Summary: "The same, never kept without asking",
			Gives: flatpakIndex{}, Errors: answer.TextErrors, Book: true},
		{Route: "/v2/{name}/referrers/{digest}", ID: "ociReferrers", Summary: "The referrers of a manifest (OCI distribution-spec 1.1)",
			Gives: ociIndex{}, Errors: answer.RegistryShape, Book: true, Media: "application/vnd.oci.image.index.v1+json", Takes: []answer.Parameter{
				{Name: "artifactType", Doc: "only those of this type"}, {Name: "after", Doc: "as the Link to the next page has it"}}},
	}
}

// ociIndex describes the image index that /v2/NAME/referrers/DIGEST returns; no values
// of it are made.
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
