package clients

import "github.com/portbook/portbook/indexer/web/answer"

// Operations returns the operations of other protocols that answer JSON, in the order
// of doc/api.md. They have their own parameters and errors.
func Operations() []answer.Operation {
	exactly := func(name string) answer.Parameter {
		return answer.Parameter{Name: name, Doc: "only images with exactly this " + name}
	}
	return []answer.Operation{
		{Route: "/v1/_ping", ID: "dockerPing", Summary: "Check that this is a registry with a search (docker)",
			Gives: true, Errors: answer.TextErrors},
		{Route: "/v1/search", ID: "dockerSearch",
			Summary: "Search for docker and podman; with query or offset, the same as /v0/search",
			Gives:   dockerSearchAnswer{}, Errors: answer.TextErrors, Book: true, Takes: []answer.Parameter{
				{Name: "q", Doc: "a query in the language of doc/search.md; if it is invalid, its words are searched for, " +
					"and if it finds nothing, a similar query; the descriptions then say so"},
				{Name: "n", Doc: "maximum number of results, at most 100; default 25, also if it is less than 1"},
				{Name: "page", Doc: "number of the page, from 1"}}},
		{Route: "/v0/search", ID: "packageSearch", Summary: "Search for pesde: 50 packages",
			Gives: packagesAnswer{}, Errors: answer.MessageErrors, Book: true, Takes: []answer.Parameter{
				{Name: "query", Doc: "a query in the language of doc/search.md; if it is absent, latest changes first"},
				{Name: "offset", Doc: "number of packages to skip"}}},
		{Route: "/index/static", ID: "flatpakIndex",
			Summary: "Get flatpak's registry index; doc/api.md has more parameters",
			Gives:   flatpakIndex{}, Errors: answer.TextErrors, Book: true, Takes: []answer.Parameter{
				exactly("repository"), exactly("tag"), exactly("os"), exactly("architecture")}},
		{Route: "/index/dynamic", ID: "flatpakDynamicIndex", Summary: "The same as /index/static, but never cached",
			Gives: flatpakIndex{}, Errors: answer.TextErrors, Book: true},
		{Route: "/v2/{name}/referrers/{digest}", ID: "ociReferrers",
			Summary: "List the referrers of a manifest (OCI distribution-spec 1.1)",
			Gives:   ociIndex{}, Errors: answer.RegistryShape, Book: true,
			Media: "application/vnd.oci.image.index.v1+json", Takes: []answer.Parameter{
				{Name: "artifactType", Doc: "only referrers of this type"},
				{Name: "after", Doc: "where the page begins, from the Link to the next page"}}},
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
