package indexer

import (
	"cmp"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A Kind says what a manifest is for.
type Kind string

const (
	KindImage    Kind = "image"    // a manifest whose config is an image config
	KindIndex    Kind = "index"    // an OCI image index or a Docker manifest list
	KindArtifact Kind = "artifact" // a manifest of anything else: SBOM, signature, chart
	KindUnknown  Kind = "unknown"  // could not be read, or is of a media type we do not know
)

// A Platform is what an image runs on. Fields are empty where an image does not
// say, which is common (facts: artifacts, images appended to an empty base).
type Platform struct {
	OS, Architecture, Variant string
}

// String returns os/architecture[/variant], and "" for the zero Platform.
func (p Platform) String() string {
	if p == (Platform{}) {
		return ""
	}
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// IsUnknown reports whether p names no platform that anything runs on. BuildKit
// marks attestations with unknown/unknown.
func (p Platform) IsUnknown() bool {
	return p.OS == "" && p.Architecture == "" || p.OS == "unknown" && p.Architecture == "unknown"
}

// A Manifest is an image manifest, an image index or an artifact, as it was
// read from the registry and checked against its digest.
type Manifest struct {
	Repository   string
	Digest       digest.Digest
	MediaType    string
	ArtifactType string // as image-spec 1.1 says: artifactType, else the config's media type if that is no image config or there is a subject
	Kind         Kind
	Platform     Platform  // of an image, as its config says
	Size         int64     // bytes of the manifest itself
	ContentSize  int64     // bytes of config and layers as stored (compressed); of an index 0
	CreatedAt    time.Time // as its config or annotation says; zero if neither does
	SeenAt       time.Time // when it was first read from the registry
	Labels       map[string]string
	Annotations  map[string]string
	Subject      digest.Digest        // what it refers to, "" for most
	Config       *ocispec.Descriptor  // nil if it has none
	Layers       []ocispec.Descriptor // in order; empty for an index
	Entries      []Entry              // of an index, in order
	Problems     []string             // what could not be read or kept, for people
	Has          []string             // what belongs to it, as "has:" asks, sorted: signature, sbom, attestation, provenance, referrer; of an index also what every image in it has
	Body         []byte               // the manifest's bytes
	ConfigBody   []byte               // JSON of an image config, without NUL in strings; nil if there is none or it is no JSON
}

// MaxEntries is how many entries of an image index, and how many layers of a
// manifest, are read: 1,000. The largest index seen in public registries has
// about 60 entries, and an image of more than 127 layers cannot be run; 1,000
// leaves room for artifacts of many files. An entry costs a row, a question
// about its manifest, and a line in every answer that shows the index; the
// stock registry accepts 40,000 of them in one manifest.
const MaxEntries = 1000

// An Entry is one descriptor in an image index.
type Entry struct {
	Digest      digest.Digest
	MediaType   string
	Size        int64
	Platform    Platform // as the index says
	Annotations map[string]string
	Present     bool // whether the book holds the manifest it points to
}

// A Referrer is a manifest that names another as its subject, that the index on
// the other's referrers tag lists (sha256-<hex>, distribution-spec 1.1, "Referrers
// Tag Schema"), or that stands on one of the tags by which older tools say the
// same (sha256-<hex>.sig, .att, .sbom), or stands beside it in an image index.
type Referrer struct {
	Subject      digest.Digest
	Digest       digest.Digest
	MediaType    string
	ArtifactType string
	Size         int64
	Annotations  map[string]string
	Tag          string // the tag that says so; "" if the manifest itself does, or Beside
	Beside       bool   // an image index that lists both says so, as BuildKit does of attestations
}

// Kind returns what the referrer is: signature, sbom, attestation, or "" for anything
// else. The suffix of a tag of cosign says what the type does not.
func (r Referrer) Kind() string {
	_, suffix, _ := strings.Cut(r.Tag, ".")
	kind := ReferrerKind(cmp.Or(r.ArtifactType, r.MediaType))
	if kind == "" && suffix != "" {
		kind = ReferrerKind("." + suffix)
	}
	if kind == "" && r.Beside {
		kind = "attestation"
	}
	return kind
}

// A ReferrerQuery asks for one page of the referrers of a manifest.
type ReferrerQuery struct {
	Repository string
	Subject    digest.Digest
	OCI        bool     // only those that the referrers API of distribution-spec 1.1 has: not what stands on tags of older tools
	Types      []string // only those of one of these artifact types; none: all
	// After and AfterTag are Digest and Tag of the last referrer of the page
	// before; "" for the first page.
	After    digest.Digest
	AfterTag string
	Limit    int // from 1
}

// A ReferrerPage is a page of referrers, in order of digest and tag. It may have
// fewer than were asked for where annotations are large; More says whether others
// follow.
type ReferrerPage struct {
	Items []Referrer
	More  bool
}

// A Tag is a name in a repository that points at a manifest, as last seen.
type Tag struct {
	Name      string
	Digest    digest.Digest // "" if the registry lists the tag but cannot show it
	MediaType string
	Kind      Kind
	Platforms []Platform // of the image, or of the entries of the index
	Size      int64      // bytes: ContentSize of an image; of an index the sum over its entries
	CreatedAt time.Time  // of the manifest; zero if unknown
	MovedAt   time.Time  // when we saw the tag come to point where it points
	Has       []string   // what the manifest that it shows has, as Manifest.Has; nil for a tag of the past
	Problem   string     // why there is no more to show; "" for most
}

// A Repository is a name and what stands under it.
type Repository struct {
	Name        string
	Title       string // for people, from labels or annotations; often ""
	Description string // the same
	Tags        int
	Manifests   int
	UpdatedAt   time.Time // when anything under it last changed in the book
	Leading     string    // the tag that speaks for it: latest, else the highest version, else what moved last, never a referrer's; "" if there is none
	TagsWith    TagsWith
}

// TagsWith counts the tags of a repository whose manifest has something. An image
// index has what is attached to it, and what every image in it has.
type TagsWith struct {
	Of          int // tags that are counted: all but those on which older tools keep referrers
	Signature   int // none of them is verified
	SBOM        int
	Attestation int
}

// Namespace is the part of a repository's name before the first slash, "" if
// there is none.
func (r Repository) Namespace() string {
	ns, _, found := strings.Cut(r.Name, "/")
	if !found {
		return ""
	}
	return ns
}

// MaxSize is the largest size, and sum of sizes, in bytes: 2^53-1, the largest integer
// that every reader of JSON takes as it is (RFC 8259, section 6), and 8,000 TB.
const MaxSize = 1<<53 - 1
