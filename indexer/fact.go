package indexer

import (
	"slices"
	"strings"
)

// A Fact is a property of an image or of a repository, written as a term of the query
// language: a kind, a colon and a value, such as "platform:linux/arm64".
type Fact string

// Facts that are named in code.
const (
	HasSignature   = Fact("has:" + string(Signature))
	HasSBOM        = Fact("has:" + string(SBOM))
	HasAttestation = Fact("has:" + string(Attestation))
	IsMultiarch    = Fact("is:multiarch") // an image index with at least two platforms

	// Facts of a repository about what its owners took back: see Yank.
	IsYanked     = Fact("is:yanked")     // the repository, or one of its tags or images
	IsDeprecated = Fact("is:deprecated") // the repository
	IsUnlisted   = Fact("is:unlisted")   // it is deprecated, or all of it is yanked: searches leave it out
)

// Kind returns the part before the colon.
func (f Fact) Kind() FactKind {
	kind, _, _ := strings.Cut(string(f), ":")
	return FactKind(kind)
}

// Value returns the part after the colon.
func (f Fact) Value() string {
	_, value, _ := strings.Cut(string(f), ":")
	return value
}

// A FactKind is what a Fact is about. It is also the name of a field of the query
// language.
type FactKind string

const (
	// Facts of an image that a tag shows. A repository has the facts of all its images.
	// Their values are in lower case.
	FactType         FactKind = "type"     // a Kind, or an artifact type
	FactOS           FactKind = "os"       // without unknown platforms
	FactArchitecture FactKind = "arch"     // without unknown platforms
	FactPlatform     FactKind = "platform" // os/architecture; with a variant, os/architecture/variant too
	FactHas          FactKind = "has"      // a ReferrerKind
	FactIs           FactKind = "is"       // IsMultiarch; a repository has others too

	// Facts of a repository, from the image that its leading tag shows.
	FactLicence FactKind = "licence"
	FactLabel   FactKind = "label" // the key of a label

	// FactNamespace is not stored: the name of a repository has it.
	FactNamespace FactKind = "namespace"
)

// imageFacts are the kinds of the facts of images.
var imageFacts = []FactKind{FactType, FactOS, FactArchitecture, FactPlatform, FactHas, FactIs}

// FactKinds returns all kinds of facts.
func FactKinds() []FactKind {
	return append(slices.Clone(imageFacts), FactLicence, FactLabel, FactNamespace)
}

// OfImage reports whether images have facts of this kind.
func (k FactKind) OfImage() bool { return slices.Contains(imageFacts, k) }

// Fact returns the fact of kind k with a value.
func (k FactKind) Fact(value string) Fact { return Fact(string(k) + ":" + value) }

// Values returns the values of the facts of kind k, in their order.
func (k FactKind) Values(facts []Fact) (values []string) {
	for _, f := range facts {
		if f.Kind() == k {
			values = append(values, f.Value())
		}
	}
	return values
}
