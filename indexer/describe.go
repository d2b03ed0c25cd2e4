package indexer

import (
	"regexp"
	"slices"
	"strings"
)

// The keys of annotations and labels that may hold the title and the description of an
// image, best first: those of the OCI image-spec, then label-schema.org's, then those
// of Kubernetes and OpenShift, then the plain ones of older images.
var (
	titleKeys = []string{
		"org.opencontainers.image.title", "org.label-schema.name", "io.k8s.display-name", "name", "Name",
	}
	descriptionKeys = []string{
		"org.opencontainers.image.description", "org.label-schema.description", "io.k8s.description", "description", "Description", "summary",
	}
)

// Describe returns the title and the description in the metadata of an image, or "" for
// each that is missing. The best key is used, from the first set of metadata with it.
func Describe(metadata ...map[string]string) (title, description string) {
	return firstOf(titleKeys, metadata), firstOf(descriptionKeys, metadata)
}

func firstOf(keys []string, metadata []map[string]string) string {
	for _, k := range keys {
		for _, m := range metadata {
			if v := m[k]; v != "" {
				return v
			}
		}
	}
	return ""
}

// licenceKeys are the keys that may hold the licence of an image, best first.
var licenceKeys = []string{"org.opencontainers.image.licenses", "org.label-schema.license", "license", "License"}

// Licence returns the licence in the metadata of an image, unchanged, or "" if there is
// none.
func Licence(metadata ...map[string]string) string { return firstOf(licenceKeys, metadata) }

// ReferrerTagPattern matches the tags that older tools use for referrers: those of the
// referrers tag schema of distribution-spec 1.1, and cosign's. It is a regular
// expression for Go and for PostgreSQL.
const ReferrerTagPattern = "^sha(256|384|512)-[0-9a-f]{64}"

var referrerTag = regexp.MustCompile(ReferrerTagPattern)

// IsReferrerTag reports whether a tag matches ReferrerTagPattern.
func IsReferrerTag(tag string) bool { return referrerTag.MatchString(tag) }

// ReferrerKind returns what a referrer with an artifact type is: signature, sbom,
// attestation, or "" for anything else. It also accepts the suffix of a tag, such as
// ".sig".
func ReferrerKind(artifactType string) string {
	t := strings.ToLower(artifactType)
	for _, k := range referrerKinds {
		if strings.Contains(t, k.Part) {
			return k.Kind
		}
	}
	return ""
}

// ReferrerKinds returns the table of ReferrerKind: parts of artifact types in lower
// case, and their kinds. The first part that a type contains decides.
func ReferrerKinds() []ReferrerPart { return slices.Clone(referrerKinds) }

// A ReferrerPart is a part of an artifact type, and the kind of the referrers with it.
type ReferrerPart struct{ Part, Kind string }

// referrerKinds has the types of notation, cosign (bundles and its older tags), SPDX,
// CycloneDX, Syft and in-toto.
var referrerKinds = []ReferrerPart{
	{"signature", "signature"}, {".sig", "signature"}, {"cosign.simplesigning", "signature"}, {"dev.sigstore.bundle", "signature"},
	{"spdx", "sbom"}, {"cyclonedx", "sbom"}, {"syft", "sbom"}, {".sbom", "sbom"},
	{"in-toto", "attestation"}, {".att", "attestation"}, {"attestation", "attestation"},
}
