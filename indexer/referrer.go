package indexer

import (
	"cmp"
	"regexp"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
)

// A Referrer is a manifest that belongs to another manifest, its subject, for one of
// these reasons: it names the subject; the index on the subject's referrers tag lists
// it (sha256-<hex>, distribution-spec 1.1, "Referrers Tag Schema"); it has a tag that
// older tools use for the same purpose (sha256-<hex>.sig, .att, .sbom); or an image
// index lists both.
type Referrer struct {
	Subject      digest.Digest
	Digest       digest.Digest
	MediaType    string
	ArtifactType string
	Size         int64
	Annotations  map[string]string
	Tag          string // the tag, if a tag is the reason; else ""
	Beside       bool   // the reason is an image index that lists both, as BuildKit's with attestations
}

// Type returns the type that says what the referrer is: its artifact type, or its media
// type if it has none.
func (r Referrer) Type() string { return cmp.Or(r.ArtifactType, r.MediaType) }

// Kind returns Signature, SBOM or Attestation, or "" for anything else. If its type is of
// no known kind, the suffix of cosign's tag decides, such as ".sig". BuildKit stores
// nothing but attestations beside an image.
//
// search.Has is the same rule in SQL. It also reads the statements of attestations.
func (r Referrer) Kind() ReferrerKind {
	_, suffix, _ := strings.Cut(r.Tag, ".")
	kind := kindOf(r.Type())
	if kind == "" && suffix != "" {
		kind = kindOf("." + suffix)
	}
	if kind == "" && r.Beside {
		kind = Attestation
	}
	return kind
}

// A ReferrerKind is what a referrer is, as a value of "has:".
type ReferrerKind string

const (
	Signature   ReferrerKind = "signature" // not verified
	SBOM        ReferrerKind = "sbom"
	Attestation ReferrerKind = "attestation"
	Provenance  ReferrerKind = "provenance" // an attestation with a statement of SLSA provenance; Kind does not return it
	AnyReferrer ReferrerKind = "referrer"   // whatever it is; Kind does not return it
)

// A ReferrerPart is a part of an artifact type in lower case, or the suffix of a tag such
// as ".sig", and the kind of the referrers with it.
type ReferrerPart struct {
	Part string
	Kind ReferrerKind
}

// ReferrerParts returns all parts that tell the kind of a referrer. The first part that a
// type contains decides. They are the types of notation, cosign (bundles and its older
// tags), SPDX, CycloneDX, Syft and in-toto.
func ReferrerParts() []ReferrerPart { return slices.Clone(referrerParts) }

var referrerParts = []ReferrerPart{
	{"signature", Signature}, {".sig", Signature}, {"cosign.simplesigning", Signature}, {"dev.sigstore.bundle", Signature},
	{"spdx", SBOM}, {"cyclonedx", SBOM}, {"syft", SBOM}, {".sbom", SBOM},
	{"in-toto", Attestation}, {".att", Attestation}, {"attestation", Attestation},
}

// kindOf returns the kind of a referrer with a type or the suffix of a tag, or "".
func kindOf(text string) ReferrerKind {
	text = strings.ToLower(text)
	for _, p := range referrerParts {
		if strings.Contains(text, p.Part) {
			return p.Kind
		}
	}
	return ""
}

// ReferrerTagPattern matches the tags that older tools use for referrers: those of the
// referrers tag schema of distribution-spec 1.1, and cosign's. It is a regular
// expression for Go and for PostgreSQL.
const ReferrerTagPattern = "^sha(256|384|512)-[0-9a-f]{64}"

var referrerTag = regexp.MustCompile(ReferrerTagPattern)

// IsReferrerTag reports whether a tag matches ReferrerTagPattern.
func IsReferrerTag(tag string) bool { return referrerTag.MatchString(tag) }

var subjectTag = regexp.MustCompile(`^sha256-([0-9a-f]{64})(\.[a-z]+)?$`)

// SubjectOfTag returns the digest of the manifest that a tag attaches something to: a tag
// of cosign, sha256-<hex>.sig, .att or .sbom, or of the referrers tag schema, which shows
// an index of referrers. It returns "" for any other tag.
func SubjectOfTag(tag string) digest.Digest {
	match := subjectTag.FindStringSubmatch(tag)
	if match == nil {
		return ""
	}
	return digest.NewDigestFromEncoded(digest.SHA256, match[1])
}

// A ReferrerQuery selects one page of the referrers of a manifest.
type ReferrerQuery struct {
	Repository string
	Subject    digest.Digest
	OCI        bool     // only those in the referrers API of distribution-spec 1.1, without those on tags of older tools
	Types      []string // only those of one of these artifact types; empty: all
	// After and AfterTag are Digest and Tag of the last referrer of the previous
	// page; "" for the first page.
	After    digest.Digest
	AfterTag string
	Limit    int // from 1
}

// A ReferrerPage is a page of referrers, in order of digest and tag. It may have fewer
// than Limit if annotations are large. More reports whether others follow.
type ReferrerPage struct {
	Items []Referrer
	More  bool
}
