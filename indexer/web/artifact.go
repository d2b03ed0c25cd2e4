package web

import (
	"strings"

	"github.com/portbook/portbook/indexer"
)

// artifactNames are what people call artifacts, by a part of the type that their
// tools give them. The first that fits counts.
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
	{"vnd.oci.empty", "artifact"},
	{"vnd.unknown", "artifact"},
	{"sarif", "SARIF report"},
	{"vex", "VEX document"},
}

// artifactName gives what people call a type, the type itself if they have no
// word for it.
func artifactName(t string) string {
	lower := strings.ToLower(t)
	for _, n := range artifactNames {
		if strings.Contains(lower, n.part) {
			return n.name
		}
	}
	return t
}

// kindName says what a manifest is, for a heading.
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

// A badge marks what is worth seeing in a list: an icon and a word.
type badge struct{ Icon, Text string }

// badges are those of a repository, from its facts.
func badges(facts []string) (list []badge) {
	for _, f := range facts {
		name, value, _ := strings.Cut(f, ":")
		switch {
		case f == "has:signature":
			list = append(list, badge{"signed", "signed"})
		case f == "has:sbom":
			list = append(list, badge{"sbom", "SBOM"})
		case f == "has:attestation":
			list = append(list, badge{"attested", "attestation"})
		case name == "type" && strings.Contains(value, "/"):
			list = append(list, badge{"artifact", cut(artifactName(value), 60)})
		}
	}
	return list[:min(len(list), 6)]
}

// platformFacts are the platforms of a repository, from its facts, without the
// variants of an architecture.
func platformFacts(facts []string) (list []string) {
	for _, f := range facts {
		if p, is := strings.CutPrefix(f, "platform:"); is && strings.Count(p, "/") == 1 {
			list = append(list, p)
		}
	}
	return list
}
