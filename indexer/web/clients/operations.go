package clients

import (
	"net/http"
	"strings"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/web/answer"
)

// Operations returns the operations of other protocols that answer JSON, in the order
// of doc/api.md. They have their own parameters and errors.
func Operations() []answer.Operation {
	exactly := func(name string) answer.Parameter {
		return answer.Parameter{Name: name, Doc: "only images with exactly this " + name}
	}
	return append(managementOperations(), []answer.Operation{
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
	}...)
}

// managementOperations returns the operations of the registry of Deploys.app.
func managementOperations() []answer.Operation {
	call := func(name, summary string, body, gives any) answer.Operation {
		return answer.Operation{
			Method: http.MethodPost, Route: "/api/" + name, ID: "deploys" + strings.ToUpper(name[:1]) + name[1:],
			Summary: summary + " (Deploys.app)", Body: body, Gives: gives, Errors: answer.EnvelopeShape,
		}
	}
	all := []answer.Operation{
		call("list", "List the repositories of a project", apiListRequest{}, listEnvelope{}),
		call("get", "Get a repository of a project, with its size", apiGetRequest{}, getEnvelope{}),
		call("getTags", "List the tags of a repository, those pushed last first", apiGetTagsRequest{}, tagsEnvelope{}),
		call("getManifests", "List the manifests of a repository, the newest first",
			apiGetManifestsRequest{}, manifestsEnvelope{}),
		call("getProjectStorage", "Get what a project takes, as last calculated",
			apiGetProjectStorageRequest{}, storageEnvelope{}),
		call("delete", "Delete all tags and manifests of a repository", apiDeleteRequest{}, voidEnvelope{}),
		call("deleteManifest", "Delete a manifest with the tags that show it", apiDeleteManifestRequest{}, voidEnvelope{}),
		call("untag", "Delete a tag; the manifest stays", apiUntagRequest{}, voidEnvelope{}),
	}
	for _, name := range indexer.InternalJobs {
		all = append(all, answer.Operation{
			Method: http.MethodPost, Route: "/internal/" + name, ID: "internal" + strings.ToUpper(name[:1]) + name[1:],
			Summary: "Have the leader run the job, and wait for its end (Deploys.app)", Codes: []int{http.StatusNoContent},
			Errors: answer.TextErrors,
		})
	}
	return all
}

// The envelopes of the results; no values of them are made.
type (
	envelopeError struct {
		Message string `json:"message,omitempty" doc:"absent: an error of ours"`
	}
	listEnvelope struct {
		OK     bool           `json:"ok"`
		Result *apiListResult `json:"result,omitempty"`
		Error  *envelopeError `json:"error,omitempty" doc:"if ok is false"`
	}
	getEnvelope struct {
		OK     bool           `json:"ok"`
		Result *apiGetResult  `json:"result,omitempty"`
		Error  *envelopeError `json:"error,omitempty" doc:"if ok is false"`
	}
	tagsEnvelope struct {
		OK     bool              `json:"ok"`
		Result *apiGetTagsResult `json:"result,omitempty"`
		Error  *envelopeError    `json:"error,omitempty" doc:"if ok is false"`
	}
	manifestsEnvelope struct {
		OK     bool                   `json:"ok"`
		Result *apiGetManifestsResult `json:"result,omitempty"`
		Error  *envelopeError         `json:"error,omitempty" doc:"if ok is false"`
	}
	storageEnvelope struct {
		OK     bool                        `json:"ok"`
		Result *apiGetProjectStorageResult `json:"result,omitempty"`
		Error  *envelopeError              `json:"error,omitempty" doc:"if ok is false"`
	}
	voidEnvelope struct {
		OK     bool           `json:"ok"`
		Result *apiVoidResult `json:"result,omitempty"`
		Error  *envelopeError `json:"error,omitempty" doc:"if ok is false"`
	}
)

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
