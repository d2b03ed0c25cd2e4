package indexer

import (
	"regexp"
	"slices"
	"strings"
)

// Where images say what they are called and what they are, best first:
// annotations and labels of the OCI image-spec, then label-schema.org's, then
// those of Kubernetes and OpenShift, then the plain ones of older images.
var (
	titleKeys = []string{
		"org.opencontainers.image.title", "org.label-schema.name", "io.k8s.display-name", "name", "Name",
	}
	descriptionKeys = []string{
		"org.opencontainers.image.description", "org.label-schema.description", "io.k8s.description", "description", "Description", "summary",
	}
)

// Describe returns the title and the description that an image states, each "" if
// it states none. The best key wins, and for it the first set of metadata.
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

// licenceKeys say under what licence an image is, best first.
var licenceKeys = []string{"org.opencontainers.image.licenses", "org.label-schema.license", "license", "License"}

// Licence returns the licence that an image states, as it does; "" if it states
// none.
func Licence(metadata ...map[string]string) string { return firstOf(licenceKeys, metadata) }

// ReferrerTagPattern matches the tags on which older tools keep what belongs to a
// manifest: the referrers tag schema of distribution-spec 1.1, and cosign's. It is
// a regular expression for Go and for Postgres.
const ReferrerTagPattern = "^sha(256|384|512)-[0-9a-f]{64}"

var referrerTag = regexp.MustCompile(ReferrerTagPattern)

// IsReferrerTag reports whether a tag is one of those.
func IsReferrerTag(tag string) bool { return referrerTag.MatchString(tag) }

// ReferrerKind says what is attached by a referrer of a type, or by one on a tag
// with a suffix (".sig"): signature, sbom, attestation, or "" for anything else.
func ReferrerKind(artifactType string) string {
	t := strings.ToLower(artifactType)
	for _, k := range referrerKinds {
		if strings.Contains(t, k.Part) {
			return k.Kind
		}
	}
	return ""
}

// ReferrerKinds returns the table of ReferrerKind: lower-case parts of types and what they
// mean. The first part that a type contains decides.
func ReferrerKinds() []ReferrerPart { return slices.Clone(referrerKinds) }

// A ReferrerPart is part of a type that tools give what they attach.
type ReferrerPart struct{ Part, Kind string }

// referrerKinds are of notation, cosign (bundles, its older tags), SPDX, CycloneDX,
// Syft and in-toto.
var referrerKinds = []ReferrerPart{
	{"signature", "signature"}, {".sig", "signature"}, {"cosign.simplesigning", "signature"}, {"dev.sigstore.bundle", "signature"},
	{"spdx", "sbom"}, {"cyclonedx", "sbom"}, {"syft", "sbom"}, {".sbom", "sbom"},
	{"in-toto", "attestation"}, {".att", "attestation"}, {"attestation", "attestation"},
}
