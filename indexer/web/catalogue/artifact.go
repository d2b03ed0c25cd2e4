package catalogue

import (
	"slices"
	"strings"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/web/answer"
)

// artifactNames are the usual names of artifacts, by a part of their type. The first
// match counts.
var artifactNames = []struct{ part, name string }{
	{"vnd.cncf.helm.chart.provenance", "Helm provenance"},
	{"vnd.cncf.helm", "Helm chart"},
	{"spdx", "SPDX SBOM"},
	{"cyclonedx", "CycloneDX SBOM"},
	{"syft", "Syft SBOM"},
	{"dev.sigstore.bundle", "Sigstore bundle"},
	{"cosign", "Cosign signature"},
	{"notary.signature", "Notation signature"},
	{"in-toto", "in-toto attestation"},
	{"vnd.wasm", "WebAssembly"},
	{"application/wasm", "WebAssembly"},
	{"vnd.cncf.flux", "Flux source"},
	{"vnd.cncf.openpolicyagent", "OPA policy"},
	{"vnd.ollama", "Ollama model"},
	{"cncf.model", "model"},
	{"vnd.oci.image.config", "image"},
	{"docker.container.image", "image"},
	{"vnd.oci.empty", "artifact"},
	{"vnd.unknown", "artifact"},
	{"sarif", "SARIF report"},
	{"vex", "VEX document"},
}

// artifactName returns the usual name of a type, or the type itself if it has none.
func artifactName(t string) string {
	lower := strings.ToLower(t)
	for _, n := range artifactNames {
		if strings.Contains(lower, n.part) {
			return n.name
		}
	}
	return t
}

// kindName returns the kind of a manifest, for a heading.
func kindName(m indexer.Manifest) string {
	switch m.Kind {
	case indexer.KindImage:
		return "Image"
	case indexer.KindIndex:
		return "Image index"
	case indexer.KindArtifact:
		if m.ArtifactType != "" {
			return artifactName(m.ArtifactType)
		}
		return "Artifact"
	}
	return "Unknown"
}

// A badge is an icon and a word that mark an item in a list.
type badge struct{ Icon, Text string }

// attachments are what may be attached to an image, with their badges. An attachment
// does not mean approval: nobody verified a signature.
var attachments = []struct {
	kind       indexer.ReferrerKind
	icon, noun string
}{
	{indexer.Signature, "signature", "signature"},
	{indexer.SBOM, "sbom", "SBOM"},
	{indexer.Attestation, "attested", "attestation"},
}

// marks returns the badges of one image, or of the manifest that a tag shows.
func marks(has []indexer.ReferrerKind) (list []badge) {
	for _, a := range attachments {
		if slices.Contains(has, a.kind) {
			list = append(list, badge{a.icon, "has " + a.noun})
		}
	}
	return list
}

// badges returns the badges of a repository: how many of its tags have an attachment,
// and which artifacts it has.
func badges(r indexer.Result) (list []badge) {
	for _, a := range attachments {
		if n := r.TagsWith.Kind(a.kind); n > 0 {
			list = append(list, badge{a.icon, tagsHave(n, r.TagsWith.Of, a.noun)})
		}
	}
	for _, t := range indexer.FactType.Values(r.Facts) {
		if strings.Contains(t, "/") { // an artifact type, not a kind of manifest
			list = append(list, badge{"artifact", answer.Cut(artifactName(t), 60)})
		}
	}
	return list[:min(len(list), 6)]
}

// tagsHave returns a text such as "2 of 5 tags have a signature".
func tagsHave(n, of int, noun string) string {
	tags, verb, article := "tags", "have", "a"
	if of == 1 {
		tags = "tag"
	}
	if n == 1 {
		verb = "has"
	}
	if strings.ContainsRune("aeiouS", rune(noun[0])) { // as they are pronounced: an SBOM
		article = "an"
	}
	return grouped(int64(n)) + " of " + grouped(int64(of)) + " " + tags + " " + verb + " " + article + " " + noun
}

// platformFacts returns the platforms among the facts of a repository, without variants
// of an architecture.
func platformFacts(facts []indexer.Fact) []string {
	return slices.DeleteFunc(indexer.FactPlatform.Values(facts), func(p string) bool { return strings.Count(p, "/") != 1 })
}
