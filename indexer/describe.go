package indexer

import "strings"

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

// Describe gives the title and the description that an image states, each "" if
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

// Licence gives the licence that an image states, as it does; "" if it states
// none.
func Licence(metadata ...map[string]string) string { return firstOf(licenceKeys, metadata) }

// ReferrerKind says what is attached by a referrer of a type, or by one on a tag
// with a suffix (".sig"): signature, sbom, attestation, or "" for anything else.
func ReferrerKind(artifactType string) string {
	t := strings.ToLower(artifactType)
	for _, k := range referrerKinds {
		if strings.Contains(t, k.part) {
			return k.kind
		}
	}
	return ""
}

// referrerKinds are parts of the types that tools use: notation's, cosign's
// (bundles, its older tags), those of SPDX, CycloneDX and Syft, and in-toto's.
var referrerKinds = []struct{ part, kind string }{
	{"signature", "signature"}, {".sig", "signature"}, {"cosign.simplesigning", "signature"}, {"dev.sigstore.bundle", "signature"},
	{"spdx", "sbom"}, {"cyclonedx", "sbom"}, {"syft", "sbom"}, {".sbom", "sbom"},
	{"in-toto", "attestation"}, {".att", "attestation"}, {"attestation", "attestation"},
}
